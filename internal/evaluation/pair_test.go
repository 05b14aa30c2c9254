package evaluation_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

type judging func(instruction, about string) (string, error)

func (j judging) Ask(_ context.Context, instruction, about string) (string, error) {
	return j(instruction, about)
}

type program func(input []byte) ([]byte, error)

func (p program) Run(_ context.Context, input []byte) ([]byte, error) { return p(input) }

// prefers answers whichever is called good, wherever it stands; between two of a kind it names the first.
func prefers(_, about string) (string, error) {
	var asked struct{ A, B string }
	if err := json.Unmarshal([]byte(about), &asked); err != nil {
		return "", err
	}
	if strings.Contains(asked.B, "good") && !strings.Contains(asked.A, "good") {
		return `{"better": "b"}`, nil
	}
	return `{"better": "a"}`, nil
}

var outside = score.World{
	Judges: map[string]score.Judge{
		"fair":   judging(prefers),
		"silent": judging(func(string, string) (string, error) { return "", errors.New("it is away") }),
		"vague":  judging(func(string, string) (string, error) { return "both are fine", nil }),
		"grade": judging(func(_, about string) (string, error) {
			if strings.Contains(about, "good") {
				return `{"score": 5}`, nil
			}
			return `{"score": 2}`, nil
		}),
	},
	Commands: map[string]score.Command{"huge": program(func([]byte) ([]byte, error) { return []byte(`{"score": 7}`), nil })},
}

func TestPairsAreScored(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		scorer            lifecycle.PairScorer
		pair              evaluation.Pair
		stable, candidate float64
	}{
		"the candidate is preferred": {lifecycle.PairScorer{Name: "judge-pairwise", Settings: settings(`{"judge": "fair", "criteria": "good"}`)}, evaluation.Pair{Question: "q", Stable: "bad", Candidate: "good"}, 0, 1},
		"against the baseline":       {lifecycle.PairScorer{Name: "judge-pairwise", Settings: settings(`{"judge": "fair", "criteria": "good", "against": "baseline"}`)}, evaluation.Pair{Question: "q", Stable: "good", Candidate: "bad"}, 1, 0},
		"stable is":                  {lifecycle.PairScorer{Name: "judge-pairwise", Settings: settings(`{"judge": "fair", "criteria": "good"}`)}, evaluation.Pair{Question: "q", Stable: "good", Candidate: "bad"}, 1, 0},
		"the order decides":          {lifecycle.PairScorer{Name: "judge-pairwise", Settings: settings(`{"judge": "fair", "criteria": "good"}`)}, evaluation.Pair{Question: "q", Stable: "good", Candidate: "as good"}, 0.5, 0.5},
		"each by a rubric":           {lifecycle.PairScorer{Name: "judge-rubric", Settings: settings(`{"judge": "grade", "rubric": "good"}`)}, evaluation.Pair{Stable: "good", Candidate: "bad"}, 1, 0.25},
		"each by a rule":             {lifecycle.PairScorer{Name: "regex", Settings: settings(`{"pattern": "^go"}`)}, evaluation.Pair{Stable: "go", Candidate: "stop"}, 1, 0},
		"likeness to stable":         {lifecycle.PairScorer{Name: "token-f1"}, evaluation.Pair{Stable: "one two", Candidate: "one three"}, 1, 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := evaluation.NewPairScorer(tc.scorer, outside)
			require.NoError(t, err)
			stable, candidate, err := s.Score(t.Context(), tc.pair)
			require.NoError(t, err)
			require.InDelta(t, tc.stable, stable, 1e-12)
			require.InDelta(t, tc.candidate, candidate, 1e-12)
		})
	}
}

func settings(raw string) json.RawMessage { return json.RawMessage(raw) }

func TestAPairThatIsNotScoredHasNoScore(t *testing.T) {
	t.Parallel()
	for name, scorer := range map[string]lifecycle.PairScorer{
		"a judge that is away":        {Name: "judge-pairwise", Settings: settings(`{"judge": "silent", "criteria": "good"}`)},
		"a judge that talks":          {Name: "judge-pairwise", Settings: settings(`{"judge": "vague", "criteria": "good"}`)},
		"a command without bounds":    {Name: "command", Settings: settings(`{"command": "huge"}`)},
		"a rubric that nobody grades": {Name: "judge-rubric", Settings: settings(`{"judge": "vague", "rubric": "good"}`)},
	} {
		s, err := evaluation.NewPairScorer(scorer, outside)
		require.NoError(t, err, name)
		_, _, err = s.Score(t.Context(), evaluation.Pair{Stable: "secret answer", Candidate: "b"})
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestAPairScorerThatCannotBeMeantIsRefusedBeforeItIsAsked(t *testing.T) {
	t.Parallel()
	for kind, scorers := range map[lifecycle.Kind][]lifecycle.PairScorer{
		lifecycle.Invalid: {{Name: "latency"}, {Name: "nonsense"}, {Name: "judge-pairwise"}, {Name: "judge-rubric", Settings: settings(`{"jugde": "fair"}`)}},
		lifecycle.Refused: {
			{Name: "judge-pairwise", Settings: settings(`{"judge": "nobody", "criteria": "good"}`)}, {Name: "command", Settings: settings(`{"command": "none"}`)},
		},
	} {
		for _, scorer := range scorers {
			_, err := evaluation.NewPairScorer(scorer, outside)
			require.Equal(t, kind, lifecycle.KindOf(err), "%s: %v", scorer.Name, err)
		}
	}
	for _, name := range lifecycle.PairScorers() {
		require.Contains(t, score.Names(), name, "what a declaration may name is there")
	}
}
