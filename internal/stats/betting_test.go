package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// world draws clusters whose mean over all values is zero and which lie in -1 to 1.
var worlds = map[string]func(r *rand.Rand) Total{
	"fair coins": func(r *rand.Rand) Total { return Total{Sum: float64(2*r.IntN(2) - 1), N: 1} },
	"rare and large losses": func(r *rand.Rand) Total {
		if r.Float64() < 0.02 {
			return Total{Sum: -0.98, N: 1}
		}
		return Total{Sum: 0.02, N: 1}
	},
	"large clusters of one mind": func(r *rand.Rand) Total {
		n := float64(1 + r.IntN(6))
		return Total{Sum: n * float64(2*r.IntN(2)-1), N: n}
	},
	// Small clusters lose and large ones win: the mean over clusters is under zero, the mean over values is not.
	"sizes that go with values": func(r *rand.Rand) Total {
		if r.IntN(2) == 0 {
			return Total{Sum: -0.9, N: 1}
		}
		return Total{Sum: 0.9, N: 9}
	},
	"small spread": func(r *rand.Rand) Total { return Total{Sum: 0.1 * (r.Float64() - 0.5), N: 1} },
}

func TestBettingMissesNoMoreThanItsLevel(t *testing.T) {
	t.Parallel()
	for name, draw := range worlds {
		for _, clusters := range []int{5, 60, 400} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				runs := sized(300, 10_000)
				random := rand.New(rand.NewPCG(uint64(clusters), 17))
				low, high, drop := int64(0), int64(0), int64(0)
				for run := range runs {
					sums := make([]Total, clusters)
					for i := range sums {
						sums[i] = draw(random)
					}
					got, err := Betting(sums, -1, 1, 0.05, uint64(run))
					require.NoError(t, err)
					for count, missed := range map[*int64]bool{&low: got.Low > 0, &high: got.High < 0, &drop: got.PDrop <= 0.05} {
						if missed {
							*count++
						}
					}
				}
				for _, missed := range []int64{low, high, drop} {
					least, _, err := BinomialLimits(missed, int64(runs), 0.001)
					require.NoError(t, err)
					require.LessOrEqual(t, least, 0.05, "%d of %d", missed, runs)
				}
			})
		}
	}
}

// What betting is for: where losses are rare and large, Student's limit misses much more often than it says.
func TestBettingHoldsWhereStudentDoesNot(t *testing.T) {
	t.Parallel()
	runs, student := sized(1000, 10_000), int64(0)
	random := rand.New(rand.NewPCG(1, 19))
	for range runs {
		sums := make([]Total, 60)
		for i := range sums {
			sums[i] = worlds["rare and large losses"](random)
		}
		limits, err := ClusterLimits(sums, 0.05)
		require.NoError(t, err)
		if limits.Low > 0 {
			student++
		}
	}
	least, _, err := BinomialLimits(student, int64(runs), 0.001)
	require.NoError(t, err)
	require.Greater(t, least, 0.2)
}

func TestBettingNarrowsWithClusters(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(2, 19))
	width := func(n int, mean float64) float64 {
		sums := make([]Total, n)
		for i := range sums {
			sums[i].Add(mean + 0.2*(random.Float64()-0.5))
		}
		got, err := Betting(sums, -1, 1, 0.05, 3)
		require.NoError(t, err)
		require.True(t, got.Low < got.Mean && got.Mean < got.High)
		if n >= 300 {
			require.Less(t, got.PDrop, 1e-3, "a drop of 0.1 is seen")
		}
		return got.High - got.Low
	}
	require.Less(t, width(300, -0.1), 0.15)
	require.Less(t, width(3000, -0.1), 0.03)
}

func TestBettingKnowsItsBounds(t *testing.T) {
	t.Parallel()
	for _, sums := range [][]Total{nil, {{Sum: 1, N: 1}}, {{Sum: 1, N: 1}, {}}, {{Sum: 2, N: 1}, {Sum: 0, N: 1}}, {{Sum: math.NaN(), N: 1}, {N: 1}}} {
		_, err := Betting(sums, -1, 1, 0.05, 0)
		require.ErrorIs(t, err, ErrInput)
	}
	for _, wrong := range [][3]float64{{1, 1, 0.05}, {1, -1, 0.05}, {-1, math.Inf(1), 0.05}, {-1, 1, 0.5}, {-1, 1, 0}} {
		_, err := Betting([]Total{{N: 1}, {N: 1}}, wrong[0], wrong[1], wrong[2], 0)
		require.ErrorIs(t, err, ErrInput)
	}
	rapid.Check(t, func(t *rapid.T) {
		sums := make([]Total, rapid.IntRange(2, 40).Draw(t, "clusters"))
		for i := range sums {
			for range rapid.IntRange(1, 4).Draw(t, "values") {
				sums[i].Add(rapid.Float64Range(-1, 1).Draw(t, "value"))
			}
		}
		got, err := Betting(sums, -1, 1, 0.05, 9)
		require.NoError(t, err)
		require.True(t, -1 <= got.Low && got.Low <= got.Mean+1e-9 && got.Mean <= got.High+1e-9 && got.High <= 1, "%+v", got)
		require.True(t, got.PDrop > 0 && got.PDrop <= 1)
		again, err := Betting(sums, -1, 1, 0.05, 9)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestBettingPowerIsWhatBetsWin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(11, 37))
	draw := func() []Total {
		clusters := make([]Total, 150)
		for i := range clusters {
			clusters[i] = Total{Sum: 0.6*random.Float64() - 0.3, N: 1}
		}
		return clusters
	}
	runs, won := sized(400, 5000), int64(0)
	for run := range runs {
		bounds, err := Betting(draw(), -1, 1, 0.05, uint64(run))
		require.NoError(t, err)
		if bounds.Low > -0.055 {
			won++
		}
		if run == 0 {
			again := draw()
			bounds, err := Betting(again, -1, 1, 0.05, 3)
			require.NoError(t, err)
			alone, err := BettingDrop(again, -1, 1, 0.05, 3)
			require.NoError(t, err)
			require.Equal(t, bounds.PDrop, alone)
		}
	}
	mean := func(b Bet) (mean float64) {
		for range 20 {
			p, err := BettingPower(draw(), b, 0.05, Resampling{Rounds: 200})
			require.NoError(t, err)
			mean += p / 20
		}
		return mean
	}
	seen, others := mean(Bet{Low: -1, High: 1, Floor: -0.055}), mean(Bet{Low: -1, High: 1, Floor: -0.055, Others: true})
	require.InDelta(t, float64(won)/float64(runs), seen, 0.06)
	require.Less(t, others, seen+0.02, "others differ more")
	_, err := BettingPower(draw(), Bet{Low: 1, High: -1}, 0.05, Resampling{Rounds: 2})
	require.ErrorIs(t, err, ErrInput)
}
