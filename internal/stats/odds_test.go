package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func moved(p, ratio float64) float64 { return p * ratio / (1 - p + p*ratio) }

type trial struct {
	p   float64
	hit bool
}

func drawTrials(t *rapid.T) []trial {
	ps := rapid.SliceOfN(rapid.Float64Range(0.001, 0.999), 1, 4).Draw(t, "ps") // shares of steps
	rate := rapid.Float64Range(0, 1).Draw(t, "rate")
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
	out := make([]trial, rapid.IntRange(0, 400).Draw(t, "trials"))
	for i := range out {
		out[i] = trial{ps[random.IntN(len(ps))], random.Float64() < rate}
	}
	return out
}

// The e-processes that are inverted are Excess and Deficit of the moved probabilities, at every ratio of the lattice:
// what a limit says of a ratio is what they say of it.
func TestLimitsAreWhatTheTestsReject(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		trials := drawTrials(t)
		anchor := rapid.SampledFrom([]float64{1, 1.5, 3, 0.5}).Draw(t, "anchor")
		alpha := rapid.SampledFrom([]float64{0.05, 0.01, 0.3}).Draw(t, "alpha")
		lower, err := NewLowerOdds(anchor, alpha)
		require.NoError(t, err)
		upper, err := NewUpperOdds(anchor, alpha)
		require.NoError(t, err)
		other := lower.ratio(rapid.IntRange(0, limits-1).Draw(t, "step"))
		var harm, harmOther Excess
		var safe, safeOther Deficit
		for _, x := range trials {
			require.NoError(t, lower.Observe(x.p, x.hit))
			require.NoError(t, upper.Observe(x.p, x.hit))
			for _, w := range []watcher{&harm, &safe} {
				require.NoError(t, w.Observe(moved(x.p, anchor), x.hit))
			}
			for _, w := range []watcher{&harmOther, &safeOther} {
				require.NoError(t, w.Observe(moved(x.p, other), x.hit))
			}
		}
		require.InDelta(t, harm.Peak(), lower.Peak(), 1e-6*(1+harm.Peak()))
		require.InDelta(t, safe.Log(), upper.Log(), 1e-6*(1+math.Abs(safe.Log())))
		require.Equal(t, lower.Peak() > LogLevel(alpha), lower.Limit() >= anchor)
		require.Equal(t, upper.Log() > LogLevel(alpha), upper.Limit() <= anchor)
		if bar := LogLevel(alpha); math.Abs(harmOther.Peak()-bar) > 1e-6 && math.Abs(safeOther.Log()-bar) > 1e-6 {
			const near = 1e-9 // of the lattice, whose steps are 2.2%
			require.Equal(t, harmOther.Peak() > bar, lower.Limit() >= other*(1-near), "ratio %v, lower limit %v", other, lower.Limit())
			require.Equal(t, safeOther.Log() > bar, upper.Limit() <= other*(1+near), "ratio %v, upper limit %v", other, upper.Limit())
		}
	})
}

func TestRateLimitsAreWhatTheTestsReject(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		trials := rapid.Int64Range(0, 600).Draw(t, "trials")
		hits := rapid.Int64Range(0, trials).Draw(t, "hits")
		rate := rapid.Float64Range(0.001, 0.999).Draw(t, "rate")
		low, high, err := RateLimits(hits, trials, 0.05)
		require.NoError(t, err)
		require.True(t, 0 <= low && low <= high && high <= 1)
		var more Excess
		var less Deficit
		for i := range trials {
			require.NoError(t, more.Observe(rate, i < hits))
			require.NoError(t, less.Observe(rate, i < hits))
		}
		log, err := RateDeficit(rate, hits, trials)
		require.NoError(t, err)
		require.InDelta(t, less.Log(), log, 1e-6*(1+math.Abs(log)))
		require.Equal(t, log > LogLevel(0.05), high <= rate)
		if math.Abs(more.Log()-LogLevel(0.05)) > 1e-6 {
			require.Equal(t, more.Log() > LogLevel(0.05), rate <= low)
		}
	})
}

func TestOddsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for _, wrong := range [][2]float64{{0, 0.05}, {-1, 0.05}, {math.NaN(), 0.05}, {math.Inf(1), 0.05}, {1, 0}, {1, 1}} {
		_, err := NewLowerOdds(wrong[0], wrong[1])
		require.ErrorIs(t, err, ErrInput)
		_, err = NewUpperOdds(wrong[0], wrong[1])
		require.ErrorIs(t, err, ErrInput)
	}
	lower, err := NewLowerOdds(1, 0.05)
	require.NoError(t, err)
	upper, err := NewUpperOdds(1, 0.05)
	require.NoError(t, err)
	for _, p := range []float64{0, 1, math.NaN()} {
		require.ErrorIs(t, lower.Observe(p, true), ErrInput)
		require.ErrorIs(t, upper.Observe(p, true), ErrInput)
	}
	require.Zero(t, lower.Trials()+upper.Trials())
	require.Zero(t, lower.Limit())
	require.True(t, math.IsInf(upper.Limit(), 1))
	for _, wrong := range [][2]int64{{-1, 3}, {4, 3}} {
		_, _, err = RateLimits(wrong[0], wrong[1], 0.05)
		require.ErrorIs(t, err, ErrInput)
		_, err = RateDeficit(0.1, wrong[0], wrong[1])
		require.ErrorIs(t, err, ErrInput)
	}
}

func TestLimitsOfLongStreamsStayFinite(t *testing.T) {
	t.Parallel()
	lower, err := NewLowerOdds(1, 0.05)
	require.NoError(t, err)
	upper, err := NewUpperOdds(1, 0.05)
	require.NoError(t, err)
	for range 50_000 {
		require.NoError(t, lower.Observe(0.01, true))
		require.NoError(t, upper.Observe(0.99, false))
	}
	require.Equal(t, 256.0, lower.Limit(), "more than the lattice holds")
	require.Equal(t, 1.0/256, upper.Limit())
	require.True(t, finite(lower.Peak(), upper.Log()))
}

// missed counts streams in which a limit ever passed the true ratio, looking after every trial.
func missed(t *testing.T, runs, trials int, ratio, alpha float64, seed uint64, said func(p float64) float64) (lows, highs int) {
	for run := range runs {
		random := rand.New(rand.NewPCG(uint64(run), seed))
		lower, err := NewLowerOdds(1, alpha)
		require.NoError(t, err)
		upper, err := NewUpperOdds(1, alpha)
		require.NoError(t, err)
		low, high := false, false
		for i := range trials {
			p := []float64{0.14, 0.14, 0.5, 0.75}[4*i/trials] // shares of steps
			hit := random.Float64() < moved(p, ratio)
			require.NoError(t, lower.Observe(said(p), hit))
			require.NoError(t, upper.Observe(said(p), hit))
			low = low || hit && lower.Limit() >= ratio
			high = high || upper.Limit() <= ratio
		}
		if low {
			lows++
		}
		if high {
			highs++
		}
	}
	return lows, highs
}

func TestOddsAreCoveredAtEveryLook(t *testing.T) {
	t.Parallel()
	const alpha = 0.05
	runs, trials := sized(400, 4000), sized(250, 500)
	for _, ratio := range []float64{1, 0.5, 2, 5} {
		low, high := missed(t, runs, trials, ratio, alpha, 21, func(p float64) float64 { return p })
		t.Logf("ratio %v: the low limit missed in %d of %d streams, the high one in %d", ratio, low, runs, high)
		require.LessOrEqual(t, float64(low), alpha*float64(runs))
		require.LessOrEqual(t, float64(high), alpha*float64(runs))
	}
	// Probabilities that are not what they say are found out: the simulation can fail.
	low, _ := missed(t, 40, trials, 1, alpha, 22, func(p float64) float64 { return p / 2 })
	require.Greater(t, low, 20)
	_, high := missed(t, 40, trials, 1, alpha, 22, func(p float64) float64 { return moved(p, 2) })
	require.Greater(t, high, 20)
}
