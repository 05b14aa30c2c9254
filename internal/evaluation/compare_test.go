package evaluation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// taste is a judge that prefers the longer one of two answers. It counts how often it is asked.
type taste struct {
	mu    sync.Mutex
	asked int
	first bool                     // prefers whatever comes first
	spoil func(a, b string) string // what it says in place of that; "" for nothing
}

func (j *taste) Ask(_ context.Context, _, about string) (string, error) {
	var pair struct{ Question, A, B string }
	if err := json.Unmarshal([]byte(about), &pair); err != nil {
		return "", err
	}
	j.mu.Lock()
	j.asked++
	j.mu.Unlock()
	if j.spoil != nil {
		if said := j.spoil(pair.A, pair.B); said != "" {
			return said, nil
		}
	}
	switch {
	case j.first || len(pair.A) > len(pair.B):
		return `{"better":"a"}`, nil
	case len(pair.A) < len(pair.B):
		return `{"better":"b"}`, nil
	}
	return `{"better":"tie"}`, nil
}

// comparing is a gate of one capability whose answers are compared; said gives what both sides say to a case and sample.
func comparing(cases, samples int, said func(i, sample int) (candidate, baseline string)) Gate {
	list := make([]Case, cases)
	for i := range list {
		list[i].Text = fmt.Sprint("question ", i)
	}
	s := suiteOf(Generate, "judge-pairwise", `{"judge":"j","criteria":"c","against":"baseline"}`, &Sampling{Samples: samples}, list...)
	s.Capabilities[0].Margin = 0.1
	g := Gate{
		Suite: s, SuiteDigest: suiteDigest, Candidate: newRelease, Baseline: oldRelease, Attempt: 1,
		CandidateAnswer: Answers{Suite: suiteDigest, Release: newRelease}, BaselineAnswer: Answers{Suite: suiteDigest, Release: oldRelease},
	}
	for i, c := range s.Cases {
		for sample := range samples {
			a := Answer{Case: c.ID, Capability: c.Capability, Sample: sample}
			b := a
			a.Said, b.Said = said(i, sample)
			g.CandidateAnswer.List, g.BaselineAnswer.List = append(g.CandidateAnswer.List, a), append(g.BaselineAnswer.List, b)
		}
	}
	return g
}

func (g *Gate) compareBy(t *testing.T, j score.Judge, have ...Comparison) {
	t.Helper()
	how := Comparing{Have: have}
	if j != nil {
		how.World.Judges = map[string]score.Judge{"j": j}
	}
	list, err := CompareAll(t.Context(), g.Suite, g.CandidateAnswer, g.BaselineAnswer, how)
	require.NoError(t, err)
	g.Compared = Comparisons{Suite: suiteDigest, Candidate: newRelease, Baseline: oldRelease, List: list}
}

// thirds: of every ten cases the candidate's answer is the longer one in so many and the shorter one in so many; two are
// the same text, and the rest of the same length.
func thirds(longer, shorter int) func(i, _ int) (string, string) {
	return func(i, _ int) (string, string) {
		switch at := i % 10; {
		case at < 2:
			return "the same", "the same"
		case at < 2+longer:
			return "a longer answer", "short"
		case at < 2+longer+shorter:
			return "short", "a longer answer"
		}
		return "one", "two"
	}
}

func TestAnswersOfBothSidesAreCompared(t *testing.T) {
	t.Parallel()
	g := comparing(200, 1, thirds(1, 4))
	var j taste
	g.compareBy(t, &j)
	require.Equal(t, 2*160, j.asked, "in both orders, but for what is the same text")
	v, report := Judge(g)
	require.Equal(t, lifecycle.RegressOutcome, v.Outcome, v.Reasons)
	require.InDelta(t, 0.1+0.25, v.Capabilities[0].Candidate, 1e-9, "one in ten, and half of the ties")
	require.InDelta(t, 0.65, v.Capabilities[0].Baseline, 1e-9)
	require.Equal(t, "win-rate", v.Capabilities[0].Metric)
	require.Equal(t, &Pairwise{Pairs: 200, Same: 40, Candidate: 20, Baseline: 80, Ties: 60}, report.Capabilities[0].Pairwise)
	require.Contains(t, report.Markdown(), "| 200 | 40 | 20 | 80 | 60 | 0 |")
	require.Len(t, report.Capabilities[0].Changed, shown)
	require.Equal(t, "a longer answer", report.Capabilities[0].Changed[0].BaselineSaid)

	f := filed(t, g)
	f.Compared = opened(t, g.Compared)
	_, err := f.sums()
	require.NoError(t, err, "they stream")
	streamed, same, err := JudgeFiles(f)
	require.NoError(t, err)
	require.Equal(t, v, streamed)
	require.Equal(t, report.Capabilities[0].Pairwise, same.Capabilities[0].Pairwise)

	g = comparing(200, 1, thirds(4, 1))
	g.compareBy(t, &taste{})
	v, _ = Judge(g)
	require.Equal(t, lifecycle.PassOutcome, v.Outcome, v.Reasons)
	g.Baseline = ""
	v, _ = Judge(g)
	require.Equal(t, lifecycle.PassOutcome, v.Outcome, "nothing to compare with")
	require.InDelta(t, 0.5, v.Capabilities[0].Candidate, 0)
}

func opened(t *testing.T, c Comparisons) func() (io.ReadCloser, error) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, c.Write(&out))
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }
}

// A judge that goes by the place of an answer favours nobody: what it says is a tie, and it is told of.
func TestAJudgeThatGoesByTheOrderSaysNothing(t *testing.T) {
	t.Parallel()
	g := comparing(100, 1, thirds(0, 8))
	g.compareBy(t, &taste{first: true})
	v, report := Judge(g)
	require.Equal(t, lifecycle.PassOutcome, v.Outcome, v.Reasons)
	require.Equal(t, &Pairwise{Pairs: 100, Same: 20, Changed: 80, First: 80}, report.Capabilities[0].Pairwise)
	require.Contains(t, report.Markdown(), "of 80 pairs that it was asked about in both orders it changed its mind in 100.0%: 80 times it took whichever answer came first, 0 times the second.")
}

func TestRepeatedAnswersAreComparedSampleBySample(t *testing.T) {
	t.Parallel()
	g := comparing(60, 3, func(i, sample int) (string, string) {
		if sample == 0 {
			return "a longer answer", fmt.Sprint(i)
		}
		return "x", fmt.Sprint(i, " is longer")
	})
	g.compareBy(t, &taste{})
	v, report := Judge(g)
	require.InDelta(t, 1.0/3, v.Capabilities[0].Candidate, 1e-9)
	require.Equal(t, 60, v.Capabilities[0].Clusters)
	require.Empty(t, report.Capabilities[0].Flaky, "that is not known of either side")
	require.Equal(t, 180, report.Capabilities[0].Pairwise.Pairs)
}

func TestWhatWasNotComparedIsAnError(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		spoil  func(*Gate)
		reason string
	}{
		"nothing":              {func(g *Gate) { g.Compared = Comparisons{} }, "nobody compared the answers"},
		"one":                  {func(g *Gate) { g.Compared.List = g.Compared.List[1:] }, "case x/0 was not compared"},
		"other answers":        {func(g *Gate) { g.CandidateAnswer.List[7].Said = "another" }, "case x/7 was compared with other answers"},
		"by another suite":     {func(g *Gate) { g.Compared.Suite = newRelease }, "comparison: of releases"},
		"with another release": {func(g *Gate) { g.Compared.Baseline = newRelease }, "comparison: of releases"},
		"the other way round":  {func(g *Gate) { g.Compared.Candidate, g.Compared.Baseline = oldRelease, newRelease }, "comparison: of releases"},
		"one too often":        {func(g *Gate) { g.Compared.List = append(g.Compared.List, Comparison{Case: "y"}) }, "101 comparisons of 100 pairs"},
		"without a result":     {func(g *Gate) { g.Compared.List[9].Swapped = "" }, "case x/9 was compared with no result"},
		"wrongly the same":     {func(g *Gate) { g.Compared.List[9].Same = true }, "case x/9 was compared with no result"},
		"with an error":        {func(g *Gate) { g.Compared.List[9].Error = "no form" }, "case x/9 has no comparison: no form"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := comparing(100, 1, thirds(2, 2))
			g.compareBy(t, &taste{})
			tc.spoil(&g)
			v, _ := Judge(g)
			require.Equal(t, lifecycle.ErrorOutcome, v.Outcome)
			require.Contains(t, strings.Join(v.Reasons, "\n"), tc.reason)
			f := filed(t, g)
			f.Compared = opened(t, g.Compared)
			streamed, _, err := JudgeFiles(f)
			require.NoError(t, err)
			require.Equal(t, v, streamed)
		})
	}
	g := comparing(100, 1, thirds(2, 2))
	v, _, err := JudgeFiles(filed(t, g))
	require.NoError(t, err)
	require.Equal(t, lifecycle.ErrorOutcome, v.Outcome, "no file of comparisons")
}

func TestAJudgeThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	g := comparing(60, 1, thirds(2, 2))
	j := &taste{spoil: func(a, _ string) string {
		if strings.HasPrefix(a, "short") {
			return "b is better, private words"
		}
		return ""
	}}
	g.compareBy(t, j)
	v, _ := Judge(g)
	require.Equal(t, lifecycle.ErrorOutcome, v.Outcome)
	require.Contains(t, v.Reasons[0], "did not reply in the form")
	require.NotContains(t, fmt.Sprint(v.Reasons), "private")

	asked := j.asked
	j.spoil = nil
	before := g.Compared.List
	g.compareBy(t, j, before...)
	require.Equal(t, asked+2*24, j.asked, "only what has no result is asked again")
	v, _ = Judge(g)
	require.NotEqual(t, lifecycle.ErrorOutcome, v.Outcome, v.Reasons)
	g.CandidateAnswer.List[5].Said = "now it says something else"
	g.compareBy(t, j, g.Compared.List...)
	require.Equal(t, asked+2*24+2, j.asked, "other answers are compared anew")

	_, err := CompareAll(t.Context(), g.Suite, g.CandidateAnswer, g.BaselineAnswer, Comparing{World: score.World{
		Judges: map[string]score.Judge{"j": talker{err: lifecycle.Errorf(lifecycle.Unavailable, "gone")}},
	}})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	g.compareBy(t, nil) // no such judge is declared
	require.Contains(t, g.Compared.List[5].Error, `declares no judge "j"`)
	g.BaselineAnswer.List = g.BaselineAnswer.List[1:]
	_, err = CompareAll(t.Context(), g.Suite, g.CandidateAnswer, g.BaselineAnswer, Comparing{})
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%v", err)
}

func TestAnAnswerThatWillBeComparedIsKeptWholeOrIsAnError(t *testing.T) {
	t.Parallel()
	s := comparing(1, 1, thirds(0, 0)).Suite
	for length, fault := range map[int]string{maxCompared: "", maxCompared + 1: "longer than the"} {
		answers, err := AskAll(t.Context(), s, nil, nil, Asking{Speaker: &speaker{text: strings.Repeat("x", length)}})
		require.NoError(t, err)
		require.Len(t, answers[0].Said, maxCompared)
		require.Zero(t, answers[0].Score)
		require.Contains(t, answers[0].Error, fault)
		require.Equal(t, fault == "", answers[0].Error == "")
	}
}

// TestComparisonsKeepTheGatesPromise plays judges that toss: of two releases that are alike few are called a regression,
// and one that loses by its margin more often than it wins seldom passes.
func TestComparisonsKeepTheGatesPromise(t *testing.T) {
	t.Parallel()
	rounds := sized(100, 4000)
	play := func(seed uint64, better, worse float64, outcome lifecycle.Outcome) (hits int64) {
		r := rand.New(rand.NewPCG(seed, 5))
		g := comparing(150, 1, func(int, int) (string, string) { return "a", "b" })
		g.Policy.Resamples = 400
		g.compareBy(t, &taste{})
		g.Policy.defaults()
		by := g.Policy.rules()
		by.foresee = nil // what the gate could have seen is not asked here
		for range rounds {
			for i := range g.Compared.List {
				c := &g.Compared.List[i]
				switch u := r.Float64(); {
				case u < better:
					c.Straight, c.Swapped = score.One, score.One
				case u < better+worse:
					c.Straight, c.Swapped = score.Other, score.Other
				default:
					c.Straight, c.Swapped = score.One, score.Other
				}
			}
			if v, _ := g.judge(by); v.Outcome == outcome {
				hits++
			}
		}
		return hits
	}
	low, _ := limits(play(1, 0.3, 0.3, lifecycle.RegressOutcome), int64(rounds))
	require.LessOrEqual(t, low, Level)
	low, _ = limits(play(2, 0.25, 0.35, lifecycle.PassOutcome), int64(rounds))
	require.LessOrEqual(t, low, 0.08)
	_, high := limits(play(3, 0.02, 0.42, lifecycle.RegressOutcome), int64(rounds))
	require.GreaterOrEqual(t, high, 0.99, "a large loss is named")
}
