package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func (w *world) tune() (steps.TuningResult, error) {
	w.t.Helper()
	return run[steps.TuningResult](w, steps.TuneFromFeedback, onlyService())
}

func TestTuningOpensTheLadderOfTheDeficit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.tune()
	require.NoError(t, err)
	require.Equal(t, "ladder", out.Ladder)
	require.Equal(t, lifecycle.PromptLever, out.Lever, "weights stay shut without evidence")
	opened := inputs(w, steps.OpenLadder)[0]
	require.Equal(t, "wrong", opened.Deficit)
	require.Equal(t, out.Dataset, opened.Dataset)
	require.Equal(t, w.service.Feedback, inputs(w, steps.CurateFeedback)[0].Policy)
}

func TestTuningFollowsTheLaddersEvidence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gives(w, steps.OpenLadder, lifecycle.LadderRecord{ID: "ladder", Attempts: []lifecycle.LeverResult{
		{Lever: lifecycle.PromptLever, Suite: suite, Ceiling: true},
	}})
	out, err := w.tune()
	require.NoError(t, err)
	require.Equal(t, lifecycle.RetrievalLever, out.Lever)
}

func TestTuningOfTooLittleFeedbackOpensNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gives(w, steps.CurateFeedback, steps.TuningResult{Items: 3, Reason: "3 items of 20"})
	out, err := w.tune()
	require.NoError(t, err)
	require.Empty(t, out.Ladder)
	require.Empty(t, inputs(w, steps.OpenLadder))
	require.Equal(t, "done", w.state().Phase)
	require.Equal(t, "3 items of 20", w.state().Reason)
}
