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
	"github.com/refitml/refit/internal/rollout"
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
	_, release, err := r.TrustedRelease(ctx, service, string(id))
	return release, err
}

// Report is Store's.
func (r Record) Report(ctx context.Context, report Report) error {
	return r.ReportGateway(ctx, registry.GatewayReport{
		Service: report.Service, Gateway: report.Gateway, Epoch: report.Epoch, Generation: report.Generation,
		Requests: report.Requests, CanaryRequests: report.Canary, Pooled: report.Pooled, Started: report.Started,
		Known: report.Known,
	})
}

// DrawCredit is Store's.
func (r Record) DrawCredit(ctx context.Context, service, rolloutID string, d rollout.Draw) (rollout.Grant, error) {
	g, err := r.Registry.DrawCredit(ctx, registry.CreditDraw{
		Service: service, Rollout: rolloutID, Gateway: d.Gateway, Epoch: d.Epoch, Earned: d.Earned, Given: d.Given,
		Held: d.Held, Want: d.Want, Cap: d.Cap, Base: d.Base,
	})
	return rollout.Grant(g), err
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

// MeterSpool puts on the registerer where requests went, and what the spool could not keep.
func MeterSpool(registerer prometheus.Registerer, spool *capture.Spool) {
	registerer.MustRegister(spoolMeter{spool})
}

// spoolMeter reads all of a spool's numbers at one moment, so that in every scrape they add up.
type spoolMeter struct{ spool *capture.Spool }

func captureDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("refit", "capture", name), help, labels, nil)
}

var (
	descRequests = captureDesc("requests_total", "Requests that arrived: in flight, shed, waiting, captured or dropped.", "service")
	descInFlight = captureDesc("in_flight", "Requests being answered.", "service")
	descShed     = captureDesc("shed_total", "Requests turned away, of which nothing is captured.", "service")
	descWaiting  = captureDesc("waiting", "Requests whose records wait in memory.", "service")
	descCaptured = captureDesc("captured_total", "Requests whose records are kept.", "service")
	descDropped  = captureDesc("dropped_total", "Requests whose records are lost.", "service")

	descPayloads = captureDesc("payloads_dropped_total", "Prompts and answers given up so that records could be kept.")
	descRefused  = captureDesc("refused_total", "Captured records that the database does not take.")
	descDamaged  = captureDesc("damaged_bytes_total", "Bytes of records that were on disk and could not be read.")
	descLate     = captureDesc("late_total", "Answers that ended before their records were written.")
	descUnsynced = captureDesc("sync_failures_total", "Syncs of the spool that failed.")
	descWritable = captureDesc("disk_writable", "1 while the spool's disk takes records, 0 while they wait in memory.")
)

// Describe is prometheus.Collector's.
func (m spoolMeter) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descRequests, descInFlight, descShed, descWaiting, descCaptured, descDropped,
		descPayloads, descRefused, descDamaged, descLate, descUnsynced, descWritable,
	} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (m spoolMeter) Collect(to chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, float64(value), labels...)
	}
	for service, a := range m.spool.Accounts() {
		send(descRequests, prometheus.CounterValue, a.Requests, service)
		send(descInFlight, prometheus.GaugeValue, a.InFlight, service)
		send(descShed, prometheus.CounterValue, a.Shed, service)
		send(descWaiting, prometheus.GaugeValue, a.Waiting, service)
		send(descCaptured, prometheus.CounterValue, a.Captured, service)
		send(descDropped, prometheus.CounterValue, a.Dropped, service)
	}
	losses := m.spool.Losses()
	send(descPayloads, prometheus.CounterValue, losses.Payloads)
	send(descRefused, prometheus.CounterValue, losses.Refused)
	send(descDamaged, prometheus.CounterValue, losses.Damaged)
	send(descLate, prometheus.CounterValue, losses.Late)
	send(descUnsynced, prometheus.CounterValue, losses.Unsynced)
	writable := int64(0)
	if m.spool.Writable() {
		writable = 1
	}
	send(descWritable, prometheus.GaugeValue, writable)
}
