package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestACanaryThatFailsIsTakenBackAndNobodyNotices(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 1, step{3000, 200}, step{7000, 200})
	s.models.breakDown(s.name)
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	run := s.promote()
	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, result.Phase, result.Reason)
	require.Contains(t, result.Reason, "errors")
	s.awaitApplied(s.route())
	s.awaitStableChats(50)
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges), "stable answers for a canary that fails")
	require.Equal(t, s.stable, s.route().Stable)
	require.Positive(t, result.Touched.Conversations)
	require.LessOrEqual(t, result.Touched.Requests, int64(s.models.count(s.name)))
	backs := entriesOf(s.ledger(), lifecycle.RolledBack)
	require.Len(t, backs, 1)
	require.Equal(t, string(s.candidate), backs[0].Subject)
	s.checkRecord()
	s.checkExposure(4)
}

// Who terminates a run in the Temporal UI leaves a canary that nobody watches. The lease ends it, and the next
// promotion takes the claim over.
func TestATerminatedPromotionLeavesNoCanaryBehind(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 1, step{5000, 1000})
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	run := s.promote()
	s.awaitStep(0, 5000)
	s.awaitCanary(10)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, s.temporal.TerminateWorkflow(ctx, run.WorkflowID, run.RunID, "somebody was in a hurry"))
	terminated := time.Now()
	await(t, "the lease to be over", func() (bool, any) {
		since := time.Since(terminated)
		return since > lifecycle.LeaseTime+late, since
	})
	s.awaitStableChats(200)
	require.LessOrEqual(t, s.lastCanary().Sub(terminated), lifecycle.LeaseTime+late, "the canary was served after the lease")

	next := s.promote("--approval")
	s.awaitPhase(next, "waiting for approval")
	require.Len(t, entriesOf(s.ledger(), lifecycle.ClaimTakenOver), 1)
	rollouts, err := s.registry.Rollouts(ctx, s.service, 0)
	require.NoError(t, err)
	require.Len(t, rollouts, 2)
	require.Equal(t, run.RunID, rollouts[1].ID)
	require.Equal(t, lifecycle.RolloutRolledBack, rollouts[1].Phase)
	s.refit(nil, "abort", s.service, "--reason", "the test is over")
	_, err = ended[steps.PromotionResult](s.world, next)
	require.NoError(t, err)
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges), "users noticed")
	s.checkRecord()
	s.checkExposure(4)
	s.checkCaptured(traffic, exchanges, nil)
}
