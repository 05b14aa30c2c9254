package gateway

import (
	"context"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

var (
	_ Store   = Record{}
	_ Indexes = CachedIndexes{}
)

// Record is the registry as a gateway asks it. It is a Store.
type Record struct {
	*registry.Registry
}

// Services is Store's.
func (r Record) Services(ctx context.Context) ([]string, error) {
	versions, err := r.Registry.Services(ctx)
	names := make([]string, len(versions))
	for i, v := range versions {
		names[i] = v.Service
	}
	return names, err
}

// Release is Store's.
func (r Record) Release(ctx context.Context, service string, id lifecycle.Digest) (lifecycle.Release, error) {
	_, release, err := r.Registry.Release(ctx, service, string(id))
	return release, err
}

// Report is Store's.
func (r Record) Report(ctx context.Context, report Report) error {
	return r.ReportGateway(ctx, registry.GatewayReport{
		Service: report.Service, Gateway: report.Gateway, Epoch: report.Epoch, Generation: report.Generation,
		Requests: report.Requests, CanaryRequests: report.Canary, Started: report.Started,
	})
}

// CachedIndexes opens indexes from the cache of artifacts on this machine. Without a cache every index is
// Invalid, and only releases that retrieve nothing can be served.
type CachedIndexes struct {
	Cache *artifacts.Cache
}

// Open is Indexes'.
func (c CachedIndexes) Open(ctx context.Context, release lifecycle.Release, embed answer.Embedder) (answer.Searcher, error) {
	if c.Cache == nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "s3.endpoint: missing; without it no index can be opened")
	}
	dir, err := c.Cache.Dir(ctx, lifecycle.ArtifactRef{Kind: lifecycle.IndexArtifact, Digest: release.Index})
	if err != nil {
		return nil, err
	}
	return answer.OpenIndex(os.DirFS(dir), embed)
}

// MeterSpool puts on the registerer what a spool could not keep.
func MeterSpool(registerer prometheus.Registerer, spool *capture.Spool) {
	counter := func(name, help string, value func() int64) {
		registerer.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Namespace: "refit", Subsystem: "capture", Name: name, Help: help},
			func() float64 { return float64(value()) },
		))
	}
	counter("dropped_total", "Interactions and feedback that found no room or were refused by the store.", spool.Dropped)
	counter("damaged_bytes_total", "Bytes of records that were on disk and could not be read.", spool.Damaged)
}
