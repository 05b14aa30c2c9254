package demo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func digest(c string) lifecycle.Digest { return lifecycle.Digest(strings.Repeat(c, 64)) }

func someSummary() Summary {
	reached, highest := lifecycle.BasisPoints(970), lifecycle.BasisPoints(1800)
	return Summary{
		Releases: []ReleaseLine{{"base", digest("a"), "first stable", "nothing to compare with"}, {"candidate", digest("b"), "promoted", "every step"}},
		Scores:   []ScoreLine{{"fresh-text", "bits-per-byte", -3.5, -3.1, 0.3, 0.5, lifecycle.PassOutcome}},
		Retrieval: RetrievalLine{
			Hybrid:  steps.RetrievalScores{RecallAt5: 0.7, RecallAt10: 0.8, MRR: 0.6, NDCGAt10: 0.65},
			Lexical: steps.RetrievalScores{RecallAt5: 0.6, RecallAt10: 0.7, MRR: 0.5, NDCGAt10: 0.55},
		},
		Steps: []StepLine{
			{1000, &reached, &highest, 24, lifecycle.Promote, "24 conversations"},
			{3000, nil, nil, 30, lifecycle.Promote, "30 conversations"},
		},
		Refused:    RefusedLine{digest("c"), lifecycle.RegressOutcome, []string{"old-text: it dropped"}},
		RolledBack: RolledBackLine{digest("d"), 6, "worse than tolerated: refusals"},
		Busy:       BusyLine{"promote/docs-assistant"},
		Feedback:   FeedbackLine{120, 80, digest("e")},
		Timings:    map[string]float64{"base": 75.5, "total": 400},
		Addresses:  map[string]string{"gateway": "http://127.0.0.1:8080"},
		Screens:    []ScreenLine{{"base", 4054, 2100, 232, digest("f")}},
	}
}

func TestSummaryHasItsDocumentedForm(t *testing.T) {
	t.Parallel()
	got, err := someSummary().JSON()
	require.NoError(t, err)
	golden := filepath.Join("testdata", "demo-summary.json")
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "fields are only ever added; change docs/demo-summary.md with this file")
}

func TestEveryFieldOfTheSummaryIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "demo-summary.md"))
	require.NoError(t, err)
	raw, err := someSummary().JSON()
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(raw, &tree))
	var visit func(any)
	visit = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for key, below := range node {
				require.Contains(t, string(page), "`"+key+"`")
				visit(below)
			}
		case []any:
			for _, below := range node {
				visit(below)
			}
		}
	}
	visit(tree)
}

func TestWriteReplacesTheSummaryAsAWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "demo-summary.json")
	require.NoError(t, Summary{}.Write(path))
	require.NoError(t, someSummary().Write(path))
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var back Summary
	require.NoError(t, json.Unmarshal(raw, &back))
	require.Equal(t, someSummary(), back)
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1)
}
