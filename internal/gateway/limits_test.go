package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever comes when: no minute holds more than the limit, what was refused goes through after the wait that was
// named, and nothing is refused that fits.
func TestNoMinuteHoldsMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 20).Draw(t, "limit")
		w := window{limit: limit}
		type taken struct {
			at time.Duration
			n  int64
		}
		var all []taken
		var at time.Duration
		within := func(span time.Duration) (sum int64) {
			for _, one := range all {
				if one.at > at-span {
					sum += one.n
				}
			}
			return sum
		}
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			at += time.Duration(rapid.Int64Range(0, int64(40*time.Second)).Draw(t, "gap"))
			n := rapid.Int64Range(1, limit+1).Draw(t, "n")
			q, ok := w.take(at, n)
			if !ok && q.wait > 0 {
				at += q.wait
				_, ok = w.take(at, n)
				if !ok {
					t.Fatalf("refused again after the wait that was named, %s", q.wait)
				}
			}
			if !ok {
				if n <= limit {
					t.Fatalf("%d of %d never fits", n, limit)
				}
				continue
			}
			all = append(all, taken{at, n})
			if sum := within(time.Minute); sum > limit {
				t.Fatalf("%d in one minute, %d allowed", sum, limit)
			}
		}
		if _, ok := w.take(at, 1); !ok && within(time.Minute+2*time.Second) < limit {
			t.Fatalf("refused with only %d used of %d", within(time.Minute+2*time.Second), limit)
		}
	})
}

func TestReservationsCountUntilTheyAreSettled(t *testing.T) {
	t.Parallel()
	w := window{limit: 10}
	_, ok := w.reserve(0, 6)
	require.True(t, ok)
	q, ok := w.reserve(0, 6)
	require.False(t, ok)
	require.EqualValues(t, 4, q.left)
	require.Positive(t, q.wait)
	w.settle(time.Second, 6, 25) // it was more than anybody thought
	q, ok = w.reserve(2*time.Second, 1)
	require.False(t, ok)
	require.Zero(t, q.left)
	require.Equal(t, 60*time.Second, q.wait)
	_, ok = w.reserve(62*time.Second, 10)
	require.True(t, ok)
	q, ok = w.reserve(62*time.Second, 11)
	require.False(t, ok)
	require.Zero(t, q.wait, "more than the limit never fits")
	w.settle(10_000*time.Second, 10, 0)
	q, ok = w.take(10_000*time.Second, 10)
	require.True(t, ok)
	require.Equal(t, 61*time.Second, q.reset)
}
