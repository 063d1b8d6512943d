// Package metrics owns what the server counts about itself. Labels are the
// model's name, its digest, the slot and the outcome: nothing of a request and
// nothing of a patient.
//
//	penstock_requests_total{model, digest, slot, outcome}   outcome: ok, client_error, server_error
//	penstock_request_seconds{model, digest, slot}           a boundary lies exactly at the slo
//	penstock_model_loaded{model, digest, slot}              1 for the digest that answers
//
// Requests that the sender got wrong are counted but not timed: how fast a bad
// picture is refused says nothing about a model. Time runs from the request's
// last byte to the answer: how slowly somebody sends is not the server's fault.
package metrics

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Outcome is what became of a request.
type Outcome string

// The outcomes.
const (
	OK          Outcome = "ok"
	ClientError Outcome = "client_error"
	ServerError Outcome = "server_error"
)

// NoDigest stands for the digest where no model is loaded.
const NoDigest = "none"

// usual boundaries in seconds; the slo joins them.
var usual = []float64{0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Metrics counts for one model name in one slot.
type Metrics struct {
	model, slot string
	registry    *prometheus.Registry
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	loaded      *prometheus.GaugeVec
}

// New makes the metrics, with those of the process and of Go beside them.
func New(model, slot string, slo time.Duration) *Metrics {
	m := &Metrics{
		model: model, slot: slot, registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "penstock_requests_total", Help: "Requests for a prediction by outcome.",
		}, []string{"model", "digest", "slot", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "penstock_request_seconds", Help: "Seconds from a request's last byte to its answer; bad requests are left out.",
			Buckets: Boundaries(slo),
		}, []string{"model", "digest", "slot"}),
		loaded: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "penstock_model_loaded", Help: "1 for the digest that answers.",
		}, []string{"model", "digest", "slot"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.loaded,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	return m
}

// Boundaries are the histogram's, in seconds, one of them exactly at slo.
func Boundaries(slo time.Duration) []float64 {
	all := append(slices.Clone(usual), slo.Seconds())
	slices.Sort(all)
	return slices.Compact(all)
}

// Serving starts the digest's series at 0, so that the first error is a rise,
// and marks it as the one that answers.
func (m *Metrics) Serving(digest string) {
	for _, outcome := range []Outcome{OK, ClientError, ServerError} {
		m.requests.WithLabelValues(m.model, digest, m.slot, string(outcome))
	}
	m.seconds.WithLabelValues(m.model, digest, m.slot)
	m.loaded.Reset()
	m.loaded.WithLabelValues(m.model, digest, m.slot).Set(1)
}

// Count records one request.
func (m *Metrics) Count(digest string, outcome Outcome, took time.Duration) {
	m.requests.WithLabelValues(m.model, digest, m.slot, string(outcome)).Inc()
	if outcome != ClientError {
		m.seconds.WithLabelValues(m.model, digest, m.slot).Observe(took.Seconds())
	}
}

// Handler answers /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}
