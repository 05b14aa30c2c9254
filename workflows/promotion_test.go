package workflows

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func (w *world) promote(input any) (steps.PromotionResult, error) {
	w.t.Helper()
	return run[steps.PromotionResult](w, steps.PromoteRelease, input)
}

func (w *world) shares() (out []lifecycle.BasisPoints) {
	for _, in := range inputs(w, steps.SetShare) {
		out = append(out, in.Share)
	}
	return out
}

// ends is a hold that ends with a reason at once.
func ends(reason steps.HoldReason) steps.HoldResult {
	return steps.HoldResult{Reason: reason, Verdict: lifecycle.StepVerdict{Reason: "because of " + string(reason)}}
}

// wayOut is the order of what ends a promotion.
func (w *world) wayOut() []string {
	return w.order(steps.MakeStable.Name, steps.RollBack.Name, steps.ReleaseClaim.Name)
}

func TestPromotionTakesEveryStepThenMakesStable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, []lifecycle.BasisPoints{500, 5000}, w.shares())
	require.Len(t, out.Steps, 2)
	require.Equal(t, []string{"MakeStable", "ReleaseClaim"}, w.wayOut())
	for _, in := range inputs(w, steps.SetShare) {
		require.Equal(t, lifecycle.Fence(7), in.Claim.Fence, "whatever changes what serves carries the fence")
	}
}

func TestPromotionStopsAtTheGate(t *testing.T) {
	t.Parallel()
	for outcome, kind := range map[lifecycle.Outcome]lifecycle.Kind{
		lifecycle.RegressOutcome:      lifecycle.Regress,
		lifecycle.UnderpoweredOutcome: lifecycle.Underpowered,
		lifecycle.ErrorOutcome:        lifecycle.Unavailable,
		"":                            lifecycle.Unavailable,
	} {
		t.Run(string(outcome), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.plan.Verdict.Outcome = outcome
			_, err := w.promote(onlyService())
			require.Equal(t, kind, steps.KindOf(err))
			require.Empty(t, w.shares())
			require.Equal(t, []string{"ReleaseClaim"}, w.wayOut())
			require.Equal(t, "failed", w.state().Phase)
		})
	}
}

func TestPromotionTakesNoVerdictOnAnotherQuestion(t *testing.T) {
	t.Parallel()
	other := lifecycle.DigestOf([]byte("other"))
	for name, change := range map[string]func(*lifecycle.Verdict){
		"another candidate": func(v *lifecycle.Verdict) { v.Candidate = other },
		"another baseline":  func(v *lifecycle.Verdict) { v.Baseline = "" },
		"another suite":     func(v *lifecycle.Verdict) { v.Suite = other },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			change(w.plan.Verdict)
			_, err := w.promote(onlyService())
			require.Equal(t, lifecycle.Unavailable, steps.KindOf(err))
			require.ErrorContains(t, err, "could not judge")
			require.Empty(t, w.shares())
		})
	}
}

func TestPromotionLetsTheReleaseBeEvaluated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Verdict = nil
	_, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Len(t, inputs(w, steps.AnswerBatch), 2, "candidate and baseline answer, in a run of their own")
	plans := inputs(w, steps.PlanEvaluation)
	require.Len(t, plans, 2)
	require.Equal(t, string(candidate), plans[1].Release, "what was planned is what is evaluated")
	require.Equal(t, string(stable), plans[1].Baseline)
}

func TestPromotionSharesAnEvaluationThatRunsAlready(t *testing.T) {
	t.Parallel()
	for outcome, kind := range map[lifecycle.Outcome]lifecycle.Kind{
		lifecycle.PassOutcome: "", lifecycle.RegressOutcome: lifecycle.Regress,
	} {
		t.Run(string(outcome), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			verdict := *w.plan.Verdict
			verdict.Outcome = outcome
			w.plan.Verdict = nil
			id := w.taken(steps.EvaluationWorkflowID("docs", candidate, stable, suite))
			gives(w, steps.AwaitVerdict, verdict)
			_, err := w.promote(onlyService())
			require.Equal(t, kind, steps.KindOf(err))
			require.Equal(t, []steps.SharedInput{{WorkflowID: id}}, inputs(w, steps.AwaitVerdict))
			require.Empty(t, inputs(w, steps.AnswerBatch))
		})
	}
}

func TestPromotionWithoutAnAnswerFromTheGateFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Verdict = nil
	id := steps.EvaluationWorkflowID("docs", candidate, stable, suite)
	on(w, steps.AnswerBatch, func(ctx context.Context, _ steps.AnswerInput) (steps.AnswerResult, error) {
		return steps.AnswerResult{}, w.untilCanceled(ctx, func() { w.CancelWorkflowByID(id, "") }) // in the Temporal UI
	})
	_, err := w.promote(onlyService())
	require.False(t, temporal.IsCanceledError(err), "nobody cancelled the promotion")
	require.Equal(t, lifecycle.Unavailable, steps.KindOf(err))
	require.ErrorContains(t, err, id)
	require.Equal(t, []string{"ReleaseClaim"}, w.wayOut())
}

func TestPromotionOfTheFirstReleaseNeedsNoCanary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Baseline, w.plan.Verdict.Baseline = "", ""
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Empty(t, w.shares())
	require.Len(t, inputs(w, steps.FirstStable), 1)
}

func TestPromotionOfWhatServesAlreadyIsAConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Candidate = stable
	_, err := w.promote(onlyService())
	require.Equal(t, lifecycle.Conflict, steps.KindOf(err))
	require.Empty(t, w.shares())
}

func TestPromotionRollsBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*world)
		phase  lifecycle.RolloutPhase
		out    []string
		reason string
	}{
		"on harm": {func(w *world) { gives(w, steps.HoldStep, ends(steps.HoldHarm)) },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "because of harm"},
		"when the time is over": {func(w *world) { gives(w, steps.HoldStep, ends(steps.HoldTime)) },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "because of time"},
		"as invalid when too much was served": {func(w *world) { gives(w, steps.HoldStep, ends(steps.HoldInvalid)) },
			lifecycle.RolloutInvalid, []string{"RollBack", "ReleaseClaim"}, "because of invalid"},
		"when a hold says nothing": {func(w *world) { gives(w, steps.HoldStep, steps.HoldResult{}) },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "did not end well"},
		"when a hold fails": {func(w *world) { fails(w, steps.HoldStep, lifecycle.Corrupt, "torn") },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "torn"},
		"when a step cannot be recorded": {func(w *world) { fails(w, steps.RecordStep, lifecycle.Refused, "no") },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "no"},
		"when its share is refused": {func(w *world) { fails(w, steps.SetShare, lifecycle.Refused, "no") },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "share could not be set: no"},
		"when the rollout cannot be opened": {func(w *world) { fails(w, steps.StartRollout, lifecycle.Conflict, "ended before") },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "could not be opened: ended before"},
		"when it cannot be made stable": {func(w *world) { fails(w, steps.MakeStable, lifecycle.Refused, "no") },
			lifecycle.RolloutRolledBack, []string{"MakeStable", "RollBack", "ReleaseClaim"}, "could not be promoted: no"},
		"without a word when its hold is fenced": {func(w *world) { gives(w, steps.HoldStep, ends(steps.HoldFenced)) },
			lifecycle.RolloutRolledBack, []string{"ReleaseClaim"}, "somebody newer decides: because of fenced"},
		"without a word when its share change is fenced": {func(w *world) { fails(w, steps.SetShare, lifecycle.Fenced, "a newer fence exists") },
			lifecycle.RolloutRolledBack, []string{"ReleaseClaim"}, "a newer fence exists"},
		"without a word when it is fenced at the last moment": {func(w *world) { fails(w, steps.MakeStable, lifecycle.Fenced, "a newer fence exists") },
			lifecycle.RolloutRolledBack, []string{"MakeStable", "ReleaseClaim"}, "a newer fence exists"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tc.change(w)
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, tc.phase, out.Phase)
			require.Contains(t, out.Reason, tc.reason)
			require.Equal(t, tc.out, w.wayOut())
			require.Equal(t, "rolled back", w.state().Phase)
			for _, end := range inputs(w, steps.RollBack) {
				require.Equal(t, tc.phase == lifecycle.RolloutInvalid, end.Invalid)
				require.Equal(t, out.Reason, end.Reason)
			}
		})
	}
}

func TestPromotionSaysWhomItTouchedOnlyWhereItKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gives(w, steps.HoldStep, ends(steps.HoldHarm))
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, &lifecycle.Touched{Conversations: 4}, out.Touched)

	w = newWorld(t)
	gives(w, steps.HoldStep, ends(steps.HoldHarm))
	fails(w, steps.RollBack, lifecycle.Fenced, "rolled back from outside")
	out, err = w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
	require.Nil(t, out.Touched)
}

func TestPromotionThatCannotRollBackFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gives(w, steps.HoldStep, ends(steps.HoldHarm))
	fails(w, steps.RollBack, lifecycle.Refused, "no right to")
	_, err := w.promote(onlyService())
	require.Equal(t, lifecycle.Refused, steps.KindOf(err))
	require.Equal(t, []string{"RollBack", "ReleaseClaim"}, w.wayOut(), "the claim's end takes the canary off the route")
}

func TestPromotionEndsWellThoughTheClaimCannotBeGivenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fails(w, steps.ReleaseClaim, lifecycle.Refused, "no")
	fails(w, steps.UnloadUnused, lifecycle.Refused, "no")
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
}

func TestPromotionAsksAtTheBoundWhereThePolicySaysSo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		phase  lifecycle.RolloutPhase
		holds  []bool // paused
	}{
		"and goes on": {steps.ResumeUpdate, lifecycle.RolloutPromoted, []bool{false, true, false, false}},
		"and ends":    {steps.AbortUpdate, lifecycle.RolloutRolledBack, []bool{false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.service.Rollout.AtBound = "ask"
			var asked steps.State
			on(w, steps.HoldStep, func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
				switch len(inputs(w, steps.HoldStep)) {
				case 1:
					return ends(steps.HoldTime), nil
				case 2:
					return steps.HoldResult{}, w.untilCanceled(ctx, func() {
						asked = w.state()
						w.update(tc.answer, steps.Intervention{Key: "k", By: "alice"})
					})
				default:
					return ends(steps.HoldEnough), nil
				}
			})
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, tc.phase, out.Phase)
			require.Equal(t, "asking", asked.Phase)
			require.True(t, asked.Rollout.Paused)
			require.Equal(t, tc.holds, w.holdsPaused())
			for _, in := range inputs(w, steps.HoldStep)[1:] {
				require.Zero(t, in.Elapsed, "a new bound begins")
			}
		})
	}
}

func (w *world) holdsPaused() (out []bool) {
	for _, in := range inputs(w, steps.HoldStep) {
		out = append(out, in.Paused)
	}
	return out
}

func TestPromotionReturnsToStableWhenCanceled(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		input  map[string]any
		cancel func(*world)
		out    []string
	}{
		"while it holds a share": {map[string]any{"service": "docs"}, func(w *world) {
			on(w, steps.HoldStep, func(ctx context.Context, _ steps.HoldInput) (steps.HoldResult, error) {
				return steps.HoldResult{}, w.untilCanceled(ctx, w.CancelWorkflow)
			})
		}, []string{"RollBack", "ReleaseClaim"}},
		"while it waits for a person": {map[string]any{"service": "docs", "approval": true}, func(w *world) {
			w.RegisterDelayedCallback(w.CancelWorkflow, time.Minute)
		}, []string{"RollBack", "ReleaseClaim"}},
		"while it loads": {map[string]any{"service": "docs"}, func(w *world) {
			on(w, steps.LoadRelease, func(ctx context.Context, _ steps.LoadInput) (steps.LoadResult, error) {
				return steps.LoadResult{}, w.untilCanceled(ctx, w.CancelWorkflow)
			})
		}, []string{"ReleaseClaim"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tc.cancel(w)
			_, err := w.promote(tc.input)
			require.True(t, temporal.IsCanceledError(err), err)
			require.Equal(t, tc.out, w.wayOut())
			require.Equal(t, "canceled", w.state().Phase)
		})
	}
}

func TestCancelingAPromotionLeavesTheEvaluationToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Verdict = nil
	ended := make(chan struct{})
	on(w, steps.JudgeGate, func(_ context.Context, in steps.JudgeGateInput) (lifecycle.Verdict, error) {
		w.RegisterDelayedCallback(w.CancelWorkflow, 0)
		<-ended
		return lifecycle.Verdict{Outcome: lifecycle.PassOutcome}, nil
	})
	on(w, steps.ReleaseClaim, func(context.Context, steps.ReleaseClaimInput) (steps.None, error) {
		close(ended)
		return steps.None{}, nil
	})
	_, err := w.promote(onlyService())
	require.True(t, temporal.IsCanceledError(err), err)
	require.Empty(t, inputs(w, steps.StartRollout))
	require.NoError(t, w.GetWorkflowErrorByID(steps.EvaluationWorkflowID("docs", candidate, stable, suite)))
}

// taken makes id the ID of the run under test: a child of that ID is running already.
func (w *world) taken(id string) string {
	w.SetStartWorkflowOptions(startUnder(id))
	return id
}
