package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func (w *world) rebuildIndex() (steps.IndexResult, error) {
	w.t.Helper()
	return run[steps.IndexResult](w, steps.RebuildIndex, onlyService())
}

func TestIndexIsBuiltOfEveryCorpus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.rebuildIndex()
	require.NoError(t, err)

	job := inputs(w, steps.RunJob)[0]
	require.Equal(t, map[string]lifecycle.ArtifactRef{
		"dataset": dataset(datasetOf("base")), "dataset-2": dataset(datasetOf("fresh")),
	}, job.Spec.Inputs)
	require.Equal(t, map[string]lifecycle.ArtifactKind{"embedder": lifecycle.EmbedderArtifact}, job.Spec.Outputs)
	built := inputs(w, steps.BuildIndex)[0]
	require.Equal(t, []lifecycle.Digest{datasetOf("base"), datasetOf("fresh")}, built.Datasets)
	require.Equal(t, modelOf(job.Key), built.Embedder)
	require.Equal(t, out.Index, inputs(w, steps.MakeRelease)[0].Index)
	require.Equal(t, candidate, out.Release)
}

func TestIndexWithoutAModelMakesNoRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fails(w, steps.MakeRelease, lifecycle.NotFound, "no model")
	out, err := w.rebuildIndex()
	require.NoError(t, err)
	require.NotEmpty(t, out.Index)
	require.Empty(t, out.Release)
	require.Contains(t, w.state().Reason, "no model is there yet")
}

func TestIndexFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*world)
		kind   lifecycle.Kind
	}{
		"without corpora to retrieve from": {func(w *world) { w.service.Retrieval.Corpora = nil }, lifecycle.Invalid},
		"on a corpus that is not declared": {func(w *world) { w.service.Retrieval.Corpora = []string{"lost"} }, lifecycle.Invalid},
		"on a corpus that is refused":      {func(w *world) { fails(w, steps.CheckCorpus, lifecycle.Refused, "empty") }, lifecycle.Refused},
		"with its embedder":                {func(w *world) { w.tries(ended(lifecycle.JobRejected, 64)) }, lifecycle.Invalid},
		"with its release":                 {func(w *world) { fails(w, steps.MakeRelease, lifecycle.Conflict, "no") }, lifecycle.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tc.change(w)
			_, err := w.rebuildIndex()
			require.Equal(t, tc.kind, steps.KindOf(err))
			require.Equal(t, "failed", w.state().Phase)
			require.Len(t, inputs(w, steps.ReleaseClaim), 1)
		})
	}
}
