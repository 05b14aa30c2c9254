package control_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// standIn is a promotion that only listens: it waits for an approval of step 0, checks the grant as the real one
// does, and ends when it is resumed, or with an error when it is aborted.
func standIn(public []byte, candidate lifecycle.Digest) func(workflow.Context, steps.PromotionInput) (steps.PromotionResult, error) {
	return func(ctx workflow.Context, in steps.PromotionInput) (steps.PromotionResult, error) {
		info := workflow.GetInfo(ctx)
		owner := lifecycle.Owner{Namespace: info.Namespace, WorkflowID: info.WorkflowExecution.ID, FirstRunID: info.FirstRunID}
		state := steps.State{Service: in.Service, Release: string(candidate), Phase: "waiting for approval", Rollout: &steps.PromotionState{Candidate: candidate, AwaitsApproval: true}}
		var last string
		err := errors.Join(
			workflow.SetQueryHandler(ctx, steps.StateQuery, func() (steps.State, error) { return state, nil }),
			workflow.SetUpdateHandlerWithOptions(ctx, steps.ApproveUpdate, func(_ workflow.Context, a steps.Approval) (steps.State, error) {
				state.Rollout.AwaitsApproval, state.Phase = false, "approved by "+a.Grant.Approver
				return state, nil
			}, workflow.UpdateHandlerOptions{Validator: func(ctx workflow.Context, a steps.Approval) error {
				return steps.ToTemporal(a.Grant.Verify(public, owner, 0, candidate, workflow.Now(ctx)))
			}}),
		)
		err = errors.Join(err, workflow.SetUpdateHandlerWithOptions(ctx, steps.BreakGlassUpdate, func(_ workflow.Context, a steps.Approval) (steps.State, error) {
			state.Glass, state.Reason = a.Grant.Expires, a.Grant.Reason
			return state, nil
		}, workflow.UpdateHandlerOptions{Validator: func(ctx workflow.Context, a steps.Approval) error {
			return steps.ToTemporal(a.Grant.VerifyBreakGlass(public, owner, candidate, workflow.Now(ctx)))
		}}))
		for _, name := range []string{steps.PauseUpdate, steps.ResumeUpdate, steps.AbortUpdate, steps.RejectUpdate} {
			err = errors.Join(err, workflow.SetUpdateHandlerWithOptions(ctx, name, func(ctx workflow.Context, i steps.Intervention) (steps.State, error) {
				if err := i.Grant.VerifyIntervention(public, owner, name, i.Key, workflow.Now(ctx)); err != nil {
					return state, err
				}
				last, state.Phase, state.Reason = name, name, i.By+": "+i.Reason
				return state, nil
			}, workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, i steps.Intervention) error {
				if name == steps.RejectUpdate {
					return steps.ToTemporal(lifecycle.Errorf(lifecycle.Refused, "promotion: nothing to reject"))
				}
				return nil
			}}))
		}
		if err != nil {
			return steps.PromotionResult{}, err
		}
		if err := workflow.Await(ctx, func() bool { return last == steps.ResumeUpdate || last == steps.AbortUpdate }); err != nil {
			return steps.PromotionResult{}, err
		}
		if last == steps.AbortUpdate {
			return steps.PromotionResult{}, steps.ToTemporal(&lifecycle.Error{
				Kind: lifecycle.Regress, Message: "three got worse", Fields: map[string]string{"candidate": string(candidate)},
			})
		}
		return steps.PromotionResult{Release: candidate, Phase: lifecycle.RolloutPromoted}, nil
	}
}

// promote starts a promotion of the candidate that a stand-in takes, and claims for it.
func (w *world) promote() (started control.Started, candidate lifecycle.Digest) {
	w.t.Helper()
	_, candidate, claim := w.serve()
	require.NoError(w.t, w.Registry.ReleaseClaim(w.ctx, claim, lifecycle.Actor{Name: "test"}))
	work := worker.New(w.temporal, steps.Queue, worker.Options{})
	work.RegisterWorkflowWithOptions(standIn(w.public, candidate), workflow.RegisterOptions{Name: steps.PromoteRelease})
	require.NoError(w.t, work.Start())
	w.t.Cleanup(work.Stop)
	started = do(w, control.Promote, control.PromoteInput{Service: svc, Release: candidate.Short(), Reason: "better"}).Started
	_, err := w.Registry.TakeClaim(w.ctx, svc, lifecycle.PromotionLoop, lifecycle.Owner{
		Namespace: w.namespace, WorkflowID: started.WorkflowID, FirstRunID: started.RunID,
	}, lifecycle.Actor{Name: "test"})
	require.NoError(w.t, err)
	return started, candidate
}

// TestAStartShowsWhoAsked: what a run of a real server finds of its start proves who asked the control API, and for what.
func TestAStartShowsWhoAsked(t *testing.T) {
	w := newTemporalWorld(t)
	w.apply()
	work := worker.New(w.temporal, steps.Queue, worker.Options{})
	work.RegisterWorkflowWithOptions(func(ctx workflow.Context, raw converter.RawValue) (string, error) {
		info := workflow.GetInfo(ctx)
		var grant lifecycle.Grant
		if err := converter.GetDefaultDataConverter().FromPayload(info.Memo.GetFields()[steps.StartedByMemo], &grant); err != nil {
			return "", err
		}
		input := lifecycle.DigestOf(raw.Payload().GetData())
		return grant.Approver, grant.VerifyStart(w.public, info.WorkflowExecution.ID, input, info.WorkflowStartTime)
	}, workflow.RegisterOptions{Name: steps.RebuildIndex})
	require.NoError(t, work.Start())
	t.Cleanup(work.Stop)
	started := do(w, control.Start, control.StartInput{Workflow: steps.RebuildIndex, Input: []byte(`{"service": "` + svc + `", "reason": "<new> & more"}`)})
	var by string
	require.NoError(t, w.temporal.GetWorkflow(w.ctx, started.WorkflowID, started.RunID).Get(w.ctx, &by))
	require.Equal(t, "alice", by)
}

func TestPromotionIsFollowedApprovedAndSteppedInto(t *testing.T) {
	w := newTemporalWorld(t)
	started, candidate := w.promote()
	require.Equal(t, "promote/"+svc, started.WorkflowID)
	require.Contains(t, started.URL, "http://ui.test/namespaces/"+w.namespace)

	_, err := control.Promote.Do(w.ctx, w.control, as(control.Operator), control.PromoteInput{Service: svc})
	var busy *lifecycle.Error
	require.ErrorAs(t, err, &busy)
	require.Equal(t, lifecycle.Busy, lifecycle.KindOf(err))
	require.Equal(t, map[string]string{"workflow_id": started.WorkflowID, "run_id": started.RunID}, busy.Fields)

	watch := func() control.Watched {
		return do(w, control.Watch, control.WatchInput{WorkflowID: started.WorkflowID, RunID: started.RunID})
	}
	require.Eventually(t, func() bool { s := watch().State; return s != nil && s.Rollout.AwaitsApproval }, patience, 50*time.Millisecond)
	status := do(w, control.Status, control.StatusInput{Service: svc})
	require.Equal(t, "waiting for approval", status.Loops[0].State.Phase)

	message := refused(w, lifecycle.Refused, control.Approve, control.ApproveInput{Service: svc, Step: 2})
	require.Contains(t, message, "step 1 waits for an approval, not step 2")
	approval := control.ApproveInput{Service: svc, Step: 1, Reason: "looks well", Key: "k"}
	approved := do(w, control.Approve, approval)
	require.Equal(t, approved, do(w, control.Approve, approval), "repeated with its key it is answered as before")
	require.Equal(t, "approved by alice", approved.Phase)
	message = refused(w, lifecycle.Refused, control.Approve, control.ApproveInput{Service: svc})
	require.Contains(t, message, "does not wait for an approval")

	paused := do(w, control.Intervene, control.InterveneInput{Service: svc, Action: "pause", Reason: "lunch"})
	require.Equal(t, "alice: lunch", paused.Reason)
	message = refused(w, lifecycle.Refused, control.Intervene, control.InterveneInput{Service: svc, Action: "reject"})
	require.Contains(t, message, "nothing to reject")
	refused(w, lifecycle.Invalid, control.Intervene, control.InterveneInput{Service: svc, Action: "terminate"})

	do(w, control.Intervene, control.InterveneInput{Service: svc, Action: "resume"})
	require.Eventually(t, func() bool { return watch().Status != "Running" }, patience, 50*time.Millisecond)
	ended := watch()
	require.Equal(t, "Completed", ended.Status)
	require.Nil(t, ended.Error)
	require.JSONEq(t, `{"release": "`+string(candidate)+`", "phase": "promoted", "reason": ""}`, string(ended.Result))
}

func TestAWorkflowsErrorKeepsItsKind(t *testing.T) {
	w := newTemporalWorld(t)
	started, candidate := w.promote()
	do(w, control.Intervene, control.InterveneInput{Service: svc, Action: "abort"})
	var ended control.Watched
	require.Eventually(t, func() bool {
		ended = do(w, control.Watch, control.WatchInput{WorkflowID: started.WorkflowID, RunID: started.RunID})
		return ended.Status == "Failed"
	}, patience, 50*time.Millisecond)
	require.Equal(t, &lifecycle.Error{
		Kind: lifecycle.Regress, Message: "three got worse", Fields: map[string]string{"candidate": string(candidate)},
	}, ended.Error)
}

// An approval is of no use without the key that workers know.
func TestApprovalOfAnotherKeyIsRefused(t *testing.T) {
	w := newTemporalWorld(t)
	w.public = make([]byte, len(w.public))
	w.promote()
	require.Eventually(t, func() bool {
		_, err := control.Approve.Do(w.ctx, w.control, as(control.Approver), control.ApproveInput{Service: svc})
		return lifecycle.Is(err, lifecycle.Refused)
	}, patience, 50*time.Millisecond)
	require.Contains(t, refused(w, lifecycle.Refused, control.Approve, control.ApproveInput{Service: svc}), "signature does not match")
}

func TestWatchShowsAStepThatDoesNotGetThrough(t *testing.T) {
	w := newTemporalWorld(t)
	w.apply()
	work := worker.New(w.temporal, steps.Queue, worker.Options{})
	work.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ map[string]string) (string, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Hour},
		})
		return "", workflow.ExecuteActivity(ctx, "BuildIndex").Get(ctx, nil)
	}, workflow.RegisterOptions{Name: steps.RebuildIndex})
	work.RegisterActivityWithOptions(func() error { return errors.New("S3 does not answer") }, activity.RegisterOptions{Name: "BuildIndex"})
	require.NoError(t, work.Start())
	t.Cleanup(work.Stop)
	started := do(w, control.Start, control.StartInput{Workflow: steps.RebuildIndex, Input: []byte(`{"service": "docs"}`)})
	require.Eventually(t, func() bool {
		now := do(w, control.Watch, control.WatchInput{WorkflowID: started.WorkflowID})
		return len(now.Retries) == 1 && now.Retries[0] == control.Retry{Step: "BuildIndex", Attempt: 2, Failure: "S3 does not answer"}
	}, patience, 50*time.Millisecond)
}

func TestLoopsAreStartedForDeclaredServicesOnly(t *testing.T) {
	w := newTemporalWorld(t)
	start := func(workflow, input string) control.StartInput {
		return control.StartInput{Workflow: workflow, Input: []byte(input)}
	}
	refused(w, lifecycle.NotFound, control.Start, start(steps.RebuildIndex, `{"service": "docs"}`))
	w.apply()
	refused(w, lifecycle.Invalid, control.Start, start(steps.RebuildIndex, `{}`))
	refused(w, lifecycle.Invalid, control.Start, start(steps.RebuildIndex, `[]`))
	refused(w, lifecycle.Invalid, control.Start, start(steps.PromoteRelease, `{"service": "docs"}`))
	refused(w, lifecycle.Invalid, control.Start, start("Mine", `{"service": "docs"}`))
	refused(w, lifecycle.NotFound, control.Promote, control.PromoteInput{Service: svc, Release: "abc"})
	refused(w, lifecycle.NotFound, control.Intervene, control.InterveneInput{Service: svc, Action: "pause"})
	refused(w, lifecycle.NotFound, control.Watch, control.WatchInput{WorkflowID: "promote/nobody"})
	started := do(w, control.Start, start(steps.RebuildIndex, `{"service": "docs"}`))
	require.Equal(t, "index/docs", started.WorkflowID)
}

func TestSearchAttributesAreAddedOnce(t *testing.T) {
	w := newTemporalWorld(t)
	require.NoError(t, control.EnsureSearchAttributes(w.ctx, w.temporal, w.namespace))
	require.NoError(t, control.EnsureSearchAttributes(w.ctx, w.temporal, w.namespace))
	require.True(t, lifecycle.Is(control.CheckNamespace(w.ctx, w.temporal, "nowhere-at-all"), lifecycle.NotFound))

	other := "control-" + strings.ToLower(rand.Text()[:12])
	_, err := newNamespace(t, other).OperatorService().AddSearchAttributes(w.ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: other, SearchAttributes: map[string]enums.IndexedValueType{steps.AttributePhase: enums.INDEXED_VALUE_TYPE_INT},
	})
	require.NoError(t, err)
	err = control.EnsureSearchAttributes(w.ctx, w.temporal, other)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	require.ErrorContains(t, err, steps.AttributePhase)
}

func TestWithoutTemporalWorkflowsAreUnavailable(t *testing.T) {
	w := newWorld(t)
	w.serve()
	refused(w, lifecycle.Unavailable, control.Promote, control.PromoteInput{Service: svc})
	refused(w, lifecycle.Unavailable, control.Start, control.StartInput{Workflow: steps.RebuildIndex, Input: []byte(`{"service": "docs"}`)})
	refused(w, lifecycle.Unavailable, control.Watch, control.WatchInput{WorkflowID: "promote/docs"})
	refused(w, lifecycle.Unavailable, control.Intervene, control.InterveneInput{Service: svc, Action: "pause"})
	refused(w, lifecycle.Unavailable, control.Schedules, control.SchedulesInput{Service: svc})
	do(w, control.Status, control.StatusInput{Service: svc})
}
