package registry_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

func (s *stage) follow(poll time.Duration) (routes <-chan lifecycle.Route, connected <-chan bool) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	seen, states, ended := make(chan lifecycle.Route, 100), make(chan bool, 100), make(chan error, 1)
	go func() {
		ended <- registry.Follow(ctx, registry.FollowConfig{
			URL: s.AppURL, Service: svc, Poll: poll, Backoff: 50 * time.Millisecond,
			Connected: func(connected bool, _ error) { states <- connected },
		}, func(r lifecycle.Route) { seen <- r })
	}()
	s.t.Cleanup(func() {
		cancel()
		require.ErrorIs(s.t, <-ended, context.Canceled)
	})
	return seen, states
}

func await[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

func TestFollowerHearsOfChangesAtOnce(t *testing.T) {
	s := newStage(t)
	routes, _ := s.follow(time.Hour) // notifications alone
	require.Equal(t, s.route(), await(t, routes))
	changed := s.rollOut(500)
	for {
		got := await(t, routes)
		if got.Generation == changed.Generation {
			require.Equal(t, changed, got)
			return
		}
		require.Less(t, got.Generation, changed.Generation)
	}
}

func TestFollowerSeesTheLease(t *testing.T) {
	s := newStage(t)
	s.rollOut(500)
	routes, _ := s.follow(5 * time.Millisecond)
	first := await(t, routes)
	lease, err := s.Registry.RenewLease(s.ctx, svc, s.claim.Fence)
	require.NoError(t, err)
	got := await(t, routes)
	require.Equal(t, first.Generation, got.Generation)
	require.Equal(t, lease, got.Lease)
}

func TestFollowerComesBackAfterItsConnectionIsKilled(t *testing.T) {
	s := newStage(t)
	routes, connected := s.follow(10 * time.Millisecond)
	await(t, routes)
	require.True(t, await(t, connected))
	conn, err := pgx.Connect(s.ctx, s.AppURL) // the same role may end its own backends
	require.NoError(t, err)
	defer conn.Close(s.ctx)
	var killed int
	require.NoError(t, conn.QueryRow(s.ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'refit-follow'`).Scan(&killed))
	require.Equal(t, 1, killed)
	require.False(t, await(t, connected))
	require.True(t, await(t, connected))
	changed := s.rollOut(500)
	for got := await(t, routes); got.Generation != changed.Generation; got = await(t, routes) {
		require.Less(t, got.Generation, changed.Generation)
	}
}

func TestFollowerNeverGoesBack(t *testing.T) {
	s := newStage(t)
	newest := s.rollOut(500)
	routes, _ := s.follow(5 * time.Millisecond)
	require.Equal(t, newest, await(t, routes))
	// As after a restore from an old backup.
	require.NoError(t, s.as(s.OwnerURL, `UPDATE routes SET generation = 1, share_bp = 9000`))
	_, err := s.Registry.RenewLease(s.ctx, svc, s.claim.Fence)
	require.NoError(t, err)
	require.NoError(t, s.as(s.OwnerURL, `UPDATE routes SET epoch = 2, share_bp = 100`))
	got := await(t, routes)
	require.EqualValues(t, 2, got.Epoch)
	require.EqualValues(t, 100, got.Share)
}

func TestGatewaysEndpointsAndConversations(t *testing.T) {
	s := newStage(t)
	report := registry.GatewayReport{Service: svc, Gateway: "g1", Epoch: 1, Generation: 4, Requests: 10, Started: time.Now()}
	require.NoError(t, s.Registry.ReportGateway(s.ctx, report))
	report.Requests, report.CanaryRequests = 20, 3
	require.NoError(t, s.Registry.ReportGateway(s.ctx, report))
	live, err := s.Registry.Gateways(s.ctx, svc, time.Minute)
	require.NoError(t, err)
	require.Len(t, live, 1)
	require.EqualValues(t, 20, live[0].Requests)
	require.EqualValues(t, 3, live[0].CanaryRequests)
	require.NoError(t, s.as(s.OwnerURL, `UPDATE gateways SET reported_at = now() - interval '1 hour'`))
	live, err = s.Registry.Gateways(s.ctx, svc, time.Minute)
	require.NoError(t, err)
	require.Empty(t, live)

	endpoint := lifecycle.Endpoint{Release: s.stable, URL: "http://127.0.0.1:1", Model: "refit-x", Capacity: 4, Ready: true, Attribution: "verified"}
	require.NoError(t, s.Registry.SetEndpoints(s.ctx, svc, s.stable, []lifecycle.Endpoint{endpoint}))
	other := endpoint
	other.Release = s.canary
	require.NoError(t, s.Registry.SetEndpoints(s.ctx, svc, s.canary, []lifecycle.Endpoint{other}))
	require.NoError(t, s.Registry.SetEndpoints(s.ctx, svc, s.canary, nil))
	endpoints, err := s.Registry.Endpoints(s.ctx, svc)
	require.NoError(t, err)
	require.Equal(t, []lifecycle.Endpoint{endpoint}, endpoints)

	for range 2 {
		require.NoError(t, s.Registry.AddCanaryConversation(s.ctx, svc, "run-1", "hash"))
	}
	found, err := s.Registry.CanaryConversation(s.ctx, svc, "run-1", "hash")
	require.NoError(t, err)
	require.True(t, found)
	found, err = s.Registry.CanaryConversation(s.ctx, svc, "run-2", "hash")
	require.NoError(t, err)
	require.False(t, found)
	for _, conversation := range []string{"hash", "whose beginning was not written yet"} {
		require.NoError(t, s.Registry.MoveCanaryConversation(s.ctx, svc, "run-1", conversation))
		require.NoError(t, s.Registry.AddCanaryConversation(s.ctx, svc, "run-1", conversation))
		found, err = s.Registry.CanaryConversation(s.ctx, svc, "run-1", conversation)
		require.NoError(t, err)
		require.False(t, found, "it was moved to stable for good")
	}
}
