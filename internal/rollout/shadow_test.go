package rollout

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

// shadowed is a policy with a shadow step.
func shadowed(edit func(*lifecycle.RolloutPolicy)) lifecycle.RolloutPolicy {
	p := policy(required, lifecycle.MetricPolicy{Name: "slow"}, lifecycle.MetricPolicy{Name: "thumbs-down"})
	p.Shadow = &lifecycle.ShadowStep{MinPairs: 50, Scorer: &lifecycle.PairScorer{Name: "judge-pairwise"}}
	p = lifecycle.Service{Rollout: p}.WithDefaults().Rollout
	if edit != nil {
		edit(&p)
	}
	return p
}

// twins makes pairs: both sides fail at their rates, answer within their latencies, and a judge prefers one, or neither.
type twins struct {
	random            *rand.Rand
	stable, candidate float64 // chance of an error
	worse, better     float64 // chance that the judge calls the candidate so
	slower            float64 // factor on the candidate's latency; under 1: none
}

func (w twins) pair() Pair {
	var p Pair
	answer := func(rate, factor float64) Answered {
		a := Answered{Latency: time.Duration(factor * math.Exp(w.random.NormFloat64()) * float64(time.Second))}
		if w.random.Float64() < rate {
			a.Events = []string{"errors"}
		}
		return a
	}
	p.Stable, p.Candidate = answer(w.stable, 1), answer(w.candidate, max(1, w.slower))
	if !p.Waits() {
		return p
	}
	scores := Scored{0.5, 0.5}
	switch u := w.random.Float64(); {
	case u < w.worse:
		scores = Scored{1, 0}
	case u < w.worse+w.better:
		scores = Scored{0, 1}
	}
	p.Scored = &scores
	return p
}

func (w twins) many(n int) []Pair {
	out := make([]Pair, n)
	for i := range out {
		out[i] = w.pair()
	}
	return out
}

func shadowJudged(t testing.TB, pairs []Pair, p lifecycle.RolloutPolicy, elapsed time.Duration) lifecycle.ShadowVerdict {
	t.Helper()
	v, err := JudgeShadow(pairs, p, elapsed)
	require.NoError(t, err)
	return v
}

func TestTheShadowStepsDecisions(t *testing.T) {
	t.Parallel()
	alike := twins{random: seeded(1), stable: 0.02, candidate: 0.02, worse: 0.2, better: 0.2}.many(2000)
	worse := twins{random: seeded(2), worse: 0.6, better: 0.1}.many(200)
	failing := twins{random: seeded(3), candidate: 0.4}.many(200)
	slow := twins{random: seeded(4), slower: 8}.many(400)
	outage := twins{random: seeded(5), stable: 0.9, candidate: 0.9}.many(300)
	waiting := slices.Clone(worse)
	waiting[10].Scored = nil
	bare := slices.Clone(worse)
	for i := range bare {
		bare[i].Unkept = true
	}
	unscored := slices.Clone(alike)
	for i := range unscored {
		unscored[i].Scored = nil
	}
	proof := shadowed(func(p *lifecycle.RolloutPolicy) { p.Shadow.Required = true })
	events := shadowed(func(p *lifecycle.RolloutPolicy) { p.Shadow.Scorer = nil })
	for name, tc := range map[string]struct {
		pairs   []Pair
		policy  lifecycle.RolloutPolicy
		elapsed time.Duration
		want    lifecycle.Decision
		reason  string
	}{
		"as good as stable":                     {alike, shadowed(nil), 0, lifecycle.Promote, "2000 pairs"},
		"and proven to be":                      {alike, proof, 0, lifecycle.Promote, ""},
		"what is not proven holds":              {alike[:60], proof, 0, lifecycle.Hold, "not proven yet"},
		"the judge prefers stable":              {worse, shadowed(nil), 0, lifecycle.RollBack, "score (the candidate's in"},
		"its answers fail":                      {failing, shadowed(nil), 0, lifecycle.RollBack, "errors"},
		"they fail and nobody scores":           {failing, events, 0, lifecycle.RollBack, "errors"},
		"they are slow":                         {slow, events, 0, lifecycle.RollBack, "slow"},
		"an outage of both sides":               {outage, shadowed(nil), 0, lifecycle.Promote, ""},
		"too few pairs":                         {alike[:49], shadowed(nil), 0, lifecycle.Hold, "49 of 50 pairs"},
		"nobody":                                {nil, shadowed(nil), 0, lifecycle.Hold, "0 of 50"},
		"a pair that waits keeps back the rest": {waiting, shadowed(nil), 0, lifecycle.Hold, "10 of 50 pairs of answers (190 wait for a score)"},
		"no text is no score":                   {bare, shadowed(nil), 0, lifecycle.Hold, "0 of 50 pairs of answers (200 without texts)"},
		"no score is no pass":                   {unscored, shadowed(nil), 25 * time.Hour, lifecycle.RollBack, "time of 24h0m0s is over"},
		"time over does not undo a pass":        {alike, shadowed(nil), 25 * time.Hour, lifecycle.Promote, ""},
		"a drop that is tolerated":              {worse, shadowed(func(p *lifecycle.RolloutPolicy) { p.Shadow.Tolerated, p.Shadow.Margin = 0.7, 0.8 }), 0, lifecycle.Promote, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := shadowJudged(t, tc.pairs, tc.policy, tc.elapsed)
			require.Equal(t, tc.want, v.Decision, v.Reason)
			require.Contains(t, v.Reason, tc.reason)
			require.Equal(t, int64(len(tc.pairs)), v.Pairs)
			require.Len(t, v.Metrics, len(tc.policy.Watched()))
		})
	}
	ask := shadowed(func(p *lifecycle.RolloutPolicy) { p.AtBound = "ask" })
	require.Equal(t, lifecycle.Hold, shadowJudged(t, nil, ask, 25*time.Hour).Decision)
	require.Equal(t, []string{"score", "errors", "slow"}, shadowed(nil).Watched(), "nobody says what they think of a shadow")
}

func TestShadowEvidenceThatCannotBeIsAnError(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*lifecycle.RolloutPolicy){
		"no step":           func(p *lifecycle.RolloutPolicy) { p.Shadow = nil },
		"no minimum":        func(p *lifecycle.RolloutPolicy) { p.Shadow.MinPairs = 0 },
		"nothing to watch":  func(p *lifecycle.RolloutPolicy) { p.Shadow.Scorer, p.Metrics = nil, p.Metrics[2:] },
		"proof of nothing":  func(p *lifecycle.RolloutPolicy) { p.Shadow.Scorer, p.Shadow.Required = nil, true },
		"margin 0":          func(p *lifecycle.RolloutPolicy) { p.Shadow.Margin = 0 },
		"tolerated 1":       func(p *lifecycle.RolloutPolicy) { p.Shadow.Tolerated = 1 },
		"weight 0":          func(p *lifecycle.RolloutPolicy) { p.Shadow.Weight = 0 },
		"no time":           func(p *lifecycle.RolloutPolicy) { p.Shadow.MaxTime = 0 },
		"a metric's weight": func(p *lifecycle.RolloutPolicy) { p.Metrics[0].Weight = -1 },
	} {
		_, err := JudgeShadow(nil, shadowed(change), 0)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), name)
	}
	for _, scores := range []Scored{{0, 1.5}, {math.NaN(), 0}, {2, 0}} {
		_, err := JudgeShadow([]Pair{{Scored: &scores}}, shadowed(nil), 0)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), scores)
	}
}

// naive is the fault that an e-process is for: Student's limit at the step's level, looked at after every pair.
func naive(pairs []Pair, level float64) bool {
	n, sum, squares := 0.0, 0.0, 0.0
	bar := math.Sqrt(2 * stats.LogLevel(2*level)) // over the normal quantile, so in its favour
	for _, p := range pairs {
		d := p.difference()
		n, sum, squares = n+1, sum+d, squares+d*d
		if sd := math.Sqrt(squares/n - sum/n*sum/n); n >= 10 && sum/n < -bar*sd/math.Sqrt(n) {
			return true
		}
	}
	return false
}

// refusals counts the rollouts that are rolled back although the candidate is exactly as good as stable: in the shadow
// step, in it or in the live steps after it, and by the naive test.
type refusals struct{ shadow, either, naive int }

// refusedAlike plays rollouts. A verdict's harm is a peak, so one look at the end sees what a look after every pair would
// have.
func refusedAlike(t *testing.T, runs, pairs int) (out refusals) {
	p := shadowed(nil)
	for seed := range runs {
		random := seeded(seed)
		all := twins{random: random, stable: 0.03, candidate: 0.03, worse: 0.25, better: 0.25}.many(pairs)
		refused := shadowJudged(t, all, p, 0).Decision == lifecycle.RollBack
		live := judged(t, Evidence{world{random: random, p: 0.25, stable: 0.05, canary: 0.05}.many(800), []string{"errors"}, 0, 0}, Watch{Policy: p})
		if refused {
			out.shadow++
		}
		if refused || live.Decision == lifecycle.RollBack {
			out.either++
		}
		if naive(all, shadowLevel(p)) {
			out.naive++
		}
	}
	return out
}

// shadowLevel is the shadow step's part of the level for rolling back.
func shadowLevel(p lifecycle.RolloutPolicy) float64 {
	return p.Levels.Harm * p.Shadow.Weight / p.Weights()
}

// The level is that of the whole rollout: its live steps come after the shadow step, and both together roll back too often
// at most at it.
func TestFalseRefusalsInTheShadowAreRare(t *testing.T) {
	t.Parallel()
	p := shadowed(nil)
	runs, pairs, level := sized(400, 10_000), 400, shadowLevel(p)
	seen := refusedAlike(t, runs, pairs)
	t.Logf("%d runs of %d pairs: %d refused at a level of %.3g, %d with the live steps at %.3g; %d by a test for one look",
		runs, pairs, seen.shadow, level, seen.either, p.Levels.Harm, seen.naive)
	for count, bound := range map[int]float64{seen.shadow: level, seen.either: p.Levels.Harm} {
		least, _, err := stats.BinomialLimits(int64(count), int64(runs), 0.001)
		require.NoError(t, err)
		require.LessOrEqual(t, least, bound, "%d of %d", count, runs)
	}
	least, _, err := stats.BinomialLimits(int64(seen.naive), int64(runs), 0.001)
	require.NoError(t, err)
	require.Greater(t, least, level, "a test for one look would be found out")
}

// proving is a policy whose shadow step has to prove that the score drops by less than a fifth.
func proving() lifecycle.RolloutPolicy {
	p := shadowed(func(p *lifecycle.RolloutPolicy) {
		p.Shadow.Required, p.Shadow.Tolerated, p.Shadow.Margin = true, 0.2, 0.2
	})
	p.Metrics = p.Metrics[:1]
	return p
}

// passed counts the runs in which the shadow step ends well at one of the looks, one after every few pairs.
func passed(t testing.TB, runs, pairs, every int, w twins) (n int64) {
	p := proving()
	for seed := range runs {
		w.random = seeded(seed)
		all := w.many(pairs)
		for seen := int(p.Shadow.MinPairs); seen <= pairs; seen += every {
			if shadowJudged(t, all[:seen], p, 0).Decision == lifecycle.Promote {
				n++
				break
			}
		}
	}
	return n
}

// Candidates of that step: at its margin, halfway to it, and as good as stable.
func atTheMargin() twins { return twins{worse: 0.4, better: 0.2} }
func halfway() twins     { return twins{worse: 0.3, better: 0.2} }
func asGood() twins      { return twins{worse: 0.3, better: 0.3} }

// A candidate whose score is lower by exactly the margin passes in 5% of runs at most, however often one looks; one that
// is as good passes.
func TestFalsePassesInTheShadowAreRare(t *testing.T) {
	t.Parallel()
	p := proving()
	runs, pairs, every := sized(200, 2000), sized(250, 500), 5
	margin, half, same := passed(t, runs, pairs, every, atTheMargin()), passed(t, runs, pairs, every, halfway()), passed(t, runs, pairs, every, asGood())
	t.Logf("%d runs of %d pairs, a look after every %d: %d pass at the margin of %.3g, %d at half of it, %d that are as good", runs, pairs, every, margin, p.Shadow.Margin, half, same)
	least, _, err := stats.BinomialLimits(margin, int64(runs), 0.001)
	require.NoError(t, err)
	require.LessOrEqual(t, least, p.Levels.Promote, "%d of %d", margin, runs)
	planted, _, err := stats.BinomialLimits(half, int64(runs), 0.001)
	require.NoError(t, err)
	require.Greater(t, planted, p.Levels.Promote, "a margin that were half as wide as declared would be found out")
	require.Greater(t, float64(same)/float64(runs), 0.8)
}

// badCandidate is one that the shadow step stops, with the pairs that it may need at most.
type badCandidate struct {
	name         string
	w            twins
	median, most int
}

func badCandidates() []badCandidate {
	return []badCandidate{
		{"worse in 90% of pairs, better in 2%", twins{worse: 0.9, better: 0.02}, 18, 26},
		{"worse in 60%, better in 10%", twins{worse: 0.6, better: 0.1}, 55, 90},
		{"worse in 40%, better in 20%", twins{worse: 0.4, better: 0.2}, 260, 600},
		{"every second answer fails", twins{candidate: 0.5, stable: 0.02, worse: 0.2, better: 0.2}, 30, 50},
		{"every tenth answer fails", twins{candidate: 0.1, stable: 0.02, worse: 0.2, better: 0.2}, 260, 600},
	}
}

// stoppedAfter gives after how many pairs the candidate is stopped, of so many at most.
func stoppedAfter(t testing.TB, runs, pairs int, w twins) quantiles {
	p := shadowed(nil)
	var needed []int
	found := 0
	for seed := range runs {
		w.random = seeded(seed)
		all := w.many(pairs)
		stopped := func(n int) bool { return shadowJudged(t, all[:n], p, 0).Decision == lifecycle.RollBack }
		n := len(all)
		if stopped(n) { // harm is a peak, so it changes once
			n = 1 + search(len(all), stopped)
			found++
		}
		needed = append(needed, n)
	}
	return quantilesOf(needed, found)
}

func TestPairsUntilABadCandidateIsStopped(t *testing.T) {
	t.Parallel()
	for _, row := range badCandidates() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			q := stoppedAfter(t, sized(21, 500), 1500, row.w)
			t.Logf("%s: %s", row.name, q)
			require.LessOrEqual(t, q.median, row.median)
			require.LessOrEqual(t, q.p95, row.most)
			require.InDelta(t, 1, q.found, 0.02)
		})
	}
}

// writeShadow is the part of the judge's page on the shadow step.
func writeShadow(t *testing.T, out *bytes.Buffer, runs int) {
	p, proof := shadowed(nil), proving()
	fmt.Fprintf(out, `
## The shadow step

Before the first share a rollout may let its candidate answer copies of requests, which nobody is shown. What is weighed are pairs of
answers to one request, one pair a conversation: their scores by bets on the mean difference ([stats.Above](../internal/stats/stakes.go)),
and errors, guardrails, refusals and slow answers by the pairs in which exactly one side has one: whose is it? Pairs until a bad
candidate is stopped, %d runs of up to 1500 pairs, at the default levels, with errors and slowness among the metrics:

| the candidate's answers | median / p95 | found |
|---|---|---|
`, runs/20)
	for _, row := range badCandidates() {
		fmt.Fprintf(out, "| %s | %s |\n", row.name, stoppedAfter(t, runs/20, 1500, row.w))
	}
	const pairs = 400
	seen := refusedAlike(t, runs, pairs)
	fmt.Fprintf(out, `
A candidate that is exactly as good as stable was refused in %d of %d shadow steps of %d pairs, looking after each (the step's part of the
level is %.3g), and in %d with the live steps after it (%.3g is the rollout's level). A test that is meant for one look at that level would have
refused %d.

Where the step is to prove that the score drops by less than a margin of %g (%.3g is the level for promoting), of %d candidates each, looking
after every fifth of 500 pairs: %d passed whose score drops by exactly the margin, %d whose score drops by half of it, and %d that are as good as stable.
`, seen.shadow, runs, pairs, shadowLevel(p), seen.either, p.Levels.Harm, seen.naive, proof.Shadow.Margin, proof.Levels.Promote, runs/5,
		passed(t, runs/5, 500, 5, atTheMargin()), passed(t, runs/5, 500, 5, halfway()), passed(t, runs/5, 500, 5, asGood()))
}

func TestAShadowStepIsInThePlan(t *testing.T) {
	t.Parallel()
	p := shadowed(func(p *lifecycle.RolloutPolicy) {
		p.Shadow.MinPairs, p.Shadow.Required, p.Shadow.Share = 100, true, 1000
	})
	plan, err := Plan(p, week(70_000, 5000))
	require.NoError(t, err)
	require.InDelta(t, 0.1, plan.Shadow.Days, 1e-9)
	require.False(t, plan.Shadow.Late)
	require.Contains(t, plan.Lines()[1], "shadow step at 10%: 100 pairs of answers (min_pairs; what the proof needs is not known), about 2.4 h of 24h0m0s")
	plan, err = Plan(p, week(500, 50))
	require.NoError(t, err)
	require.True(t, plan.Shadow.Late)
	require.ErrorContains(t, plan.Err(), "shadow step at 10%")
	p.Shadow.MinPairs = 0
	_, err = Plan(p, week(500, 50))
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
}
