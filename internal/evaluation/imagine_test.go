package evaluation

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// looked judges a drawn capability and gives what foresees it.
func looked(t *testing.T, seed uint64, rounds int, tr trial) (*tally, imagined) {
	t.Helper()
	g := draw(rand.New(rand.NewPCG(seed, 35)), tr)
	g.Policy.defaults()
	by := g.Policy.rules()
	look, sums := by.look, (*tally)(nil)
	by.look = func(t *tally) (sight, error) { sums = t; return look(t) }
	by.foresee = nil
	g.judge(by)
	require.NotNil(t, sums)
	seen, err := Policy{Resamples: rounds}.imagined(sums)
	require.NoError(t, err)
	return sums, seen
}

// The chance is that over all ways to say which side of a group is the candidate's.
func TestTheChanceIsThatOverBothSidesOfEachGroup(t *testing.T) {
	t.Parallel()
	for _, tr := range []trial{
		{kind: NextToken, items: 60, perGroup: 6, uneven: true, baseline: 0.6, flips: 0.3, within: 0.5, margin: 0.4},
		{kind: Cloze, items: 10, perGroup: 1, samples: 3, baseline: 0.6, flips: 0.2, flaky: 0.6, margin: 0.3},
	} {
		_, seen := looked(t, 1, 4000, tr)
		passed, ways := 0, 1<<len(seen.differences)
		for way := range ways {
			turned := seen.pairing
			turned.differences = slices.Clone(turned.differences)
			for g := range turned.differences {
				if way>>g&1 == 1 {
					turned.differences[g].Sum *= -1
				}
			}
			w, err := turned.weigh()
			require.NoError(t, err)
			low, _, err := w.limits()
			require.NoError(t, err)
			if low > -tr.margin {
				passed++
			}
		}
		said, err := seen.chance(tr.margin)
		require.NoError(t, err)
		require.InDelta(t, float64(passed)/float64(ways), said, 0.03)
		require.Greater(t, said, 0.2)
		require.Less(t, said, 0.98)
		again, err := seen.chance(tr.margin)
		require.NoError(t, err)
		require.Equal(t, said, again)
	}
}

func TestWhatIsImaginedIsInOrder(t *testing.T) {
	t.Parallel()
	_, seen := looked(t, 2, 300, trial{kind: NextToken, items: 400, perGroup: 8, baseline: 0.6, flips: 0.2, within: 0.5, margin: 0.1})
	margin := func(chance float64, groups int) float64 {
		m, err := seen.clears(chance, groups, true)
		require.NoError(t, err)
		return m
	}
	require.Less(t, margin(0.5, 50), margin(0.8, 50))
	require.InDelta(t, 0.5, margin(0.8, 200)/margin(0.8, 50), 0.1, "four times the groups see half")
	times, err := seen.times(margin(0.8, 50), 0.8)
	require.NoError(t, err)
	require.InDelta(t, 1, times, 0.25)
	lenient, err := seen.drop(0.8, 0.05)
	require.NoError(t, err)
	strict, err := seen.drop(0.8, 0.05/8)
	require.NoError(t, err)
	require.Less(t, lenient, strict)
	require.Greater(t, lenient, 0.02)
	require.Less(t, strict, 0.4)
}

// What 20 cases would have to lose is more than they hold to lose where the level is out of reach.
func TestADropThatNoCasesCanShowIsNotKnown(t *testing.T) {
	t.Parallel()
	_, seen := looked(t, 3, 50, trial{kind: Cloze, items: 20, perGroup: 1, baseline: 0.6, margin: 0.1})
	drop, err := seen.drop(0.8, 1e-9)
	require.NoError(t, err)
	require.False(t, finite(drop))
	margin, err := seen.margin(0.8)
	require.NoError(t, err)
	require.Greater(t, margin, 0.1, "20 equal answers prove little")
}

func TestLossesCanBeTakenBack(t *testing.T) {
	t.Parallel()
	_, seen := looked(t, 4, 1, trial{kind: NextToken, items: 200, perGroup: 5, uneven: true, baseline: 0.6, flips: 0.2, within: 0.5, margin: 0.1})
	r := rand.New(rand.NewPCG(4, 36))
	d := seen.drawing(len(seen.differences))
	seen.redraw(d, r)
	before := slices.Clone(d.differences)
	f := falling{drawn: d, random: r, clump: 1.5, cases: 200, widest: 8}
	require.True(t, f.to(30))
	require.Less(t, countsOf(d.differences).Difference(), countsOf(before).Difference()-0.1)
	after := slices.Clone(d.differences)
	require.True(t, f.to(4))
	require.True(t, f.to(30))
	require.Equal(t, after, d.differences)
	require.True(t, f.to(0))
	require.Equal(t, before, d.differences)
	require.False(t, f.to(1000))
	require.True(t, slices.IsSortedFunc(f.plan, func(a, b lost) int { return int(1e9 * (a.drop - b.drop)) }))
}
