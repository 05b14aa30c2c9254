package evaluation

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

var (
	suiteDigest = lifecycle.DigestOf([]byte("suite"))
	newRelease  = lifecycle.DigestOf([]byte("candidate"))
	oldRelease  = lifecycle.DigestOf([]byte("baseline"))
)

// trial is one capability's truth in a simulation.
type trial struct {
	kind     string
	items    int
	perGroup int     // cases of one group; 1 is none grouped
	baseline float64 // chance that the baseline is right; mean of other scores
	change   float64 // true change of the candidate
	flips    float64 // chance that a case differs although nothing changed; deviation of other scores
	within   float64 // part of the differences that a group shares, 0 to 1
	margin   float64
}

// draw makes a gate whose candidate truly changed as the trials say.
func draw(r *rand.Rand, trials ...trial) Gate {
	g := Gate{
		Service: "docs", SuiteDigest: suiteDigest, Candidate: newRelease, Baseline: oldRelease, Attempt: 1,
		Suite:           Suite{Version: SuiteVersion},
		CandidateAnswer: Answers{Suite: suiteDigest, Release: newRelease},
		BaselineAnswer:  Answers{Suite: suiteDigest, Release: oldRelease},
		Policy:          Policy{Resamples: 400},
	}
	for n, tr := range trials {
		name := fmt.Sprintf("c%d", n)
		c := Capability{Name: name, Kind: tr.kind, Metric: "accuracy", Margin: tr.margin, Items: tr.items}
		if !c.Binary() {
			c.Metric = BitsPerByte
		}
		g.Suite.Capabilities = append(g.Suite.Capabilities, c)
		var shared [2]float64
		for i := range tr.items {
			if i%tr.perGroup == 0 {
				shared = [2]float64{r.Float64(), r.NormFloat64()}
			}
			id := fmt.Sprintf("%s/%d", name, i)
			g.Suite.Cases = append(g.Suite.Cases, Case{
				ID: id, Capability: name, Group: fmt.Sprint(name, "-", i/tr.perGroup), Text: "t", Want: "w", Choices: []string{"w", "v"},
			})
			before, after := tr.score(r, shared)
			g.BaselineAnswer.List = append(g.BaselineAnswer.List, Answer{Case: id, Capability: name, Score: before})
			g.CandidateAnswer.List = append(g.CandidateAnswer.List, Answer{Case: id, Capability: name, Score: after})
		}
	}
	return g
}

// score draws one case. Right and wrong: with chance flips the sides differ, and the change is in who is
// right then. Which way a group's cases differ is shared with chance within.
func (tr trial) score(r *rand.Rand, shared [2]float64) (before, after float64) {
	if tr.kind == BitsPerByte {
		w := math.Sqrt(tr.within)
		before = tr.baseline + r.NormFloat64()
		return before, before + tr.change + tr.flips*(w*shared[1]+math.Sqrt(1-tr.within)*r.NormFloat64())
	}
	u := r.Float64()
	if r.Float64() < tr.within {
		u = shared[0]
	}
	worse, better := (tr.flips-tr.change)/2, (tr.flips+tr.change)/2
	switch {
	case u < worse:
		return 1, 0
	case u < worse+better:
		return 0, 1
	}
	before = truth(r.Float64() < tr.baseline)
	return before, before
}

func rounds(short int) int {
	if os.Getenv("REFIT_LONG") != "" {
		return 10_000
	}
	return short
}

// count runs gates and counts their outcomes.
func count(t *testing.T, n int, trials ...trial) map[lifecycle.Outcome]int {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	outcomes := map[lifecycle.Outcome]int{}
	for range n {
		v, _ := Judge(draw(r, trials...))
		outcomes[v.Outcome]++
	}
	return outcomes
}

// most is what a rate may show by chance in n rounds: three standard errors over it.
func most(rate float64, n int) int {
	return int(float64(n)*rate + 3*math.Sqrt(float64(n)*rate*(1-rate)))
}

func TestTheGateKeepsItsLevels(t *testing.T) {
	t.Parallel()
	binary := trial{kind: Cloze, items: 400, perGroup: 1, baseline: 0.6, flips: 0.1, margin: 0.05}
	grouped := trial{kind: NextToken, items: 400, perGroup: 8, baseline: 0.6, flips: 0.2, within: 0.5, margin: 0.1}
	scores := trial{kind: BitsPerByte, items: 200, perGroup: 2, baseline: -2, flips: 0.2, within: 0.3, margin: 0.05}
	at := func(tr trial) trial { tr.change = -tr.margin; return tr }
	n := rounds(300)
	t.Run("an unchanged candidate is seldom called a regression", func(t *testing.T) {
		t.Parallel()
		require.LessOrEqual(t, count(t, n, binary, grouped, scores, binary)[lifecycle.RegressOutcome], most(Level, n))
	})
	for what, tr := range map[string]struct {
		trial
		rate float64
	}{"right and wrong": {binary, Level}, "grouped": {grouped, Level}, "scores": {scores, 0.08}} {
		t.Run("a candidate at its margin seldom passes: "+what, func(t *testing.T) {
			t.Parallel()
			require.LessOrEqual(t, count(t, n, at(tr.trial), binary)[lifecycle.PassOutcome], most(tr.rate, n))
		})
		t.Run("an unchanged candidate mostly passes with enough cases: "+what, func(t *testing.T) {
			t.Parallel()
			more := tr.trial
			more.items *= 5
			require.Greater(t, count(t, n/3, more)[lifecycle.PassOutcome], n/3*8/10)
		})
	}
}

// The simulation above can fail: with groups hidden from the gate, too many candidates at their margin pass.
func TestIgnoredGroupsAreFoundBySimulation(t *testing.T) {
	t.Parallel()
	n := rounds(300)
	r := rand.New(rand.NewPCG(1, 2))
	passed := 0
	for range n {
		g := draw(r, trial{kind: NextToken, items: 400, perGroup: 8, baseline: 0.6, flips: 0.2, within: 0.5, margin: 0.1, change: -0.1})
		for i := range g.Suite.Cases {
			g.Suite.Cases[i].Group = g.Suite.Cases[i].ID
		}
		if v, _ := Judge(g); v.Outcome == lifecycle.PassOutcome {
			passed++
		}
	}
	require.Greater(t, passed, most(Level, n))
}

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

// What the report says that the gate can see, it sees.
func TestPowerIsWhatTheReportPrints(t *testing.T) {
	t.Parallel()
	n := rounds(200)
	tr := trial{kind: Cloze, items: 500, perGroup: 1, baseline: 0.6, flips: 0.2, margin: 0.01}
	_, report := Judge(draw(rand.New(rand.NewPCG(5, 6)), tr))
	detail := report.Capabilities[0]
	dropped := tr
	dropped.change = -float64(detail.SmallestDrop)
	require.Greater(t, count(t, n, dropped)[lifecycle.RegressOutcome], n*7/10)
	wide := tr
	wide.margin = float64(detail.SmallestMargin)
	require.Greater(t, count(t, n, wide)[lifecycle.PassOutcome], n*7/10)
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

func TestTheReportIsReadable(t *testing.T) {
	t.Parallel()
	g := draw(rand.New(rand.NewPCG(17, 18)),
		trial{kind: Cloze, items: 100, perGroup: 1, baseline: 0.5, flips: 0.3, margin: 0.05},
		trial{kind: BitsPerByte, items: 100, perGroup: 1, baseline: -2, flips: 0.1, margin: 0.05})
	g.Attempt = 5
	for i := range g.CandidateAnswer.List {
		g.CandidateAnswer.List[i].Said = "<b>|x|\n`y`"
	}
	_, report := Judge(g)
	text := report.Markdown()
	require.Contains(t, text, "bits-per-byte (less is better)")
	require.Contains(t, text, "about 23% by now")
	require.NotContains(t, text, "<b>")
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "| c0/") {
			require.Equal(t, 5, strings.Count(line, "|")-strings.Count(line, `\|`), line)
		}
	}
	require.Regexp(t, `\| c1 \| bits-per-byte \(less is better\) \| 100 \| 100 \| [12]\.`, text)
}
