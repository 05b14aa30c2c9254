package main

import (
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"

	"github.com/refitml/refit/internal/telemetry"
)

// sdkMetrics puts what the Temporal SDK counts (slots, task latencies, failed activities) on a Prometheus
// registerer. The SDK names a metric with now these tags and now others, which Prometheus refuses, so every one
// has all of sdkLabels; an empty label is none.
type sdkMetrics struct {
	registerer prometheus.Registerer
	tags       map[string]string
}

// sdkLabels are the SDK's tags that are kept.
var sdkLabels = []string{
	"namespace", "task_queue", "worker_type", "poller_type", "workflow_type", "activity_type", "operation", "status_code", "failure_reason",
}

func (m sdkMetrics) WithTags(tags map[string]string) client.MetricsHandler {
	merged := maps.Clone(m.tags)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, tags)
	return sdkMetrics{m.registerer, merged}
}

func (m sdkMetrics) Counter(name string) client.MetricsCounter {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: plain(name) + "_total", Help: "Of the Temporal SDK."}, sdkLabels)
	return counter{registered(m.registerer, c).WithLabelValues(m.values()...)}
}

func (m sdkMetrics) Gauge(name string) client.MetricsGauge {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: plain(name), Help: "Of the Temporal SDK."}, sdkLabels)
	return gauge{registered(m.registerer, g).WithLabelValues(m.values()...)}
}

func (m sdkMetrics) Timer(name string) client.MetricsTimer {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: plain(name) + "_seconds", Help: "Of the Temporal SDK.", Buckets: telemetry.LatencyBuckets(),
	}, sdkLabels)
	return timer{registered(m.registerer, h).WithLabelValues(m.values()...)}
}

func (m sdkMetrics) values() []string {
	values := make([]string, len(sdkLabels))
	for i, name := range sdkLabels {
		if value := m.tags[name]; value != "none" { // the SDK's word for no tag
			values[i] = value
		}
	}
	return values
}

// registered gives the metric of that name that is there already, else this one.
func registered[C prometheus.Collector](registerer prometheus.Registerer, metric C) C {
	var there prometheus.AlreadyRegisteredError
	if err := registerer.Register(metric); errors.As(err, &there) {
		if same, ok := there.ExistingCollector.(C); ok {
			return same
		}
	}
	return metric
}

// plain makes a name that Prometheus takes.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

type counter struct{ prometheus.Counter }

func (c counter) Inc(by int64) { c.Add(float64(by)) }

type gauge struct{ prometheus.Gauge }

func (g gauge) Update(to float64) { g.Set(to) }

type timer struct{ prometheus.Observer }

func (t timer) Record(took time.Duration) { t.Observe(took.Seconds()) }
