package evaluation

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/stats"
)

// Flaky cases hide how the others hang together, and the spread of their samples takes them out again.
func TestFlakyCasesDoNotHideHowLossesHangTogether(t *testing.T) {
	t.Parallel()
	var steady, flaky, seen float64
	const rounds = 12
	tr := trial{kind: Cloze, items: 1600, perGroup: 8, samples: 3, baseline: 0.6, flips: 0.1, within: 0.5, margin: 0.1}
	for seed := range uint64(rounds) {
		tr.flaky = 0
		_, one := looked(t, seed, 1, tr)
		steady += one.clumps().seen / rounds
		tr.flaky = 0.4
		_, one = looked(t, seed+1000, 1, tr)
		flaky += one.clumps().seen / rounds
		seen += one.effect / rounds
	}
	// Two cases of a group share what they draw with chance 1/4, and 7 others are with each; of 10 cases 4 are flaky.
	require.InDelta(t, 1+7*0.25, steady, 0.15)
	require.InDelta(t, 1+7*0.25*0.6, flaky, 0.2)
	require.Less(t, seen, flaky-0.3)
}

func TestClumpsAreAtLeastACaseAndAtMostAGroup(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 37))
	draws := func(i imagined) (least, most float64) {
		c := i.clumps()
		least = math.Inf(1)
		for range 200 {
			v := c.draw(random)
			least, most = min(least, v), max(most, v)
		}
		return least, most
	}
	_, loose := looked(t, 5, 1, trial{kind: NextToken, items: 200, perGroup: 4, baseline: 0.6, flips: 0.3, margin: 0.1})
	least, most := draws(loose)
	require.InDelta(t, 1, least, 0)
	require.Less(t, most, 3.0)
	_, tight := looked(t, 5, 1, trial{kind: NextToken, items: 200, perGroup: 4, baseline: 0.6, flips: 0.4, within: 1, margin: 0.1})
	least, most = draws(tight)
	require.Greater(t, least, 2.5)
	require.InDelta(t, 4, most, 0)
	_, few := looked(t, 5, 1, trial{kind: NextToken, items: 200, perGroup: 10, baseline: 0.6, flips: 0.03, margin: 0.1})
	require.Less(t, few.differing(), enoughDiffering)
	least, most = draws(few)
	require.InDelta(t, 10, least, 0, "too few differ to tell")
	require.InDelta(t, 10, most, 0)
	_, single := looked(t, 5, 1, trial{kind: Cloze, items: 200, perGroup: 1, samples: 2, baseline: 0.6, flips: 0.1, flaky: 0.4, margin: 0.1})
	least, most = draws(single)
	require.InDelta(t, single.effect, least, 0)
	require.InDelta(t, single.effect, most, 0)
}

// However far a sample may mislead, no difference is larger than 1, and what is out of reach stays so.
func TestWhatOtherGroupsNeedStaysInRange(t *testing.T) {
	t.Parallel()
	i := imagined{weight: []float64{1}}
	i.differences = make([]stats.Total, 20)
	for g := range i.differences {
		i.differences[g].N = 10
	}
	i.differences[0] = stats.Total{Sum: 10, Squares: 10, N: 10}
	i.weight = []float64{100}
	for range len(i.differences) - 1 {
		i.weight = append(i.weight, 100)
	}
	random := rand.New(rand.NewPCG(2, 37))
	widest := 0.0
	for range 500 {
		v := i.elsewhere(0.5, random)
		require.Less(t, v, 1.0)
		widest = max(widest, v)
	}
	require.Greater(t, widest, 0.9, "another sample may not hold the one group that differs")
	require.True(t, math.IsInf(i.elsewhere(math.Inf(1), random), 1))
	require.True(t, math.IsInf(i.elsewhere(1, random), 1))
	i.differences, i.weight = []stats.Total{{Sum: 1, Squares: 1, N: 1}, {Sum: -1, Squares: 1, N: 1}}, []float64{1, 2}
	ratio := math.Atanh(i.elsewhere(0.4, rand.New(rand.NewPCG(3, 37)))) / math.Atanh(0.4)
	require.InEpsilon(t, ratio*0.001, i.elsewhere(0.001, rand.New(rand.NewPCG(3, 37))), 1e-5, "a small one grows as the deviation does")
}
