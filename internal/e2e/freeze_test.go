package e2e

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// A freeze turns a promotion away; one that begins in the middle keeps the share where it is, however much evidence
// comes, until it is over.
func TestAFreezeHoldsAPromotion(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 1, step{4000, 40}, step{7000, 40})
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	s.refit(nil, "freeze", "open", s.service, "inc-1", "--reason", "search is down")
	require.Equal(t, 5, s.try("freeze", "check", s.service).code)
	require.Equal(t, 5, s.try("promote", s.service).code)
	s.refit(nil, "freeze", "close", s.service, "inc-1", "--reason", "it is up")

	run := s.promote()
	s.awaitStep(0, 4000)
	s.awaitCanary(5)
	s.refit(nil, "freeze", "open", s.service, "inc-2", "--reason", "search is down again")
	s.awaitPhase(run, "frozen")
	before := s.canaryConversations(0)
	await(t, "more evidence than the step asks for", func() (bool, any) {
		now := s.canaryConversations(0)
		return now > before+60, now
	})
	route := s.route()
	require.Equal(t, lifecycle.BasisPoints(4000), route.Share, "the share stays, and does not grow")
	require.Zero(t, route.Step)
	var status control.StatusResult
	await(t, "what the judge sees of the step", func() (bool, any) {
		s.refit(&status, "status", s.service)
		return status.Judged != nil && status.Judged.Canary > 5 && status.Judged.Odds.Known(), status.Judged
	})
	require.NotEmpty(t, status.Judged.Metrics)
	require.True(t, status.Judged.Metrics[0].CanaryRate.Known())
	require.True(t, status.Rollout.StartedBy.Proven(), "%+v", status.Rollout.StartedBy)
	refused := s.try("break-glass", s.service, "--reason", "I am in a hurry")
	require.Equal(t, 5, refused.code, "who started it does not break the glass")
	s.refit(nil, "freeze", "close", s.service, "inc-2", "--reason", "it is up")

	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, result.Phase, result.Reason)
	require.Empty(t, failed(traffic.stop()), "users noticed")
	require.Len(t, entriesOf(s.ledger(), lifecycle.FreezeOpened), 2)
	require.Len(t, entriesOf(s.ledger(), lifecycle.ShareChanged), 2, "a step began twice")
	require.Empty(t, entriesOf(s.ledger(), lifecycle.GlassBroken))
	for _, judged := range entriesOf(s.ledger(), lifecycle.StepJudged) {
		var record lifecycle.StepRecord
		require.NoError(t, json.Unmarshal(judged.Evidence, &record))
		require.True(t, record.Verdict.Metrics[0].Ratio.Known(), "the intervals are evidence")
	}
	s.checkRecord()
	s.checkExposure(4)
}
