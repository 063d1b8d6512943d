package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/penstock-ml/penstock/serve/admission"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/remote"
)

// work is one request under way.
type work struct {
	s       *Service
	call    Call
	served  *Served // nil: there is no such model
	digest  string
	phases  Phases
	batch   int
	turn    *admission.Turn
	release []func()  // in the order in which they were added
	room    [4]func() // for those of most work
}

func (s *Service) begin(c Call) *work {
	if c.Began.IsZero() {
		c.Began = time.Now()
	}
	w := &work{s: s, call: c, served: s.served(c.Model), digest: metrics.NoDigest}
	w.release = w.room[:0]
	return w
}

func (s *Service) served(name string) *Served {
	for i := range s.o.Models {
		if s.o.Models[i].Host.Name() == name {
			return &s.o.Models[i]
		}
	}
	return nil
}

// use gives the model of the name and version, kept loaded until release.
func (s *Service) use(name, version string) (m *model.Model, release func(), err error) {
	served := s.served(name)
	if served == nil {
		return nil, nil, s.unknown(name)
	}
	m, release, err = served.Host.Use()
	if err != nil {
		return nil, nil, err
	}
	if version != "" && version != m.Digest() {
		release()
		return nil, nil, Bad(NotFound, "version %.64q of model %q is not served: the one version is %s", version, name, m.Digest())
	}
	return m, release, nil
}

// find keeps the model loaded as long as the work goes on.
func (w *work) find() (*model.Model, error) {
	m, release, err := w.s.use(w.call.Model, w.call.Version)
	if err != nil {
		return nil, err
	}
	w.digest = m.Digest()
	w.release = append(w.release, release)
	return m, nil
}

// enter waits for the turn of a request that costs as much as any other. The
// context that it gives ends with the sender's own deadline.
func (w *work) enter(ctx context.Context) (context.Context, error) { return w.enterWith(ctx, 1) }

func (w *work) enterWith(ctx context.Context, cost float64) (context.Context, error) {
	deadline := w.call.Deadline
	if deadline.IsZero() {
		deadline = w.call.Began.Add(w.s.o.SLO)
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		w.release = append(w.release, cancel)
	}
	if w.served.Queue == nil {
		return ctx, nil
	}
	turn, err := w.served.Queue.EnterWith(ctx, deadline, cost)
	if err != nil {
		return nil, err
	}
	w.turn = turn
	w.phases.Queue += turn.Waited()
	return ctx, nil
}

// cost says what the work costs where that was not known before the turn.
func (w *work) cost(cost float64) {
	if w.turn != nil {
		w.turn.Costs(cost)
	}
}

// leave gives the turn back.
func (w *work) leave(ok bool) {
	if w.turn != nil {
		w.turn.Leave(ok)
	}
}

func (w *work) took(p model.Phases) {
	w.phases.Decode += p.Decode
	w.phases.Resize += p.Resize
	w.phases.Queue += p.Queue
	w.phases.Run += p.Run
	w.batch = p.Batch
}

// account hands the rest of the work to the transport: the model stays loaded
// and the result borrowed until the answer is written.
func (w *work) account(release ...func()) Account {
	w.release = append(w.release, release...)
	return Account{Model: w.call.Model, Digest: w.digest, Phases: w.phases, uncounted: w, held: w}
}

// free gives back what the work held.
func (w *work) free() {
	for _, release := range w.release {
		release()
	}
}

// settle is deferred: it turns a panic into an error, and counts what had no
// success.
func (w *work) settle(err *error) {
	if v := recover(); v != nil {
		w.s.o.Log.Error("a request broke", "request", w.call.ID, "trace", w.call.Trace, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = Bad(Internal, "the server broke on this request")
	}
	if *err == nil {
		return
	}
	p := new(*ProblemOf(*err)) // its own: some errors are many requests'
	if w.digest != metrics.NoDigest {
		p.Digest = w.digest
	}
	p.tell(w.call.ID)
	*err = p
	w.leave(false)
	w.free()
	w.count(p)
}

// count counts and logs the request.
func (w *work) count(err error) {
	took := time.Since(w.call.Began) - w.phases.Explain
	counted := metrics.Request{Digest: w.digest, Outcome: metrics.OK, Took: took, Batch: w.batch}
	if err != nil {
		p := ProblemOf(err)
		counted.Outcome, counted.Kind = p.outcome(took, w.allowed(), w.s.o.SLO), string(p.Kind)
	} else {
		counted.Phases = w.phases.List()
	}
	counter := w.s.o.Strays
	if w.served != nil {
		counter = w.served.Counter
	}
	counter.Count(counted)
	w.log(counted, err)
}

// allowed is the time that the sender's own deadline left; the slo without one.
func (w *work) allowed() time.Duration {
	if w.call.Deadline.IsZero() {
		return w.s.o.SLO
	}
	return w.call.Deadline.Sub(w.call.Began)
}

// log says what became of the request: names, times and reasons, never what
// was sent.
func (w *work) log(r metrics.Request, err error) {
	level := slog.LevelInfo
	attributes := append(make([]slog.Attr, 0, 12), // as many as there may be
		slog.String("request", w.call.ID), slog.String("trace", w.call.Trace),
		slog.String("digest", r.Digest), slog.String("outcome", string(r.Outcome)),
		slog.Duration("took", r.Took),
	)
	if w.served != nil { // else the name is the sender's
		attributes = append(attributes, slog.String("model", w.call.Model))
	}
	for _, p := range r.Phases {
		attributes = append(attributes, slog.Duration(p.Name, p.Took))
	}
	if err != nil {
		attributes = append(attributes, slog.String("kind", r.Kind))
		if cause := causeOf(err); cause != nil {
			attributes = append(attributes, slog.Any("cause", cause))
		}
		if r.Outcome == metrics.ServerError {
			level = slog.LevelError
			attributes = append(attributes, slog.String("reason", reasonOf(err)))
		}
	}
	w.s.o.Log.LogAttrs(context.Background(), level, "request", attributes...)
}

// causeOf is why a picture could not be fetched: the operator is told more than
// the sender, and never the URL.
func causeOf(err error) error {
	var r *remote.Refused
	if errors.As(err, &r) {
		return r.Cause
	}
	return nil
}

// reasonOf is the error below the text that the sender gets.
func reasonOf(err error) string {
	var p *Problem
	if errors.As(err, &p) && p.Err != nil {
		return p.Err.Error()
	}
	return err.Error()
}
