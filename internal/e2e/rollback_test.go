package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Orders in which a share change and a rollback come to their lock.
const (
	rollbackFirst        = "rollback first"
	rollbackFirstAndDead = "rollback first, and the worker of the share change is killed"
)

// A share change and a direct rollback wait for the same lock. Whoever comes second sees what the first did, so a
// share change behind a rollback never takes effect, and one before it is taken back at once.
func TestARollbackBeatsAShareChangeInFlight(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 2, step{5000, 5})
	watch := s.watchRoute()
	traffic := startTraffic(t, s.service, 2, s.addresses()...)
	for _, order := range []string{rollbackFirst, rollbackFirstAndDead, "share change first", "nobody held", "nobody held", "nobody held"} {
		run := s.promote("--approval")
		s.awaitPhase(run, "waiting for approval")
		before := s.route()
		served := s.models.count(s.name)
		rollback := make(chan outcome, 1)
		takeBack := func() {
			rollback <- s.try("rollback", s.service, "--direct", "--reason", order, "-o", "json")
		}
		switch order {
		case rollbackFirst, rollbackFirstAndDead:
			free := s.holdRoute()
			go takeBack()
			s.awaitWaiting(1)
			s.refit(nil, "approve", s.service)
			s.awaitWaiting(2)
			if order == rollbackFirstAndDead { // its change is in the database, and comes after it
				s.worker.kill()
				s.worker.start()
			}
			free()
		case "share change first":
			free := s.holdRoute()
			s.refit(nil, "approve", s.service)
			s.awaitWaiting(1)
			go takeBack()
			s.awaitWaiting(2)
			free()
		default:
			go takeBack()
			s.try("approve", s.service) // the promotion may be over already
		}
		back := <-rollback
		require.Zero(t, back.code, "%s\n%s", back.stdout, back.stderr)
		s.checkRolledBack(order, run, before, back, served)
	}
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges), "users noticed")
	watch.check(t)
	s.checkRecord()
}

// checkRolledBack reads from the database what came of a round.
func (s *served) checkRolledBack(order string, run started, before lifecycle.Route, back outcome, served int) {
	s.t.Helper()
	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(s.t, err)
	require.Equal(s.t, lifecycle.RolloutRolledBack, result.Phase, order)

	var at lifecycle.Route // as the rollback left it
	require.NoError(s.t, json.Unmarshal([]byte(back.stdout), &at))
	route := s.route()
	require.Equal(s.t, s.stable, route.Stable)
	require.Empty(s.t, route.Canary)
	require.Zero(s.t, route.Share)
	require.Equal(s.t, at.Generation, route.Generation, "%s: the route changed after the rollback", order)

	shares, backs := 0, 0
	for _, e := range s.ledger() {
		var evidence struct {
			Generation int64 `json:"generation"`
		}
		if e.Evidence != nil {
			require.NoError(s.t, json.Unmarshal(e.Evidence, &evidence))
		}
		if evidence.Generation <= before.Generation {
			continue
		}
		switch e.Kind {
		case lifecycle.ShareChanged:
			shares++
			require.Zero(s.t, backs, "%s: a share changed after the rollback: %+v", order, e)
		case lifecycle.RolledBack:
			backs++
			require.Equal(s.t, "direct", e.Actor.Via)
		}
	}
	require.Equal(s.t, 1, backs, order)
	switch order {
	case rollbackFirst, rollbackFirstAndDead:
		require.Zero(s.t, shares)
		require.Equal(s.t, served, s.models.count(s.name), "the canary served although its share never took effect")
	case "share change first":
		require.Equal(s.t, 1, shares)
	}
	s.awaitApplied(route)
	quiet := s.models.count(s.name)
	s.awaitStableChats(50)
	require.Equal(s.t, quiet, s.models.count(s.name), "%s: the canary serves on after every gateway applied the rollback", order)
}

// awaitApplied waits until every gateway reports that it applied the route.
func (s *served) awaitApplied(route lifecycle.Route) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("generation %d at every gateway", route.Generation), func() (bool, any) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		reports, err := s.registry.Gateways(ctx, s.service, time.Minute)
		if err != nil || len(reports) < len(s.gateways) {
			return false, err
		}
		for _, r := range reports {
			if r.Generation < route.Generation {
				return false, reports
			}
		}
		return true, nil
	})
}

// awaitStableChats waits until stable has answered so many more chats.
func (s *served) awaitStableChats(n int) {
	s.t.Helper()
	until := s.models.count(s.stableName) + n
	await(s.t, "chats on stable", func() (bool, any) {
		seen := s.models.count(s.stableName)
		return seen >= until, seen
	})
}

// holdRoute takes the lock that every change of the route needs, until the returned function is called.
func (w *world) holdRoute() (free func()) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	conn, err := pgx.Connect(ctx, w.ownerURL)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(ctx)
	require.NoError(w.t, err)
	_, err = tx.Exec(ctx, `SELECT FROM routes WHERE service = $1 FOR UPDATE`, w.service)
	require.NoError(w.t, err)
	return func() {
		defer cancel()
		require.NoError(w.t, tx.Rollback(ctx))
		require.NoError(w.t, conn.Close(ctx))
	}
}

// awaitWaiting waits until so many sessions of the database wait for a lock.
func (w *world) awaitWaiting(n int) {
	w.t.Helper()
	await(w.t, fmt.Sprintf("%d sessions that wait for the route", n), func() (bool, any) {
		waiting := query(w, pgx.RowTo[int], `
SELECT count(DISTINCT l.pid)::int FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND a.datname = current_database()`)[0]
		return waiting == n, waiting
	})
}

// Whatever happens to the notifications, a rollback is applied by every gateway within seconds; and where one gateway is
// cut off the command says which, and its users are off the canary when its lease is over.
func TestARollbackReachesGatewaysBehindABadNetwork(t *testing.T) {
	t.Parallel()
	s := newServed(t, onSharedStack(t), 1, step{5000, 5000})
	network, address := newWire(t, s.appURL)
	s.addGateway("REFIT_REGISTRY_URL=" + address)
	s.awaitServing()
	watch := s.watchRoute()
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	for _, fault := range []string{mute, halfOpen, cutOff} {
		run := s.promote()
		s.awaitStep(0, 5000)
		s.awaitApplied(s.route())
		s.awaitCanary(10)
		network.set(fault)
		broke := time.Now()
		back := s.try("rollback", s.service, "--reason", "the network is "+fault, "-o", "json")
		if fault == cutOff {
			require.Equal(t, 5, back.code, "%s\n%s", back.stdout, back.stderr)
			require.Contains(t, back.stdout+back.stderr, "gateway-2")
			require.NotContains(t, back.stdout+back.stderr, "gateway-1")
			await(t, "the lease to be over", func() (bool, any) {
				since := time.Since(broke)
				return since > lifecycle.LeaseTime+late, since
			})
			require.LessOrEqual(t, s.lastCanary().Sub(broke), lifecycle.LeaseTime+late, "the canary was served after the lease")
			network.set(whole)
		} else {
			require.Zero(t, back.code, "%s\n%s", back.stdout, back.stderr)
			quiet := s.models.count(s.name)
			s.awaitStableChats(50)
			require.LessOrEqual(t, s.models.count(s.name), quiet+4, "more than what was in flight")
			var out struct {
				Took string `json:"took"`
			}
			require.NoError(t, json.Unmarshal([]byte(back.stdout), &out))
			t.Logf("%s: back after %s", fault, out.Took)
		}
		result, err := ended[steps.PromotionResult](s.world, run)
		require.NoError(t, err)
		require.Equal(t, lifecycle.RolloutRolledBack, result.Phase, fault)
		network.set(whole)
		s.awaitApplied(s.route())
	}
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges), "users noticed")
	watch.check(t)
	s.checkRecord()
}
