package workflows

import (
	"context"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

var (
	stable    = lifecycle.DigestOf([]byte("stable"))
	candidate = lifecycle.DigestOf([]byte("candidate"))
	suite     = lifecycle.DigestOf([]byte("suite"))
)

// world is what the steps of a promotion do in a test; each test changes what it is about.
type world struct {
	*testsuite.TestWorkflowEnvironment
	t *testing.T

	service  lifecycle.Service
	plan     steps.EvaluationPlan
	claimErr error
	shareErr error
	hold     func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error)
	grant    ed25519.PrivateKey

	shares   []lifecycle.BasisPoints
	ended    []string
	recorded []lifecycle.LedgerKind
	released bool
	owner    lifecycle.Owner
}

func newWorld(t *testing.T) *world {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	var s testsuite.WorkflowTestSuite
	w := &world{
		TestWorkflowEnvironment: s.NewTestWorkflowEnvironment(), t: t, grant: private,
		service: lifecycle.Service{
			Name:    "docs",
			Rollout: lifecycle.RolloutPolicy{Steps: []lifecycle.StepPolicy{{Share: 500}, {Share: 5000}}},
		}.WithDefaults(),
		plan: steps.EvaluationPlan{
			Candidate: candidate, Baseline: stable, Suite: suite,
			Verdict: &lifecycle.Verdict{Outcome: lifecycle.PassOutcome},
		},
	}
	w.hold = func(context.Context, steps.HoldInput) (steps.HoldResult, error) {
		return steps.HoldResult{Reason: steps.HoldEnough, Verdict: lifecycle.StepVerdict{Decision: lifecycle.Promote}}, nil
	}
	w.bind(public)
	return w
}

func (w *world) bind(grantKey []byte) {
	bind(w, steps.Resolve, steps.Resolved{Service: w.service, GrantKey: grantKey}, nil)
	steps.Claim.Bind(w, func(_ context.Context, in steps.ClaimInput) (lifecycle.Claim, error) {
		w.owner = in.Owner
		return lifecycle.Claim{Service: in.Service, Loop: in.Loop, Owner: in.Owner, Fence: 7}, w.claimErr
	})
	steps.ReleaseClaim.Bind(w, func(context.Context, steps.ReleaseClaimInput) (steps.None, error) {
		w.released = true
		return steps.None{}, nil
	})
	steps.PlanEvaluation.Bind(w, func(context.Context, steps.PlanEvaluationInput) (steps.EvaluationPlan, error) { return w.plan, nil })
	bind(w, steps.LoadRelease, steps.LoadResult{}, nil)
	bind(w, steps.StartRollout, steps.None{}, nil)
	bind(w, steps.UnloadUnused, steps.None{}, nil)
	bind(w, steps.RecordStep, steps.None{}, nil)
	bind(w, steps.FirstStable, steps.EndResult{Generation: 1}, nil)
	steps.Record.Bind(w, func(_ context.Context, in steps.RecordInput) (steps.None, error) {
		w.recorded = append(w.recorded, in.Entry.Kind)
		return steps.None{}, nil
	})
	steps.SetShare.Bind(w, func(_ context.Context, in steps.ShareInput) (steps.None, error) {
		w.shares = append(w.shares, in.Share)
		return steps.None{}, w.shareErr
	})
	steps.HoldStep.Bind(w, func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) { return w.hold(ctx, in) })
	steps.MakeStable.Bind(w, w.end("stable"))
	steps.RollBack.Bind(w, w.end("rolled back"))
}

func (w *world) end(how string) func(context.Context, steps.EndInput) (steps.EndResult, error) {
	return func(_ context.Context, in steps.EndInput) (steps.EndResult, error) {
		w.ended = append(w.ended, how)
		return steps.EndResult{Generation: 9}, nil
	}
}

func bind[In, Out any](w worker.ActivityRegistry, step steps.Step[In, Out], out Out, err error) {
	step.Bind(w, func(context.Context, In) (Out, error) { return out, err })
}

func (w *world) promote(input any) (steps.PromotionResult, error) {
	payload, err := converter.GetDefaultDataConverter().ToPayload(input)
	require.NoError(w.t, err)
	w.ExecuteWorkflow(PromoteRelease, converter.NewRawValue(payload))
	require.True(w.t, w.IsWorkflowCompleted())
	if err := w.GetWorkflowError(); err != nil {
		return steps.PromotionResult{}, err
	}
	var out steps.PromotionResult
	require.NoError(w.t, w.GetWorkflowResult(&out))
	return out, nil
}

func onlyService() map[string]string { return map[string]string{"service": "docs"} }

func TestPromotionTakesEveryStepThenMakesStable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, []lifecycle.BasisPoints{500, 5000}, w.shares)
	require.Equal(t, []string{"stable"}, w.ended)
	require.Len(t, out.Steps, 2)
	require.True(t, w.released)
}

func TestPromotionInputIsStrict(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		input any
		want  string
	}{
		"a misspelt field":   {map[string]string{"service": "docs", "relaese": "x"}, `unknown field "relaese"`},
		"no service":         {map[string]string{}, "service"},
		"a wrong type":       {map[string]any{"service": 5}, "service"},
		"a name like a path": {map[string]string{"service": "../docs"}, "service"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newWorld(t).promote(tc.input)
			require.Equal(t, lifecycle.Invalid, steps.KindOf(err))
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "fields: service, release, approval, reason, by")
		})
	}
}

func TestPromotionBesideAnotherEndsAsBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.claimErr = &lifecycle.Error{Kind: lifecycle.Busy, Message: "held", Fields: map[string]string{"workflow_id": "promote/docs"}}
	_, err := w.promote(onlyService())
	require.Equal(t, lifecycle.Busy, steps.KindOf(err))
	require.Empty(t, w.shares)
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
			require.Empty(t, w.shares)
			require.True(t, w.released)
		})
	}
}

func TestPromotionOfTheFirstReleaseNeedsNoCanary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.Baseline = ""
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Empty(t, w.shares)
}

func TestPromotionRollsBack(t *testing.T) {
	t.Parallel()
	ends := func(reason steps.HoldReason) func(context.Context, steps.HoldInput) (steps.HoldResult, error) {
		return func(context.Context, steps.HoldInput) (steps.HoldResult, error) {
			return steps.HoldResult{Reason: reason, Verdict: lifecycle.StepVerdict{Reason: "because of " + string(reason)}}, nil
		}
	}
	for name, tc := range map[string]struct {
		change func(*world)
		ended  []string
		reason string
	}{
		"on harm":                          {func(w *world) { w.hold = ends(steps.HoldHarm) }, []string{"rolled back"}, "because of harm"},
		"when the time is over":            {func(w *world) { w.hold = ends(steps.HoldTime) }, []string{"rolled back"}, "because of time"},
		"when too much was served":         {func(w *world) { w.hold = ends(steps.HoldInvalid) }, []string{"rolled back"}, "because of invalid"},
		"without a word when it is fenced": {func(w *world) { w.hold = ends(steps.HoldFenced) }, nil, "because of fenced"},
		"when its share change is fenced": {func(w *world) {
			w.shareErr = lifecycle.Errorf(lifecycle.Fenced, "a newer fence exists")
		}, nil, "a newer fence exists"},
		"when its share is refused": {func(w *world) {
			w.shareErr = lifecycle.Errorf(lifecycle.Refused, "no")
		}, []string{"rolled back"}, "share could not be set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tc.change(w)
			out, err := w.promote(onlyService())
			require.NoError(t, err)
			require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
			require.Contains(t, out.Reason, tc.reason)
			require.Equal(t, tc.ended, w.ended)
			require.True(t, w.released)
		})
	}
}

// during holds like the real step, which returns only when it is told to, and lets a person step in
// meanwhile.
func during(intervene func()) func(context.Context, steps.HoldInput) (steps.HoldResult, error) {
	return func(ctx context.Context, _ steps.HoldInput) (steps.HoldResult, error) {
		intervene()
		<-ctx.Done()
		return steps.HoldResult{}, temporal.NewCanceledError()
	}
}

func TestPromotionIsAborted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hold = during(func() {
		w.UpdateWorkflow(steps.AbortUpdate, "1", w.mustComplete(), steps.Intervention{Key: "k", By: "alice", Reason: "bad feeling"})
	})
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, out.Phase)
	require.Contains(t, out.Reason, "aborted by alice: bad feeling")
	require.Equal(t, []string{"rolled back"}, w.ended)
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.Rejected}, w.recorded)
}

func TestPromotionPausesAndResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var holds []bool
	w.hold = func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
		holds = append(holds, in.Paused)
		switch len(holds) {
		case 1:
			return during(func() {
				w.UpdateWorkflow(steps.PauseUpdate, "1", w.mustComplete(), steps.Intervention{Key: "p", By: "alice"})
			})(ctx, in)
		case 2:
			return during(func() {
				w.UpdateWorkflow(steps.ResumeUpdate, "2", w.mustComplete(), steps.Intervention{Key: "r", By: "alice"})
			})(ctx, in)
		default:
			return steps.HoldResult{Reason: steps.HoldEnough}, nil
		}
	}
	out, err := w.promote(onlyService())
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Equal(t, []bool{false, true, false, false}, holds, "held, held paused, held again, second step")
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.Paused, lifecycle.Resumed}, w.recorded)
}

func TestPromotionWaitsForASignedGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sign := func(key ed25519.PrivateKey, step int, id string) steps.Approval {
		return steps.Approval{Key: id, Grant: lifecycle.Grant{
			WorkflowID: w.owner.WorkflowID, FirstRunID: w.owner.FirstRunID, Step: step,
			Release: candidate, Approver: "bob", Expires: w.Now().Add(time.Hour), Nonce: id,
		}.Sign(key)}
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	var refused []string
	refuse := func() *testsuite.TestUpdateCallback {
		return &testsuite.TestUpdateCallback{
			OnReject:   func(err error) { refused = append(refused, err.Error()) },
			OnAccept:   func() { t.Error("a bad grant was accepted") },
			OnComplete: func(any, error) {},
		}
	}
	w.RegisterDelayedCallback(func() {
		w.UpdateWorkflow(steps.ApproveUpdate, "1", refuse(), sign(stranger, 0, "a"))
		w.UpdateWorkflow(steps.ApproveUpdate, "2", refuse(), sign(w.grant, 1, "b"))
		w.UpdateWorkflow(steps.ApproveUpdate, "3", w.mustComplete(), sign(w.grant, 0, "c"))
	}, time.Minute)
	w.hold = func(ctx context.Context, in steps.HoldInput) (steps.HoldResult, error) {
		if in.Paused { // the share of step one, while step two waits
			return during(func() {
				w.UpdateWorkflow(steps.ApproveUpdate, "4", w.mustComplete(), sign(w.grant, 1, "d"))
			})(ctx, in)
		}
		return steps.HoldResult{Reason: steps.HoldEnough}, nil
	}
	out, err := w.promote(map[string]any{"service": "docs", "approval": true})
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, out.Phase)
	require.Len(t, refused, 2)
	require.Contains(t, strings.Join(refused, "\n"), "signature does not match")
	require.Contains(t, strings.Join(refused, "\n"), "given for step 1")
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.Approved, lifecycle.Approved}, w.recorded)
}

func TestPromotionGivesBackWhenCanceled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hold = during(w.CancelWorkflow)
	_, err := w.promote(onlyService())
	require.True(t, temporal.IsCanceledError(err), err)
	require.Equal(t, []string{"rolled back"}, w.ended)
	require.True(t, w.released)
}

func (w *world) mustComplete() *testsuite.TestUpdateCallback {
	return &testsuite.TestUpdateCallback{
		OnReject:   func(err error) { w.t.Errorf("refused: %v", err) },
		OnAccept:   func() {},
		OnComplete: func(_ any, err error) { require.NoError(w.t, err) },
	}
}
