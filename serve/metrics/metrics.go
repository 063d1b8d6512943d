// Package metrics owns what the server counts about itself. Labels are the
// model's name, its digest, the slot and words from short fixed lists: nothing
// of a request and nothing of a patient.
//
//	penstock_requests_total{model, digest, slot, outcome}    ok, client_error, server_error, refused
//	penstock_failures_total{model, digest, slot, kind}       the requests that are no ok, by what went wrong
//	penstock_request_seconds{model, digest, slot}            a boundary lies exactly at the slo
//	penstock_phase_seconds{model, digest, slot, phase}       decode, resize, queue, run, encode, explain; the same boundaries
//	penstock_batch_size{model, digest, slot}                 pictures or tensors that shared a run
//	penstock_queue_waiting{model, slot}                      requests that wait for their turn
//	penstock_queue_running{model, slot}                      requests that have it
//	penstock_model_loaded{model, digest, slot}               1 for the digest that answers
//	penstock_model_draining{model, digest, slot}             those that answer no more and wait for their last request
//	penstock_loads_total{model, slot, result}                loaded, failed, unloaded
//
// Requests that the sender got wrong, and those that were refused, are counted
// but not timed: how fast somebody is turned away says nothing about a model.
// Time runs from the request's last byte to the answer, without the explanation
// that it may have asked for: how slowly somebody sends is not the server's
// fault, and what a heat map costs is not the slo's matter.
//
// A digest's series are kept while it is among the last eight that answered
// under its name: whoever judges a rollout finds the counts of both sides, and
// a server that loads a model every day does not grow.
package metrics

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Outcome is what became of a request.
type Outcome string

// The outcomes. Refused is the server's: it could not keep its time.
const (
	OK          Outcome = "ok"
	ClientError Outcome = "client_error"
	ServerError Outcome = "server_error"
	Refused     Outcome = "refused"
)

// Outcomes are all of them.
var Outcomes = []Outcome{OK, ClientError, ServerError, Refused}

// Result is what became of a load or an unload.
type Result string

// The results.
const (
	Loaded   Result = "loaded"
	Failed   Result = "failed"
	Unloaded Result = "unloaded"
)

// NoDigest stands for the digest where no model is loaded.
const NoDigest = "none"

// keptDigests is for how many digests of a model name the series are kept.
const keptDigests = 8

// usual boundaries in seconds; the slo joins them.
var usual = []float64{0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// batches are the boundaries of batch sizes.
var batches = []float64{1, 2, 4, 8, 16, 32, 64}

// Metrics counts for the models of one process, in one slot.
type Metrics struct {
	slot     string
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	failures *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	phases   *prometheus.HistogramVec
	batch    *prometheus.HistogramVec
	loaded   *prometheus.GaugeVec
	loads    *prometheus.CounterVec
}

// New makes the metrics, with those of the process and of Go beside them.
func New(slot string, slo time.Duration) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		slot: slot, registry: prometheus.NewRegistry(),
		requests: counter("penstock_requests_total", "Requests for a prediction by outcome.", "model", "digest", "slot", "outcome"),
		failures: counter("penstock_failures_total", "Requests without success by what went wrong.", "model", "digest", "slot", "kind"),
		seconds: histogram("penstock_request_seconds", "Seconds from a request's last byte to its answer; bad and refused requests are left out.",
			Boundaries(slo), "model", "digest", "slot"),
		phases: histogram("penstock_phase_seconds", "Seconds that a phase of a successful request took.",
			Boundaries(slo), "model", "digest", "slot", "phase"),
		batch: histogram("penstock_batch_size", "Requests that shared a run.", batches, "model", "digest", "slot"),
		loaded: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "penstock_model_loaded", Help: "1 for the digest that answers.",
		}, []string{"model", "digest", "slot"}),
		loads: counter("penstock_loads_total", "Models loaded, not loaded, and unloaded.", "model", "slot", "result"),
	}
	m.registry.MustRegister(m.requests, m.failures, m.seconds, m.phases, m.batch, m.loaded, m.loads,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	return m
}

// Boundaries are the histograms', in seconds, one of them exactly at slo.
func Boundaries(slo time.Duration) []float64 {
	all := append(slices.Clone(usual), slo.Seconds())
	slices.Sort(all)
	return slices.Compact(all)
}

// Handler answers /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Queue shows a model's queue. It is called once a name.
func (m *Metrics) Queue(model string, waiting, running func() int) {
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name, Help: help, ConstLabels: prometheus.Labels{"model": model, "slot": m.slot},
		}, func() float64 { return float64(value()) })
	}
	m.registry.MustRegister(
		gauge("penstock_queue_waiting", "Requests that wait for their turn.", waiting),
		gauge("penstock_queue_running", "Requests that have their turn.", running))
}

// Draining shows the models of a name that answer no more and hold their memory
// until their last request has ended; digests gives them. It is called once a
// name.
func (m *Metrics) Draining(model string, digests func() []string) {
	m.registry.MustRegister(draining{digests, prometheus.NewDesc("penstock_model_draining",
		"Models that answer no more and hold their memory until their last request has ended.",
		[]string{"digest"}, prometheus.Labels{"model": model, "slot": m.slot})})
}

// draining asks when it is asked: what is gone leaves no series.
type draining struct {
	digests func() []string
	desc    *prometheus.Desc
}

func (d draining) Describe(all chan<- *prometheus.Desc) { all <- d.desc }

func (d draining) Collect(all chan<- prometheus.Metric) {
	count := map[string]float64{} // a digest may have been served, and swapped out, twice
	for _, digest := range d.digests() {
		count[digest]++
	}
	for digest, n := range count {
		all <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, n, digest)
	}
}

// LogLines shows how many lines of the log were lost. It is called once.
func (m *Metrics) LogLines(lost func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "penstock_log_lines_lost_total", Help: "Lines of the log that nobody took.", ConstLabels: prometheus.Labels{"slot": m.slot},
	}, func() float64 { return float64(lost()) }))
}

// Model counts for one model name. It is made once a name.
func (m *Metrics) Model(name string) *Model {
	for _, result := range []Result{Loaded, Failed, Unloaded} {
		m.loads.WithLabelValues(name, m.slot, string(result))
	}
	return &Model{all: m, name: name, seen: map[string]*found{}}
}

// Model is the counters of one model name. It is safe for concurrent use.
type Model struct {
	all  *Metrics
	name string

	mu   sync.Mutex
	kept []string          // digests with series, the one that answers last
	seen map[string]*found // by digest
}

// found are a digest's series, once they are there: to find one by its labels
// takes longer than to count.
type found struct {
	requests map[Outcome]prometheus.Counter
	phases   map[string]prometheus.Observer
	whole    map[*prometheus.HistogramVec]prometheus.Observer // of the requests, by what is observed
}

// Serving starts the digest's series at 0, so that the first error is a rise,
// marks it as the one that answers, and forgets digests of long ago.
func (m *Model) Serving(digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, outcome := range Outcomes {
		m.all.requests.WithLabelValues(m.name, digest, m.all.slot, string(outcome))
	}
	m.all.seconds.WithLabelValues(m.name, digest, m.all.slot)
	m.all.loaded.DeletePartialMatch(prometheus.Labels{"model": m.name})
	m.all.loaded.WithLabelValues(m.name, digest, m.all.slot).Set(1)
	m.kept = slices.DeleteFunc(m.kept, func(d string) bool { return d == digest })
	m.kept = append(m.kept, digest)
	for len(m.kept) > keptDigests {
		m.forget(m.kept[0])
		m.kept = m.kept[1:]
	}
}

// NotServing says that no digest answers any more.
func (m *Model) NotServing() { m.all.loaded.DeletePartialMatch(prometheus.Labels{"model": m.name}) }

// forget wants the lock.
func (m *Model) forget(digest string) {
	delete(m.seen, digest)
	old := prometheus.Labels{"model": m.name, "digest": digest}
	m.all.requests.DeletePartialMatch(old)
	m.all.failures.DeletePartialMatch(old)
	m.all.seconds.DeletePartialMatch(old)
	m.all.phases.DeletePartialMatch(old)
	m.all.batch.DeletePartialMatch(old)
}

// Phase is a part of a request and how long it took.
type Phase struct {
	Name string // from a short fixed list
	Took time.Duration
}

// Request is what is counted of one request.
type Request struct {
	Digest  string
	Outcome Outcome
	Kind    string        // of the failure, from a short fixed list; empty for ok
	Took    time.Duration // from the last byte to the answer, without the explanation
	Phases  []Phase       // of a success
	Batch   int           // requests that shared the run; 0: unknown
}

// Count records one request.
func (m *Model) Count(r Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.find(r.Digest)
	once(f.requests, r.Outcome, func() prometheus.Counter {
		return m.all.requests.WithLabelValues(m.name, r.Digest, m.all.slot, string(r.Outcome))
	}).Inc()
	if r.Outcome != OK {
		m.all.failures.WithLabelValues(m.name, r.Digest, m.all.slot, r.Kind).Inc()
	}
	if r.Outcome == OK || r.Outcome == ServerError {
		once(f.whole, m.all.seconds, func() prometheus.Observer {
			return m.all.seconds.WithLabelValues(m.name, r.Digest, m.all.slot)
		}).Observe(r.Took.Seconds())
	}
	for _, p := range r.Phases {
		once(f.phases, p.Name, func() prometheus.Observer {
			return m.all.phases.WithLabelValues(m.name, r.Digest, m.all.slot, p.Name)
		}).Observe(p.Took.Seconds())
	}
	if r.Batch > 0 {
		once(f.whole, m.all.batch, func() prometheus.Observer {
			return m.all.batch.WithLabelValues(m.name, r.Digest, m.all.slot)
		}).Observe(float64(r.Batch))
	}
}

// find wants the lock.
func (m *Model) find(digest string) *found {
	return once(m.seen, digest, func() *found {
		return &found{map[Outcome]prometheus.Counter{}, map[string]prometheus.Observer{}, map[*prometheus.HistogramVec]prometheus.Observer{}}
	})
}

// once finds what is known, or makes it known.
func once[K comparable, V any](known map[K]V, key K, find func() V) V {
	v, ok := known[key]
	if !ok {
		v = find()
		known[key] = v
	}
	return v
}

// Load records a load or an unload. Its digest is no label: of those that fail
// there is no end.
func (m *Model) Load(result Result) {
	m.all.loads.WithLabelValues(m.name, m.all.slot, string(result)).Inc()
}
