package gateway

import "github.com/prometheus/client_golang/prometheus"

// exposureMetrics are what the exposure of canaries costs and meets.
type exposureMetrics struct {
	undrawn *prometheus.CounterVec
	pool    *prometheus.GaugeVec
}

func newExposureMetrics(registerer prometheus.Registerer) *exposureMetrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "refit", Subsystem: "gateway", Name: name, Help: help}
	}
	m := &exposureMetrics{
		undrawn: prometheus.NewCounterVec(prometheus.CounterOpts(opts("credit_unanswered_total",
			"Questions to the pool of exposure credit that got no answer; meanwhile no new conversation goes to the canary.")), []string{"service"}),
		pool: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("exposure_pool",
			"Canary requests that all gateways together may admit now, as the pool said last.")), []string{"service"}),
	}
	registerer.MustRegister(m.undrawn, m.pool)
	return m
}
