package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// A promotion that somebody cancels in the Temporal UI takes its canary back at once and gives its claim back, in whichever
// phase it is; one that changed nothing yet leaves nothing behind.
func TestACancelledPromotionTakesItsCanaryBack(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 2, step{5000, 5000})
	watch := s.watchRoute()
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	s.cancelInTheGate()
	for _, phase := range []string{"waiting for approval", "canary", "paused"} {
		before := s.route()
		var run started
		if phase == "waiting for approval" {
			run = s.promote("--approval")
			s.awaitPhase(run, phase)
		} else {
			run = s.promote()
			s.awaitStep(0, 5000)
			s.awaitCanary(10)
		}
		if phase == "paused" {
			s.refit(nil, "pause", s.service)
		}
		s.cancelInUI(run)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		rollout, err := s.registry.Rollout(ctx, run.RunID)
		require.NoError(t, err)
		require.Equal(t, lifecycle.RolloutRolledBack, rollout.Phase, phase)
		require.Equal(t, "the workflow was cancelled", rollout.Reason)
		route := s.route()
		require.Equal(t, before.Stable, route.Stable)
		require.Empty(t, route.Canary, phase)
		s.awaitApplied(route)
		quiet := s.models.count(s.name)
		s.awaitStableChats(50)
		require.Equal(t, quiet, s.models.count(s.name), "%s: the canary serves on", phase)
	}
	require.Len(t, entriesOf(s.ledger(), lifecycle.RolledBack), 3)
	require.Empty(t, failed(traffic.stop()), "users noticed")
	watch.check(t)
	s.checkRecord()
}

// cancelInTheGate cancels while the model server is being asked, when nothing is changed yet.
func (s *served) cancelInTheGate() {
	s.t.Helper()
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.models.mu.Lock()
	s.models.before = func(string) {
		once.Do(func() { close(asked) })
		<-answer
	}
	s.models.mu.Unlock()
	before := s.route()
	run := s.promote()
	await(s.t, "the gate to ask", func() (bool, any) {
		select {
		case <-asked:
			return true, nil
		default:
			return false, s.route()
		}
	})
	s.cancelInUI(run)
	close(answer)
	require.Equal(s.t, before.Generation, s.route().Generation)
	_, err := s.registry.Rollout(context.Background(), run.RunID)
	require.True(s.t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
}

// cancelInUI cancels a run, which must end so and have given its claim back.
func (s *served) cancelInUI(run started) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(s.t, s.temporal.CancelWorkflow(ctx, run.WorkflowID, run.RunID))
	_, err := ended[steps.PromotionResult](s.world, run)
	var canceled *temporal.CanceledError
	require.ErrorAs(s.t, err, &canceled)
	claims, err := s.registry.Claims(ctx, s.service)
	require.NoError(s.t, err)
	require.Empty(s.t, claims, "the claim is given back")
}

// A Reset in the Temporal UI does steps again that were done: before the first share, in the middle of a step, and after
// the end. Nobody is served more than is allowed, no step is skipped, and a rollout that is over stays so.
func TestAResetInTheMiddleHarmsNothing(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 2, step{3000, 60}, step{6000, 60})
	watch := s.watchRoute()
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	run := s.promote()
	first := run.RunID // names the rollout over every reset

	s.awaitStep(0, 3000)
	s.awaitCanary(5)
	run = s.reset(run, "in the middle of the first step", steps.HoldStep.Name, 1)
	s.awaitStep(1, 6000)
	s.awaitCanary(5)
	run = s.reset(run, "before the first share, out of the second step", steps.SetShare.Name, 1)
	await(t, "the first share to be set again, and the second", func() (bool, any) {
		changed := len(entriesOf(s.ledger(), lifecycle.ShareChanged))
		return changed >= 4, changed
	})
	run = s.reset(run, "in the middle of the second step", steps.HoldStep.Name, 2)
	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, result.Phase, result.Reason)
	require.Len(t, result.Steps, 2)
	promoted := s.route()
	require.Equal(t, s.candidate, promoted.Stable)
	require.Equal(t, s.stable, promoted.Previous)
	s.checkExposure(4)

	for _, step := range []string{steps.MakeStable.Name, steps.SetShare.Name, steps.StartRollout.Name, steps.Claim.Name} {
		late := s.reset(run, "after the end, to "+step, step, 1)
		again, err := ended[steps.PromotionResult](s.world, late)
		t.Logf("after a reset to %s: %s %s %v", step, again.Phase, again.Reason, err)
		route := s.route()
		require.Equal(t, promoted.Stable, route.Stable, step)
		require.Equal(t, promoted.Previous, route.Previous, step)
		require.Empty(t, route.Canary, step)
	}
	require.Len(t, entriesOf(s.ledger(), lifecycle.Promoted), 2, "the first release and this one")

	// What a person took back stays taken back: the rollout of this run is over, so all of it done again changes nothing.
	s.refit(nil, "rollback", s.service, "--reason", "it was not so good")
	again, err := ended[steps.PromotionResult](s.world, s.reset(run, "after a rollback, to the beginning", steps.Claim.Name, 1))
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, again.Phase, again.Reason)
	require.Equal(t, s.stable, s.route().Stable)
	require.Empty(t, s.route().Canary)
	claims, err := s.registry.Claims(context.Background(), s.service)
	require.NoError(t, err)
	require.Empty(t, claims)
	rollout, err := s.registry.Rollout(context.Background(), first)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, rollout.Phase, "what happened stays in the record")
	require.Empty(t, failed(traffic.stop()), "users noticed")
	watch.check(t)
	s.checkRecord()
}

// reset resets a run to the moment before it scheduled a step for the nth time, as a person does in the Temporal UI.
func (w *world) reset(run started, reason, step string, nth int) started {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	event := w.decidedOn(ctx, run, step, nth)
	w.t.Logf("reset to event %d: %s", event, reason)
	answer, err := w.temporal.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: w.namespace, WorkflowExecution: &common.WorkflowExecution{WorkflowId: run.WorkflowID, RunId: run.RunID},
		Reason: reason, WorkflowTaskFinishEventId: event, RequestId: rand.Text(),
	})
	require.NoError(w.t, err)
	return started{run.WorkflowID, answer.RunId}
}

// decidedOn gives the event at which a run's task to schedule a step for the nth time was completed. It waits for it.
func (w *world) decidedOn(ctx context.Context, run started, step string, nth int) (event int64) {
	w.t.Helper()
	await(w.t, fmt.Sprintf("%s to be scheduled %d times", step, nth), func() (bool, any) {
		events := w.temporal.GetWorkflowHistory(ctx, run.WorkflowID, run.RunID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		var seen []string
		times := 0
		for events.HasNext() {
			e, err := events.Next()
			if err != nil {
				return false, err
			}
			scheduled := e.GetActivityTaskScheduledEventAttributes()
			if scheduled == nil {
				continue
			}
			seen = append(seen, scheduled.ActivityType.GetName())
			if scheduled.ActivityType.GetName() == step {
				times++
			}
			if times == nth {
				event = scheduled.WorkflowTaskCompletedEventId
				return true, nil
			}
		}
		return false, seen
	})
	return event
}
