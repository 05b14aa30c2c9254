package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// drawn draws pairs as a comparison says.
func (c Comparison) drawn(r *rand.Rand) Pairs {
	p := Pairs{N: c.N}
	for range int(c.N) {
		switch u := r.Float64(); {
		case u < c.Rate*c.better():
			p.Better++
		case u < c.Rate:
			p.Worse++
		}
	}
	return p
}

func TestPowersAreWhatSimulationSees(t *testing.T) {
	t.Parallel()
	runs := sized(2000, 20_000)
	for _, c := range []Comparison{{60, 0.1, 0}, {60, 0.1, 0.1}, {400, 0.1, 0}, {200, 0.01, 0}, {400, 0.02, 0.01}, {3000, 0.3, 0.02}, {3000, 0.3, -0.01}} {
		random := rand.New(rand.NewPCG(uint64(c.N), 23))
		passed, swapped := int64(0), 0.0
		for range runs {
			p := c.drawn(random)
			low, err := TangoLower(p, 0.05)
			require.NoError(t, err)
			if low > -0.05 {
				passed++
			}
			one, err := TangoSwapped(p, 0.05, 0.05)
			require.NoError(t, err)
			swapped += one / float64(runs)
		}
		within(t, passed, runs, func() (float64, error) { return TangoPower(c, 0.05, 0.05) })
		if c.Drop == 0 { // either side is as likely the better one
			within(t, passed, runs, func() (float64, error) { return swapped, nil })
		}
	}
}

// within holds a predicted probability against what was counted.
func within(t *testing.T, hits int64, runs int, predict func() (float64, error)) {
	t.Helper()
	low, high, err := BinomialLimits(hits, int64(runs), 1e-4)
	require.NoError(t, err)
	said, err := predict()
	require.NoError(t, err)
	require.True(t, low-0.002 <= said && said <= high+0.002, "said %v, seen %d of %d", said, hits, runs)
}

func TestStudentPowerIsWhatSimulationSees(t *testing.T) {
	t.Parallel()
	runs := sized(3000, 30_000)
	random := rand.New(rand.NewPCG(1, 29))
	for _, n := range []int{15, 60} {
		seen := int64(0)
		for range runs {
			values := make([]float64, n)
			for i := range values {
				values[i] = 2/math.Sqrt(float64(n)) + random.NormFloat64()
			}
			limits, err := MeanLimits(values, 0.05)
			require.NoError(t, err)
			if limits.Low > 0 {
				seen++
			}
		}
		within(t, seen, runs, func() (float64, error) { return StudentPower(Studied{Effect: 2, Freely: float64(n - 1)}, 0.05) })
	}
	for _, freely := range []float64{14, 100, 4999, 5001, 1e6} {
		p, err := StudentPower(Studied{Effect: 2.4865 + 1.8/freely, Freely: freely}, 0.05)
		require.NoError(t, err)
		require.InDelta(t, 0.8, p, 2e-3)
		level, err := FewerDegrees(0.05, freely)
		require.NoError(t, err)
		require.InDelta(t, 0.05, level, 0.16/freely+1e-6)
	}
}

// Where drops lie further out than gains, t sees an effect less often than the noncentral distribution has it.
func TestStudentPowerKnowsSkewness(t *testing.T) {
	t.Parallel()
	runs, seen, lean := sized(3000, 30_000), int64(0), 0.0
	random := rand.New(rand.NewPCG(2, 29))
	for range runs {
		sums := make([]Total, 150)
		for i := range sums {
			sums[i].Add(2.5/math.Sqrt(150) + 1 - random.ExpFloat64())
		}
		limits, err := ClusterLimits(sums, 0.05)
		require.NoError(t, err)
		if limits.Low > 0 {
			seen++
		}
		one, err := Lean(sums)
		require.NoError(t, err)
		lean += one / float64(runs)
	}
	require.InDelta(t, -2/math.Sqrt(150), lean, 0.02)
	within(t, seen, runs, func() (float64, error) {
		p, err := StudentPower(Studied{Effect: 2.5, Freely: 149, Lean: lean}, 0.05)
		require.NoError(t, err)
		without, err := StudentPower(Studied{Effect: 2.5, Freely: 149}, 0.05)
		require.Less(t, p, without-0.02)
		return p, err
	})
}

// Where nothing changed, the power is the level that Student's test of skewed values really has.
// Source: Hall, The Bootstrap and Edgeworth Expansion (1992), section 2.6: alpha - skewness (2 z^2 + 1)/6 density(z).
func TestStudentPowerIsTheLevelOfSkewedValues(t *testing.T) {
	t.Parallel()
	for _, alpha := range []float64{0.05, 0.05 / 8} {
		z := NormalQuantile(1 - alpha)
		for _, lean := range []float64{-0.01, -0.02, 0.01, 0.02} {
			level, err := StudentPower(Studied{Freely: 1e6, Lean: lean}, alpha)
			require.NoError(t, err)
			require.InEpsilon(t, -lean*(2*z*z+1)/6*NormalDensity(z), level-alpha, 0.1)
		}
	}
}

// More is seen more often, also where the values are skewed as few are.
func TestStudentPowerGrowsWithTheEffect(t *testing.T) {
	t.Parallel()
	for _, lean := range []float64{-0.6, -0.2, 0, 0.2, 0.6} {
		before := 0.0
		for effect := -6.0; effect <= 12; effect += 0.25 {
			p, err := StudentPower(Studied{Effect: effect, Freely: 49, Lean: lean}, 0.05)
			require.NoError(t, err)
			require.GreaterOrEqual(t, p, before-1e-9, "skewness %v, effect %v", lean, effect)
			before = p
		}
	}
}

// The level that Tango's test really has, over rates at which pairs differ. Where there are hardly more discordant
// pairs than the margin allows, it is furthest from 5%.
func TestTangosLevelIsNearWhatItSays(t *testing.T) {
	t.Parallel()
	worst := 0.0
	for _, n := range []float64{100, 200, 400, 700, 1400, 5000} {
		for _, margin := range []float64{0.02, 0.05, 0.1} {
			for _, rate := range []float64{2 * margin, 0.2, 0.3, 0.5} {
				level, err := TangoPower(Comparison{n, rate, margin}, margin, 0.05)
				require.NoError(t, err)
				worst = max(worst, level)
			}
		}
	}
	require.Less(t, worst, 0.054)
	require.Greater(t, worst, 0.05)
}

func TestPowersThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, c := range []Comparison{{0, 0.1, 0}, {10, -0.1, 0}, {10, 1.1, 0}, {10, 0.1, 0.2}, {math.NaN(), 0.1, 0}, {10, math.NaN(), 0}} {
		_, err := TangoPower(c, 0.05, 0.05)
		require.ErrorIs(t, err, ErrInput)
	}
	_, err := TangoPower(Comparison{10, 0.1, 0}, 0, 0.05)
	require.ErrorIs(t, err, ErrInput)
	_, err = TangoSwapped(Pairs{Better: 3, Worse: 2, N: 4}, 0.05, 0.05)
	require.ErrorIs(t, err, ErrInput)
	_, err = TangoSwapped(Pairs{Better: 1, Worse: 2, N: 40}, 1, 0.05)
	require.ErrorIs(t, err, ErrInput)
	_, err = StudentPower(Studied{Effect: math.NaN(), Freely: 3}, 0.05)
	require.ErrorIs(t, err, ErrInput)
	_, err = FewerDegrees(0.05, 0)
	require.ErrorIs(t, err, ErrInput)
	same, err := TangoPower(Comparison{1000, 0, 0}, 0.05, 0.05)
	require.NoError(t, err)
	require.Equal(t, 1.0, same, "1,000 equal answers clear a margin of 0.05")
	few, err := TangoPower(Comparison{20, 0, 0}, 0.05, 0.05)
	require.NoError(t, err)
	require.Zero(t, few, "20 do not")
}
