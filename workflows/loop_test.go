package workflows

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// exclusive loops take a claim, by the name that the claim has.
var exclusive = map[string]lifecycle.Loop{
	steps.ContinuePretraining: lifecycle.PretrainingLoop,
	steps.RebuildIndex:        lifecycle.IndexLoop,
	steps.PromoteRelease:      lifecycle.PromotionLoop,
	steps.TuneFromFeedback:    lifecycle.TuningLoop,
	steps.ArchiveInteractions: lifecycle.ArchiveLoop,
}

// fieldsOf is what a person may write into each loop's input.
var fieldsOf = map[string]string{
	steps.ContinuePretraining: "service, corpus, replay, from, stage, parameters, by, labels",
	steps.RebuildIndex:        "service, by",
	steps.EvaluateRelease:     "service, release, baseline, by",
	steps.PromoteRelease:      "service, release, approval, reason, wait, accept_late, by",
	steps.TuneFromFeedback:    "service, by",
	steps.ArchiveInteractions: "service, by",
	steps.BuildDataset:        "service, corpus, by",
}

// enoughInput is the least that a loop needs.
func enoughInput(loop string) map[string]any {
	in := map[string]any{"service": "docs"}
	if loop == steps.BuildDataset {
		in["corpus"] = "base"
	}
	return in
}

func TestEveryLoopRunsOnTheLeastInput(t *testing.T) {
	t.Parallel()
	for loop := range loops {
		t.Run(loop, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			require.NoError(t, w.start(loop, enoughInput(loop)))
			require.Equal(t, "docs", w.state().Service)
			if name, ok := exclusive[loop]; ok {
				require.Equal(t, name, inputs(w, steps.Claim)[0].Loop)
				require.Len(t, inputs(w, steps.ReleaseClaim), 1)
				require.Equal(t, lifecycle.Fence(7), inputs(w, steps.ReleaseClaim)[0].Claim.Fence)
				return
			}
			require.Empty(t, inputs(w, steps.Claim))
			require.Empty(t, inputs(w, steps.ReleaseClaim))
		})
	}
}

func TestEveryLoopDecodesItsInputStrictly(t *testing.T) {
	t.Parallel()
	faults := map[string]struct{ input, want string }{
		"a misspelt field":   {`{"service": "docs", "relaese": "x"}`, `unknown field "relaese"`},
		"no service":         {`{}`, "service"},
		"a wrong type":       {`{"service": 5}`, "service"},
		"a name like a path": {`{"service": "../docs"}`, "service"},
		"no object":          {`["docs"]`, "array"},
		"nothing":            {``, "missing"},
		"no JSON":            {`service=docs`, "invalid character"},
		"too much":           {`{"service": "` + strings.Repeat("d", steps.MaxPayload) + `"}`, "at most 65536"},
	}
	for loop, fields := range fieldsOf {
		for name, tc := range faults {
			t.Run(loop+" given "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				err := w.start(loop, raw(t, tc.input))
				require.Equal(t, lifecycle.Invalid, steps.KindOf(err))
				require.ErrorContains(t, err, tc.want)
				if name != "too much" {
					require.ErrorContains(t, err, "fields: "+fields)
				}
				require.Empty(t, w.calls, "nothing was touched")
			})
		}
	}
}

func TestASecondRunBesideTheFirstEndsAsBusy(t *testing.T) {
	t.Parallel()
	for loop := range exclusive {
		t.Run(loop, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			on(w, steps.Claim, func(context.Context, steps.ClaimInput) (lifecycle.Claim, error) {
				return lifecycle.Claim{}, &lifecycle.Error{
					Kind: lifecycle.Busy, Message: "held by workflow first", Fields: map[string]string{"workflow_id": "first"},
				}
			})
			err := w.start(loop, onlyService())
			require.Equal(t, lifecycle.Busy, steps.KindOf(err))
			var typed *lifecycle.Error
			require.ErrorAs(t, steps.FromTemporal(err), &typed)
			require.Equal(t, "first", typed.Fields["workflow_id"], "a program can read the holder")
			require.Equal(t, []string{"ResolveService", "TakeClaim"}, w.order(everyStep(w)...), "nothing else was done")
			require.Equal(t, "busy", w.state().Phase)
			require.Contains(t, w.details(), "held by workflow first")
		})
	}
}

func everyStep(w *world) (names []string) {
	for name := range w.bindings {
		names = append(names, name)
	}
	return names
}

func TestAnUndeclaredServiceEndsEveryLoop(t *testing.T) {
	t.Parallel()
	for loop := range loops {
		t.Run(loop, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			fails(w, steps.Resolve, lifecycle.NotFound, "service docs is not declared")
			err := w.start(loop, enoughInput(loop))
			require.Equal(t, lifecycle.NotFound, steps.KindOf(err))
			require.Equal(t, []string{"ResolveService"}, w.order(everyStep(w)...))
			require.Equal(t, "failed", w.state().Phase)
		})
	}
}

// longSteps are, for each exclusive loop, a step in whose middle it may be cancelled.
func longSteps(w *world) map[string]func() {
	return map[string]func(){
		steps.ContinuePretraining: func() { canceledIn(w, steps.RunJob) },
		steps.RebuildIndex:        func() { canceledIn(w, steps.BuildIndex) },
		steps.PromoteRelease:      func() { canceledIn(w, steps.LoadRelease) },
		steps.TuneFromFeedback:    func() { canceledIn(w, steps.CurateFeedback) },
		steps.ArchiveInteractions: func() { canceledIn(w, steps.ArchiveDay) },
	}
}

func canceledIn[In, Out any](w *world, step steps.Step[In, Out]) {
	on(w, step, func(ctx context.Context, _ In) (out Out, err error) {
		return out, w.untilCanceled(ctx, w.CancelWorkflow)
	})
}

func TestEveryWayOutGivesTheClaimBack(t *testing.T) {
	t.Parallel()
	for loop := range exclusive {
		t.Run(loop+" canceled", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			longSteps(w)[loop]()
			err := w.start(loop, onlyService())
			require.True(t, temporal.IsCanceledError(err), err)
			require.Len(t, inputs(w, steps.ReleaseClaim), 1)
			require.Equal(t, "canceled", w.state().Phase)
		})
	}
	for loop, fail := range map[string]func(*world){
		steps.ContinuePretraining: func(w *world) { fails(w, steps.FindBaseModel, lifecycle.Corrupt, "torn") },
		steps.RebuildIndex:        func(w *world) { fails(w, steps.BuildIndex, lifecycle.Corrupt, "torn") },
		steps.PromoteRelease:      func(w *world) { fails(w, steps.LoadRelease, lifecycle.Corrupt, "torn") },
		steps.TuneFromFeedback:    func(w *world) { fails(w, steps.OpenLadder, lifecycle.Corrupt, "torn") },
		steps.ArchiveInteractions: func(w *world) { fails(w, steps.ForgetDay, lifecycle.Corrupt, "torn") },
	} {
		t.Run(loop+" failed", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			fail(w)
			err := w.start(loop, onlyService())
			require.Equal(t, lifecycle.Corrupt, steps.KindOf(err))
			require.Len(t, inputs(w, steps.ReleaseClaim), 1)
			require.Equal(t, "failed", w.state().Phase)
			require.Equal(t, "torn", w.state().Reason)
		})
	}
}

func TestALoopSaysWhatItDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.promote(map[string]string{"service": "docs", "by": "alice"})
	require.NoError(t, err)

	details := w.details()
	require.True(t, strings.HasPrefix(details, "**promotion** of `docs`: promoted\n"), details)
	require.Contains(t, details, "release `"+string(candidate)+"`")
	require.Contains(t, details, "step 2 of 2 at 50%, paused: false, waits for approval: false")
	require.Contains(t, details, "- resolved: declaration version 3\n- claimed: fence 7\n")
	require.Equal(t, []string{
		"resolved", "claimed", "planning", "gate", "loading", "canary", "canary", "promoted",
	}, w.phases, "people search by phase")

	state := w.state()
	require.Equal(t, lifecycle.PromotionLoop, state.Loop)
	require.Equal(t, string(candidate), state.Release)
	require.Len(t, state.Rollout.Done, 2)
	require.Equal(t, lifecycle.Actor{Name: "alice", Via: "workflow"}, inputs(w, steps.Claim)[0].By)
}

func TestALoopRunsWithoutSearchAttributes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.searchable = false
	require.NoError(t, w.start(steps.TuneFromFeedback, onlyService()))
	require.Empty(t, w.phases, "setting one that the namespace lacks would hang the workflow")
	require.Equal(t, lifecycle.Actor{Name: "unnamed", Via: "temporal"}, inputs(w, steps.Claim)[0].By)
}

func TestTheStateFitsIntoAPayload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	endless := strings.Repeat("no more space. ", 1000)
	n := 0
	on(w, steps.RunJob, func(_ context.Context, in steps.RunJobInput) (steps.RunJobResult, error) {
		n++
		if n%19 == 0 {
			return succeeded(in), nil
		}
		return steps.RunJobResult{Status: lifecycle.JobStatus{Phase: lifecycle.JobRetry, Reason: endless}}, nil
	})
	require.NoError(t, w.start(steps.ContinuePretraining, onlyService()))
	state := w.state()
	require.Len(t, state.Notes, maxNotes)
	encoded, err := json.Marshal(state)
	require.NoError(t, err)
	require.Less(t, len(encoded), steps.MaxPayload)
}

func TestClipCutsBetweenCharacters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "abc": "abc", "abcd": "abcd", "abcde": "abcd", "abcé": "abc", "abß": "abß", "日本": "日"} {
		got := clip(text, 4)
		require.Equal(t, want, got)
		require.True(t, utf8.ValidString(got))
	}
}
