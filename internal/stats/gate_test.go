package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"
)

// Bentur and others (2009) and Cavo and others (2012), as tabulated by Fagerland, Lydersen and Laake, Statistics in
// Medicine 33:2850 (2014): Tango's 95% interval (-0.517, -0.026) for 1 against 7 of 21.
func TestTangoGivesPublishedLimits(t *testing.T) {
	t.Parallel()
	bentur := Pairs{Better: 1, Worse: 7, N: 21}
	low, err := TangoLower(bentur, 0.025)
	require.NoError(t, err)
	high, err := TangoUpper(bentur, 0.025)
	require.NoError(t, err)
	require.InDelta(t, -0.517, low, 0.0006)
	require.InDelta(t, -0.026, high, 0.0006)
}

func TestTangoAtNoDifferenceIsMcNemarsScore(t *testing.T) {
	t.Parallel()
	score, err := TangoScore(Pairs{Better: 10, Worse: 20, N: 100}, 0)
	require.NoError(t, err)
	require.InDelta(t, -10/math.Sqrt(30), score, 1e-12)
}

func TestTangoLimitsAreWhereTheScoreCrosses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 2000).Draw(t, "n")
		better := rapid.IntRange(0, n).Draw(t, "better")
		worse := rapid.IntRange(0, n-better).Draw(t, "worse")
		p := Pairs{Better: float64(better), Worse: float64(worse), N: float64(n)}
		low, err := TangoLower(p, 0.05)
		require.NoError(t, err)
		high, err := TangoUpper(p, 0.05)
		require.NoError(t, err)
		require.True(t, -1 <= low && low <= p.Difference() && p.Difference() <= high && high <= 1)
		if low > -1+1e-6 && low < p.Difference()-1e-6 {
			score, err := TangoScore(p, low)
			require.NoError(t, err)
			require.InDelta(t, distuv.UnitNormal.Quantile(0.95), score, 1e-3)
		}
	})
}

func TestTangoHoldsItsLevelAtTheMargin(t *testing.T) {
	t.Parallel()
	runs, passed := sized(2000, 20_000), 0
	for run := range runs {
		random := rand.New(rand.NewPCG(uint64(run), 3))
		p := Pairs{N: 400}
		for range 400 {
			switch u := random.Float64(); {
			case u < 0.05:
				p.Better++
			case u < 0.15:
				p.Worse++
			}
		}
		low, err := TangoLower(p, 0.05)
		require.NoError(t, err)
		if low > -0.05 {
			passed++
		}
	}
	part := float64(passed) / float64(runs)
	require.LessOrEqual(t, part, 0.065)
	require.Greater(t, part, 0.03)
}

func TestMcNemar(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		better, worse, want float64
	}{
		"Bentur 2009":      {1, 7, 9.0 / 256},
		"nothing worse":    {5, 0, 1},
		"all worse":        {0, 5, 1.0 / 32},
		"nothing differs":  {0, 0, 1},
		"as many as worse": {3, 3, 42.0 / 64},
	} {
		p, err := McNemar(Pairs{Better: tc.better, Worse: tc.worse, N: 50})
		require.NoError(t, err, name)
		require.InDelta(t, tc.want, p, 1e-12, name)
	}
}

func TestPairsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, p := range []Pairs{{}, {-1, 0, 5}, {0, -1, 5}, {3, 3, 5}, {math.NaN(), 0, 5}, {0, 0, math.Inf(1)}} {
		_, err := TangoLower(p, 0.05)
		require.ErrorIs(t, err, ErrInput)
		_, err = McNemar(p)
		require.ErrorIs(t, err, ErrInput)
		_, err = TangoScore(p, 0)
		require.ErrorIs(t, err, ErrInput)
	}
	_, err := TangoLower(Pairs{1, 1, 5}, 0.5)
	require.ErrorIs(t, err, ErrInput)
	_, err = TangoScore(Pairs{1, 1, 5}, math.NaN())
	require.ErrorIs(t, err, ErrInput)
}

func TestHolm(t *testing.T) {
	t.Parallel()
	adjusted, err := Holm([]float64{0.01, 0.04, 0.03, 0.005})
	require.NoError(t, err)
	require.InDeltaSlice(t, []float64{0.03, 0.06, 0.06, 0.02}, adjusted, 1e-12)
	for _, wrong := range []float64{-0.1, 1.1, math.NaN()} {
		_, err = Holm([]float64{0.5, wrong})
		require.ErrorIs(t, err, ErrInput)
	}
}

func TestBinomialLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		hits, trials int64
		low, high    float64
	}{{0, 10, 0, 0.3085}, {5, 10, 0.1871, 0.8129}, {10, 10, 0.6915, 1}, {1, 100, 0.0003, 0.0545}} {
		low, high, err := BinomialLimits(tc.hits, tc.trials, 0.025)
		require.NoError(t, err)
		require.InDelta(t, tc.low, low, 5e-5)
		require.InDelta(t, tc.high, high, 5e-5)
	}
	_, _, err := BinomialLimits(0, 0, 0.05)
	require.ErrorIs(t, err, ErrInput)
}

// Student's own data: hours of sleep gained by ten patients (1908).
var sleep = []float64{1.2, 2.4, 1.3, 1.3, 0, 1.0, 1.8, 0.8, 4.6, 1.4}

func TestMeanLimitsOnStudentsSleep(t *testing.T) {
	t.Parallel()
	got, err := MeanLimits(sleep, 0.025)
	require.NoError(t, err)
	require.InDelta(t, 1.58, got.Mean, 1e-12)
	require.InDelta(t, 0.7001, got.Low, 1e-4)
	require.InDelta(t, 2.4599, got.High, 1e-4)
	require.InDelta(t, 1-0.002833/2, got.PDrop, 1e-5)
	clusters := make([]Total, len(sleep))
	for i, v := range sleep {
		clusters[i].Add(v)
	}
	alone, err := ClusterDrop(clusters)
	require.NoError(t, err)
	require.Equal(t, got.PDrop, alone)
	_, err = ClusterDrop(clusters[:1])
	require.ErrorIs(t, err, ErrInput)
}

func TestStudentsReachLeavesItsLevel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		alpha := math.Pow(10, -rapid.Float64Range(0.31, 8).Draw(t, "level"))
		freely := math.Pow(10, rapid.Float64Range(0, 6).Draw(t, "freely"))
		left := distuv.StudentsT{Sigma: 1, Nu: freely}.Survival(studentReach(alpha, freely))
		require.InEpsilon(t, alpha, left, 1e-6, "%v %v", alpha, freely)
	})
}

func TestClustersWidenLimits(t *testing.T) {
	t.Parallel()
	doubled := make([][]float64, len(sleep))
	for i, v := range sleep {
		doubled[i] = []float64{v, v}
	}
	want, err := MeanLimits(sleep, 0.05)
	require.NoError(t, err)
	got, err := ClusterLimits(TotalsOf(doubled), 0.05)
	require.NoError(t, err)
	require.InDelta(t, want.Low, got.Low, 1e-12, "a value that is written twice proves no more")
	effect, err := DesignEffect(TotalsOf(doubled))
	require.NoError(t, err)
	require.InDelta(t, 2*10.0/9, effect, 1e-9)
	independent := make([][]float64, len(sleep))
	for i, v := range sleep {
		independent[i] = []float64{v}
	}
	effect, err = DesignEffect(TotalsOf(independent))
	require.NoError(t, err)
	require.InDelta(t, 10.0/9, effect, 1e-9)
}

func TestMeansThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, clusters := range [][][]float64{nil, {{1}}, {{1}, {}}, {{1}, {math.NaN()}}, {{1}, {math.Inf(1)}}} {
		_, err := ClusterLimits(TotalsOf(clusters), 0.05)
		require.ErrorIs(t, err, ErrInput)
		_, err = DesignEffect(TotalsOf(clusters))
		require.ErrorIs(t, err, ErrInput)
		_, err = Bootstrap(TotalsOf(clusters), 0.05, Resampling{})
		require.ErrorIs(t, err, ErrInput)
	}
	flat, err := ClusterLimits(TotalsOf([][]float64{{-1}, {-1}}), 0.05)
	require.NoError(t, err)
	require.Equal(t, Limits{Mean: -1, Low: -1, High: -1, Freely: 1}, flat)
}

func TestBootstrapIsRepeatableAndOrdered(t *testing.T) {
	t.Parallel()
	clusters := make([][]float64, len(sleep))
	for i, v := range sleep {
		clusters[i] = []float64{v}
	}
	one, err := Bootstrap(TotalsOf(clusters), 0.05, Resampling{Seed: 4})
	require.NoError(t, err)
	two, err := Bootstrap(TotalsOf(clusters), 0.05, Resampling{Seed: 4})
	require.NoError(t, err)
	require.Equal(t, one, two)
	require.InDelta(t, 1.58, one.Mean, 1e-12)
	require.True(t, one.Low < one.Mean && one.Mean < one.High)
	require.Greater(t, one.Low, one.PercentileLow, "BCa follows the long right tail")
	require.Greater(t, one.High, one.PercentileUp)
}

func TestBootstrapCoversWithClusters(t *testing.T) {
	t.Parallel()
	runs, missed, naive := sized(300, 3000), 0, 0
	for run := range runs {
		random := rand.New(rand.NewPCG(uint64(run), 5))
		clusters := make([][]float64, 60)
		var flat [][]float64
		for i := range clusters {
			shared := random.NormFloat64()
			for range 1 + random.IntN(8) {
				v := shared + random.NormFloat64()
				clusters[i] = append(clusters[i], v)
				flat = append(flat, []float64{v})
			}
		}
		got, err := Bootstrap(TotalsOf(clusters), 0.05, Resampling{Rounds: 500, Seed: uint64(run)})
		require.NoError(t, err)
		if got.Low > 0 {
			missed++
		}
		wrong, err := Bootstrap(TotalsOf(flat), 0.05, Resampling{Rounds: 500, Seed: uint64(run)})
		require.NoError(t, err)
		if wrong.Low > 0 {
			naive++
		}
	}
	require.Less(t, float64(missed)/float64(runs), 0.09)
	require.Greater(t, float64(naive)/float64(runs), 0.11, "ignoring clusters is found out")
}
