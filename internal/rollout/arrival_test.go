package rollout

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// at is so many seconds after some day's noon, in microseconds.
func at(seconds float64) int64 {
	return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).UnixMicro() + int64(seconds*1e6)
}

func TestEventsWaitForThoseWhoTossedBefore(t *testing.T) {
	t.Parallel()
	said := func(tossed, answered, came float64) Conversation {
		return Conversation{Coin: true, Propensity: 0.5, Started: at(tossed), Answered: at(answered), Events: map[string]int64{"errors": at(came)}}
	}
	slow := Conversation{Coin: true, Propensity: 0.5, Started: at(0), Answered: at(6)}
	for name, tc := range map[string]struct {
		before []Conversation
		c      Conversation
		since  float64 // it is weighed
	}{
		"alone":                    {nil, said(1, 2, 2), 2},
		"a label alone":            {nil, said(1, 2, 60), 60},
		"behind a slow one":        {[]Conversation{slow}, said(1, 2, 2), 6},
		"its label likewise":       {[]Conversation{slow}, said(1, 2, 12), 16},
		"slower than all before":   {[]Conversation{slow}, said(1, 9, 9), 9},
		"behind a very slow one":   {[]Conversation{said(0, 50, 50)}, said(1, 2, 2), 11},
		"itself very slow":         {[]Conversation{slow}, said(1, 50, 50), 50},
		"behind one without coin":  {[]Conversation{{Started: at(0), Answered: at(6)}}, said(1, 2, 2), 2},
		"behind one not known yet": {[]Conversation{{Coin: true, Started: at(0), Answered: at(0.1), Open: true}}, said(1, 2, 2), 11},
		"before the answer's end":  {nil, said(1, 9, 3), 3},
	} {
		e := Evidence{Conversations: append(tc.before, tc.c)}
		last := &e.Conversations[len(e.Conversations)-1]
		has := func(now int64) bool {
			e.Now = now
			return slices.ContainsFunc(e.arrivals("errors"), func(a arrival) bool { return a.c == last })
		}
		require.False(t, has(at(tc.since-0.001)), name)
		require.True(t, has(at(tc.since)), name)
		require.Empty(t, e.arrivals("slow"))
		require.True(t, has(0), "without a time every event counts at once")
	}
}

// An event that waits is not weighed, and is no conversation without an event either.
func TestAWaitingEventStillCountsUnderTheFloor(t *testing.T) {
	t.Parallel()
	var all []Conversation
	for i := range 200 {
		c := Conversation{Coin: true, Propensity: 0.5, Canary: i%2 == 0, Started: at(0), Answered: at(1), Open: true}
		if i%10 == 0 {
			c.Events = map[string]int64{"errors": at(1)}
		}
		all = append(all, c)
	}
	floored := required
	floored.Floor = 0.05
	v := judged(t, Evidence{Conversations: all, Collected: []string{"errors"}, Now: at(2)}, Watch{Policy: policy(floored)})
	require.Zero(t, v.Metrics[0].CanaryEvents)
	require.False(t, v.Metrics[0].Safe)
	require.InDelta(t, 0.2, v.Metrics[0].CanaryRate.Low, 0.15)
}

// Two equal sides, the canary answers in one second and stable in eight, and some who got an answer say a little later that
// it was bad. Everybody looks at every second.
func TestWhoAnswersFasterIsNotWorse(t *testing.T) {
	t.Parallel()
	const rate, p, bad = 20.0, 0.15, 0.15 // conversations a second, their propensity, and who says so
	runs, alarms, planted := sized(60, 2000), 0, 0
	watch := Watch{Policy: policy(lifecycle.MetricPolicy{Name: "errors", Weight: 1, Tolerated: 1.5, Required: true})}
	for seed := range runs {
		random := seeded(seed + 9000)
		all := make([]Conversation, 600)
		for i := range all {
			c := Conversation{Coin: true, Propensity: p, Canary: random.Float64() < p, Started: at(float64(i) / rate)}
			took := 8.0
			if c.Canary {
				took = 1
			}
			c.Answered = c.Started + int64(took*1e6)
			if random.Float64() < bad {
				c.Events = map[string]int64{"errors": c.Answered + int64(3e6*random.ExpFloat64())}
			}
			all[i] = c
		}
		if harmedWhile(t, all, watch, true) {
			alarms++
		}
		if harmedWhile(t, all, watch, false) {
			planted++
		}
	}
	t.Logf("%d of %d equal releases rolled back; %d where nobody waits", alarms, runs, planted)
	require.LessOrEqual(t, float64(alarms)/float64(runs), levels.Harm+2*math.Sqrt(levels.Harm/float64(runs)))
	require.Greater(t, planted, runs/3, "the fault that this test is for would not show")
}

// harmedWhile looks at every second at what was answered and said by then.
func harmedWhile(t *testing.T, all []Conversation, w Watch, waits bool) bool {
	for now := 1.0; now < 60; now++ {
		e := Evidence{Collected: []string{"errors"}}
		open := false
		for _, c := range all {
			if c.Answered > at(now) {
				open = open || c.Started <= at(now)
				continue
			}
			if c.Open = open; c.Events["errors"] > at(now) {
				c.Events = nil
			}
			e.Conversations = append(e.Conversations, c)
		}
		if waits {
			e.Now = at(now)
		}
		if judged(t, e, w).Metrics[0].Harmful {
			return true
		}
	}
	return false
}
