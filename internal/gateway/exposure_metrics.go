package gateway

import "github.com/prometheus/client_golang/prometheus"

// exposureMetrics are what the exposure of canaries costs and meets.
type exposureMetrics struct {
	undrawn     *prometheus.CounterVec
	pool        *prometheus.GaugeVec
	short       *prometheus.CounterVec
	tokens      *prometheus.CounterVec
	tokenCredit *prometheus.GaugeVec
	reserved    *prometheus.GaugeVec
}

func newExposureMetrics(registerer prometheus.Registerer) *exposureMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "refit", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "refit", Subsystem: "gateway", Name: name, Help: help}, []string{"service"})
	}
	m := &exposureMetrics{
		undrawn:     counter("credit_unanswered_total", "Questions to the pool of exposure credit that got no answer; meanwhile no new conversation goes to the canary.", "service"),
		pool:        gauge("exposure_pool", "Canary requests that all gateways together may admit now, as the pool said last."),
		short:       counter("tokens_short_total", "Requests that stable answers because the canary's token credit did not afford them.", "service"),
		tokens:      counter("exposure_tokens_total", "Tokens of answers during a rollout whose tokens are counted.", "service", "side"),
		tokenCredit: gauge("exposure_token_credit", "Tokens that this gateway may reserve for canary requests now."),
		reserved:    gauge("exposure_tokens_reserved", "Tokens reserved for canary requests in flight."),
	}
	registerer.MustRegister(m.undrawn, m.pool, m.short, m.tokens, m.tokenCredit, m.reserved)
	return m
}
