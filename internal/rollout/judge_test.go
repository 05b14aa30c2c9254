package rollout

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func policy(metrics ...lifecycle.MetricPolicy) lifecycle.RolloutPolicy {
	s := lifecycle.Service{Rollout: lifecycle.RolloutPolicy{
		Steps:   []lifecycle.StepPolicy{{Share: 500, MinConversations: 50}, {Share: 2500, MinConversations: 100}},
		Metrics: metrics,
	}}
	return s.WithDefaults().Rollout
}

// levels are those of a service that declares none.
var levels = lifecycle.Levels{}.WithDefaults()

var required = lifecycle.MetricPolicy{Name: "errors", Required: true}

// world makes conversations: each tosses with propensity p; canary and stable have events at their rates.
type world struct {
	random         *rand.Rand
	p              float64
	served         float64 // chance of the canary in truth; 0: p
	stable, canary float64
	step           int
	from           int // place of the first event in the order of arrival
}

func (w world) conversation(i int) Conversation {
	served := w.served
	if served == 0 {
		served = w.p
	}
	c := Conversation{Step: w.step, Coin: true, Propensity: w.p, Canary: w.random.Float64() < served}
	rate := w.stable
	if c.Canary {
		rate = w.canary
	}
	if w.random.Float64() < rate {
		c.Events = map[string]int64{"errors": int64(w.from + i)}
	}
	return c
}

func (w world) many(n int) []Conversation {
	out := make([]Conversation, n)
	for i := range out {
		out[i] = w.conversation(i)
	}
	return out
}

func seeded(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 99)) }

func judged(t *testing.T, e Evidence, w Watch) lifecycle.StepVerdict {
	t.Helper()
	v, err := Judge(e, w)
	require.NoError(t, err)
	return v
}

func TestTheJudgesDecisions(t *testing.T) {
	t.Parallel()
	collected := []string{"errors"}
	alike := world{random: seeded(1), p: 0.25, stable: 0.1, canary: 0.1}.many(3000)
	harmful := world{random: seeded(2), p: 0.25, stable: 0.02, canary: 0.2}.many(3000)
	outage := world{random: seeded(3), p: 0.25, stable: 0.9, canary: 0.9}.many(600)
	clean := world{random: seeded(4), p: 0.25}.many(600)
	over := world{random: seeded(5), p: 0.05, served: 0.4, stable: 0.02, canary: 0.02}.many(300)
	floored := required
	floored.Floor = 0.1
	advisory := lifecycle.MetricPolicy{Name: "refusals"}
	for name, tc := range map[string]struct {
		evidence Evidence
		policy   lifecycle.RolloutPolicy
		elapsed  time.Duration
		want     lifecycle.Decision
		reason   string
	}{
		"no worse than stable":                {Evidence{alike, collected, 0, 0}, policy(required), 0, lifecycle.Promote, "under its margin"},
		"an advisory metric may be missing":   {Evidence{alike, collected, 0, 0}, policy(required, advisory), 0, lifecycle.Promote, ""},
		"a required one may not":              {Evidence{alike, nil, 0, 0}, policy(required), 0, lifecycle.Hold, "no data on errors"},
		"ten times the errors":                {Evidence{harmful, collected, 0, 0}, policy(required), 0, lifecycle.RollBack, "worse than tolerated: errors"},
		"harm without collection is harm":     {Evidence{harmful, nil, 0, 0}, policy(required), 0, lifecycle.RollBack, "worse than tolerated"},
		"an outage of both sides":             {Evidence{outage, collected, 0, 0}, policy(required), 0, lifecycle.Promote, ""},
		"no event proves nothing":             {Evidence{clean, collected, 0, 0}, policy(required), 0, lifecycle.Hold, "not proven yet"},
		"but keeps the rate under a floor":    {Evidence{clean, collected, 0, 0}, policy(floored), 0, lifecycle.Promote, ""},
		"too few conversations":               {Evidence{alike[:40], collected, 0, 0}, policy(required), 0, lifecycle.Hold, "of 50 conversations"},
		"nobody":                              {Evidence{nil, collected, 0, 0}, policy(required), 0, lifecycle.Hold, "0 of 50"},
		"time over":                           {Evidence{nil, collected, 0, 0}, policy(required), 24 * time.Hour, lifecycle.RollBack, "time of 24h0m0s is over: 0 of 50"},
		"time over does not undo a promotion": {Evidence{alike, collected, 0, 0}, policy(required), 48 * time.Hour, lifecycle.Promote, ""},
		"one request over the bound":          {Evidence{alike, collected, 1, 0}, policy(required), 0, lifecycle.RollBack, "1 requests over its bound"},
		"40% instead of 5%":                   {Evidence{over, collected, 0, 0}, policy(required), 0, lifecycle.RollBack, "more conversations"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := judged(t, tc.evidence, Watch{Policy: tc.policy, Elapsed: tc.elapsed})
			require.Equal(t, tc.want, v.Decision, v.Reason)
			require.Contains(t, v.Reason, tc.reason)
			require.Len(t, v.Metrics, len(tc.policy.Metrics))
		})
	}
	v := judged(t, Evidence{over, collected, 0, 0}, Watch{Policy: policy(required)})
	require.True(t, v.Invalid)
	ask := policy(required)
	ask.AtBound = "ask"
	v = judged(t, Evidence{nil, collected, 0, 0}, Watch{Policy: ask, Elapsed: 25 * time.Hour})
	require.Equal(t, lifecycle.Hold, v.Decision)
	require.Contains(t, v.Reason, "is over")
}

func TestWithoutACoinNobodyEnters(t *testing.T) {
	t.Parallel()
	conversations := world{random: seeded(6), p: 0.25, stable: 0, canary: 1}.many(3000)
	for i := range conversations {
		conversations[i].Coin, conversations[i].Propensity = false, 0
	}
	v := judged(t, Evidence{conversations, []string{"errors"}, 0, 0}, Watch{Policy: policy(required)})
	require.Equal(t, lifecycle.Hold, v.Decision)
	require.Zero(t, v.Conversations)
	require.Zero(t, v.Metrics[0].CanaryEvents)
}

func TestEachStepProvesItselfAndHarmIsRemembered(t *testing.T) {
	t.Parallel()
	first := world{random: seeded(7), p: 0.25, stable: 0.1, canary: 0.1}.many(3000)
	v := judged(t, Evidence{first, []string{"errors"}, 0, 0}, Watch{Policy: policy(required), Step: 1})
	require.Equal(t, lifecycle.Hold, v.Decision)
	require.Contains(t, v.Reason, "0 of 100")

	harmful := world{random: seeded(8), p: 0.25, stable: 0.02, canary: 0.2}.many(2000)
	late := slices.Concat(harmful, world{random: seeded(9), p: 0.5, stable: 0.1, canary: 0.02, step: 1, from: 2000}.many(5000))
	v = judged(t, Evidence{late, []string{"errors"}, 0, 0}, Watch{Policy: policy(required), Step: 1})
	require.Equal(t, lifecycle.RollBack, v.Decision, "what was proven stays proven")
}

func TestLateLabelsCountInTheOrderOfTheirArrival(t *testing.T) {
	t.Parallel()
	labelled := func(canaryAt int64) (out []Conversation) {
		for i := range int64(60) {
			c := Conversation{Coin: true, Propensity: 0.25, Canary: i%6 == 5, Events: map[string]int64{"errors": i}}
			if c.Canary {
				c.Events["errors"] = canaryAt
			}
			out = append(out, c)
		}
		return out
	}
	early, late := labelled(-1), labelled(100) // the canary's labels come before or after all of stable's
	one := judged(t, Evidence{early, []string{"errors"}, 0, 0}, Watch{Policy: policy(required)})
	other := judged(t, Evidence{late, []string{"errors"}, 0, 0}, Watch{Policy: policy(required)})
	require.InDelta(t, math.Log(one.Metrics[0].Safety), math.Log(other.Metrics[0].Safety), 1e-6, "the sum does not mind")
	require.Equal(t, lifecycle.RollBack, one.Decision)
	require.Equal(t, lifecycle.Hold, other.Decision, "stable had them before")
}

func TestEvidenceThatCannotBeIsAnError(t *testing.T) {
	t.Parallel()
	good := world{random: seeded(11), p: 0.25, stable: 0.1, canary: 0.1}.many(10)
	for name, change := range map[string]func(*Evidence, *Watch){
		"propensity 0":     func(e *Evidence, _ *Watch) { e.Conversations[3].Propensity = 0 },
		"propensity 1":     func(e *Evidence, _ *Watch) { e.Conversations[3].Propensity = 1 },
		"propensity NaN":   func(e *Evidence, _ *Watch) { e.Conversations[3].Propensity = math.NaN() },
		"overrun NaN":      func(e *Evidence, _ *Watch) { e.Overrun = math.NaN() },
		"no such step":     func(_ *Evidence, w *Watch) { w.Step = 2 },
		"no minimum":       func(_ *Evidence, w *Watch) { w.Policy.Steps[0].MinConversations = 0 },
		"no margin":        func(_ *Evidence, w *Watch) { w.Policy.Steps[0].Margin = 1 },
		"no metric":        func(_ *Evidence, w *Watch) { w.Policy.Metrics = nil },
		"weight 0":         func(_ *Evidence, w *Watch) { w.Policy.Metrics[0].Weight = 0 },
		"tolerates better": func(_ *Evidence, w *Watch) { w.Policy.Metrics[0].Tolerated = 0.5 },
		"floor 1":          func(_ *Evidence, w *Watch) { w.Policy.Metrics[0].Floor = 1 },
	} {
		e := Evidence{Conversations: slices.Clone(good), Collected: []string{"errors"}}
		w := Watch{Policy: policy(required)}
		change(&e, &w)
		_, err := Judge(e, w)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), name)
	}
}

// A verdict's harm and share are peaks, so one look at the end sees what a look after every conversation would have.
func TestFalseRollbacksAreRare(t *testing.T) {
	t.Parallel()
	runs, alarms := sized(300, 10_000), 0
	for seed := range runs {
		random := seeded(seed)
		var all []Conversation
		for step, p := range []float64{0.05, 0.136, 0.5} { // across steps, with waves of errors
			for i := range 600 {
				rate := 0.05 * (1 + math.Sin(float64(i)/40))
				w := world{random: random, p: p, stable: rate, canary: rate, step: min(step, 1)}
				all = append(all, w.conversation(len(all)))
			}
		}
		v := judged(t, Evidence{all, []string{"errors"}, 0, 0}, Watch{Policy: policy(required)})
		if v.Decision == lifecycle.RollBack {
			alarms++
		}
	}
	require.LessOrEqual(t, float64(alarms)/float64(runs), levels.Harm+levels.Share)
}

// ends looks after every hundredth conversation and says how the step ended.
func ends(t *testing.T, w world, n int) (lifecycle.Decision, int) {
	all := w.many(n)
	for i := 100; i <= n; i += 100 {
		if v := judged(t, Evidence{all[:i], []string{"errors"}, 0, 0}, Watch{Policy: policy(required)}); v.Decision != lifecycle.Hold {
			return v.Decision, i
		}
	}
	return lifecycle.Hold, n
}

func TestFalsePromotionsAtTheMarginAreRare(t *testing.T) {
	t.Parallel()
	runs, promoted, alike := sized(150, 4000), 0, 0
	quiet := required
	quiet.Tolerated = 3 // at the margin, so that harm does not end the step first
	for seed := range runs {
		for _, canary := range []float64{0.15, 0.05} {
			all := world{random: seeded(seed), p: 0.136, stable: 0.05, canary: canary}.many(4000)
			for i := 400; i <= len(all); i += 200 {
				v := judged(t, Evidence{all[:i], []string{"errors"}, 0, 0}, Watch{Policy: policy(quiet)})
				if v.Decision == lifecycle.Promote {
					if canary == 0.05 {
						alike++
					} else {
						promoted++
					}
					break
				}
			}
		}
	}
	require.LessOrEqual(t, float64(promoted)/float64(runs), levels.Promote)
	require.Greater(t, float64(alike)/float64(runs), 0.9, "an equal release gets on")
}

func TestABadReleaseIsRolledBackSoon(t *testing.T) {
	t.Parallel()
	var canaries []int
	for seed := range sized(200, 2000) {
		w := world{random: seeded(seed), p: 0.05, stable: 0.02, canary: 0.2}
		decision, n := ends(t, w, 6000)
		require.Equal(t, lifecycle.RollBack, decision)
		canary := 0
		for _, c := range (world{random: seeded(seed), p: 0.05, stable: 0.02, canary: 0.2}).many(n) {
			if c.Canary {
				canary++
			}
		}
		canaries = append(canaries, canary)
	}
	slices.Sort(canaries)
	require.LessOrEqual(t, canaries[len(canaries)/2], 27, "canary conversations at 20%% errors, looking every 100 conversations")
}

func TestTheShareTestsDetectionTable(t *testing.T) {
	t.Parallel()
	runs := sized(400, 10_000)
	for _, row := range []struct {
		served      float64
		median, p95 int
	}{{0.40, 9, 24}, {0.20, 37, 100}, {0.10, 270, 690}, {0.07, 1600, 3850}} {
		var needed []int
		for seed := range runs {
			if row.served < 0.2 && seed >= runs/4 {
				break
			}
			needed = append(needed, detection(t, seed, row.served))
		}
		slices.Sort(needed)
		median, p95 := needed[len(needed)/2], needed[len(needed)*95/100]
		t.Logf("5%% allowed, %v served: median %d, 95th percentile %d conversations", row.served, median, p95)
		slack := 1.15 // of a short run
		require.LessOrEqual(t, float64(median), float64(row.median)*slack)
		require.LessOrEqual(t, float64(p95), float64(row.p95)*slack)
	}
}

// detection gives the number of conversations until the share test alarms.
func detection(t *testing.T, seed int, served float64) int {
	random := seeded(seed)
	var all []Conversation
	for size := 64; ; size *= 2 { // in doubling batches; the alarm's place is then found exactly
		for len(all) < size {
			all = append(all, Conversation{Coin: true, Propensity: 0.05, Canary: random.Float64() < served})
		}
		if log, _, err := Overexposure(all, levels.Share); err != nil || log <= math.Log(1/levels.Share) {
			require.NoError(t, err)
			continue
		}
		return 1 + search(len(all), func(n int) bool {
			log, _, err := Overexposure(all[:n], levels.Share)
			return err == nil && log > math.Log(1/levels.Share)
		})
	}
}

// search gives the largest n below high for which alarmed does not hold; it holds from some n on.
func search(high int, alarmed func(int) bool) int {
	low := 0
	for high-low > 1 {
		if middle := (low + high) / 2; alarmed(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return low
}

// Conversations of one step as a store sees them: the canary answers in one second, stable in ten.
func TestWhoAnswersFasterIsNotOverexposed(t *testing.T) {
	t.Parallel()
	const rate, p = 20.0, 0.15 // conversations a second, and their propensity
	runs, alarms, planted := sized(200, 10_000), 0, 0
	for seed := range runs {
		random := seeded(seed + 7000)
		tossed := make([]Conversation, 600)
		answered := make([]float64, len(tossed))
		for i := range tossed {
			tossed[i] = Conversation{Coin: true, Propensity: p, Canary: random.Float64() < p}
			answered[i] = float64(i)/rate + 10
			if tossed[i].Canary {
				answered[i] = float64(i)/rate + 1
			}
		}
		if alarmedWhile(t, tossed, answered, true) {
			alarms++
		}
		if alarmedWhile(t, tossed, answered, false) {
			planted++
		}
	}
	t.Logf("%d alarms in %d runs; %d where nobody says what is open", alarms, runs, planted)
	require.LessOrEqual(t, float64(alarms)/float64(runs), levels.Share)
	require.Greater(t, planted, runs/2, "the fault that this test is for would not show")
}

// alarmedWhile looks at every second at what was answered by then.
func alarmedWhile(t *testing.T, tossed []Conversation, answered []float64, opened bool) bool {
	for now := 1.0; now < 40; now++ {
		var seen []Conversation
		open := false
		for i, c := range tossed {
			if answered[i] > now {
				open = true
				continue
			}
			c.Open = open && opened
			seen = append(seen, c)
		}
		log, _, err := Overexposure(seen, levels.Share)
		require.NoError(t, err)
		if log > math.Log(1/levels.Share) {
			return true
		}
	}
	return false
}
