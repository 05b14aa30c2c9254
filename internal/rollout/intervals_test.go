package rollout

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// What the judge decides and what its intervals say is one thing.
func TestIntervalsNeverContradictTheVerdict(t *testing.T) {
	t.Parallel()
	decided := map[lifecycle.Decision]int{}
	rapid.Check(t, func(t *rapid.T) {
		m := required
		m.Tolerated = rapid.SampledFrom([]float64{1, 1.5, 3}).Draw(t, "tolerated")
		m.Floor = rapid.SampledFrom([]float64{0, 0.1, 0.3}).Draw(t, "floor")
		watch := Watch{Policy: policy(m, lifecycle.MetricPolicy{Name: "refusals", Weight: 3}), Step: 1}
		random := seeded(rapid.IntRange(0, 1<<30).Draw(t, "seed"))
		var all []Conversation
		rates := rapid.Float64Range(0, 0.4)
		for step, p := range []float64{0.05, 0.5} {
			w := world{random: random, p: p, stable: rates.Draw(t, "stable"), canary: rates.Draw(t, "canary"), step: step, from: len(all)}
			if rapid.IntRange(0, 4).Draw(t, "overexposed") == 0 {
				w.served = 0.4
			}
			all = append(all, w.many(rapid.IntRange(0, 1500).Draw(t, "conversations"))...)
		}
		v, err := Judge(Evidence{Conversations: all, Collected: []string{"errors"}}, watch)
		require.NoError(t, err)
		decided[v.Decision]++
		harmful := false
		for _, m := range v.Metrics {
			require.Equal(t, m.Harmful, m.Ratio.Low >= m.Tolerated, "%+v", m)
			under := m.Ratio.High > 0 && m.Ratio.High <= m.Margin || m.Floor > 0 && m.CanaryRate.High <= m.Floor
			require.Equal(t, m.Safe, under && m.Metric == "errors", "%+v", m)
			harmful = harmful || m.Ratio.Low >= m.Tolerated
		}
		require.Equal(t, v.Invalid, v.Odds.Low >= 1)
		require.Equal(t, v.Decision == lifecycle.RollBack, harmful || v.Odds.Low >= 1, v.Reason)
	})
	require.Positive(t, decided[lifecycle.RollBack])
	require.Positive(t, decided[lifecycle.Promote])
	require.Positive(t, decided[lifecycle.Hold])
}

// misses is in how many rollouts an interval ever lost the truth.
type misses struct{ harm, safe, share, rate int }

// lost plays rollouts of two steps with waves of events, in which the canary's risk is ratio times stable's, and looks at
// what Judge says of the second. Low limits never fall, so their last look has seen all of them.
func lost(t *testing.T, runs, every int, ratio float64, steady bool, told func(p float64) float64) (out misses) {
	watch := Watch{Policy: policy(required), Step: 1}
	for seed := range runs {
		random := seeded(seed + int(ratio*1000))
		var all []Conversation
		rate := func(i int) float64 {
			if steady {
				return 0.1
			}
			return 0.1 * (1 + math.Sin(float64(i)/40))
		}
		add := func(step int, p float64, n int) {
			for range n {
				w := world{random: random, p: p, stable: rate(len(all)), canary: ratio * rate(len(all)), step: step}
				c := w.conversation(len(all))
				c.Propensity = told(p)
				all = append(all, c)
			}
		}
		add(0, 0.14, 300)
		var safe, rates bool
		var v lifecycle.StepVerdict
		for len(all) < 900 {
			add(1, 0.5, every)
			v = judged(t, Evidence{Conversations: all, Collected: []string{"errors"}}, watch)
			m := v.Metrics[0]
			safe = safe || m.Ratio.High > 0 && m.Ratio.High <= ratio
			rates = rates || !holds(m.StableRate, 0.1) || !holds(m.CanaryRate, 0.1*ratio)
		}
		for miss, happened := range map[*int]bool{
			&out.harm: v.Metrics[0].Ratio.Low >= ratio, &out.safe: safe, &out.rate: steady && rates, &out.share: v.Odds.Low >= 1,
		} {
			if happened {
				*miss++
			}
		}
	}
	return out
}

func holds(i lifecycle.Interval, rate float64) bool { return i.Low < rate && rate < i.High }

func TestIntervalsHoldTheTruthAtEveryLook(t *testing.T) {
	t.Parallel()
	runs, every := sized(100, 4000), sized(60, 10)
	if raceDetector {
		runs = 20
	}
	truly := func(p float64) float64 { return p }
	for _, ratio := range []float64{1, 0.5, 2, 5} {
		for _, steady := range []bool{true, false} {
			m := lost(t, runs, every, ratio, steady, truly)
			t.Logf("ratio %v, steady rates %t: of %d rollouts %+v", ratio, steady, runs, m)
			require.LessOrEqual(t, float64(m.harm), levels.Harm*float64(runs))
			require.LessOrEqual(t, float64(m.safe), levels.Promote*float64(runs))
			require.LessOrEqual(t, float64(m.share), levels.Share*float64(runs))
			require.LessOrEqual(t, float64(m.rate), 4*levels.Promote*float64(runs)) // two rates with two limits each
		}
	}
	// Propensities that are not what was tossed with are found out: the simulation can fail.
	m := lost(t, 20, every, 1, true, func(p float64) float64 { return p / 2 })
	require.Greater(t, m.harm, 10)
	require.Greater(t, m.share, 10)
	m = lost(t, 20, every, 1, true, func(p float64) float64 { return tilt(p, 3) })
	require.Greater(t, m.safe, 10)
}

// Among the pairs of a shadow step in which exactly one side failed the candidate's part has the odds of both rates' odds
// ratio: the interval says what the verdict says, and holds it.
func TestShadowIntervalsNeverContradictTheVerdict(t *testing.T) {
	t.Parallel()
	harmful, lost, wrong, runs := 0, 0, 0, sized(150, 4000)
	for seed := range runs {
		w := twins{random: seeded(seed + 31_000), stable: 0.1, candidate: []float64{0.1, 0.3, 0.05}[seed%3]}
		truth := w.candidate / (1 - w.candidate) / (w.stable / (1 - w.stable))
		var pairs []Pair
		for range 600 {
			pairs = append(pairs, w.pair())
		}
		v, err := JudgeShadow(pairs, shadowed(nil), 0)
		require.NoError(t, err)
		for _, m := range v.Metrics {
			if step := shadowed(nil).Shadow; m.Metric == lifecycle.ScoreMetric {
				require.Equal(t, m.Harmful, v.Between.High <= -step.Tolerated, "%+v", v.Between)
				require.Equal(t, m.Safe, v.Between.Low >= -step.Margin, "%+v", v.Between)
				if mean := w.better - w.worse; seed%3 == 0 && (v.Between.Low >= mean || v.Between.High <= mean) {
					wrong++
				}
				continue
			}
			require.Equal(t, m.Harmful, m.Ratio.Known() && m.Ratio.Low >= m.Tolerated, "%+v", m)
			if m.Metric == "errors" && (m.Ratio.Low >= truth || m.Ratio.High > 0 && m.Ratio.High <= truth) {
				lost++
			}
			if m.Metric == "errors" && m.Harmful {
				harmful++
			}
		}
	}
	require.Greater(t, harmful, runs/4)
	require.LessOrEqual(t, float64(lost), 2*levels.Harm*float64(runs))
	require.LessOrEqual(t, float64(wrong), (levels.Harm+levels.Promote)*float64(runs)/3)
}
