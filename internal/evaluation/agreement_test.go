package evaluation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// grader is a judge that reads its grade in the answer: "grade 4" gets 4. It may be asked for a comparison, too.
type grader struct{ asked int }

func (j *grader) Ask(_ context.Context, _, about string) (string, error) {
	j.asked++
	var item struct{ Answer, A, B string }
	if err := json.Unmarshal([]byte(about), &item); err != nil {
		return "", err
	}
	if item.Answer == "" {
		return (&taste{}).Ask(context.Background(), "", about)
	}
	grade, ok := strings.CutPrefix(item.Answer, "grade ")
	if !ok {
		return "I cannot say", nil
	}
	return `{"score": ` + grade + `}`, nil
}

// humans is a suite whose answers people have graded; noise is how often they gave any grade.
func humans(n int, noise float64, required *lifecycle.Agreement) Suite {
	r := rand.New(rand.NewPCG(7, 8))
	cases := make([]Case, n)
	for i := range cases {
		grade := 1 + r.IntN(5)
		said := grade
		if r.Float64() < noise {
			said = 1 + r.IntN(5)
		}
		cases[i] = Case{Text: fmt.Sprint("question ", i), Human: &Human{Said: fmt.Sprint("grade ", grade), Score: float64(said)}}
	}
	s := suiteOf(Generate, "judge-rubric", `{"judge":"j","rubric":"r"}`, nil, cases...)
	s.Agreement = required
	return s
}

// gateOf is a gate both of whose sides said the same to a suite, and whose judge was held against people.
func gateOf(t *testing.T, s Suite) Gate {
	t.Helper()
	g := Gate{Suite: s, SuiteDigest: suiteDigest, Candidate: newRelease, Baseline: oldRelease, Attempt: 1}
	for _, c := range s.Cases {
		g.CandidateAnswer.List = append(g.CandidateAnswer.List, Answer{Case: c.ID, Capability: c.Capability, Score: 0.5, Said: "x"})
	}
	g.BaselineAnswer.List = g.CandidateAnswer.List
	g.CandidateAnswer.Suite, g.CandidateAnswer.Release, g.BaselineAnswer.Suite, g.BaselineAnswer.Release = suiteDigest, newRelease, suiteDigest, oldRelease
	list, err := LabelAll(t.Context(), s, Labelling{Parallel: 1, World: score.World{Judges: map[string]score.Judge{"j": &grader{}}}})
	require.NoError(t, err)
	g.Labels = Labels{Suite: suiteDigest, List: list}
	return g
}

// judgedBoth judges in memory and as files stream, and demands the same.
func judgedBoth(t *testing.T, g Gate) (lifecycle.Verdict, Report) {
	t.Helper()
	v, report := Judge(g)
	f := filed(t, g)
	f.Gate.Labels = Labels{}
	if g.Labels.List != nil {
		var out bytes.Buffer
		require.NoError(t, g.Labels.Write(&out))
		f.Labelled = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }
	}
	streamed, other, err := JudgeFiles(f)
	require.NoError(t, err)
	require.Equal(t, v, streamed)
	a, err := report.JSON()
	require.NoError(t, err)
	b, err := other.JSON()
	require.NoError(t, err)
	require.JSONEq(t, string(a), string(b))
	return v, report
}

func TestAJudgeIsHeldAgainstPeople(t *testing.T) {
	t.Parallel()
	g := gateOf(t, humans(80, 0.2, nil))
	v, report := judgedBoth(t, g)
	require.Equal(t, lifecycle.PassOutcome, v.Outcome, "nothing is asked of the judge: %v", v.Reasons)
	a := report.Capabilities[0].Agreement
	require.Equal(t, []any{80, 80, 0, "spearman"}, []any{a.Labels, a.Groups, a.Unscored, a.Measure})
	require.InDelta(t, 0.8, float64(a.Of.Value), 0.1)
	require.Less(t, float64(a.Of.Low), float64(a.Of.Value))
	require.NotNil(t, a.Kendall)
	require.Nil(t, a.Raw)
	require.Contains(t, report.Markdown(), "## Agreement with people")
	raw, err := report.JSON()
	require.NoError(t, err)
	require.Contains(t, string(raw), `"measure": "spearman"`)

	for i := range g.Suite.Cases {
		g.Suite.Cases[i].Group = fmt.Sprint(i / 4)
	}
	_, report = judgedBoth(t, g)
	fewer := report.Capabilities[0].Agreement
	require.Equal(t, a.Of.Value, fewer.Of.Value)
	require.Equal(t, 20, fewer.Groups)
	require.Less(t, float64(fewer.Of.Low), float64(a.Of.Low), "labels of one group are no independent ones")
}

func TestAJudgeThatDoesNotAgreeWithPeopleIsAnError(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		suite  Suite
		spoil  func(*Gate)
		reason string // "": it passes
	}{
		"it agrees":            {suite: humans(80, 0.1, &lifecycle.Agreement{Minimum: 0.6, Labels: 50})},
		"too little":           {suite: humans(80, 0.7, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), reason: "the judge agrees with people by a spearman of"},
		"perhaps":              {suite: humans(20, 0.3, &lifecycle.Agreement{Minimum: 0.7, Labels: 10}), reason: "which may be as little as"},
		"with too few labels":  {suite: humans(40, 0, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), reason: "people have judged 40 answers of independent cases, and it takes 50"},
		"people say one thing": {suite: humans(80, 0, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), spoil: alike, reason: "says the same of all"},
		"it was not asked":     {suite: humans(80, 0, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), spoil: func(g *Gate) { g.Labels = Labels{} }, reason: "nobody held the judge against people"},
		"it said nothing once": {suite: humans(80, 0, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), spoil: func(g *Gate) { g.Labels.List[3].Error = "no form" }, reason: "the judge gave no score to 1 of 80"},
		"a label lacks":        {suite: humans(80, 0, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), spoil: func(g *Gate) { g.Labels.List = g.Labels.List[1:] }, reason: "the judge gave no score to 1 of 80"},
		"of other labels":      {suite: humans(80, 0, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), spoil: func(g *Gate) { g.Labels.List[3].Human += 1 }, reason: "the judge gave no score to 1 of 80"},
		"of another suite":     {suite: humans(80, 0, &lifecycle.Agreement{Minimum: 0.6, Labels: 50}), spoil: func(g *Gate) { g.Labels.Suite = newRelease }, reason: "labels: of suite"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := gateOf(t, tc.suite)
			if tc.spoil != nil {
				tc.spoil(&g)
			}
			for _, baseline := range []lifecycle.Digest{oldRelease, ""} {
				g.Baseline = baseline
				v, _ := judgedBoth(t, g)
				if tc.reason == "" {
					require.Equal(t, lifecycle.PassOutcome, v.Outcome, v.Reasons)
					continue
				}
				require.Equal(t, lifecycle.ErrorOutcome, v.Outcome)
				require.Contains(t, strings.Join(v.Reasons, "\n"), tc.reason)
			}
		})
	}
}

func alike(g *Gate) {
	for i := range g.Labels.List {
		g.Suite.Cases[i].Human.Score, g.Labels.List[i].Human = 3, 3
	}
}

func TestComparisonsAreHeldAgainstPeople(t *testing.T) {
	t.Parallel()
	cases := make([]Case, 60)
	for i := range cases {
		human := Human{Said: "the longer one", Over: "short", Score: 1}
		if i%3 == 0 {
			human = Human{Said: "short", Over: "the longer one", Score: 0}
		}
		if i%10 == 0 {
			human.Score = 1 - human.Score // they like short answers now and then
		}
		cases[i] = Case{Text: fmt.Sprint("question ", i), Human: &human}
	}
	g := gateOf(t, suiteOf(Generate, "judge-pairwise", `{"judge":"j","criteria":"c","against":"baseline"}`, nil, cases...))
	g.compareBy(t, &taste{})
	_, report := Judge(g)
	a := report.Capabilities[0].Agreement
	require.Equal(t, "kappa", a.Measure)
	require.InDelta(t, 0.9, float64(a.Raw.Value), 1e-9)
	require.Less(t, float64(a.Of.Value), 0.9)
	require.Nil(t, a.Kendall)
}

func TestLabelsThatCannotBeAreFaultsOfTheSuite(t *testing.T) {
	t.Parallel()
	pair := func(h Human) Suite {
		return suiteOf(Generate, "judge-pairwise", `{"judge":"j","criteria":"c","against":"baseline"}`, nil, Case{Text: "q", Human: &h})
	}
	require.NoError(t, pair(Human{Said: "a", Over: "b", Score: 0.5}).Check())
	require.ErrorContains(t, pair(Human{Said: "a", Score: 1}).Check(), "human.over")
	require.ErrorContains(t, pair(Human{Said: "a", Over: "b", Score: 0.7}).Check(), "human.score")
	require.ErrorContains(t, suiteOf(Generate, "exact", "", nil, Case{Text: "q", Want: "w", Human: &Human{Said: "w", Score: 5}}).Check(), "gives one of [0 1]")
	require.ErrorContains(t, suiteOf(Generate, "exact", "", nil, Case{Text: "q", Want: "w", Human: &Human{Said: "w", Over: "v", Score: 1}}).Check(), "human.over")
	require.ErrorContains(t, humans(3, 0, &lifecycle.Agreement{Minimum: 2, Labels: 50}).Check(), "agreement")
	require.Equal(t, 0, suiteOf(Generate, "latency", "", nil, Case{Text: "q", Human: &Human{Said: "w", Score: 5}}).Labelled(), "words take no time")
}

func TestWhatAPersonJudgedIsScoredOnce(t *testing.T) {
	t.Parallel()
	s := humans(12, 0, nil)
	s.Cases[4].Human.Said = "no grade"
	j := &grader{}
	world := score.World{Judges: map[string]score.Judge{"j": j}}
	list, err := LabelAll(t.Context(), s, Labelling{Parallel: 1, World: world})
	require.NoError(t, err)
	require.Len(t, list, 12)
	require.Contains(t, list[4].Error, "did not reply in the form")
	require.Equal(t, 12, j.asked)
	s.Cases[7].Human.Score++
	_, err = LabelAll(t.Context(), s, Labelling{Parallel: 1, World: world, Have: list})
	require.NoError(t, err)
	require.Equal(t, 14, j.asked, "what has no score, and what was judged anew")
	_, err = LabelAll(t.Context(), s, Labelling{World: score.World{Judges: map[string]score.Judge{"j": talker{err: lifecycle.Errorf(lifecycle.Unavailable, "gone")}}}})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
}
