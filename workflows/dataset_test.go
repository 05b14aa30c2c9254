package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestDatasetIsCheckedByTheDeclaredPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := run[steps.BuildDatasetResult](w, steps.BuildDataset, map[string]string{"service": "docs", "corpus": "fresh"})
	require.NoError(t, err)
	require.Equal(t, datasetOf("fresh"), out.Dataset)
	require.Equal(t, w.service.Corpora["fresh"], inputs(w, steps.CheckCorpus)[0].Policy)
	require.Equal(t, "10 documents, 1 held out, 0 dropped", w.state().Reason)
}

func TestDatasetOfAnUndeclaredCorpusIsInvalid(t *testing.T) {
	t.Parallel()
	for _, corpus := range []string{"", "lost"} {
		w := newWorld(t)
		err := w.start(steps.BuildDataset, map[string]string{"service": "docs", "corpus": corpus})
		require.Equal(t, lifecycle.Invalid, steps.KindOf(err))
		require.ErrorContains(t, err, "declare it under corpora")
		require.Empty(t, inputs(w, steps.CheckCorpus))
	}
}

func TestDatasetThatFailsTheCheckIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fails(w, steps.CheckCorpus, lifecycle.Refused, "secrets in 3 documents")
	err := w.start(steps.BuildDataset, map[string]string{"service": "docs", "corpus": "base"})
	require.Equal(t, lifecycle.Refused, steps.KindOf(err))
	require.Equal(t, "failed", w.state().Phase)
}
