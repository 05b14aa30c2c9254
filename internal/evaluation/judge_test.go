package evaluation

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

var (
	suiteDigest = lifecycle.DigestOf([]byte("suite"))
	newRelease  = lifecycle.DigestOf([]byte("candidate"))
	oldRelease  = lifecycle.DigestOf([]byte("baseline"))
)

func TestOneUpThreeDownIsRefused(t *testing.T) {
	t.Parallel()
	up := trial{kind: Cloze, items: 600, perGroup: 1, baseline: 0.4, flips: 0.5, change: 0.45, margin: 0.05}
	down := trial{kind: NextToken, items: 600, perGroup: 1, baseline: 0.6, flips: 0.2, change: -0.12, margin: 0.05}
	v, report := Judge(draw(rand.New(rand.NewPCG(3, 4)), up, down, down, down))
	var before, after float64
	for _, c := range v.Capabilities {
		before, after = before+c.Baseline, after+c.Candidate
	}
	require.Greater(t, after, before, "the mean rises")
	require.Equal(t, lifecycle.RegressOutcome, v.Outcome)
	require.Len(t, v.Reasons, 3)
	require.Equal(t, lifecycle.PassOutcome, v.Capabilities[0].Outcome)
	require.Error(t, v.Outcome.Err(v.Reasons[0]))
	require.Len(t, report.Capabilities[1].Changed, 10)
	require.Equal(t, -1.0, report.Capabilities[1].Changed[0].Candidate-report.Capabilities[1].Changed[0].Baseline, "drops come first")
}

func TestAnIdenticalCandidatePasses(t *testing.T) {
	t.Parallel()
	same := trial{kind: Cloze, items: 200, perGroup: 4, baseline: 0.5, margin: 0.05}
	scores := trial{kind: BitsPerByte, items: 200, perGroup: 2, baseline: -2, margin: 0.02}
	v, report := Judge(draw(rand.New(rand.NewPCG(7, 8)), same, scores))
	require.Equal(t, lifecycle.PassOutcome, v.Outcome, "%v", v.Reasons)
	require.Zero(t, v.Capabilities[1].Low)
	require.Less(t, v.Capabilities[0].Low, 0.0, "equal answers to 200 cases do not prove equality")
	require.Empty(t, report.Capabilities[0].Changed)
}

func TestAProvenDropInsideTheMarginPasses(t *testing.T) {
	t.Parallel()
	small := trial{kind: BitsPerByte, items: 400, perGroup: 2, baseline: -2, change: -0.01, flips: 0.02, margin: 0.05}
	v, _ := Judge(draw(rand.New(rand.NewPCG(9, 10)), small))
	require.Equal(t, lifecycle.PassOutcome, v.Outcome)
	require.Less(t, v.Capabilities[0].PRegress, 0.01)
	require.Contains(t, v.Reasons[0], "provenly by less than the margin")
}

func TestWhatCannotBeJudgedNeverPasses(t *testing.T) {
	t.Parallel()
	good := func() Gate {
		tr := trial{kind: Cloze, items: 200, perGroup: 1, baseline: 0.5, margin: 0.05}
		return draw(rand.New(rand.NewPCG(11, 12)), tr, trial{kind: BitsPerByte, items: 60, perGroup: 1, baseline: -2, margin: 0.05})
	}
	v, _ := Judge(good())
	require.Equal(t, lifecycle.PassOutcome, v.Outcome, "%v", v.Reasons)
	for what, spoil := range map[string]func(*Gate){
		"a missing answer":               func(g *Gate) { g.CandidateAnswer.List = g.CandidateAnswer.List[1:] },
		"a missing answer of baseline":   func(g *Gate) { g.BaselineAnswer.List = g.BaselineAnswer.List[1:] },
		"a missing capability":           func(g *Gate) { g.CandidateAnswer.List = g.CandidateAnswer.List[:200] },
		"no answers":                     func(g *Gate) { g.CandidateAnswer.List = nil },
		"an answer twice":                func(g *Gate) { g.CandidateAnswer.List = append(g.CandidateAnswer.List, g.CandidateAnswer.List[0]) },
		"an answer to no case":           func(g *Gate) { g.CandidateAnswer.List = append(g.CandidateAnswer.List, Answer{Case: "x"}) },
		"NaN":                            func(g *Gate) { g.CandidateAnswer.List[210].Score = math.NaN() },
		"infinity":                       func(g *Gate) { g.CandidateAnswer.List[210].Score = math.Inf(1) },
		"half right":                     func(g *Gate) { g.CandidateAnswer.List[0].Score = 0.5 },
		"answers to another suite":       func(g *Gate) { g.CandidateAnswer.Suite = newRelease },
		"baseline answers another suite": func(g *Gate) { g.BaselineAnswer.Suite = newRelease },
		"answers of another release":     func(g *Gate) { g.CandidateAnswer.Release = oldRelease },
		"answers of another baseline":    func(g *Gate) { g.BaselineAnswer.Release = newRelease },
		"a suite without capabilities":   func(g *Gate) { g.Suite.Capabilities = nil },
		"an answer under another name":   func(g *Gate) { g.CandidateAnswer.List[0].Capability = "c1" },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := good()
			spoil(&g)
			v, report := Judge(g)
			require.Equal(t, lifecycle.ErrorOutcome, v.Outcome)
			require.NotEmpty(t, v.Reasons)
			require.Error(t, v.Outcome.Err("x"))
			raw, err := report.JSON()
			require.NoError(t, err)
			require.True(t, json.Valid(raw))
			require.Contains(t, report.Markdown(), "# Gate: error")
		})
	}
}

func TestTooFewGroupsAreUnderpowered(t *testing.T) {
	t.Parallel()
	for _, tr := range []trial{
		{kind: Cloze, items: 400, perGroup: 40, baseline: 0.5, flips: 0.5, change: -0.4, margin: 0.05},
		{kind: BitsPerByte, items: 400, perGroup: 10, baseline: -2, flips: 0.1, change: -3, margin: 0.05},
		{kind: BitsPerByte, items: 400, perGroup: 400, baseline: -2, flips: 0.1, margin: 0.05},
	} {
		v, report := Judge(draw(rand.New(rand.NewPCG(13, 14)), tr))
		require.Equal(t, lifecycle.UnderpoweredOutcome, v.Outcome)
		require.Contains(t, v.Reasons[0], "too few")
		raw, err := report.JSON()
		require.NoError(t, err)
		require.True(t, json.Valid(raw))
	}
}

func TestTheFirstReleasePassesWhenEveryCaseWasAnswered(t *testing.T) {
	t.Parallel()
	g := draw(rand.New(rand.NewPCG(15, 16)), trial{kind: Cloze, items: 20, perGroup: 1, baseline: 0.5, margin: 0.05})
	g.Baseline, g.BaselineAnswer = "", Answers{}
	v, report := Judge(g)
	require.Equal(t, lifecycle.PassOutcome, v.Outcome)
	require.Contains(t, v.Reasons[0], "first release: nothing to compare with")
	require.Contains(t, report.Markdown(), "first release")
	g.CandidateAnswer.List = g.CandidateAnswer.List[1:]
	v, _ = Judge(g)
	require.Equal(t, lifecycle.ErrorOutcome, v.Outcome)
}

func TestExactLimitsAssumeOnlyBounds(t *testing.T) {
	t.Parallel()
	tr := trial{kind: BitsPerByte, items: 600, perGroup: 2, flips: 0.1, bounded: true, margin: 0.05}
	g := draw(rand.New(rand.NewPCG(25, 26)), tr)
	approximate, _ := Judge(g)
	g.Suite.Capabilities[0].Exact = true
	exact, report := Judge(g)
	require.Equal(t, byBetting, report.Capabilities[0].Method)
	require.Equal(t, lifecycle.PassOutcome, exact.Outcome)
	require.Less(t, exact.Capabilities[0].Low, approximate.Capabilities[0].Low, "it asks for more")
	require.Greater(t, float64(report.Capabilities[0].SmallestMargin), 0.0)
	require.Positive(t, report.Capabilities[0].ItemsNeeded)

	// Right and wrong, too; and fewer groups than other scores need.
	g = draw(rand.New(rand.NewPCG(27, 28)), trial{kind: Cloze, items: 300, perGroup: 10, baseline: 0.6, flips: 0.02, margin: 0.2})
	g.Policy.Exact = []string{"c0"}
	v, report := Judge(g)
	require.Equal(t, byBetting, report.Capabilities[0].Method)
	require.Equal(t, lifecycle.PassOutcome, v.Outcome, "%v", v.Reasons)

	for what, spoil := range map[string]func(*Gate){
		"scores without bounds": func(g *Gate) {
			*g = draw(rand.New(rand.NewPCG(25, 26)), trial{kind: BitsPerByte, items: 200, perGroup: 2, baseline: -2, flips: 0.1, margin: 0.05})
			g.Suite.Capabilities[0].Exact = true
		},
		"a capability that is not there": func(g *Gate) { g.Policy.Exact = []string{"c1"} },
	} {
		spoil(&g)
		v, _ := Judge(g)
		require.Equal(t, lifecycle.ErrorOutcome, v.Outcome, what)
	}
}

// Three points at a discordance of 10% need about 700 cases in one capability, and 1,400 each in eight.
func TestCasesNeededAreThoseOfTheRuleOfThumb(t *testing.T) {
	t.Parallel()
	needed := func(capabilities int) float64 {
		r := rand.New(rand.NewPCG(29, 30))
		sum := 0.0
		const rounds = 3
		for range rounds {
			_, report := Judge(draw(r, many(capabilities, trial{kind: Cloze, items: 1000, perGroup: 1, baseline: 0.6, flips: 0.1, margin: 0.03})...))
			sum += float64(report.Capabilities[0].ItemsNeeded) / rounds
		}
		return sum
	}
	require.InDelta(t, 700, needed(1), 80)
	require.InDelta(t, 1400, needed(8), 150)
}

func TestNestedClustersAreTheGroups(t *testing.T) {
	t.Parallel()
	g := draw(rand.New(rand.NewPCG(31, 32)), trial{kind: Cloze, items: 120, perGroup: 4, samples: 3, baseline: 0.6, flips: 0.1, flaky: 0.2, margin: 0.2})
	v, report := Judge(g)
	require.Equal(t, 30, v.Capabilities[0].Clusters, "samples lie in cases, cases in groups")
	require.Equal(t, 120, v.Capabilities[0].Items)
	require.Equal(t, byGroups, report.Capabilities[0].Method)
	shuffled := g
	shuffled.CandidateAnswer.List = append([]Answer{}, g.CandidateAnswer.List...)
	rand.New(rand.NewPCG(33, 34)).Shuffle(len(shuffled.CandidateAnswer.List), func(i, j int) {
		list := shuffled.CandidateAnswer.List
		list[i], list[j] = list[j], list[i]
	})
	again, _ := Judge(shuffled)
	require.Equal(t, v, again, "the order of answers says nothing")
}
