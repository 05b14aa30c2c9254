package score

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// scorerOf makes a scorer of a name and settings.
func scorerOf(t *testing.T, name, settings string) Scorer {
	t.Helper()
	s, err := New(Spec{Name: name, Settings: json.RawMessage(settings)}, World{})
	require.NoError(t, err)
	return s
}

// The values in testdata/reference.json come from rouge-score 0.1.2, sacrebleu 2.6.0, pytrec-eval-terrier 0.5.11 and
// SQuAD's script as transformers 4.57.6 has it; testdata/reference.py made them.
func TestScorersGiveWhatTheReferenceImplementationsGive(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/reference.json")
	require.NoError(t, err)
	var reference struct {
		Texts []map[string]any
		Runs  []struct {
			Found    []string
			Relevant map[string]float64
			RR       float64 `json:"recip_rank"`
			Recall5  float64 `json:"recall_5"`
			Recall10 float64 `json:"recall_10"`
			Hit5     float64 `json:"success_5"`
			Hit10    float64 `json:"success_10"`
			NDCG5    float64 `json:"ndcg_cut_5"`
			NDCG10   float64 `json:"ndcg_cut_10"`
		}
	}
	require.NoError(t, json.Unmarshal(raw, &reference))
	require.Len(t, reference.Texts, 12)
	for _, text := range reference.Texts {
		item := Item{Said: text["said"].(string)}
		for _, want := range text["want"].([]any) {
			item.Want = append(item.Want, want.(string))
		}
		for _, name := range []string{"normalised", "token-f1", "rouge-l", "bleu", "chrf"} {
			got, err := scorerOf(t, name, "").Score(t.Context(), item)
			require.NoError(t, err)
			require.InDelta(t, text[name], got, 1e-9, "%s of %q", name, item.Said)
		}
	}
	require.Len(t, reference.Runs, 4)
	for _, run := range reference.Runs {
		item := Item{Found: run.Found, Relevant: run.Relevant}
		for _, tc := range []struct {
			name, settings string
			want           float64
		}{
			{"mrr", `{"k":100}`, run.RR}, {"recall", `{"k":5}`, run.Recall5}, {"recall", "", run.Recall10},
			{"hit", `{"k":5}`, run.Hit5}, {"hit", "", run.Hit10}, {"ndcg", `{"k":5}`, run.NDCG5}, {"ndcg", "", run.NDCG10},
		} {
			got, err := scorerOf(t, tc.name, tc.settings).Score(t.Context(), item)
			require.NoError(t, err)
			require.InDelta(t, tc.want, got, 1e-9, "%s %s of %v", tc.name, tc.settings, run.Found)
		}
	}
}
