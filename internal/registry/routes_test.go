package registry_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

func TestOneOfManyGetsTheClaim(t *testing.T) {
	s := newStage(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var won []lifecycle.Claim
	var busy []error
	for n := range 20 {
		wg.Go(func() {
			claim, err := s.Registry.TakeClaim(s.ctx, svc, lifecycle.IndexLoop, owner(n), alice)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, claim)
			} else {
				busy = append(busy, err)
			}
		})
	}
	wg.Wait()
	require.Len(t, won, 1)
	require.Len(t, busy, 19)
	for _, err := range busy {
		requireKind(t, lifecycle.Busy, err)
		var e *lifecycle.Error
		require.True(t, errors.As(err, &e))
		require.Equal(t, won[0].Owner.WorkflowID, e.Fields["workflow_id"])
		require.Equal(t, won[0].Owner.FirstRunID, e.Fields["first_run_id"])
		require.Equal(t, "refit", e.Fields["namespace"])
		require.Equal(t, "1", e.Fields["fence"])
		_, err := time.Parse(time.RFC3339Nano, e.Fields["claimed_at"])
		require.NoError(t, err)
	}
	entries := len(s.kinds())
	again, err := s.Registry.TakeClaim(s.ctx, svc, lifecycle.IndexLoop, won[0].Owner, alice)
	require.NoError(t, err)
	require.Equal(t, won[0], again)
	require.Len(t, s.kinds(), entries, "claiming again is not news")

	for range 2 {
		require.NoError(t, s.Registry.ReleaseClaim(s.ctx, won[0], alice))
	}
	next, err := s.Registry.TakeClaim(s.ctx, svc, lifecycle.IndexLoop, owner(99), alice)
	require.NoError(t, err)
	require.EqualValues(t, 2, next.Fence)
	require.NoError(t, s.Registry.ReleaseClaim(s.ctx, won[0], alice))
	claims, err := s.Registry.Claims(s.ctx, svc)
	require.NoError(t, err)
	require.Len(t, claims, 2, "an old claim given back again closes nobody else's")
}

func TestTakeOverLeavesNoShare(t *testing.T) {
	s := newStage(t)
	before := s.rollOut(500)
	_, err := s.Registry.TakeOver(s.ctx, svc, lifecycle.PromotionLoop, s.claim.Fence+1, owner(2), alice, "gone")
	requireKind(t, lifecycle.Busy, err)

	taken, err := s.Registry.TakeOver(s.ctx, svc, lifecycle.PromotionLoop, s.claim.Fence, owner(2), alice, "gone")
	require.NoError(t, err)
	require.Greater(t, taken.Fence, s.claim.Fence)
	again, err := s.Registry.TakeOver(s.ctx, svc, lifecycle.PromotionLoop, s.claim.Fence, owner(2), alice, "gone")
	require.NoError(t, err)
	require.Equal(t, taken, again)
	route := s.route()
	require.Zero(t, route.Share)
	require.Empty(t, route.Canary)
	require.Equal(t, s.stable, route.Stable)
	require.Greater(t, route.Generation, before.Generation)
	ended, err := s.Registry.Rollout(s.ctx, s.claim.Owner.FirstRunID)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutRolledBack, ended.Phase)

	_, err = s.Registry.SetShare(s.ctx, s.share(1, 1000))
	requireKind(t, lifecycle.Fenced, err)
	_, err = s.Registry.RenewLease(s.ctx, svc, s.claim.Fence)
	requireKind(t, lifecycle.Fenced, err)
}

func TestPromotionMovesStable(t *testing.T) {
	s := newStage(t)
	route := s.rollOut(500)
	require.Equal(t, s.canary, route.Canary)
	require.EqualValues(t, 500, route.Share)
	require.Len(t, route.BandKey, 32)
	same, err := s.Registry.SetShare(s.ctx, s.share(0, 500))
	require.NoError(t, err)
	require.Equal(t, route, same, "the same share again is not news")

	lease, err := s.Registry.RenewLease(s.ctx, svc, s.claim.Fence)
	require.NoError(t, err)
	require.Equal(t, route.Lease+1, lease)
	require.Equal(t, route.Generation, s.route().Generation)

	record := lifecycle.StepRecord{Index: 0, Allowed: 500, Verdict: lifecycle.StepVerdict{Decision: lifecycle.Promote, Reason: "enough"}}
	for range 2 {
		require.NoError(t, s.Registry.RecordStep(s.ctx, svc, s.claim.Fence, s.claim.Owner.FirstRunID, record))
	}
	promotion := registry.Promotion{Service: svc, Fence: s.claim.Fence, Rollout: s.claim.Owner.FirstRunID, By: alice, Evidence: json.RawMessage(`{"a":1}`)}
	promoted, err := s.Registry.Promote(s.ctx, promotion)
	require.NoError(t, err)
	require.Equal(t, s.canary, promoted.Stable)
	require.Equal(t, s.stable, promoted.Previous)
	require.Empty(t, promoted.Canary)
	require.Zero(t, promoted.Share)
	require.Empty(t, promoted.BandKey)
	again, err := s.Registry.Promote(s.ctx, promotion)
	require.NoError(t, err)
	require.Equal(t, promoted, again)

	rollouts, err := s.Registry.Rollouts(s.ctx, svc, 5)
	require.NoError(t, err)
	require.Len(t, rollouts, 1)
	require.Equal(t, lifecycle.RolloutPromoted, rollouts[0].Phase)
	require.Equal(t, s.stable, rollouts[0].Baseline)
	require.Equal(t, []lifecycle.StepRecord{record}, rollouts[0].Steps)
	require.Equal(t, []lifecycle.LedgerKind{
		lifecycle.ServiceApplied, lifecycle.ReleaseAdded, lifecycle.ReleaseAdded, lifecycle.ClaimTaken, lifecycle.Promoted,
		lifecycle.RolloutStarted, lifecycle.ShareChanged, lifecycle.StepJudged, lifecycle.Promoted,
	}, s.kinds())

	err = s.Registry.StartRollout(s.ctx, registry.RolloutStart{Service: svc, Fence: s.claim.Fence, ID: "other", Release: s.canary, Owner: s.claim.Owner, By: alice})
	requireKind(t, lifecycle.Refused, err)
}

func TestFencedRollbackIsRepeatable(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	in := registry.Rollback{
		Service: svc, Fence: s.claim.Fence, Rollout: s.claim.Owner.FirstRunID, By: alice, Reason: "harm", Invalid: true,
		Touched: &lifecycle.Touched{Conversations: 7, Requests: 9},
	}
	route, fence, err := s.Registry.RollBack(s.ctx, in)
	require.NoError(t, err)
	require.Equal(t, s.claim.Fence, fence)
	require.Equal(t, s.stable, route.Stable)
	require.Empty(t, route.Canary)
	again, _, err := s.Registry.RollBack(s.ctx, in)
	require.NoError(t, err)
	require.Equal(t, route, again)
	rollout, err := s.Registry.Rollout(s.ctx, s.claim.Owner.FirstRunID)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutInvalid, rollout.Phase)
	require.EqualValues(t, 7, rollout.Touched.Conversations)
	_, err = s.Registry.SetShare(s.ctx, s.share(1, 1000))
	requireKind(t, lifecycle.Fenced, err)
}

func TestRollbackWithoutCanaryGoesToThePrevious(t *testing.T) {
	s := newStage(t)
	_, _, err := s.Registry.RollBack(s.ctx, registry.Rollback{Service: svc, By: alice, Reason: "nothing there"})
	requireKind(t, lifecycle.Refused, err)
	// The refusal took its fence back with it, so the holder goes on.
	s.rollOut(500)
	_, err = s.Registry.Promote(s.ctx, registry.Promotion{Service: svc, Fence: s.claim.Fence, Rollout: s.claim.Owner.FirstRunID, By: alice})
	require.NoError(t, err)
	route, fence, err := registry.RollBackDirect(s.ctx, s.RollbackURL, registry.Rollback{Service: svc, By: alice, Reason: "worse"})
	require.NoError(t, err)
	require.Equal(t, s.stable, route.Stable)
	require.Equal(t, s.canary, route.Previous)
	require.Greater(t, fence, s.claim.Fence)
	entries, err := s.Registry.Ledger(s.ctx, registry.LedgerQuery{Service: svc, Kinds: []lifecycle.LedgerKind{lifecycle.RolledBack}})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, lifecycle.Actor{Name: "alice", Via: "direct"}, entries[0].Actor)
}

// A share change that is in flight while somebody rolls back directly never takes effect, whichever comes first
// to the service's lock.
func TestShareChangeInFlightLosesToADirectRollback(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	conn, err := pgx.Connect(s.ctx, s.OwnerURL)
	require.NoError(t, err)
	defer conn.Close(s.ctx)
	tx, err := conn.Begin(s.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(s.ctx, `SELECT FROM routes WHERE service = $1 FOR UPDATE`, svc)
	require.NoError(t, err)

	changed := make(chan error, 1)
	go func() {
		_, err := s.Registry.SetShare(s.ctx, s.share(1, 2500))
		changed <- err
	}()
	s.awaitWaiting("set_share")
	// The rollback runs in the transaction that holds the lock, so it is first.
	_, err = tx.Exec(s.ctx, `SELECT roll_back_direct($1, 'bob', 'page at 3 a.m.')`, svc)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(s.ctx))
	requireKind(t, lifecycle.Fenced, <-changed)
	route := s.route()
	require.Zero(t, route.Share)
	require.Empty(t, route.Canary)
	require.NotContains(t, s.kinds()[len(s.kinds())-1:], lifecycle.ShareChanged)
}

func TestRollbackWaitsForAShareChangeAndUndoesIt(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	conn, err := pgx.Connect(s.ctx, s.AppURL)
	require.NoError(t, err)
	defer conn.Close(s.ctx)
	tx, err := conn.Begin(s.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(s.ctx, `SELECT FROM set_share($1, $2, $3, 1, 2500, '{}', '', NULL)`, svc, s.claim.Fence, s.claim.Owner.FirstRunID)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, _, err := registry.RollBackDirect(s.ctx, s.RollbackURL, registry.Rollback{Service: svc, By: alice, Reason: "bad"})
		done <- err
	}()
	s.awaitWaiting("roll_back_direct")
	require.NoError(t, tx.Commit(s.ctx))
	require.NoError(t, <-done)
	require.Zero(t, s.route().Share)
	_, err = s.Registry.SetShare(s.ctx, s.share(2, 5000))
	requireKind(t, lifecycle.Fenced, err)
	require.NoError(t, s.Registry.ReleaseClaim(s.ctx, s.claim, alice))
}

// awaitWaiting waits until a backend whose query holds the text waits for a lock.
func (s *stage) awaitWaiting(query string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, s.OwnerURL)
	require.NoError(s.t, err)
	defer conn.Close(s.ctx)
	require.Eventually(s.t, func() bool {
		// Other roles' queries are hidden from the owner, their locks are not.
		var waiting bool
		err := conn.QueryRow(s.ctx, `
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database()))`).Scan(&waiting)
		return err == nil && waiting
	}, 10*time.Second, 5*time.Millisecond, "nothing waits in %s", query)
}

func TestAClaimGivenBackLeavesNoCanary(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	require.NoError(t, s.Registry.ReleaseClaim(s.ctx, s.claim, alice))
	require.Empty(t, s.route().Canary)
	require.Zero(t, s.route().Share)
	_, err := s.Registry.SetShare(s.ctx, s.share(1, 1000))
	requireKind(t, lifecycle.Fenced, err)
	s.kinds()
}

func TestSharesThatCannotBe(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	for _, share := range []lifecycle.BasisPoints{-1, 10_000, 40_000} {
		_, err := s.Registry.SetShare(s.ctx, s.share(1, share))
		requireKind(t, lifecycle.Invalid, err)
	}
	wrong := s.share(1, 1000)
	wrong.Fence = 77
	_, err := s.Registry.SetShare(s.ctx, wrong)
	requireKind(t, lifecycle.Invalid, err)
	require.EqualValues(t, 500, s.route().Share)
}

func TestCreditIsPooled(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	draw := registry.CreditDraw{
		Service: svc, Rollout: s.claim.Owner.FirstRunID, Gateway: "a", Earned: 55_000, Want: 3, Cap: 60_000, Base: 50_000,
	}
	got, err := s.Registry.DrawCredit(s.ctx, draw)
	require.NoError(t, err)
	require.Equal(t, registry.CreditGrant{Units: 3, Total: 50_000, Gateways: 1}, got, "no more than one gateway may use is kept")
	other := draw
	other.Gateway, other.Earned, other.Want = "b", 0, 9
	got, err = s.Registry.DrawCredit(s.ctx, other)
	require.NoError(t, err)
	require.Equal(t, registry.CreditGrant{Units: 2, Total: 50_000, Gateways: 2}, got)
	draw.Held, draw.Want = 3, 1
	got, err = s.Registry.DrawCredit(s.ctx, draw) // the same total reported again earns nothing
	require.NoError(t, err)
	require.Equal(t, registry.CreditGrant{Keep: 3, Total: 50_000, Gateways: 2}, got)

	_, err = s.Registry.SetShare(s.ctx, s.share(0, 100)) // a step down takes all credit
	require.NoError(t, err)
	got, err = s.Registry.DrawCredit(s.ctx, draw)
	require.NoError(t, err)
	require.Equal(t, registry.CreditGrant{Epoch: 1}, got)
}

func TestCreditEndsWithTheLease(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	draw := registry.CreditDraw{
		Service: svc, Rollout: s.claim.Owner.FirstRunID, Gateway: "a", Earned: 55_000, Want: 2, Cap: 60_000, Base: 60_000,
	}
	got, err := s.Registry.DrawCredit(s.ctx, draw)
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Units)
	_, err = s.Registry.RenewLease(s.ctx, svc, s.claim.Fence)
	require.NoError(t, err)
	draw.Held, draw.Want = 2, 3
	got, err = s.Registry.DrawCredit(s.ctx, draw)
	require.NoError(t, err)
	require.Equal(t, registry.CreditGrant{Units: 3, Keep: 2, Total: 55_000, Gateways: 1}, got, "renewed in time it stays")

	for name, shift := range map[string]string{"nobody renewed it": "-16 seconds", "the clock was set back": "1 hour"} {
		require.NoError(t, s.as(s.OwnerURL, `UPDATE routes SET renewed_at = renewed_at + interval '`+shift+`'`), name)
		got, err = s.Registry.DrawCredit(s.ctx, draw)
		require.NoError(t, err)
		require.Zero(t, got.Units+got.Keep, name)
		_, err = s.Registry.RenewLease(s.ctx, svc, s.claim.Fence)
		require.NoError(t, err)
		before := draw.Epoch
		got, err = s.Registry.DrawCredit(s.ctx, draw)
		require.NoError(t, err)
		require.Equal(t, registry.CreditGrant{Epoch: before + 1}, got, "after a lapse credit begins at 0: %s", name)
		draw.Epoch = got.Epoch
	}
}

func TestUnitsOfASilentGatewayAreLost(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	draw := func(gateway string, earned, held, want int64) registry.CreditGrant {
		got, err := s.Registry.DrawCredit(s.ctx, registry.CreditDraw{
			Service: svc, Rollout: s.claim.Owner.FirstRunID, Gateway: gateway, Earned: earned, Held: held, Want: want, Cap: 50_000, Base: 50_000,
		})
		require.NoError(t, err)
		return got
	}
	require.EqualValues(t, 5, draw("dead", 90_000, 0, 5).Units)
	require.EqualValues(t, 50_000, draw("alive", 90_000, 0, 5).Total, "there is no room")
	require.NoError(t, s.as(s.OwnerURL, `UPDATE credit_draws SET seen_at = seen_at - interval '16 seconds' WHERE gateway = 'dead'`))
	require.Equal(t, registry.CreditGrant{Total: 50_000, Gateways: 1}, draw("alive", 90_000, 0, 5), "it counts no more; its units do")
	require.NoError(t, s.as(s.OwnerURL, `UPDATE credit_draws SET seen_at = seen_at - interval '15 seconds' WHERE gateway = 'dead'`))
	require.Equal(t, registry.CreditGrant{Gateways: 1}, draw("alive", 90_000, 0, 5), "they are lost, and not given to others")
	require.EqualValues(t, 1, draw("alive", 100_000, 0, 5).Units)
	require.Zero(t, draw("dead", 90_000, 5, 5).Keep, "it comes back, and what it holds is void")
}
