// Package host owns which model answers under a name: loading by digest,
// rehearsing on the requests that came last, swapping while requests go on,
// draining the one before, unloading, and remembering all that over a restart.
//
// A load that fails in any way changes nothing but the status, which then says
// why. Several names stand side by side in a Set: each has its own status, its
// own memory over a restart, and its own turn to load.
//
// How a server is put together:
//
//	load := host.FromBucket(bucket, cacheDir, runtime)
//	set, err := host.NewSet(names, stateDir, load, observer, log,
//		host.Options{Replay: replay.DefaultLimits, Tidy: host.KeepBundles(cacheDir, 8, log)})
//	go set.Resume(ctx)             // what was served before the restart
//	service.Served{Host: set.Host(name), …}   // Use, and Ring to remember requests in
//	admin.New(set, access, metrics)
//	defer set.Close()              // after the listeners are shut
//
// The queue in front of a model belongs to its name and outlives swaps; it
// stands with the service and knows nothing of this.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/replay"
)

// States of a host.
const (
	Empty     = "empty" // nothing was asked for yet
	Loading   = "loading"
	Ready     = "ready"
	Failed    = "failed"
	Unloading = "unloading" // it answers no more, and requests that it took go on
	Unloaded  = "unloaded"  // on request
)

// Status is what became of the newest request to load or unload. Digest is the
// one that was asked for, Serving the one that answers; in the state ready they
// are the same. Draining are those that answer no more and hold their memory
// until the requests that they took have ended, the oldest first.
type Status struct {
	Digest   string         `json:"digest"`
	State    string         `json:"state"`
	Reason   string         `json:"reason,omitempty"`
	Serving  string         `json:"serving,omitempty"`
	Draining []string       `json:"draining,omitempty"`
	Progress string         `json:"progress,omitempty"` // of a load: what it is at
	Replay   *replay.Report `json:"replay,omitempty"`   // of the newest load, where there was something to replay
}

// ErrNoModel means that nothing is served yet.
var ErrNoModel = errors.New("no model is loaded")

// Load brings a model by its digest, verified and warmed up. It may call
// Progress with its context.
type Load func(ctx context.Context, digest string) (*model.Model, error)

// Observer is told which digest answers from now on, and what became of loads.
type Observer interface {
	Serving(digest string)
	NotServing()
	Load(metrics.Result)
}

// Options are a host's.
type Options struct {
	Replay replay.Limits // the zero value replays nothing
	// Drain is how long an unload waits for requests that go on, and after
	// which a swapped-out model that still has some is told of in the log;
	// 0: 30 s.
	Drain time.Duration
	// Enlarge answers a picture by a super-resolution model, as tensors that
	// can be compared. Without it only such models' tensors are replayed.
	Enlarge func(ctx context.Context, m *model.Model, picture []byte) ([]oip.Tensor, error)
	// Tidy is called after every load, well or not: what was fetched takes room,
	// also where it was refused. It is called again when a model that drained is
	// gone. nil: nothing is tidied.
	Tidy func(context.Context)
}

// Host serves one model name.
type Host struct {
	name     string
	state    memory
	load     Load
	observer Observer
	log      *slog.Logger
	options  Options
	ring     *replay.Ring

	turn    chan struct{} // one load or unload at a time
	closing sync.Once
	life    context.Context // ends when closing begins
	endLife context.CancelFunc

	mu       sync.Mutex
	status   Status
	current  *model.Model
	draining []string      // digests of models that are not closed yet
	retired  chan struct{} // closed when the one that was retired last is gone, and all before it
}

func newHost(name, stateDir string, load Load, observer Observer, log *slog.Logger, o Options) *Host {
	if o.Drain == 0 {
		o.Drain = 30 * time.Second
	}
	none := make(chan struct{})
	close(none)
	life, endLife := context.WithCancel(context.Background())
	return &Host{
		name: name, state: memoryOf(stateDir, name),
		load: load, observer: observer, log: log, options: o, ring: replay.NewRing(o.Replay),
		turn: make(chan struct{}, 1), life: life, endLife: endLife, status: Status{State: Empty}, retired: none,
	}
}

// Name is the model name under which the host answers.
func (h *Host) Name() string { return h.name }

// Ring is where the service remembers the requests that were answered, for the
// next load's replay.
func (h *Host) Ring() *replay.Ring { return h.ring }

// Status says how the host stands.
func (h *Host) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.status
	s.Draining = append([]string(nil), h.draining...) // nil where there is none
	return s
}

// Use gives the model that answers now and keeps it loaded until release is
// called. Without a model it gives ErrNoModel.
func (h *Host) Use() (m *model.Model, release func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil {
		return nil, nil, ErrNoModel
	}
	release, err = h.current.Acquire()
	return h.current, release, err
}

// Assign makes the digest the one that answers and returns when it does, or
// when it is clear that it will not. A digest that answers already is left
// alone. One load goes on at a time; others wait for their turn.
func (h *Host) Assign(ctx context.Context, digest string) (Status, error) {
	if !bundle.ValidDigest(digest) {
		return h.Status(), fmt.Errorf("digest %q: want 64 lower-case hex digits", digest)
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return h.Status(), err
	}
	defer leave()
	return h.assign(ctx, digest)
}

// assign wants the turn.
func (h *Host) assign(ctx context.Context, digest string) (Status, error) {
	if h.serves(digest) {
		return h.Status(), nil
	}
	h.log.Info("loading", "model", h.name, "digest", digest)
	report, err := h.replace(withProgress(ctx, h.progress), digest)
	if err != nil {
		h.set(Status{Digest: digest, State: Failed, Reason: err.Error(), Replay: report})
		h.observer.Load(metrics.Failed)
		h.log.Error("not loaded", "model", h.name, "digest", digest, "reason", err)
	}
	if h.options.Tidy != nil {
		h.options.Tidy(ctx)
	}
	return h.Status(), err
}

// enter waits for the turn to change what is served.
func (h *Host) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for another load to end: %w", context.Cause(ctx))
	}
}

// serves tells whether the digest answers already, and says so in the status;
// otherwise the status says loading.
func (h *Host) serves(digest string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil || h.current.Digest() != digest {
		h.status = h.with(Status{Digest: digest, State: Loading})
		return false
	}
	if h.status.State != Ready || h.status.Digest != digest {
		h.status = h.with(Status{Digest: digest, State: Ready})
	}
	return true
}

// progress says in the status what a load is at.
func (h *Host) progress(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.Progress = text
}

func (h *Host) set(s Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = h.with(s)
}

// with fills in what is served. It wants the lock.
func (h *Host) with(s Status) Status {
	if h.current != nil {
		s.Serving = h.current.Digest()
	}
	return s
}
