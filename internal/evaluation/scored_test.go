package evaluation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// speaker says its text and keeps what it was asked.
type speaker struct {
	text string
	err  error
	mu   sync.Mutex
	how  map[int64]Speaking // by seed
	chat []Message          // the last one
}

func (s *speaker) Say(_ context.Context, chat []Message, how Speaking) (Spoken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.how == nil {
		s.how = map[int64]Speaking{}
	}
	s.how[how.Seed], s.chat = how, chat
	return Spoken{
		Text: s.text, Passages: []string{"Paris lies on the Seine."}, Seconds: 0.5, Usage: lifecycle.Usage{Prompt: 7, Completion: 3},
		Parameters: json.RawMessage(`{"temperature":0}`),
	}, s.err
}

// suiteOf makes a suite of one capability.
func suiteOf(kind, scorer, settings string, sampling *Sampling, cases ...Case) Suite {
	spec := &score.Spec{Name: scorer}
	if settings != "" {
		spec.Settings = json.RawMessage(settings)
	}
	made, err := score.New(*spec, score.World{})
	if err != nil {
		panic(err)
	}
	s := Suite{Version: SuiteVersion, Capabilities: []Capability{
		{Name: "x", Kind: kind, Metric: made.Metric, Margin: 1, Items: len(cases), Scorer: spec, Sampling: sampling},
	}}
	for i, c := range cases {
		c.ID, c.Capability, c.Group = fmt.Sprint("x/", i), "x", fmt.Sprint(i)
		s.Cases = append(s.Cases, c)
	}
	return s
}

func TestWhatIsAskedIsScoredByItsScorer(t *testing.T) {
	t.Parallel()
	seine := Case{Text: "Which city lies on the Seine?", Want: "Lyon", Also: []string{"Paris"}}
	for what, tc := range map[string]struct {
		suite Suite
		said  string
		want  float64
	}{
		"an answer in words":                {suiteOf(Generate, "normalised", "", nil, seine), "The Paris.", 1},
		"another one":                       {suiteOf(Generate, "normalised", "", nil, seine), "Rome", 0},
		"supported by what was shown":       {suiteOf(Generate, "grounded", "", nil, Case{Text: "q"}), "Paris lies on the Seine", 1},
		"supported by the case's passages":  {suiteOf(Generate, "grounded", "", nil, Case{Text: "q", Passages: []string{"Rome"}}), "Paris", 0},
		"seconds":                           {suiteOf(Generate, "latency", "", nil, seine), "x", -0.5},
		"money":                             {suiteOf(Generate, "cost", `{"input":1000,"output":1000}`, nil, seine), "x", -0.01},
		"the likeliest choice":              {suiteOf(Choice, "likeliest", "", nil, Case{Text: "a b", Want: " right", Choices: []string{" left", " right"}}), "", 1},
		"bits for a byte":                   {suiteOf(Likelihood, "bits-per-byte", "", nil, Case{Text: "a bcd efg"}), "", -0.5},
		"perplexity of a word":              {suiteOf(Likelihood, "perplexity", "", nil, Case{Text: "a bcd"}), "", -2},
		"bits of what comes after":          {suiteOf(Likelihood, "bits-per-byte", "", nil, Case{Text: "a b", Want: " right"}), "", -1.0 / 6},
		"perplexity of what comes after":    {suiteOf(Likelihood, "perplexity", "", nil, Case{Text: "a b", Want: " right"}), "", -2},
		"the rank's reciprocal":             {suiteOf(Retrieval, "mrr", "", nil, Case{Text: "q", Relevant: map[string]float64{"d": 1}}), "", 0.5},
		"found after as many as k":          {suiteOf(Retrieval, "hit", `{"k":1}`, nil, Case{Text: "q", Want: "d"}), "", 0},
		"the discounted gain of two grades": {suiteOf(Retrieval, "ndcg", "", nil, Case{Text: "q", Want: "d", Also: []string{"c"}}), "", 1 / 1.5849625007211563 / (1 + 1/1.5849625007211563)},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, tc.suite.Check())
			answers, err := AskAll(t.Context(), tc.suite, table{likely: map[string]float64{"right": 0.5}}, index{"b", "d"}, Asking{Speaker: &speaker{text: tc.said}})
			require.NoError(t, err)
			require.Len(t, answers, 1)
			require.InDelta(t, tc.want, answers[0].Score, 1e-9)
			if tc.said != "" {
				require.Equal(t, tc.said, answers[0].Said)
				require.InDelta(t, 0.5, answers[0].Seconds, 0)
				require.Equal(t, lifecycle.Usage{Prompt: 7, Completion: 3}, answers[0].Usage)
				require.JSONEq(t, `{"temperature":0}`, string(answers[0].Parameters))
			}
		})
	}
}

func TestACaseIsAskedAsOftenAsItsSamplesWithSeedsOfItsOwn(t *testing.T) {
	t.Parallel()
	warm := 0.7
	s := suiteOf(Generate, "exact", "", &Sampling{Samples: 3, Temperature: &warm, MaxTokens: 5}, Case{Text: "a", Want: "x"},
		Case{Text: "b", Want: "y", Messages: []Message{{Role: "system", Content: "Be short."}}})
	said := &speaker{text: "x"}
	answers, err := AskAll(t.Context(), s, nil, nil, Asking{Speaker: said, Parallel: 2})
	require.NoError(t, err)
	require.Equal(t, 6, s.Questions())
	var order []string
	for _, a := range answers {
		order = append(order, fmt.Sprint(a.Case, " ", a.Sample, " ", a.Score))
	}
	require.Equal(t, []string{"x/0 0 1", "x/0 1 1", "x/0 2 1", "x/1 0 0", "x/1 1 0", "x/1 2 0"}, order)
	require.Len(t, said.how, 6, "each answer has a seed of its own")
	for seed, how := range said.how {
		require.Positive(t, seed)
		require.Less(t, seed, int64(1)<<31)
		require.Equal(t, &warm, how.Temperature)
		require.Equal(t, 5, how.MaxTokens)
	}
	seeds := slices.Sorted(maps.Keys(said.how))
	again := &speaker{text: "x"}
	half, err := AskAll(t.Context(), s, nil, nil, Asking{Speaker: again, Have: answers[:3]})
	require.NoError(t, err)
	require.Equal(t, answers, half, "answers from before are not asked for again")
	require.Len(t, again.how, 3)
	require.Equal(t, []Message{{Role: "system", Content: "Be short."}, {Role: "user", Content: "b"}}, again.chat)
	s.Seed = 1
	other := &speaker{text: "x"}
	_, err = AskAll(t.Context(), s, nil, nil, Asking{Speaker: other})
	require.NoError(t, err)
	require.NotEqual(t, seeds, slices.Sorted(maps.Keys(other.how)), "another suite's seed draws others")

	verdict, _ := Judge(Gate{Suite: s, SuiteDigest: suiteDigest, Candidate: newRelease, CandidateAnswer: Answers{Suite: suiteDigest, Release: newRelease, List: answers}})
	require.Equal(t, lifecycle.PassOutcome, verdict.Outcome, verdict.Reasons)
}

func TestWhatCannotBeScoredIsNoAnswer(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		suite Suite
		how   Asking
		kind  lifecycle.Kind
	}{
		"nobody speaks":                   {suiteOf(Generate, "exact", "", nil, Case{Text: "a", Want: "x"}), Asking{}, lifecycle.Invalid},
		"the answer failed":               {suiteOf(Generate, "exact", "", nil, Case{Text: "a", Want: "x"}), Asking{Speaker: &speaker{err: lifecycle.Errorf(lifecycle.Unavailable, "gone")}}, lifecycle.Unavailable},
		"no index":                        {suiteOf(Retrieval, "mrr", "", nil, Case{Text: "q", Want: "d"}), Asking{}, lifecycle.Invalid},
		"what variants are tried against": {suiteOf(Retrieval, "mrr", "", nil, Case{Text: "q", Want: "d", Split: SearchSplit}), Asking{}, lifecycle.Invalid},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			answers, err := AskAll(t.Context(), tc.suite, table{}, nil, tc.how)
			require.True(t, lifecycle.Is(err, tc.kind), "%v", err)
			require.Empty(t, answers)
		})
	}
}

// talker is a judge that says one thing.
type talker struct {
	said string
	err  error
}

func (j talker) Ask(context.Context, string, string) (string, error) { return j.said, j.err }

func TestAnAnswerThatCannotBeScoredMakesTheVerdictAnError(t *testing.T) {
	t.Parallel()
	s := suiteOf(Generate, "judge-rubric", `{"judge":"j","rubric":"r"}`, nil, Case{Text: "a"}, Case{Text: "b"})
	judged := func(world score.World) lifecycle.Verdict {
		answers, err := AskAll(t.Context(), s, nil, nil, Asking{Speaker: &speaker{text: "private words"}, World: world})
		require.NoError(t, err)
		require.Len(t, answers, 2)
		verdict, _ := Judge(Gate{Suite: s, SuiteDigest: suiteDigest, Candidate: newRelease, CandidateAnswer: Answers{Suite: suiteDigest, Release: newRelease, List: answers}})
		return verdict
	}
	for reply, reason := range map[string]string{"no form": "did not reply in the form", `{"score": 9}`: "gave no grade"} {
		verdict := judged(score.World{Judges: map[string]score.Judge{"j": talker{said: reply}}})
		require.Equal(t, lifecycle.ErrorOutcome, verdict.Outcome)
		require.Contains(t, verdict.Reasons[0], "case x/0 has no score: score by judge-rubric: judge j "+reason)
		require.NotContains(t, fmt.Sprint(verdict.Reasons), "private")
	}
	missing := judged(score.World{})
	require.Equal(t, lifecycle.ErrorOutcome, missing.Outcome)
	require.Contains(t, missing.Reasons[0], `declares no judge "j"`)
	passed := judged(score.World{Judges: map[string]score.Judge{"j": talker{said: `{"score": 3}`}}})
	require.Equal(t, lifecycle.PassOutcome, passed.Outcome)

	away := talker{err: lifecycle.Errorf(lifecycle.Unavailable, "no answer")}
	_, err := AskAll(t.Context(), s, nil, nil, Asking{Speaker: &speaker{text: "x"}, World: score.World{Judges: map[string]score.Judge{"j": away}}})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "a judge that is away may come back: %v", err)
}
