// Package service owns what a request for a prediction is, whatever the way it
// came: it finds the model, waits for its turn or is refused, runs, is
// explained, is remembered for the replay, and is counted. REST and gRPC are
// thin on top of it: they read, call, and write.
//
// Whose fault a failure is, is kept apart strictly (Kind): a model's fault
// never looks like a bad picture, as the canary is judged by it.
//
// Refused: a model or version that is not served, a task asked of a model that
// has another, work that would not be done before its deadline. A panic in a
// request is that request's failure.
package service

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/admission"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
)

// Host is the model that answers under a name.
type Host interface {
	Name() string
	Use() (m *model.Model, release func(), err error)
}

// Counter is told once what became of a request.
type Counter interface {
	Count(metrics.Request)
}

// Recorder remembers what was answered, for the replay on the next model. It
// copies what it keeps.
type Recorder interface {
	AddPicture(data []byte)
	AddTensors(inputs []oip.Tensor, outputs []string)
}

// Served is one model name and what belongs to it.
type Served struct {
	Host    Host
	Counter Counter
	Queue   *admission.Queue // nil: everybody is let in
	Replay  Recorder         // nil: nothing is remembered
}

// Options are a service's.
type Options struct {
	Log      *slog.Logger
	Version  string        // of the program
	SLO      time.Duration // within which answers are wanted; the deadline of requests that bring none
	Strays   Counter       // counts requests for models that there are not
	Models   []Served      // in the order in which they are shown
	Enlarger Enlarger      // nil: super-resolution models answer tensors only
	// ExplainTerm bounds an explanation where the request has no deadline of its
	// own; 0: 10 s.
	ExplainTerm time.Duration
	// Explainers is how many requests are explained at a time, at least one. They
	// stand outside of the queue, and what a heat map costs must not make
	// predictions wait: half of the CPUs are enough.
	Explainers int
}

// Service is safe for concurrent use.
type Service struct {
	o          Options
	explaining chan struct{}
	draining   atomic.Bool
}

// New makes a service.
func New(o Options) *Service {
	if o.ExplainTerm == 0 {
		o.ExplainTerm = 10 * time.Second
	}
	return &Service{o: o, explaining: make(chan struct{}, max(1, o.Explainers))}
}

// Version is the program's.
func (s *Service) Version() string { return s.o.Version }

// Drain makes the server say that it is not ready, so that balancers turn
// away. Requests that come nevertheless are answered.
func (s *Service) Drain() { s.draining.Store(true) }

// NewID makes a request id: rand.Text in lower case.
func NewID() string {
	var id [26]byte
	_, _ = rand.Read(id[:]) // it never fails: it ends the program instead
	for i, b := range id {
		id[i] = "abcdefghijklmnopqrstuvwxyz234567"[b%32]
	}
	return string(id[:])
}

// Call is what every request says of itself.
type Call struct {
	Model   string    // name
	Version string    // digest; empty: the one that answers
	ID      string    // the request's, of this server; NewID makes one
	Trace   string    // W3C trace id; empty: none
	Began   time.Time // when the last byte had come; zero: now
	// Deadline is the sender's own; the work ends with it. Zero: Began + slo,
	// which decides only whether the request is begun.
	Deadline time.Time
}

// PredictRequest is a picture for a model with the task multilabel or
// super-resolution.
type PredictRequest struct {
	Call
	Picture []byte // the file's bytes; they are not kept beyond the call
	Explain bool   // heat maps of the positive findings
}

// InferRequest is tensors for any model.
type InferRequest struct {
	Call
	Inputs  []oip.Tensor // in any order; they are not kept beyond the call
	Outputs []string     // nil: all
	// Parse makes both of what was sent, where that is work: it is done when
	// the request has its turn, so that nothing is spent on one that is refused.
	// nil: they are there.
	Parse func() (inputs []oip.Tensor, outputs []string, err error)
}

// Predict answers a picture. The caller writes the answer and then calls
// Release. Errors are *Problem, counted already.
func (s *Service) Predict(ctx context.Context, r PredictRequest) (p *Prediction, err error) {
	w := s.begin(r.Call)
	defer w.settle(&err)
	m, err := w.find()
	if err != nil {
		return nil, err
	}
	switch {
	case r.Explain && m.Task() != bundle.TaskMultilabel:
		return nil, Bad(BadInput, "model %q has no findings to explain: its task is %s", m.Name(), m.Task())
	case m.Task() == bundle.TaskMultilabel:
		return w.score(ctx, m, r)
	case m.Task() == bundle.TaskSuperResolution && s.o.Enlarger != nil:
		return w.enlarge(ctx, m, r)
	}
	return nil, Bad(Unsupported, "model %q takes no pictures: its task is %s; send tensors to /v2/models/%s/infer", m.Name(), m.Task(), m.Name())
}

// Infer answers tensors. The caller writes the answer and then calls Release.
// Errors are *Problem, counted already.
func (s *Service) Infer(ctx context.Context, r InferRequest) (i *Inference, err error) {
	w := s.begin(r.Call)
	defer w.settle(&err)
	m, err := w.find()
	if err != nil {
		return nil, err
	}
	ctx, err = w.enter(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.parse(&r); err != nil {
		return nil, err
	}
	if m.Task() == bundle.TaskSuperResolution {
		w.cost(pixelsIn(r.Inputs) / 1e6)
	}
	result, err := m.Infer(ctx, r.Inputs, r.Outputs)
	w.leave(err == nil)
	if err != nil {
		return nil, err
	}
	w.took(result.Phases)
	if w.served.Replay != nil {
		w.served.Replay.AddTensors(r.Inputs, r.Outputs)
	}
	return &Inference{Account: w.account(result.Release), Outputs: result.Outputs}, nil
}

func (w *work) parse(r *InferRequest) (err error) {
	if r.Parse == nil {
		return nil
	}
	began := time.Now()
	r.Inputs, r.Outputs, err = r.Parse()
	w.phases.Decode = time.Since(began)
	return err
}

// Reject counts a request that could not even be read, and gives its *Problem.
func (s *Service) Reject(c Call, err error) *Problem {
	w := s.begin(c)
	if w.served != nil {
		if m, findErr := w.find(); findErr == nil {
			w.digest = m.Digest()
		}
	}
	w.settle(&err)
	return ProblemOf(err)
}
