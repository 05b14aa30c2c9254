package workflows

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// contaminated lets a screen take documents out of every dataset.
func contaminated(w *world) {
	on(w, steps.ScreenData, func(_ context.Context, in steps.ScreenInput) (steps.ScreenResult, error) {
		out := screenedClean(in)
		out.Datasets = map[string]lifecycle.Digest{}
		for name, digest := range in.Datasets {
			out.Datasets[name] = cleanOf(digest)
		}
		out.Screened.Hits, out.Screened.Removed = 3, 3
		return out, nil
	})
}

// drawnLate lets the suite ask of a corpus that has no dataset before a second one is built.
func drawnLate(w *world) {
	on(w, steps.ScreenData, func(_ context.Context, in steps.ScreenInput) (steps.ScreenResult, error) {
		if len(inputs(w, steps.CheckCorpus)) < 2 {
			return steps.ScreenResult{Missing: []string{"fresh"}}, nil
		}
		return screenedClean(in), nil
	})
}

func cleanOf(dataset lifecycle.Digest) lifecycle.Digest {
	return lifecycle.DigestOf([]byte("clean " + dataset))
}

func TestAJobIsTrainedOnWhatHoldsNoCase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service.Training.Contamination.Words = 20
	contaminated(w)
	out, err := w.pretrain(onlyService())
	require.NoError(t, err)

	asked := inputs(w, steps.ScreenData)
	require.Len(t, asked, 2)
	require.Equal(t, w.service.Training.Contamination, asked[0].Policy)
	require.Equal(t, map[string]lifecycle.Digest{"dataset": datasetOf("base")}, asked[0].Datasets)
	clean := cleanOf(datasetOf("base"))
	require.Equal(t, map[string]lifecycle.Digest{"dataset": datasetOf("fresh"), "replay": clean}, asked[1].Datasets, "all that the job trains on")
	require.Equal(t, []string{"replay"}, asked[1].Learned)
	jobs := inputs(w, steps.RunJob)
	require.Equal(t, dataset(clean), jobs[0].Spec.Inputs["dataset"])
	require.Equal(t, dataset(cleanOf(datasetOf("fresh"))), jobs[1].Spec.Inputs["dataset"])
	require.Equal(t, dataset(cleanOf(clean)), jobs[1].Spec.Inputs["replay"])
	require.Equal(t, modelOf(jobs[0].Key), jobs[1].Spec.Inputs["model"].Digest, "what is no dataset stays")
	require.Equal(t, string(clean), jobs[0].Labels["dataset"], "a model says what it was trained on")
	require.Equal(t, cleanOf(datasetOf("fresh")), out.Dataset)
	require.Equal(t, 3, out.Screens[1].Removed)
	require.Equal(t, []string{"ScreenData", "RunJob", "ScreenData", "RunJob"}, w.order("ScreenData", "RunJob"))
}

func TestAnEmbedderIsTrainedOnWhatHoldsNoCase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	contaminated(w)
	out, err := run[steps.IndexResult](w, steps.RebuildIndex, onlyService())
	require.NoError(t, err)
	job := inputs(w, steps.RunJob)[0]
	require.Equal(t, dataset(cleanOf(datasetOf("base"))), job.Spec.Inputs["dataset"])
	require.Equal(t, dataset(cleanOf(datasetOf("fresh"))), job.Spec.Inputs["dataset-2"])
	require.Equal(t, string(reportOf("embed")), job.Labels["contamination"])
	require.Equal(t, []lifecycle.Digest{datasetOf("base"), datasetOf("fresh")}, inputs(w, steps.BuildIndex)[0].Datasets, "an index holds everything: it is no training")
	require.Len(t, out.Screens, 1)
}

func TestNoJobForDataThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fails(w, steps.ScreenData, lifecycle.Refused, "3 of 10 documents hold cases")
	_, err := w.pretrain(onlyService())
	require.Equal(t, lifecycle.Refused, steps.KindOf(err))
	require.Empty(t, inputs(w, steps.RunJob))
	require.Len(t, inputs(w, steps.ReleaseClaim), 1)
}

func TestCorporaThatSuitesAskGetADatasetFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	drawnLate(w)
	_, err := w.pretrain(map[string]any{"service": "docs", "stage": "base"})
	require.NoError(t, err)
	require.Equal(t, []string{"CheckCorpus", "ScreenData", "CheckCorpus", "ScreenData", "RunJob"}, w.order("CheckCorpus", "ScreenData", "RunJob"))

	w = newWorld(t)
	gives(w, steps.ScreenData, steps.ScreenResult{Missing: []string{"fresh"}})
	_, err = w.pretrain(map[string]any{"service": "docs", "stage": "base"})
	require.Error(t, err, "still missing is no pass")
	require.Empty(t, inputs(w, steps.RunJob))
}

func TestTuningScreensByTheServicesPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service.Training.Contamination.Action = lifecycle.RefuseContaminated
	_, err := run[steps.TuningResult](w, steps.TuneFromFeedback, onlyService())
	require.NoError(t, err)
	require.Equal(t, w.service.Training.Contamination, inputs(w, steps.CurateFeedback)[0].Contamination)
}
