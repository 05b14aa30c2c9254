package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestALeaseIsHeldWhileItsCounterChanges(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 3, 14, 3, 0, 0, time.UTC)
	at := func(s float64) time.Time { return start.Add(time.Duration(s*1000) * time.Millisecond) }
	var l Lease
	require.False(t, l.Held(at(0)), "nothing was seen")
	l.See(7, at(0))
	require.False(t, l.Held(at(0)), "the first value may be old")
	l.See(7, at(1))
	require.False(t, l.Held(at(1)))
	l.See(8, at(2))
	require.True(t, l.Held(at(2)))
	l.See(8, at(16))
	require.True(t, l.Held(at(16.999)))
	require.Equal(t, time.Millisecond, l.Left(at(16.999)))
	require.False(t, l.Held(at(17)), "15 s without a change")
	require.Zero(t, l.Left(at(17)))
	l.See(3, at(40))
	require.True(t, l.Held(at(40)), "another controller counts anew")
	require.Equal(t, lifecycle.LeaseTime, l.Left(at(40)))
}

func TestAuditCounts(t *testing.T) {
	t.Parallel()
	require.Equal(t, Served{}, Audit(nil, 0))
	accesses := make([]Access, 100)
	for i := range accesses {
		accesses[i] = Access{Canary: i >= 50 && i < 60, Share: 1000}
	}
	got := Audit(accesses, 20)
	require.Equal(t, Served{Requests: 100, Canary: 10, Allowed: 10, Prefix: 4, Window: 9, Highest: 5000, Width: 20}, got)
	require.EqualValues(t, 1000, got.Reached())
	require.False(t, got.Within(20, 0), "a prefix over Σp")
	require.True(t, got.Within(20, 4))
	require.False(t, got.Within(4, 4))
	short := Audit(accesses[50:52], 20)
	require.Equal(t, lifecycle.Whole, short.Highest)
	require.Equal(t, 2, short.Width)
}

func TestSlownessMeetsBothSidesAlike(t *testing.T) {
	t.Parallel()
	for _, wrong := range []float64{0, 1, -1} {
		_, err := NewSlowness(wrong)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	}
	s, err := NewSlowness(0.95)
	require.NoError(t, err)
	for range 19 {
		require.False(t, s.Observe(time.Second, false))
	}
	require.False(t, s.Observe(time.Hour, true), "no threshold yet")
	s.Observe(2*time.Second, false)
	threshold, known := s.Threshold()
	require.True(t, known)
	require.Equal(t, time.Second, threshold)
	require.True(t, s.Observe(1001*time.Millisecond, true))
	require.False(t, s.Observe(time.Second, true))
	random, slow := seeded(12), [2]int{}
	for range 20_000 {
		for side := range 2 {
			if s.Observe(time.Duration(random.ExpFloat64()*float64(time.Second)), side == 1) {
				slow[side]++
			}
		}
	}
	require.InDelta(t, 1000, slow[0], 150)
	require.InDelta(t, 1000, slow[1], 150)
	require.Len(t, s.sorted, slowWindow)
}
