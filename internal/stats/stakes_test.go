package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever the values look like, an e-process against their own mean passes 1/alpha at most alpha of the time, looking
// after every one of them; a bar a little under the mean is passed far more often, so the test can fail.
func TestAboveKeepsItsLevelHoweverOftenOneLooks(t *testing.T) {
	t.Parallel()
	for name, draw := range map[string]func(r *rand.Rand) float64{
		"coins":        func(r *rand.Rand) float64 { return float64(r.IntN(2)) },
		"mostly ties":  func(r *rand.Rand) float64 { return []float64{0, 0.5, 0.5, 0.5, 0.5, 1}[r.IntN(6)] },
		"small spread": func(r *rand.Rand) float64 { return 0.45 + 0.1*r.Float64() },
		"rare and bad": func(r *rand.Rand) float64 { return 0.5 - 0.5*truth(r.Float64() < 0.04) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mean := 0.0
			random := rand.New(rand.NewPCG(3, 23))
			const known = 400_000
			for range known {
				mean += draw(random) / known
			}
			runs, looks := sized(300, 10_000), 400
			alarms, caught := int64(0), int64(0)
			for range runs {
				var level, planted Above
				for range looks {
					x := draw(random)
					require.NoError(t, level.Observe(x, mean+0.002)) // more than the mean is known by
					require.NoError(t, planted.Observe(x, max(0.01, mean-0.15)))
				}
				alarms += int64(truth(level.Peak() > LogLevel(0.05)))
				caught += int64(truth(planted.Peak() > LogLevel(0.05)))
			}
			least, _, err := BinomialLimits(alarms, int64(runs), 0.001)
			require.NoError(t, err)
			require.LessOrEqual(t, least, 0.05, "%d of %d", alarms, runs)
			require.Greater(t, float64(caught)/float64(runs), 0.3)
		})
	}
}

func TestAboveIsWhatItsDefinitionSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bar := rapid.Float64Range(0.01, 0.99).Draw(t, "bar")
		values := rapid.SliceOfN(rapid.Float64Range(0, 1), 0, 30).Draw(t, "values")
		var a, backwards Above
		peak := 0.0
		for i, x := range values {
			require.NoError(t, a.Observe(x, bar))
			require.NoError(t, backwards.Observe(values[len(values)-1-i], bar))
			peak = max(peak, a.Log())
		}
		mean := 0.0
		for k := range stakes {
			money := 1.0
			for _, x := range values {
				money *= 1 + 0.9/bar*math.Pow(2, -float64(k)/2)*(x-bar)
			}
			require.Positive(t, money, "no bet is ever ruined")
			mean += money / stakes
		}
		require.InDelta(t, math.Log(mean), a.Log(), 1e-9*(1+math.Abs(math.Log(mean))))
		require.InDelta(t, a.Log(), backwards.Log(), 1e-9*(1+math.Abs(a.Log())))
		require.Equal(t, peak, a.Peak())
		require.Equal(t, int64(len(values)), a.Trials())
	})
}

func TestAboveKnowsItsBounds(t *testing.T) {
	t.Parallel()
	for _, wrong := range [][2]float64{{-0.1, 0.5}, {1.1, 0.5}, {math.NaN(), 0.5}, {0.5, 0}, {0.5, 1}, {0.5, math.NaN()}} {
		var a Above
		require.ErrorIs(t, a.Observe(wrong[0], wrong[1]), ErrInput)
		require.Zero(t, a.Trials())
		require.Zero(t, a.Log())
	}
}
