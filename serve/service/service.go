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
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
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

// Served is one model name and what belongs to it.
type Served struct {
	Host    Host
	Counter Counter
}

// Options are a service's.
type Options struct {
	Log     *slog.Logger
	Version string        // of the program
	SLO     time.Duration // within which answers are wanted; the deadline of requests that bring none
	Strays  Counter       // counts requests for models that there are not
	Models  []Served      // in the order in which they are shown
}

// Service is safe for concurrent use.
type Service struct {
	o        Options
	draining atomic.Bool
}

// New makes a service.
func New(o Options) *Service { return &Service{o: o} }

// Drain makes the server say that it is not ready, so that balancers turn
// away. Requests that come nevertheless are answered.
func (s *Service) Drain() { s.draining.Store(true) }

// Call is what both kinds of request say of themselves.
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
	Picture []byte // the file's bytes; theirs is what the answer is about, they are not kept
	Explain bool   // heat maps of the positive findings
}

// InferRequest is tensors for any model.
type InferRequest struct {
	Call
	Inputs  []oip.Tensor // in any order; they are not kept
	Outputs []string     // nil: all
}

// Predict answers a picture. The caller writes the answer and then calls
// Release. Errors are *Problem, counted already.
func (s *Service) Predict(ctx context.Context, r PredictRequest) (*Prediction, error) {
	return nil, Bad(Internal, "not built yet")
}

// Infer answers tensors. The caller writes the answer and then calls Release.
// Errors are *Problem, counted already.
func (s *Service) Infer(ctx context.Context, r InferRequest) (*Inference, error) {
	return nil, Bad(Internal, "not built yet")
}

// Reject counts a request that could not even be read, and gives its *Problem.
func (s *Service) Reject(ctx context.Context, c Call, err error) *Problem {
	return ProblemOf(err)
}

// Metadata describes a model; version may be empty. Errors are *Problem.
func (s *Service) Metadata(name, version string) (oip.Model, error) {
	return oip.Model{}, Bad(Internal, "not built yet")
}

// ModelReady is nil where the model answers, else a *Problem.
func (s *Service) ModelReady(name, version string) error { return Bad(Internal, "not built yet") }

// Ready tells whether every model answers and the server is not going away.
func (s *Service) Ready() bool { return false }
