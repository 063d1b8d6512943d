package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/batch"
)

// Model is a bundle that is loaded. It is safe for concurrent use.
type Model struct {
	bundle          *bundle.Bundle
	spec            imaging.Spec
	levels          levels
	runtime         *Runtime
	session         *session
	inputs, outputs []Declared                    // outputs: those that the manifest names, the scores first
	free            bool                          // several rows may share a run
	batcher         *batch.Batcher[item, *Result] // nil: no batching
	placement       string                        // which nodes run where
	worst           float64                       // greatest difference from the goldens
	heatmap         Heatmap                       // what the heat map is

	mu      sync.Mutex
	users   int
	closing bool
	idle    chan struct{} // closed when closing and no user is left
}

// ErrClosed means that the model was unloaded.
var ErrClosed = errors.New("the model is unloaded")

// Open loads a bundle that bundle.Read or bundle.Fetch verified, checks the
// goldens and warms the session up. Its runs wait for their turn like everybody's.
func Open(ctx context.Context, r *Runtime, b *bundle.Bundle) (*Model, error) {
	m, err := open(ctx, r, b)
	if err != nil {
		return nil, fmt.Errorf("load model %s %s: %w", b.Manifest.Name, b.Digest, err)
	}
	return m, nil
}

func open(ctx context.Context, r *Runtime, b *bundle.Bundle) (*Model, error) {
	spec := SpecOf(b.Manifest.Input)
	if err := spec.Validate(); err != nil && b.Manifest.Task == bundle.TaskMultilabel {
		return nil, fmt.Errorf("%s: input.%w", bundle.ManifestFile, err)
	}
	m := &Model{bundle: b, spec: spec, levels: levelsOf(b.Manifest.Input), runtime: r, idle: make(chan struct{})}
	if r.batch.On() {
		m.batcher = batch.New[item, *Result](r.batch, together{m})
	}
	err := r.provider.guard(func() error {
		if err := m.start(); err != nil {
			return err
		}
		if err := m.checkGoldens(ctx); err != nil {
			return errors.Join(err, m.destroy())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// SpecOf is the preprocessing that a manifest's input asks for.
func SpecOf(in bundle.Input) imaging.Spec {
	return imaging.Spec{Width: in.Width, Height: in.Height, Channels: in.Channels, Filter: in.Filter, Decoder: in.Decoder}
}

// start opens the session for a graph that fits the manifest.
func (m *Model) start() (err error) {
	if err := m.fit(); err != nil {
		return err
	}
	m.session, err = openSession(m.runtime, m.bundle.Path(bundle.ModelFile), m.inputs, m.outputs, "")
	if err != nil {
		return err
	}
	m.session.scale = int64(m.bundle.Manifest.SuperResolution.Scale)
	if err := m.session.layable(); err != nil {
		return errors.Join(err, m.destroy())
	}
	return nil
}

// limits are those of images.
func (m *Model) limits() imaging.Limits { return m.runtime.decoder.Limits }

// Name is the model's name, of its manifest.
func (m *Model) Name() string { return m.bundle.Manifest.Name }

// Digest is that of the bundle.
func (m *Model) Digest() string { return m.bundle.Digest }

// Bundle is what was loaded.
func (m *Model) Bundle() *bundle.Bundle { return m.bundle }

// Spec is how pictures are preprocessed.
func (m *Model) Spec() imaging.Spec { return m.spec }

// Task is the bundle's: multilabel, super-resolution or tensor.
func (m *Model) Task() string { return m.bundle.Manifest.Task }

// Provider is the one that runs the graph, as it was seen at load.
func (m *Model) Provider() string { return m.runtime.provider.name }

// Placement says how many of the graph's nodes run where.
func (m *Model) Placement() string { return m.placement }

// Batches tells whether requests to this model share runs.
func (m *Model) Batches() bool { return m.batcher != nil && m.free }

// Inputs are the tensors that Infer takes, in the graph's order.
func (m *Model) Inputs() []Declared { return slices.Clone(m.inputs) }

// Outputs are the tensors that Infer gives.
func (m *Model) Outputs() []Declared { return slices.Clone(m.outputs) }

// GoldenDifference is the greatest absolute difference between the session's
// outputs and the goldens'.
func (m *Model) GoldenDifference() float64 { return m.worst }

// Acquire keeps the model loaded until the returned function is called. After
// Close it gives ErrClosed.
func (m *Model) Acquire() (release func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return nil, ErrClosed
	}
	m.users++
	return sync.OnceFunc(m.release), nil
}

// retain keeps the model loaded for something that a user began, which may go
// on after the user has left.
func (m *Model) retain() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
	return sync.OnceFunc(m.release)
}

func (m *Model) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	if m.closing && m.users == 0 {
		close(m.idle)
	}
}

// Close lets no new user in, waits for those that are there, destroys the
// session and gives its memory back. It is called once.
func (m *Model) Close() error {
	m.mu.Lock()
	if m.closing {
		m.mu.Unlock()
		return ErrClosed
	}
	m.closing = true
	if m.users == 0 {
		close(m.idle)
	}
	m.mu.Unlock()
	<-m.idle
	return m.destroy()
}

func (m *Model) destroy() error {
	err := m.session.destroy()
	m.runtime.pool.Trim()
	returnMemory()
	if err != nil {
		return fmt.Errorf("unload model %s: %w", m.bundle.Digest, err)
	}
	return nil
}
