package authz

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsPath is on the health listener alone: what is counted is nobody else's business.
const metricsPath = "/metrics"

// metrics are what a monitoring system reads (Prometheus text format).
type metrics struct {
	registry *prometheus.Registry
	refusals *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "countersign_refusals_total",
		Help: "Attempts of customers that were refused: what was tried (login, recovery, sign_up, ...), and why (wrong, blocked, busy, ...).",
	}, []string{"action", "reason"})}
	m.registry.MustRegister(m.refusals, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// refused counts a refusal.
func (m *metrics) refused(action, reason string) { m.refusals.WithLabelValues(action, reason).Inc() }

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
