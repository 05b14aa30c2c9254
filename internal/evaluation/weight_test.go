package evaluation

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// weighed gives a gate's cases weights by turns.
func weighed(g Gate, weights ...int) Gate {
	g.Suite.Version = SuiteVersion
	for i := range g.Suite.Cases {
		g.Suite.Cases[i].Weight = weights[i%len(weights)]
	}
	return g
}

// repeatedCases gives each case of a gate as often as it weighs, all in its own group.
func repeatedCases(g Gate) Gate {
	out := g
	out.Suite.Cases, out.CandidateAnswer.List, out.BaselineAnswer.List = nil, nil, nil
	items := map[string]int{}
	for i, c := range g.Suite.Cases {
		for n := range c.Weight {
			again := c
			again.ID, again.Weight = fmt.Sprint(c.ID, "#", n), 0
			out.Suite.Cases = append(out.Suite.Cases, again)
			after, before := g.CandidateAnswer.List[i], g.BaselineAnswer.List[i]
			after.Case, before.Case = again.ID, again.ID
			out.CandidateAnswer.List, out.BaselineAnswer.List = append(out.CandidateAnswer.List, after), append(out.BaselineAnswer.List, before)
			items[c.Capability]++
		}
	}
	out.Suite.Capabilities = nil
	for _, c := range g.Suite.Capabilities {
		c.Items = items[c.Name]
		out.Suite.Capabilities = append(out.Suite.Capabilities, c)
	}
	return out
}

func TestACaseOfAWeightCountsAsSoManyCasesOfItsGroup(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{Cloze, BitsPerByte} {
		r := rand.New(rand.NewPCG(3, 4))
		g := weighed(draw(r, trial{kind: kind, items: 200, perGroup: 2, baseline: 0.7, flips: 0.2, margin: 0.1}), 1, 1, 5, 2)
		light, _ := Judge(g)
		heavy, _ := Judge(repeatedCases(g))
		a, b := light.Capabilities[0], heavy.Capabilities[0]
		require.Equal(t, b.Outcome, a.Outcome)
		require.Equal(t, b.Clusters, a.Clusters)
		require.Equal(t, 200, a.Items)
		for _, pair := range [][2]float64{{a.Candidate, b.Candidate}, {a.Baseline, b.Baseline}, {a.Low, b.Low}, {a.High, b.High}, {a.PRegress, b.PRegress}} {
			require.InDelta(t, pair[1], pair[0], 1e-9)
		}
	}
}

func TestWeightsDoNotBreakTheGatesPromise(t *testing.T) {
	t.Parallel()
	regress, passAtMargin := 0, 0
	n := sized(50, 10_000)
	judged := func(g Gate) lifecycle.Verdict {
		g.Policy.defaults()
		by := g.Policy.rules()
		by.foresee = nil // nobody looks at it
		v, _ := g.judge(by)
		return v
	}
	for i := range n {
		r := rand.New(rand.NewPCG(7, uint64(i)))
		unchanged := judged(weighed(draw(r, trial{kind: Cloze, items: 300, perGroup: 1, baseline: 0.7, flips: 0.15, margin: 0.05}), 1, 1, 1, 1, 9))
		dropped := judged(weighed(draw(r, trial{kind: Cloze, items: 300, perGroup: 1, baseline: 0.7, change: -0.05, flips: 0.15, margin: 0.05}), 1, 1, 1, 1, 9))
		if unchanged.Outcome == lifecycle.RegressOutcome {
			regress++
		}
		if dropped.Outcome == lifecycle.PassOutcome {
			passAtMargin++
		}
	}
	for _, seen := range []int{regress, passAtMargin} {
		low, _ := limits(int64(seen), int64(n))
		require.LessOrEqual(t, low, Level, "%d of %d", seen, n)
	}
}

func TestAGateRefusesWhatVariantsWereTriedAgainst(t *testing.T) {
	t.Parallel()
	g := draw(rand.New(rand.NewPCG(1, 2)), trial{kind: Cloze, items: 60, perGroup: 1, baseline: 0.7, flips: 0.1, margin: 0.1})
	g.Suite.Version = SuiteVersion
	g.Suite.Cases[7].Split, g.Suite.Cases[7].Text = SearchSplit, "another question"
	v, _ := Judge(g)
	require.Equal(t, lifecycle.ErrorOutcome, v.Outcome)
	require.Contains(t, v.Reasons[0], "of the split search, which gates refuse")
}

func TestFewerAnswersThanTheSuiteAsksAreAnError(t *testing.T) {
	t.Parallel()
	g := draw(rand.New(rand.NewPCG(1, 2)), trial{kind: Cloze, items: 60, perGroup: 1, baseline: 0.7, flips: 0.1, margin: 0.1})
	g.Suite.Version = SuiteVersion
	g.Suite.Capabilities[0].Sampling = &Sampling{Samples: 2}
	v, _ := Judge(g)
	require.Equal(t, lifecycle.ErrorOutcome, v.Outcome)
	require.Contains(t, v.Reasons[0], "case c0/0, sample 1, has no answer")
}
