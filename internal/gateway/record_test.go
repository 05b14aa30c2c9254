package gateway

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/registry/registrytest"
)

func TestARecordIsTheRegistryAsAGatewayAsksIt(t *testing.T) {
	t.Parallel()
	database := registrytest.New(t)
	record, ctx, by := Record{database.Registry}, t.Context(), lifecycle.Actor{Name: "test"}
	names, err := record.Services(ctx)
	require.NoError(t, err)
	require.Empty(t, names)
	for _, name := range []string{"docs", "art"} {
		_, err := database.Registry.ApplyService(ctx, registrytest.Service(name), by)
		require.NoError(t, err)
	}
	names, err = record.Services(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"art", "docs"}, names)

	release := registrytest.Release("docs", 1)
	id, err := database.Registry.AddRelease(ctx, release, by)
	require.NoError(t, err)
	read, err := record.Release(ctx, "docs", id)
	require.NoError(t, err)
	require.Equal(t, release, read)
	_, err = record.Release(ctx, "art", id)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "a release is a service's own: %v", err)

	require.NoError(t, record.Report(ctx, Report{
		Service: "docs", Gateway: "g1", Epoch: 1, Generation: 7, Requests: 40, Canary: 2, Started: time.Now(),
	}))
	reports, err := database.Registry.Gateways(ctx, "docs", time.Minute)
	require.NoError(t, err)
	require.Len(t, reports, 1)
	reports[0].Started, reports[0].Reported = time.Time{}, time.Time{}
	require.Equal(t, registry.GatewayReport{
		Service: "docs", Gateway: "g1", Epoch: 1, Generation: 7, Requests: 40, CanaryRequests: 2,
	}, reports[0])

	following, stop := context.WithCancel(ctx)
	defer stop()
	routes := make(chan lifecycle.Route, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- record.Follow(following, "docs", func(r lifecycle.Route) { routes <- r })
	}()
	require.Equal(t, "docs", (<-routes).Service)
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestWithoutACacheNoIndexIsOpened(t *testing.T) {
	t.Parallel()
	_, err := CachedIndexes{}.Open(t.Context(), lifecycle.Release{}, answer.Embedder{})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	require.ErrorContains(t, err, "s3.endpoint")
}
