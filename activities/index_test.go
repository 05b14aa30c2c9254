package activities_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/retrieval"
	"github.com/refitml/refit/internal/steps"
)

// dataset makes the service's dataset of a corpus of n documents.
func (w *world) dataset(t *testing.T, corpusName string, n int) steps.BuildDatasetResult {
	t.Helper()
	root := t.TempDir()
	writeHandbook(t, filepath.Join(root, corpusName), n)
	in := checkInput(corpusName, filepath.Join(root, corpusName))
	in.Policy.HeldOut = 0.5
	out, err := do(t, steps.CheckCorpus, activities.Datasets{Shelf: w.Shelf, Roots: []string{root}}.CheckCorpus, in)
	require.NoError(t, err)
	return out
}

func TestAnIndexIsBuiltAndMeasured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	base, fresh := w.dataset(t, "base", 100), w.dataset(t, "fresh", 40)
	embedder := w.put(t, "docs", lifecycle.EmbedderArtifact, nil, map[string]string{"weights": "e"})
	servers := newModels(t)
	index := activities.Index{Shelf: w.Shelf, Engines: servers.engines()}
	in := steps.BuildIndexInput{
		Service: "docs", Datasets: []lifecycle.Digest{base.Dataset, fresh.Dataset}, Embedder: embedder, By: by,
		Retrieval: lifecycle.Retrieval{Chunk: 400},
	}

	first, err := do(t, steps.BuildIndex, index.Build, in)
	require.NoError(t, err)
	require.Equal(t, embedder, first.Embedder)
	require.Equal(t, base.HeldOut+fresh.HeldOut, first.Queries, "every held-out document is asked for")
	require.GreaterOrEqual(t, first.Chunks, base.Documents+fresh.Documents)
	for mode, scores := range map[string]steps.RetrievalScores{"hybrid": first.Hybrid, "lexical": first.Lexical} {
		require.Greater(t, scores.RecallAt10, 0.1, mode)
		require.LessOrEqual(t, scores.RecallAt5, scores.RecallAt10, mode)
	}
	require.Len(t, servers.unloads, 1, "the embedder is served for the build only")
	require.Empty(t, servers.loaded)

	recorded, err := w.Registry.Artifact(t.Context(), first.Index)
	require.NoError(t, err)
	require.Equal(t, string(embedder), recorded.Labels[lifecycle.EmbedderLabel])
	require.Equal(t, []lifecycle.Digest{base.Dataset, fresh.Dataset, embedder}, recorded.Parents)
	dir, err := w.Cache.Dir(t.Context(), recorded.ArtifactRef)
	require.NoError(t, err)
	opened, err := retrieval.Open(os.DirFS(dir))
	require.NoError(t, err)
	require.Equal(t, 256, opened.Info().Dimension)
	require.Equal(t, string(embedder), opened.Info().Embedder)

	w.checkAsked(t, dir, base.Dataset)

	again, err := do(t, steps.BuildIndex, index.Build, in)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestAnIndexNeedsItsEngine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(t, service("docs"))
	base := w.dataset(t, "base", 40)
	embedder := w.put(t, "docs", lifecycle.EmbedderArtifact, nil, map[string]string{"weights": "e"})
	_, err := do(t, steps.BuildIndex, activities.Index{Shelf: w.Shelf}.Build, steps.BuildIndexInput{
		Service: "docs", Datasets: []lifecycle.Digest{base.Dataset}, Embedder: embedder, By: by,
	})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	require.ErrorContains(t, err, "serving.engine")
}

// checkAsked: a document that a query asks for is indexed without the sentence that asks, all others with it.
func (w *world) checkAsked(t *testing.T, index string, dataset lifecycle.Digest) {
	t.Helper()
	dir, err := w.Cache.Dir(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact, Digest: dataset})
	require.NoError(t, err)
	asked := map[string]string{}
	for _, line := range lines(t, filepath.Join(dir, "pairs.jsonl")) {
		var p struct{ Text, Document string }
		require.NoError(t, json.Unmarshal([]byte(line), &p))
		asked[p.Document] = p.Text
	}
	require.NotEmpty(t, asked)
	whole := 0
	for _, line := range lines(t, filepath.Join(index, "chunks.jsonl")) {
		var c struct{ Document, Text string }
		require.NoError(t, json.Unmarshal([]byte(line), &c))
		text, ok := asked[c.Document]
		if ok {
			require.NotContains(t, c.Text, text)
		} else if strings.HasPrefix(c.Text, "The ") {
			whole++
		}
	}
	require.NotZero(t, whole)
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}
