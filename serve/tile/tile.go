package tile

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/service"
)

// Limits of an Enlarger.
const (
	// DefaultMemory is what the runs of a model may take at a time, in bytes.
	DefaultMemory = 512 << 20
	// LeastMemory is what no network does without.
	LeastMemory = 16 << 20
	// maxPixels of an answer: its PNG, which is kept until it is sent, takes up
	// to three bytes for each.
	maxPixels = 100_000_000
	// comparable is the largest answer that a replay compares, in bytes.
	comparable = 64 << 20
	// engines kept: the models that are served, and those that were.
	engines = 16
)

// Enlarger enlarges whole pictures. It is safe for concurrent use.
type Enlarger struct {
	bounds   Bounds
	pictures *semaphore.Weighted // that are enlarged at a time
	mu       sync.Mutex
	engines  map[string]*engine // by the bundle's digest
}

// New makes an Enlarger.
func New(b Bounds) *Enlarger {
	return &Enlarger{bounds: b, pictures: semaphore.NewWeighted(int64(max(b.Runs, 1))), engines: map[string]*engine{}}
}

// Learn looks at the graph of a super-resolution model. The error is a graph
// that does not do what its manifest says.
func (e *Enlarger) Learn(m *model.Model) (Traits, error) {
	made, err := e.engine(m)
	if err != nil {
		return Traits{}, err
	}
	return made.traits, nil
}

func (e *Enlarger) engine(m *model.Model) (*engine, error) {
	if known := e.known(m); known != nil {
		return known, nil
	}
	traits, err := Look(m.Bundle())
	if err != nil {
		return nil, fmt.Errorf("model %s %s: %w", m.Name(), m.Digest(), err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.engines) >= engines {
		clear(e.engines)
	}
	made := newEngine(m, traits, e.bounds, m.Bundle().Manifest.SuperResolution.Levels)
	e.engines[m.Digest()] = made
	return made, nil
}

func (e *Enlarger) known(m *model.Model) *engine {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.engines[m.Digest()]; known != nil && known.runner == Runner(m) {
		return known
	}
	return nil
}

// Enlarge answers a picture with a PNG. *imaging.Error is the sender's fault.
func (e *Enlarger) Enlarge(ctx context.Context, m *model.Model, picture []byte) (*service.Enlargement, error) {
	var file *writer
	var encode time.Duration
	out := &service.Enlargement{}
	shape, phases, err := e.enlarge(ctx, m, picture, maxPixels, func(rows imaging.Pixels, of shape) error {
		began := time.Now()
		defer func() { encode += time.Since(began) }()
		if file == nil {
			file = newWriter(of.width, of.height, of.channels)
		}
		return file.add(rows)
	})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if out.PNG, err = file.end(); err != nil {
		return nil, err
	}
	out.Width, out.Height, out.Scale = shape.width, shape.height, m.Bundle().Manifest.SuperResolution.Scale
	out.Phases = phases
	out.Phases.Encode = encode + time.Since(began)
	return out, nil
}

// Tensors answers a picture with its pixels, uint8 [height, width, channels],
// for a replay that compares them. Large answers are an error.
func (e *Enlarger) Tensors(ctx context.Context, m *model.Model, picture []byte) ([]oip.Tensor, error) {
	var all []byte
	of, _, err := e.enlarge(ctx, m, picture, comparable/3, func(rows imaging.Pixels, _ shape) error {
		all = append(all, rows.Pix...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []oip.Tensor{{Name: "image", Datatype: oip.UINT8, Shape: []int64{int64(of.height), int64(of.width), int64(of.channels)}, Data: all}}, nil
}

// shape is an answer's.
type shape struct{ width, height, channels int }

// enlarge gives the answer in rows, from above to below.
func (e *Enlarger) enlarge(ctx context.Context, m *model.Model, picture []byte, limit int64, give func(imaging.Pixels, shape) error) (of shape, p service.Phases, err error) {
	if m.Task() != bundle.TaskSuperResolution {
		return of, p, &model.InputError{Text: fmt.Sprintf("model %s is of the task %s: it enlarges no pictures", m.Name(), m.Task())}
	}
	engine, err := e.engine(m)
	if err != nil {
		return of, p, &model.RunError{Err: err}
	}
	if e.bounds.Term > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.bounds.Term)
		defer cancel()
	}
	began := time.Now()
	if err := e.pictures.Acquire(ctx, 1); err != nil {
		return of, p, context.Cause(ctx)
	}
	defer e.pictures.Release(1)
	p.Queue = time.Since(began)
	decoded, err := m.Decode(ctx, picture)
	if err != nil {
		return of, p, err
	}
	p.Queue, p.Decode = p.Queue+decoded.Phases.Queue, decoded.Phases.Decode
	began = time.Now()
	colour := m.Bundle().Manifest.SuperResolution
	size := decoded.Image.Bounds().Size()
	if n := int64(size.X) * int64(size.Y) * int64(colour.Scale*colour.Scale); n > limit {
		return of, p, refuse("%d x %d pixels, enlarged by %d, are more than the %d million that an answer may have", size.X, size.Y, colour.Scale, limit/1_000_000)
	}
	separated, err := coloursOf(decoded.Image, colour.Colour, colour.Scale)
	if err != nil {
		return of, p, err
	}
	decoded.Image = nil // it may go
	p.Resize = time.Since(began)
	of = shape{size.X * colour.Scale, size.Y * colour.Scale, separated.channels()}
	spent, err := engine.enlarge(ctx, separated.seen, func(b band) error {
		began := time.Now()
		rows, err := separated.join(b)
		p.Resize += time.Since(began)
		if err != nil {
			return err
		}
		return give(rows, of)
	})
	p.Queue, p.Run = p.Queue+spent.queue, spent.run
	return of, p, refusal(err)
}

// refusal makes the picture's fault of what no tiles could be made of.
func refusal(err error) error {
	if large, ok := err.(*tooLarge); ok {
		return refuse("%s", large.text)
	}
	return err
}

func refuse(format string, args ...any) error {
	return &imaging.Error{Code: imaging.TooLarge, Text: fmt.Sprintf(format, args...)}
}
