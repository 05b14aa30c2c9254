package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/telemetry"
)

// Components of an answer's latency, as the histogram's label spells them.
const (
	componentRetrieval      = "retrieval"
	componentFirstToken     = "first_token"
	componentModel          = "model"
	componentPostProcessing = "post_processing"
	componentTotal          = "total"
)

// metrics are the gateway's numbers. Releases stand in labels by their first 12 digits; those that a route no
// longer names are removed, so labels stay few.
type metrics struct {
	component  *prometheus.HistogramVec // seconds
	requests   *prometheus.CounterVec
	shed       *prometheus.CounterVec
	moved      *prometheus.CounterVec
	rescued    *prometheus.CounterVec
	lapses     *prometheus.CounterVec
	unlooked   *prometheus.CounterVec
	unwritten  *prometheus.CounterVec
	inFlight   *prometheus.GaugeVec
	credit     *prometheus.GaugeVec
	share      *prometheus.GaugeVec
	generation *prometheus.GaugeVec
	routeSeen  *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "refit", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "refit", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	m := &metrics{
		component: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "refit", Subsystem: "gateway", Name: "component_seconds",
			Help:    "Time of one component of an answer.",
			Buckets: telemetry.LatencyBuckets(),
		}, []string{"service", "component", "release", "side"}),
		requests:   counter("requests_total", "Requests that ended, by side and outcome.", "service", "endpoint", "release", "side", "outcome"),
		shed:       counter("shed_total", "Requests turned away before a model server saw them.", "service", "reason"),
		moved:      counter("moved_total", "Canary conversations moved to stable for want of credit.", "service"),
		rescued:    counter("rescued_total", "Requests that stable answered after the canary failed.", "service"),
		lapses:     counter("lease_lapses_total", "Times that a canary share ended because its lease was not renewed.", "service"),
		unlooked:   counter("lookups_failed_total", "Running conversations sent to stable because the registry did not answer in time.", "service"),
		unwritten:  counter("canary_conversations_unwritten_total", "Canary conversations that other gateways were not told of.", "service"),
		inFlight:   gauge("requests_in_flight", "Requests being answered.", "service"),
		credit:     gauge("exposure_credit", "Canary requests that this gateway may admit now.", "service"),
		share:      gauge("canary_share_bp", "Share in force at this gateway, in basis points; 0 while the lease is lapsed.", "service"),
		generation: gauge("route_generation", "Generation of the route that is applied.", "service"),
		routeSeen:  gauge("route_generation_seen", "Generation of the newest route that was seen.", "service"),
	}
	registerer.MustRegister(m.component, m.requests, m.shed, m.moved, m.rescued, m.lapses, m.unlooked, m.unwritten,
		m.inFlight, m.credit, m.share, m.generation, m.routeSeen)
	return m
}

// observe takes the component latencies of one request that was answered by release. A component that
// did not happen is not observed.
func (m *metrics) observe(service string, release lifecycle.Digest, side string, l lifecycle.Latency) {
	for component, seconds := range map[string]float64{
		componentRetrieval: l.Retrieval, componentFirstToken: l.FirstToken, componentModel: l.Model,
		componentPostProcessing: l.PostProcessing, componentTotal: l.Total,
	} {
		if seconds > 0 {
			m.component.WithLabelValues(service, component, release.Short(), side).Observe(seconds)
		}
	}
}

// forget removes the series of a release that no route names any more.
func (m *metrics) forget(service string, release lifecycle.Digest) {
	labels := prometheus.Labels{"service": service, "release": release.Short()}
	m.component.DeletePartialMatch(labels)
	m.requests.DeletePartialMatch(labels)
}
