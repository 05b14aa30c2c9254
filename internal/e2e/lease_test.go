package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// late is how much later than the lease's end a canary request may reach its server: the gateway reads the counter
// every half second, and the request itself takes its time on a busy machine.
const late = 1500 * time.Millisecond

func TestAPromotionGoesOnWhereItWasAfterItsWorkerWasKilled(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 2, step{4000, 40}, step{7000, 40})
	watch := s.watchRoute()
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	run := s.promote()
	s.awaitStep(0, 4000)
	s.awaitCanary(10)
	s.worker.kill()
	begun := s.canaryConversations(0)
	s.worker.start()

	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, result.Phase, result.Reason)
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges), "users noticed")
	require.Len(t, result.Steps, 2)
	require.GreaterOrEqual(t, result.Steps[0].Verdict.Canary, int64(begun), "evidence from before the kill was lost")
	require.Len(t, entriesOf(s.ledger(), lifecycle.ShareChanged), 2, "a step began twice")
	require.Len(t, entriesOf(s.ledger(), lifecycle.StepJudged), 2)
	require.Equal(t, s.candidate, s.route().Stable)
	watch.check(t)
	s.checkRecord()
	s.checkExposure(4)
	s.checkCaptured(traffic, exchanges, nil)
}

func TestWithoutAWorkerEveryUserIsOnStableWithinTheLease(t *testing.T) {
	t.Parallel()
	// So many conversations that the step is not over when the lease is, at the pace of these clients.
	s := newServed(t, onSharedStack(t), 2, step{5000, 600})
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	run := s.promote()
	s.awaitStep(0, 5000)
	s.awaitCanary(10)
	s.worker.kill()
	killed := time.Now()
	begun := s.canaryConversations(0)

	await(t, "the lease to be over", func() (bool, any) {
		since := time.Since(killed)
		return since > lifecycle.LeaseTime+late, since
	})
	s.awaitStableChats(200)
	left := s.lastCanary()
	require.True(t, left.After(killed), "the canary served nothing after the kill, so nothing was shown")
	require.LessOrEqual(t, left.Sub(killed), lifecycle.LeaseTime+late, "the canary was served after the lease")
	t.Logf("the last canary request came %s after the kill", left.Sub(killed).Round(time.Millisecond))
	require.Equal(t, s.candidate, s.route().Canary, "the share was given up by the gateways, not by the route")

	// The controller returns: the lapse is recorded, the evidence kept, and the step goes on.
	s.worker.start()
	s.awaitCanary(1)
	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, result.Phase, result.Reason)
	require.NotEmpty(t, entriesOf(s.ledger(), lifecycle.LeaseLapsed), "the lapse is not in the ledger")
	require.Len(t, entriesOf(s.ledger(), lifecycle.ShareChanged), 1)
	require.GreaterOrEqual(t, result.Steps[0].Verdict.Canary, int64(begun))
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges), "users noticed")
	s.checkRecord()
	s.checkExposure(4)
	s.checkCaptured(traffic, exchanges, nil)
}

// lastCanary gives the time of the canary's last chat; zero where there was none.
func (s *served) lastCanary() time.Time {
	chats := s.models.served()
	for i := len(chats) - 1; i >= 0; i-- {
		if chats[i].model == s.name {
			return chats[i].at
		}
	}
	return time.Time{}
}

// canaryConversations counts the conversations that tossed and began on the canary in a step, as far as stored.
func (s *served) canaryConversations(step int) int {
	s.t.Helper()
	return query(s.world, scanInt, `
SELECT count(*)::int FROM (
    SELECT DISTINCT ON (conversation) step, canary, coin FROM interactions
    WHERE service = $1 AND rollout <> '' ORDER BY conversation, started, turn, id
) begun WHERE canary AND coin AND step = $2`, s.service, step)[0]
}
