package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// pollsOf makes polls a second apart of counts that canary and stable had.
func pollsOf(counts ...[2]int64) []Poll {
	var polls []Poll
	for i, c := range counts {
		polls = append(polls, Poll{at(i), map[string]int64{"canary": c[0], "stable": c[1]}})
	}
	return polls
}

func at(second int) time.Time { return time.Unix(1_000_000+int64(second), 0) }

func TestCountExposure(t *testing.T) {
	t.Parallel()
	share := func(bp lifecycle.BasisPoints) *lifecycle.BasisPoints { return &bp }
	restarted := pollsOf([2]int64{50, 500}, [2]int64{55, 545}, [2]int64{2, 590})
	late := pollsOf([2]int64{0, 0}, [2]int64{10, 90}, [2]int64{20, 180})
	delete(late[0].Served, "canary")
	for name, tc := range map[string]struct {
		polls    []Poll
		from, to int
		width    int64
		want     Exposure
	}{
		"counters do not begin at zero": {
			pollsOf([2]int64{100, 900}, [2]int64{105, 945}, [2]int64{110, 990}), 0, 2, 50,
			Exposure{100, 10, share(1000), share(1000)},
		},
		"only whole blocks inside the step": {
			pollsOf([2]int64{0, 0}, [2]int64{90, 10}, [2]int64{95, 55}, [2]int64{100, 100}, [2]int64{190, 110}), 1, 3, 50,
			Exposure{100, 10, share(1000), share(1000)},
		},
		"the worst window, not the mean": {
			pollsOf([2]int64{0, 0}, [2]int64{0, 50}, [2]int64{30, 70}, [2]int64{30, 120}), 0, 3, 50,
			Exposure{150, 30, share(2000), share(6000)},
		},
		"a window may take several blocks": {
			pollsOf([2]int64{0, 0}, [2]int64{9, 1}, [2]int64{10, 10}, [2]int64{19, 11}, [2]int64{19, 31}), 0, 4, 20,
			Exposure{50, 19, share(3800), share(5000)},
		},
		"a window over quiet polls": {
			pollsOf([2]int64{0, 0}, [2]int64{2, 2}, [2]int64{2, 2}, [2]int64{2, 2}, [2]int64{4, 2}), 0, 4, 6,
			Exposure{6, 4, share(6666), share(6666)},
		},
		"fewer requests than a window": {
			pollsOf([2]int64{0, 0}, [2]int64{4, 6}), 0, 1, 100,
			Exposure{10, 4, share(4000), share(4000)},
		},
		"a server that was started again": {restarted, 0, 2, 10, Exposure{}},
		"the step began before anybody counted": {
			pollsOf([2]int64{0, 0}, [2]int64{4, 6}), -3, 1, 100, Exposure{},
		},
		"what a server counted before it was known": {late, 0, 2, 50, Exposure{100, 10, share(1000), share(1000)}},
		"nobody asked":     {pollsOf([2]int64{5, 5}, [2]int64{5, 5}), 0, 1, 10, Exposure{}},
		"one poll is none": {pollsOf([2]int64{5, 5}), 0, 0, 10, Exposure{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, CountExposure(tc.polls, "canary", "stable", at(tc.from), at(tc.to), tc.width))
		})
	}
	require.Equal(t, Exposure{}, CountExposure(pollsOf([2]int64{0, 0}, [2]int64{4, 6}), "canary", "canary", at(0), at(1), 10),
		"one name for both cannot be told apart")
}
