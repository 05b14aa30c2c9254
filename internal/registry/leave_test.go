package registry_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

const openFreeze = `SELECT FROM open_freeze($1, 'inc-7', 'search is down', '{}', NULL, '{"name": "alice"}')`

// leave is what a calendar without freezes gives, read in the newest declaration.
func (s *stage) leave() *registry.Leave {
	s.t.Helper()
	version, err := s.Registry.ServiceVersion(s.ctx, svc)
	require.NoError(s.t, err)
	return &registry.Leave{Version: version.Version, Until: time.Now().Add(time.Hour)}
}

// Whoever opens a freeze is before or after the change, never in the middle of it: the change waits for the one who came
// first, and sees the freeze.
func TestAFreezeThatBeginsWhileAShareIsRaisedHoldsIt(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	before := len(s.kinds())
	raise := s.share(1, 2500)
	raise.Leave = s.leave()

	opening, err := pgx.Connect(s.ctx, s.AppURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = opening.Close(s.ctx) })
	tx, err := opening.Begin(s.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(s.ctx, openFreeze, svc)
	require.NoError(t, err)
	raised := make(chan error, 1)
	go func() {
		_, err := s.Registry.SetShare(s.ctx, raise)
		raised <- err
	}()
	require.Eventually(t, func() bool {
		var waiting int
		err := tx.QueryRow(s.ctx, `SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`).Scan(&waiting)
		return err == nil && waiting == 1
	}, time.Minute, 10*time.Millisecond, "the share is being raised")
	require.NoError(t, tx.Commit(s.ctx))
	err = <-raised
	require.True(t, registry.HeldByFreeze(err), "%v", err)
	requireKind(t, lifecycle.Refused, err)
	require.ErrorContains(t, err, "frozen by incident inc-7")
	require.Equal(t, lifecycle.BasisPoints(500), s.route().Share)
	require.Equal(t, []lifecycle.LedgerKind{lifecycle.FreezeOpened}, s.kinds()[before:])

	_, _, err = s.Registry.RollBack(s.ctx, registry.Rollback{Service: svc, Fence: s.claim.Fence, Rollout: s.claim.Owner.FirstRunID, By: alice, Reason: "harm"})
	require.NoError(t, err, "the way back asks no freeze")
}

func TestWhatAFreezeHolds(t *testing.T) {
	weights := []lifecycle.Lever{lifecycle.WeightsLever}
	for name, tc := range map[string]struct {
		freeze []lifecycle.Lever // nil: none is open
		change func(s *stage, leave *registry.Leave)
		held   string
	}{
		"nothing without one":                        {},
		"a change that it names":                     {freeze: weights, change: func(_ *stage, l *registry.Leave) { l.Levers = weights }, held: "incident inc-7"},
		"no change that it does not name":            {freeze: weights, change: func(_ *stage, l *registry.Leave) { l.Levers = []lifecycle.Lever{lifecycle.PromptLever} }},
		"a change of nobody knows what":              {freeze: weights, held: "incident inc-7"},
		"nothing where the glass is broken":          {freeze: weights, change: func(_ *stage, l *registry.Leave) { l.Glass = time.Now().Add(time.Hour) }},
		"everything again after the glass was":       {freeze: weights, change: func(_ *stage, l *registry.Leave) { l.Glass = time.Now().Add(-time.Hour) }, held: "incident inc-7"},
		"what a window of the calendar holds by now": {change: func(_ *stage, l *registry.Leave) { l.Until = time.Now().Add(-time.Second) }, held: "a window"},
		"what a declaration that was not read might": {change: func(s *stage, _ *registry.Leave) { s.declareAnew() }, held: "declaration version 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.rollOut(500)
			leave := s.leave()
			if tc.freeze != nil {
				_, err := s.Registry.OpenFreeze(s.ctx, lifecycle.Freeze{Service: svc, Name: "inc-7", Reason: "search is down", Levers: tc.freeze, OpenedBy: alice})
				require.NoError(t, err)
			}
			if tc.change != nil {
				tc.change(s, leave)
			}
			raise, promotion := s.share(1, 2500), registry.Promotion{
				Service: svc, Fence: s.claim.Fence, Rollout: s.claim.Owner.FirstRunID, By: alice, Reason: "all proven", Leave: leave,
			}
			raise.Leave = leave
			_, err := s.Registry.SetShare(s.ctx, raise)
			_, promoted := s.Registry.Promote(s.ctx, promotion)
			if tc.held == "" {
				require.NoError(t, err)
				require.NoError(t, promoted)
				require.Equal(t, s.canary, s.route().Stable)
				return
			}
			require.True(t, registry.HeldByFreeze(err), "%v", err)
			require.ErrorContains(t, err, tc.held)
			require.True(t, registry.HeldByFreeze(promoted), "%v", promoted)
			require.Equal(t, lifecycle.BasisPoints(500), s.route().Share)

			lower, same := s.share(0, 100), s.share(0, 500)
			same.Leave, lower.Leave = leave, leave
			_, err = s.Registry.SetShare(s.ctx, same)
			require.NoError(t, err, "what was done before is no change")
			_, err = s.Registry.SetShare(s.ctx, lower)
			require.NoError(t, err, "less is always allowed")
		})
	}
}

func (s *stage) declareAnew() {
	s.t.Helper()
	service, err := s.Registry.Service(s.ctx, svc)
	require.NoError(s.t, err)
	service.Changes = lifecycle.ChangePolicy{TimeZone: "UTC", Freezes: []lifecycle.FreezeWindow{{Name: "weekend", Weekly: "Fri 12:00 to Mon 08:00"}}}
	_, err = s.Registry.ApplyService(s.ctx, service.WithDefaults(), alice)
	require.NoError(s.t, err)
}

func TestAFreezeHoldsAFirstReleaseToo(t *testing.T) {
	s := newStage(t)
	const other = "art"
	_, err := s.Registry.ApplyService(s.ctx, registrytest.Service(other), alice)
	require.NoError(t, err)
	release, err := s.Registry.AddRelease(s.ctx, registrytest.Release(other, 1), alice)
	require.NoError(t, err)
	claim, err := s.Registry.TakeClaim(s.ctx, other, lifecycle.PromotionLoop, owner(2), alice)
	require.NoError(t, err)
	first := registry.FirstStable{Service: other, Fence: claim.Fence, Release: release, By: alice, Leave: &registry.Leave{Version: 1}}
	_, err = s.Registry.SetFirstStable(s.ctx, first)
	require.True(t, registry.HeldByFreeze(err), "%v", err)
	first.Leave.Until = time.Now().Add(time.Hour)
	_, err = s.Registry.SetFirstStable(s.ctx, first)
	require.NoError(t, err)
	first.Leave.Until = time.Time{}
	route, err := s.Registry.SetFirstStable(s.ctx, first)
	require.NoError(t, err, "it is stable already: nothing changes")
	require.Equal(t, release, route.Stable)
}
