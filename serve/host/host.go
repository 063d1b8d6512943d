// Package host owns which model answers under a name: loading by digest,
// swapping while requests go on, draining the one before, and remembering the
// digest over a restart.
//
// A load that fails in any way changes nothing but the status, which then says
// why.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/model"
)

// States of a host.
const (
	Empty   = "empty" // nothing was asked for yet
	Loading = "loading"
	Ready   = "ready"
	Failed  = "failed"
)

// Status is what became of the newest request to load. Digest is the one that
// was asked for, Serving the one that answers; in the state ready they are the
// same.
type Status struct {
	Digest  string `json:"digest"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Serving string `json:"serving,omitempty"`
}

// ErrNoModel means that nothing is served yet.
var ErrNoModel = errors.New("no model is loaded")

// Load brings a model by its digest, verified and warmed up.
type Load func(ctx context.Context, digest string) (*model.Model, error)

// Observer is told which digest answers from now on.
type Observer interface{ Serving(digest string) }

// Host serves one model name.
type Host struct {
	name     string
	state    string // file that holds the assigned digest
	load     Load
	observer Observer
	log      *slog.Logger

	turn     chan struct{} // one load at a time
	retiring sync.WaitGroup

	mu      sync.Mutex
	status  Status
	current *model.Model
}

// New makes a host that keeps its assignment in stateDir.
func New(name, stateDir string, load Load, observer Observer, log *slog.Logger) *Host {
	return &Host{
		name: name, state: filepath.Join(stateDir, name+".json"),
		load: load, observer: observer, log: log,
		turn: make(chan struct{}, 1), status: Status{State: Empty},
	}
}

// Name is the model name under which the host answers.
func (h *Host) Name() string { return h.name }

// Status says how the host stands.
func (h *Host) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
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
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return h.Status(), fmt.Errorf("waiting for another load to end: %w", context.Cause(ctx))
	}
	if h.serves(digest) {
		return h.Status(), nil
	}
	h.log.Info("loading", "model", h.name, "digest", digest)
	err := h.replace(ctx, digest)
	if err != nil {
		h.set(Status{Digest: digest, State: Failed, Reason: err.Error()})
		h.log.Error("not loaded", "model", h.name, "digest", digest, "reason", err)
	}
	return h.Status(), err
}

// serves tells whether the digest answers already, and says so in the status;
// otherwise the status says loading.
func (h *Host) serves(digest string) bool {
	h.mu.Lock()
	same := h.current != nil && h.current.Digest() == digest
	h.mu.Unlock()
	if same {
		h.set(Status{Digest: digest, State: Ready})
	} else {
		h.set(Status{Digest: digest, State: Loading})
	}
	return same
}

// set fills in what is served.
func (h *Host) set(s Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current != nil {
		s.Serving = h.current.Digest()
	}
	h.status = s
}

func (h *Host) replace(ctx context.Context, digest string) error {
	next, err := h.load(ctx, digest)
	if err != nil {
		return err
	}
	if next.Name() != h.name {
		err := fmt.Errorf("the bundle %s is of the model %q, this server serves %q", digest, next.Name(), h.name)
		return errors.Join(err, next.Close())
	}
	// Before the swap: what answers must also answer after a restart.
	if err := h.remember(digest); err != nil {
		return errors.Join(err, next.Close())
	}
	h.observer.Serving(digest)
	h.mu.Lock()
	previous := h.current
	h.current = next
	h.status = Status{Digest: digest, State: Ready, Serving: digest}
	h.mu.Unlock()
	h.log.Info("serving", "model", h.name, "digest", digest, "golden_difference", next.GoldenDifference())
	h.retire(previous)
	return nil
}

// retire closes a model in the background, after its last request.
func (h *Host) retire(m *model.Model) {
	if m == nil {
		return
	}
	h.retiring.Go(func() {
		if err := m.Close(); err != nil {
			h.log.Error("not unloaded", "model", h.name, "digest", m.Digest(), "reason", err)
			return
		}
		h.log.Info("unloaded", "model", h.name, "digest", m.Digest())
	})
}

// assignment is the state file.
type assignment struct {
	Digest string `json:"digest"`
}

func (h *Host) remember(digest string) error {
	data, err := json.Marshal(assignment{digest})
	if err != nil {
		return err
	}
	if err := verdict.WriteFile(h.state, append(data, '\n')); err != nil {
		return fmt.Errorf("remember the model for a restart: %w", err)
	}
	return nil
}

// Resume loads what was served before the restart; without a memory it does
// nothing. A failure is in the status too: the server stays up for the admin
// listener to tell it better.
func (h *Host) Resume(ctx context.Context) error {
	data, err := os.ReadFile(h.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var before assignment
	if err == nil {
		err = json.Unmarshal(data, &before)
	}
	if err != nil {
		err = fmt.Errorf("which model was served before cannot be read from %s: %w", h.state, err)
		h.set(Status{State: Failed, Reason: err.Error()})
		return err
	}
	_, err = h.Assign(ctx, before.Digest)
	return err
}

// Close waits for the requests that go on and unloads everything.
func (h *Host) Close() {
	h.mu.Lock()
	last := h.current
	h.current = nil
	h.mu.Unlock()
	h.retire(last)
	h.retiring.Wait()
}
