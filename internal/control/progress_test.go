package control_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// TestProgressIsOverAllBatches: 18 of 45 answers are in batches that ended, and the two that go on have seven each.
func TestProgressIsOverAllBatches(t *testing.T) {
	w := newTemporalWorld(t)
	w.apply()
	require.NoError(t, control.EnsureSearchAttributes(t.Context(), w.temporal, w.namespace))
	release := make(chan struct{})
	work := worker.New(w.temporal, steps.Queue, worker.Options{})
	work.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ map[string]any) error {
		state := steps.State{Service: svc, Loop: lifecycle.EvaluationLoop, Phase: "answering", Answered: &steps.Count{Done: 18, Of: 45}}
		if err := workflow.SetQueryHandler(ctx, steps.StateQuery, func() (steps.State, error) { return state, nil }); err != nil {
			return err
		}
		attribute := temporal.NewSearchAttributeKeyKeyword(steps.AttributeService)
		if err := workflow.UpsertTypedSearchAttributes(ctx, attribute.ValueSet(svc)); err != nil {
			return err
		}
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute})
		first := workflow.ExecuteActivity(ctx, steps.AnswerBatch.Name)
		second := workflow.ExecuteActivity(ctx, steps.AnswerBatch.Name)
		if err := first.Get(ctx, nil); err != nil {
			return err
		}
		return second.Get(ctx, nil)
	}, workflow.RegisterOptions{Name: steps.EvaluateRelease})
	work.RegisterActivityWithOptions(func(ctx context.Context) error {
		activity.RecordHeartbeat(ctx, lifecycle.Progress{Step: 7, Total: 9, Message: "answering"})
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}, activity.RegisterOptions{Name: steps.AnswerBatch.Name})
	require.NoError(t, work.Start())
	t.Cleanup(work.Stop)
	run, err := w.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "evaluate/one", TaskQueue: steps.Queue}, steps.EvaluateRelease, map[string]any{})
	require.NoError(t, err)

	require.Eventually(t, func() bool {
		p := do(w, control.Watch, control.WatchInput{WorkflowID: run.GetID()}).Progress
		return p != nil && p.Step == 18+7+7 && p.Total == 45
	}, patience, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		running := do(w, control.Status, control.StatusInput{Service: svc}).Evaluations
		return len(running) == 1 && running[0].WorkflowID == "evaluate/one" && running[0].State != nil && running[0].Progress != nil && running[0].Progress.Step == 32
	}, patience, 100*time.Millisecond, "visibility follows")
	close(release)
	require.NoError(t, run.Get(t.Context(), nil))
	require.Nil(t, do(w, control.Watch, control.WatchInput{WorkflowID: run.GetID()}).Progress)
}

// TestWhatTheJudgeSeesIsShownWhileAStepIsHeld reads it from the heartbeat of the step that holds.
func TestWhatTheJudgeSeesIsShownWhileAStepIsHeld(t *testing.T) {
	w := newTemporalWorld(t)
	w.apply()
	require.Nil(t, do(w, control.Status, control.StatusInput{Service: svc}).Judged)
	seen := lifecycle.StepVerdict{Decision: lifecycle.Hold, Reason: "60 of 100 conversations on the canary", Metrics: []lifecycle.MetricVerdict{
		{Metric: "errors", Ratio: lifecycle.Interval{Low: 0.4, High: 1.9, LowLevel: 0.05, HighLevel: 0.05}, Tolerated: 1, Margin: 3},
	}}
	release := make(chan struct{})
	work := worker.New(w.temporal, steps.Queue, worker.Options{})
	work.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ map[string]any) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute})
		return workflow.ExecuteActivity(ctx, steps.HoldStep.Name).Get(ctx, nil)
	}, workflow.RegisterOptions{Name: steps.PromoteRelease})
	work.RegisterActivityWithOptions(func(ctx context.Context) error {
		activity.RecordHeartbeat(ctx, map[string]any{"step": 60, "total": 100, "verdict": seen})
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}, activity.RegisterOptions{Name: steps.HoldStep.Name})
	require.NoError(t, work.Start())
	t.Cleanup(work.Stop)
	run, err := w.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "promote/" + svc, TaskQueue: steps.Queue}, steps.PromoteRelease, map[string]any{})
	require.NoError(t, err)
	owner := lifecycle.Owner{Namespace: w.namespace, WorkflowID: run.GetID(), FirstRunID: run.GetRunID()}
	_, err = w.Registry.TakeClaim(w.ctx, svc, lifecycle.PromotionLoop, owner, lifecycle.Actor{Name: "test"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		judged := do(w, control.Status, control.StatusInput{Service: svc}).Judged
		return judged != nil && judged.Reason == seen.Reason && judged.Metrics[0].Ratio == seen.Metrics[0].Ratio
	}, patience, 100*time.Millisecond)
	close(release)
	require.NoError(t, run.Get(t.Context(), nil))
	require.Nil(t, do(w, control.Status, control.StatusInput{Service: svc}).Judged)
}
