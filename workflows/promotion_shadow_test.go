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

// shadowEnds is a shadow step that ends with a reason at once.
func shadowEnds(reason steps.HoldReason) steps.ShadowResult {
	decision := lifecycle.RollBack
	if reason == steps.HoldEnough {
		decision = lifecycle.Promote
	}
	return steps.ShadowResult{Reason: reason, Verdict: lifecycle.ShadowVerdict{Decision: decision, Reason: "because of " + string(reason), Pairs: 100, Scored: 100}}
}

// shadowing gives a world whose rollouts begin with a shadow step.
func shadowing(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	beginsInTheShadow(w)
	return w
}

func beginsInTheShadow(w *world) {
	w.service.Rollout.Shadow = &lifecycle.ShadowStep{Share: 1000, Scorer: &lifecycle.PairScorer{Name: "judge-pairwise"}}
	w.service = w.service.WithDefaults()
}

func (w *world) copies() (out []lifecycle.BasisPoints) {
	for _, in := range inputs(w, steps.SetShadow) {
		out = append(out, in.Share)
	}
	return out
}

func TestPromotionTakesItsShadowStepBeforeTheFirstShare(t *testing.T) {
	t.Parallel()
	w := shadowing(t)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, []string{"StartRollout", "SetShadow", "HoldShadow", "RecordShadow", "SetShadow", "SetShare", "HoldStep", "SetShare", "HoldStep", "MakeStable"},
		w.order("StartRollout", "SetShadow", "HoldShadow", "RecordShadow", "SetShare", "HoldStep", "MakeStable", "RollBack"))
	require.Equal(t, []lifecycle.BasisPoints{1000, 0}, w.copies(), "no copy is under way when users come")
	require.Equal(t, int64(100), out.Shadow.Verdict.Pairs)
	require.Len(t, out.Steps, 2, "it is none of the steps with a share")
	for _, in := range inputs(w, steps.SetShadow) {
		require.Equal(t, lifecycle.Fence(7), in.Claim.Fence)
		require.Equal(t, 30*time.Second, in.Deadline)
	}
	state := w.state()
	require.Zero(t, state.Rollout.Shadowing)
	require.Equal(t, out.Shadow, state.Rollout.Shadow)
}

func TestPromotionWithoutAShadowStepHasNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Nil(t, out.Shadow)
	require.Empty(t, w.copies())
}

func TestPromotionEndsInTheShadow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*world)
		phase  lifecycle.RolloutPhase
		out    []string
		reason string
	}{
		"on harm": {func(w *world) { gives(w, steps.HoldShadow, shadowEnds(steps.HoldHarm)) },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "shadow step: because of harm"},
		"when its time is over": {func(w *world) { gives(w, steps.HoldShadow, shadowEnds(steps.HoldTime)) },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "because of time"},
		"as invalid when a user was answered": {func(w *world) { gives(w, steps.HoldShadow, shadowEnds(steps.HoldInvalid)) },
			lifecycle.RolloutInvalid, []string{"RollBack", "ReleaseClaim"}, "because of invalid"},
		"when the hold says nothing": {func(w *world) { gives(w, steps.HoldShadow, steps.ShadowResult{}) },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "shadow step"},
		"when no judge is there": {func(w *world) { fails(w, steps.HoldShadow, lifecycle.Refused, "no judge") },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "the shadow step failed: no judge"},
		"when it cannot be begun": {func(w *world) { fails(w, steps.SetShadow, lifecycle.Conflict, "no") },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "the shadow step failed: no"},
		"when it cannot be recorded": {func(w *world) { fails(w, steps.RecordShadow, lifecycle.Refused, "no") },
			lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "could not be recorded: no"},
		"when its copies do not end": {func(w *world) {
			on(w, steps.SetShadow, func(_ context.Context, in steps.ShadowShareInput) (steps.None, error) {
				if in.Share == 0 {
					return steps.None{}, lifecycle.Errorf(lifecycle.Refused, "no")
				}
				return steps.None{}, nil
			})
		}, lifecycle.RolloutRolledBack, []string{"RollBack", "ReleaseClaim"}, "could not be ended: no"},
		"without a word when it is fenced": {func(w *world) { gives(w, steps.HoldShadow, shadowEnds(steps.HoldFenced)) },
			lifecycle.RolloutRolledBack, []string{"ReleaseClaim"}, "somebody newer decides: because of fenced"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := shadowing(t)
			tc.change(w)
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, tc.phase, out.Phase)
			require.Contains(t, out.Reason, tc.reason)
			require.Empty(t, w.shares(), "no user meets it")
			require.Equal(t, tc.out, w.wayOut())
			for _, end := range inputs(w, steps.RollBack) {
				require.Equal(t, tc.phase == lifecycle.RolloutInvalid, end.Invalid)
			}
		})
	}
}

// holdsShadow lets the first holds of the shadow step wait for what a test does, and the last one have enough.
func holdsShadow(w *world, meanwhile ...func()) {
	on(w, steps.HoldShadow, func(ctx context.Context, _ steps.ShadowInput) (steps.ShadowResult, error) {
		if n := len(inputs(w, steps.HoldShadow)); n <= len(meanwhile) {
			return steps.ShadowResult{}, w.untilCanceled(ctx, meanwhile[n-1])
		}
		return shadowEnds(steps.HoldEnough), nil
	})
}

func TestPeopleStopAndPauseAShadowStep(t *testing.T) {
	t.Parallel()
	t.Run("paused and resumed", func(t *testing.T) {
		t.Parallel()
		w := shadowing(t)
		holdsShadow(w,
			func() { w.update(steps.PauseUpdate, steps.Intervention{Key: "p", By: "alice"}) },
			func() { w.update(steps.ResumeUpdate, steps.Intervention{Key: "r", By: "alice"}) })
		out, err := w.promote(onlyService())
		require.NoError(t, err)
		require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
		var paused []bool
		for _, in := range inputs(w, steps.HoldShadow) {
			paused = append(paused, in.Paused)
		}
		require.Equal(t, []bool{false, true, false}, paused)
	})
	t.Run("aborted", func(t *testing.T) {
		t.Parallel()
		w := shadowing(t)
		holdsShadow(w, func() { w.update(steps.AbortUpdate, steps.Intervention{Key: "a", By: "alice", Reason: "enough"}) })
		out, err := w.promote(onlyService())
		require.NoError(t, err)
		require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
		require.Regexp(t, "^aborted by .*alice.*: enough$", out.Reason)
		require.Empty(t, w.shares())
		require.Equal(t, []string{"RollBack", "ReleaseClaim"}, w.wayOut())
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		w := shadowing(t)
		holdsShadow(w, w.CancelWorkflow)
		_, err := w.promote(onlyService())
		require.True(t, temporal.IsCanceledError(err), err)
		require.Empty(t, w.shares())
		require.Equal(t, []string{"RollBack", "ReleaseClaim"}, w.wayOut())
	})
	t.Run("asked at its bound", func(t *testing.T) {
		t.Parallel()
		w := shadowing(t)
		w.service.Rollout.AtBound = "ask"
		on(w, steps.HoldShadow, func(ctx context.Context, in steps.ShadowInput) (steps.ShadowResult, error) {
			switch len(inputs(w, steps.HoldShadow)) {
			case 1:
				return shadowEnds(steps.HoldTime), nil
			case 2:
				return steps.ShadowResult{}, w.untilCanceled(ctx, func() { w.update(steps.ResumeUpdate, steps.Intervention{Key: "k", By: "alice"}) })
			}
			return shadowEnds(steps.HoldEnough), nil
		})
		out, err := w.promote(onlyService())
		require.NoError(t, err)
		require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
		for _, in := range inputs(w, steps.HoldShadow)[1:] {
			require.Zero(t, in.Elapsed, "a new bound begins")
		}
	})
}

// Who approves the first share has seen how the shadow step ended.
func TestApprovalComesAfterTheShadowStep(t *testing.T) {
	t.Parallel()
	w := shadowing(t)
	var seen steps.State
	w.RegisterDelayedCallback(func() {
		seen = w.state()
		w.update(steps.AbortUpdate, steps.Intervention{Key: "a", By: "alice"})
	}, time.Minute)
	_, err := w.promote(map[string]any{"service": "docs", "approval": true})
	require.NoError(t, err)
	require.Equal(t, "waiting for approval", seen.Phase)
	require.NotNil(t, seen.Rollout.Shadow)
	require.Empty(t, w.shares())
}
