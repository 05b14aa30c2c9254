package stats

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sized gives the small number in the inner loop and the full one when REFIT_LONG is 1.
func sized(short, long int) int {
	if os.Getenv("REFIT_LONG") == "1" {
		return long
	}
	return short
}

type watcher interface {
	Observe(float64, bool) error
	Log() float64
	Peak() float64
}

// expectation walks every sequence of hits and gives the mean of the e-value when hits have the probabilities
// truth, and the null says null.
func expectation(t *testing.T, fresh func() watcher, null, truth []float64) float64 {
	t.Helper()
	mean := 0.0
	for bits := range 1 << len(null) {
		w, chance := fresh(), 1.0
		for i, p := range null {
			hit := bits>>i&1 == 1
			require.NoError(t, w.Observe(p, hit))
			if hit {
				chance *= truth[i]
			} else {
				chance *= 1 - truth[i]
			}
		}
		mean += chance * math.Exp(w.Log())
	}
	return mean
}

func TestEValuesAreFairBets(t *testing.T) {
	t.Parallel()
	null := []float64{0.05, 0.5, 0.136, 0.9, 0.01, 0.3, 0.999}
	scaled := func(f func(float64) float64) []float64 {
		out := make([]float64, len(null))
		for i, p := range null {
			out[i] = f(p)
		}
		return out
	}
	less := scaled(func(p float64) float64 { return p * 0.8 })
	more := scaled(func(p float64) float64 { return 1 - (1-p)*0.8 })
	excess := func() watcher { return &Excess{} }
	deficit := func() watcher { return &Deficit{} }
	require.InDelta(t, 1, expectation(t, excess, null, null), 1e-9)
	require.InDelta(t, 1, expectation(t, deficit, null, null), 1e-9)
	require.Less(t, expectation(t, excess, null, less), 1.0)
	require.Less(t, expectation(t, deficit, null, more), 1.0)
	require.Greater(t, expectation(t, excess, null, more), 1.0)
	require.Greater(t, expectation(t, deficit, null, less), 1.0)
}

func TestOneTrialByHand(t *testing.T) {
	t.Parallel()
	var e Excess
	require.NoError(t, e.Observe(0.5, true))
	want := 0.0
	for k := 1; k <= 8; k++ {
		r := math.Pow(2, float64(k)/2)
		want += r / (0.5 + 0.5*r) / 8
	}
	require.InDelta(t, math.Log(want), e.Log(), 1e-12)
	require.InDelta(t, math.Log(want), e.Peak(), 1e-12)
	require.EqualValues(t, 1, e.Trials())
}

func TestLongStreamsStayFinite(t *testing.T) {
	t.Parallel()
	var up Excess
	var down Deficit
	for range 200_000 {
		require.NoError(t, up.Observe(0.01, true))
		require.NoError(t, down.Observe(0.99, true))
	}
	require.True(t, finite(up.Log(), down.Log()))
	require.Greater(t, up.Log(), 1e5)
	require.Zero(t, down.Peak())
}

func TestImpossibleProbabilitiesAreRefused(t *testing.T) {
	t.Parallel()
	for _, p := range []float64{0, 1, -0.1, 1.1, math.NaN(), math.Inf(1)} {
		var e Excess
		require.ErrorIs(t, e.Observe(p, true), ErrInput)
		require.Zero(t, e.Trials())
		require.True(t, math.IsInf(LogLevel(p), 1))
	}
}

// falseAlarms looks after every trial and counts the streams in which the bar is ever passed.
func falseAlarms(runs, trials int, alpha, null, truth float64) float64 {
	alarms := 0
	for run := range runs {
		random := rand.New(rand.NewPCG(uint64(run), 7))
		var e Excess
		for range trials {
			if e.Observe(null, random.Float64() < truth) != nil || e.Peak() > LogLevel(alpha) {
				alarms++
				break
			}
		}
	}
	return float64(alarms) / float64(runs)
}

func TestLookingAlwaysKeepsTheLevel(t *testing.T) {
	t.Parallel()
	runs := sized(500, 10_000)
	require.LessOrEqual(t, falseAlarms(runs, 2000, 0.05, 0.05, 0.05), 0.05)
	// A null that is off by a little is found out: the simulation can fail.
	require.Greater(t, falseAlarms(runs, 2000, 0.05, 0.05, 0.10), 0.5)
}

func TestProportionSequence(t *testing.T) {
	t.Parallel()
	low, high, err := ProportionSequence(0, 0, 0.05)
	require.NoError(t, err)
	require.Equal(t, []float64{0, 1}, []float64{low, high})
	for _, wrong := range [][2]int64{{-1, 3}, {4, 3}, {1, -1}} {
		_, _, err = ProportionSequence(wrong[0], wrong[1], 0.05)
		require.ErrorIs(t, err, ErrInput)
	}
	rapid.Check(t, func(t *rapid.T) {
		trials := rapid.Int64Range(1, 5000).Draw(t, "trials")
		hits := rapid.Int64Range(0, trials).Draw(t, "hits")
		low, high, err := ProportionSequence(hits, trials, 0.05)
		require.NoError(t, err)
		rate := float64(hits) / float64(trials)
		require.True(t, 0 <= low && low <= rate && rate <= high && high <= 1)
		fixedLow, fixedHigh, err := BinomialLimits(hits, trials, 0.025)
		require.NoError(t, err)
		require.True(t, low <= fixedLow+1e-9 && high >= fixedHigh-1e-9, "a sequence is wider than limits for one look")
	})
}

func TestProportionSequenceCoversAlways(t *testing.T) {
	t.Parallel()
	runs, missed := sized(200, 4000), 0
	for run := range runs {
		random := rand.New(rand.NewPCG(uint64(run), 11))
		hits := int64(0)
		for n := int64(1); n <= 300; n++ {
			if random.Float64() < 0.1 {
				hits++
			}
			low, high, err := ProportionSequence(hits, n, 0.05)
			require.NoError(t, err)
			if low > 0.1 || high < 0.1 {
				missed++
				break
			}
		}
	}
	require.LessOrEqual(t, float64(missed), 0.05*float64(runs))
}
