package model

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/spread"
)

// session is a graph in ONNX Runtime: tensors in, tensors out. It knows nothing
// of tasks. It is safe for concurrent use.
type session struct {
	ort             *ort.DynamicAdvancedSession
	inputs, outputs []Declared
	scale           int64 // of super-resolution: how many times the input's height and width the output has; 0: unknown
	pool            *buffers.Pool
	spread          *spread.Spreader // of runs over the CPUs; nil: they are not spread
	lately          lately
	stops           stops

	mu     sync.Mutex
	shapes map[string][][]int64 // outputs' shapes by the inputs', as they were seen
	moving []bool               // outputs whose shape depends on more than the inputs' shapes
}

// shapesKept bounds session.shapes: senders choose the keys.
const shapesKept = 64

// openSession loads the graph for the given inputs and outputs.
func openSession(r *Runtime, path string, inputs, outputs []Declared, profile string) (*session, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	if err := firstOf(
		options.SetIntraOpNumThreads(r.plan.threads),
		options.SetInterOpNumThreads(1),
		// Several servers share a machine: waiting threads must not spin.
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		r.provider.appendTo(options),
	); err != nil {
		return nil, err
	}
	if profile != "" {
		if err := options.EnableProfiling(profile); err != nil {
			return nil, err
		}
	}
	s := &session{
		inputs: inputs, outputs: outputs, pool: r.pool, spread: r.spread,
		stops: make(stops, r.plan.callers), shapes: map[string][][]int64{}, moving: make([]bool, len(outputs)),
	}
	s.ort, err = ort.NewDynamicAdvancedSession(path, listOf(inputs), listOf(outputs), options)
	if err != nil {
		return nil, openError(err)
	}
	return s, nil
}

func listOf(all []Declared) []string {
	list := make([]string, len(all))
	for i, d := range all {
		list[i] = d.Name
	}
	return list
}

// Result is what a run gave. Its outputs lie in pooled buffers until Release.
type Result struct {
	Outputs []oip.Tensor
	Phases  Phases
	release func()
}

// Release gives the outputs' memory back; they must not be touched afterwards.
// A second call does nothing.
func (r *Result) Release() {
	if r.release != nil {
		r.release()
		r.release, r.Outputs = nil, nil
	}
}

// run is one call of the graph; it ends early when ctx does. The inputs are in
// the graph's order and fit; they must stay as they are until run returns.
func (s *session) run(ctx context.Context, inputs []oip.Tensor) (*Result, error) {
	began := time.Now()
	var room [64]byte
	key := appendShapes(room[:0], inputs)
	expected := s.expect(key, inputs)
	r, err := s.attempt(ctx, inputs, expected)
	if _, other := errors.AsType[*shapeError](err); other {
		r, err = s.attempt(ctx, inputs, s.least(expected))
	}
	if err != nil {
		return nil, err
	}
	s.learn(key, expected, r.Outputs)
	r.Phases.Run, r.Phases.Batch = time.Since(began), 1
	return r, nil
}

// attempt runs once. Outputs of the expected shapes are laid out; those without
// one are ONNX Runtime's to allocate.
func (s *session) attempt(ctx context.Context, inputs []oip.Tensor, expected [][]int64) (r *Result, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c, err := s.prepare(inputs, expected)
	defer func() {
		if endErr := c.end(err != nil); endErr != nil {
			err = errors.Join(err, endErr)
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := s.call(ctx, c.inputs, c.outputs); err != nil {
		return nil, err
	}
	tensors, err := c.collect()
	if err != nil {
		return nil, err
	}
	return &Result{Outputs: tensors, release: c.giveBack}, nil
}

// shapeError means that an output did not have the shape that was expected.
type shapeError struct{ err error }

func (e *shapeError) Error() string { return e.err.Error() }
func (e *shapeError) Unwrap() error { return e.err }

func (s *session) call(ctx context.Context, inputs, outputs []ort.Value) error {
	stop, err := s.stops.take()
	if err != nil {
		return err
	}
	leave := context.AfterFunc(ctx, stop.end)
	err = s.onCPU(func() error { return s.ort.RunWithOptions(inputs, outputs, stop.RunOptions) })
	cancelled := !leave()
	if other := s.stops.put(stop, cancelled); other != nil {
		return errors.Join(err, other)
	}
	switch {
	case err == nil:
		return nil
	case cancelled:
		return context.Cause(ctx)
	case strings.Contains(err.Error(), "computed output shape"), strings.Contains(err.Error(), "shape verification failed"):
		return &RunError{&shapeError{err}} // ONNX Runtime 1.30, and before
	}
	return &RunError{err}
}

// long is from which time on a run is worth a CPU of its own. Shorter ones gained
// 4 % on a machine that one server has alone, and lost 11 % beside a second one.
const long = time.Millisecond

// onCPU makes a run, on a CPU where no other one goes on if runs of this graph
// are long.
func (s *session) onCPU(run func() error) error {
	var place spread.Place
	if s.lately.shortest() >= long {
		place = s.spread.Begin()
	}
	defer place.End()
	began := time.Now()
	err := run()
	s.lately.add(time.Since(began))
	return err
}

// lately is how long the last runs took. A run that others kept from its CPU
// looks longer than it is: the shortest one tells.
type lately struct {
	runs atomic.Uint32
	took [8]atomic.Int64 // nanoseconds; 0: not yet
}

func (l *lately) add(took time.Duration) {
	l.took[l.runs.Add(1)%uint32(len(l.took))].Store(int64(took))
}

// shortest is 0 until as many were seen as are looked at.
func (l *lately) shortest() time.Duration {
	least := l.took[0].Load()
	for i := range l.took[1:] {
		least = min(least, l.took[i+1].Load())
	}
	return time.Duration(least)
}

// expect gives the shape that each output will have, nil where it is not known:
// as it was for the same shapes of the inputs, else as it is declared, with the
// first input's first dimension for a first one that is free.
func (s *session) expect(key []byte, inputs []oip.Tensor) [][]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen, ok := s.shapes[string(key)]; ok {
		return seen
	}
	all := make([][]int64, len(s.outputs))
	for i, d := range s.outputs {
		if shape := s.guess(d, inputs); !s.moving[i] {
			all[i] = shape
		}
	}
	return all
}

func (s *session) guess(d Declared, inputs []oip.Tensor) []int64 {
	shape := append([]int64{}, d.Shape...)
	if len(inputs) > 0 && len(inputs[0].Shape) > 0 && d.free() {
		shape[0] = inputs[0].Shape[0]
	}
	if s.scale > 0 && len(shape) == 4 && len(inputs[0].Shape) == 4 {
		shape[2], shape[3] = inputs[0].Shape[2]*s.scale, inputs[0].Shape[3]*s.scale
	}
	for _, n := range shape {
		if n < 1 {
			return nil
		}
	}
	return shape
}

// least keeps of the expected shapes those that have to be.
func (s *session) least(expected [][]int64) [][]int64 {
	kept := make([][]int64, len(expected))
	for i, shape := range expected {
		if !allocates(s.outputs[i].Datatype) {
			kept[i] = shape
		}
	}
	return kept
}

// learn keeps the outputs' shapes for the next inputs of the same shapes, and
// which outputs had another one than they were expected to have: those depend
// on more than that.
func (s *session) learn(key []byte, expected [][]int64, outputs []oip.Tensor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.shapes[string(key)] == nil
	for i, t := range outputs {
		if expected[i] != nil && !slices.Equal(expected[i], t.Shape) {
			s.moving[i], news = true, true
		}
	}
	if !news {
		return
	}
	shapes := make([][]int64, len(outputs))
	for i, t := range outputs {
		if !s.moving[i] && !slices.Contains(t.Shape, 0) { // nothing cannot be laid out
			shapes[i] = slices.Clone(t.Shape)
		}
	}
	if len(s.shapes) >= shapesKept {
		clear(s.shapes)
	}
	s.shapes[string(key)] = shapes
}

// allocates tells whether an output of the type may be left to ONNX Runtime:
// the binding cannot read FP16 and BF16 that it did not lay out itself.
func allocates(d oip.Datatype) bool { return d != oip.FP16 && d != oip.BF16 }

// layable refuses outputs that could neither be laid out nor allocated.
func (s *session) layable() error {
	for _, d := range s.outputs {
		for i, n := range d.Shape {
			if n < 0 && i > 0 && !allocates(d.Datatype) && (s.scale == 0 || i < 2) {
				return fmt.Errorf("output %q is %s with the shape %s: its size must be known before the run, give it fixed dimensions after the first, or export it as float32", d.Name, d.Datatype, shapeText(d.Shape))
			}
		}
	}
	return nil
}

func shapesKey(inputs []oip.Tensor) string { return string(appendShapes(nil, inputs)) }

func appendShapes(key []byte, inputs []oip.Tensor) []byte {
	for _, t := range inputs {
		for _, n := range t.Shape {
			key = binary.AppendVarint(key, n)
		}
		key = append(key, 0xff) // ends no number
	}
	return key
}

// destroy is called once, when no run goes on.
func (s *session) destroy() error { return errors.Join(s.stops.destroy(), s.ort.Destroy()) }

// bytesOf is how many bytes a tensor has; the shape was checked.
func bytesOf(d oip.Datatype, shape []int64) (int, error) {
	n := int64(d.Size())
	for _, dim := range shape {
		if dim < 0 || dim > 0 && n > math.MaxInt32*64/dim {
			return 0, fmt.Errorf("a tensor of the shape %s is too large", shapeText(shape))
		}
		n *= dim
	}
	return int(n), nil
}
