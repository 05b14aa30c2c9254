package gateway

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/telemetry"
)

// Components of an answer's latency. Their names are the histogram's label.
const (
	componentRetrieval = iota
	componentQueue
	componentFirstToken
	componentOutputToken
	componentModel
	componentPostProcessing
	componentTotal
)

// componentNames spells them. A time per output token is that of a stream after its first one.
var componentNames = []string{"retrieval", "queue", "first_token", "output_token", "model", "post_processing", "total"}

// What else stands in labels. Nothing that a client sends does: services and releases are those of lanes.
var (
	endpointNames = []string{answer.Chat, answer.Completions, answer.Embeddings, answer.Images, "other"}
	sideNames     = []string{sideStable, sideCanary, sideShadow}
	outcomeNames  = []string{answer.OutcomeOK, answer.OutcomeRefused, answer.OutcomeError, answer.OutcomeCanceled}
)

// leavingTime is how long the series of a release stay after no route names it any more: requests that it is still
// answering then are counted, and whoever scrapes sees their last values.
const leavingTime = 10 * time.Minute

// metrics are the gateway's numbers. Releases stand in labels by their first 12 digits; those that a route no
// longer names are removed after a while, so labels stay few.
type metrics struct {
	component  *prometheus.HistogramVec // seconds
	requests   *prometheus.CounterVec
	tokens     *prometheus.CounterVec
	guardrails *prometheus.CounterVec
	shed       *prometheus.CounterVec
	ejected    prometheus.Counter
	dropped    *prometheus.CounterVec // copies for a shadow
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

	mu      sync.Mutex
	leaving map[[2]string]time.Time // series of service and release that are to be removed, and since when
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "refit", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "refit", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	m := &metrics{
		leaving: map[[2]string]time.Time{},
		component: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "refit", Subsystem: "gateway", Name: "component_seconds",
			Help:    "Time of one component of an answer, by how the answer ended. What did not happen is not observed.",
			Buckets: telemetry.LatencyBuckets(),
		}, []string{"service", "component", "release", "side", "outcome"}),
		tokens:     counter("tokens_total", "Tokens as model servers counted them.", "service", "release", "side", "kind"),
		requests:   counter("requests_total", "Requests that ended, by side and outcome.", "service", "endpoint", "release", "side", "outcome"),
		guardrails: counter("guardrail_hits_total", "Answers that a rule of post-processing minded, by rule and place.", "service", "release", "side", "rule"),
		shed:       counter("shed_total", "Requests turned away before a model server saw them.", "service", "reason"),
		dropped:    counter("shadows_dropped_total", "Copies for a shadow that were due and not made, by reason.", "service", "reason"),
		ejected: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "refit", Subsystem: "gateway", Name: "servers_taken_out_total",
			Help: "Times that a model server failed and was left alone for a while.",
		}),
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
	registerer.MustRegister(m.component, m.requests, m.tokens, m.guardrails, m.ejected, m.dropped, m.shed, m.moved, m.rescued, m.lapses, m.unlooked, m.unwritten,
		m.inFlight, m.credit, m.share, m.generation, m.routeSeen)
	return m
}

// laneNumbers are the numbers of one service that every request touches.
type laneNumbers struct{ inFlight, credit, share prometheus.Gauge }

func (m *metrics) lane(service string) laneNumbers {
	return laneNumbers{m.inFlight.WithLabelValues(service), m.credit.WithLabelValues(service), m.share.WithLabelValues(service)}
}

// meter is the numbers of one release of one service. Its series are looked up once and not with every request,
// and there are none before something happened.
type meter struct {
	metrics          *metrics
	service, release string
	ways             [3][4]atomic.Pointer[way] // by side and outcome
}

// way is one side and outcome of a release.
type way struct {
	components []prometheus.Observer
	requests   []prometheus.Counter // by endpoint
	prompt     prometheus.Counter
	completion prometheus.Counter
}

// meter gives the numbers of a release, which from now on are not removed.
func (m *metrics) meter(service string, release lifecycle.Digest) *meter {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.leaving, [2]string{service, release.Short()})
	return &meter{metrics: m, service: service, release: release.Short()}
}

// ended counts one side's part of a request, also of one whose client has left.
func (m *meter) ended(endpoint, side, outcome string, l lifecycle.Latency, u lifecycle.Usage) {
	w := m.way(slices.Index(sideNames, side), slices.Index(outcomeNames, outcome))
	at := slices.Index(endpointNames, endpoint)
	if at < 0 {
		at = len(endpointNames) - 1
	}
	w.requests[at].Inc()
	w.prompt.Add(float64(u.Prompt))
	w.completion.Add(float64(u.Completion))
	w.components[componentQueue].Observe(l.Queue)
	w.components[componentTotal].Observe(l.Total)
	w.observe(componentRetrieval, l.Retrieval)
	w.observe(componentFirstToken, l.FirstToken)
	w.observe(componentModel, l.Model)
	w.observe(componentPostProcessing, l.PostProcessing)
	if l.FirstToken > 0 && u.Completion > 1 {
		w.observe(componentOutputToken, (l.Model+l.PostProcessing-l.FirstToken)/float64(u.Completion-1))
	}
}

// minded counts the rules that minded an answer. Their names are the release's own: kind, place and, for personal data,
// what it was.
func (m *meter) minded(side string, rules []string) {
	for _, rule := range rules {
		m.metrics.guardrails.WithLabelValues(m.service, m.release, side, rule).Inc()
	}
}

func (w *way) observe(component int, seconds float64) {
	if seconds > 0 {
		w.components[component].Observe(seconds)
	}
}

// way finds the series of a side and an outcome. An outcome that nobody knows is an error.
func (m *meter) way(side, outcome int) *way {
	if outcome < 0 {
		outcome = slices.Index(outcomeNames, answer.OutcomeError)
	}
	at := &m.ways[max(side, 0)][outcome]
	if w := at.Load(); w != nil {
		return w
	}
	sideName, outcomeName := sideNames[max(side, 0)], outcomeNames[outcome]
	w := &way{
		prompt:     m.metrics.tokens.WithLabelValues(m.service, m.release, sideName, "prompt"),
		completion: m.metrics.tokens.WithLabelValues(m.service, m.release, sideName, "completion"),
	}
	for _, component := range componentNames {
		w.components = append(w.components, m.metrics.component.WithLabelValues(m.service, component, m.release, sideName, outcomeName))
	}
	for _, endpoint := range endpointNames {
		w.requests = append(w.requests, m.metrics.requests.WithLabelValues(m.service, endpoint, m.release, sideName, outcomeName))
	}
	at.Store(w) // two that come here at once found the same series
	return w
}

// forget begins to forget a release that no route names any more.
func (m *metrics) forget(service string, release lifecycle.Digest, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving[[2]string{service, release.Short()}] = now
}

// sweep removes the series of releases that left long enough ago.
func (m *metrics) sweep(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for gone, since := range m.leaving {
		if now.Sub(since) < leavingTime {
			continue
		}
		delete(m.leaving, gone)
		labels := prometheus.Labels{"service": gone[0], "release": gone[1]}
		m.component.DeletePartialMatch(labels)
		m.requests.DeletePartialMatch(labels)
		m.tokens.DeletePartialMatch(labels)
		m.guardrails.DeletePartialMatch(labels)
	}
}
