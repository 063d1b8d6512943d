package model

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
)

// RunError is a fault of the model: its graph could not be run on an input
// that was sound, or gave what no score can be.
type RunError struct{ Err error }

func (e *RunError) Error() string { return "the model failed: " + e.Err.Error() }
func (e *RunError) Unwrap() error { return e.Err }

// InputError is a fault of the sender: what was asked does not fit the model.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

func refuse(format string, args ...any) error {
	return &InputError{fmt.Sprintf(format, args...)}
}

// Phases are the parts of a request's time in the model. Queue is the waiting
// for a share of the CPUs and for company in a batch; Batch is how many requests
// shared the run.
type Phases struct {
	Decode, Resize, Queue, Run time.Duration
	Batch                      int
}

// Infer runs tensors as they are, in any order, and gives the outputs that are
// named, in that order; nil means all, in the model's. The inputs must stay as
// they are until it returns. *InputError is the sender's fault, *RunError the
// model's.
func (m *Model) Infer(ctx context.Context, inputs []oip.Tensor, outputs []string) (*Result, error) {
	ordered, err := m.arrange(inputs)
	if err != nil {
		return nil, err
	}
	if err := m.checkWanted(outputs); err != nil {
		return nil, err
	}
	r, err := m.infer(ctx, ordered, false)
	if err != nil {
		return nil, err
	}
	if err := m.checkFinite(ordered, r.Outputs); err != nil {
		r.Release()
		return nil, err
	}
	r.choose(outputs)
	return r, nil
}

// infer runs inputs that were checked: with those of other requests, where that
// is on, or alone. Pooled inputs are given back.
func (m *Model) infer(ctx context.Context, inputs []oip.Tensor, pooled bool) (*Result, error) {
	if m.joins(inputs) {
		return m.inferTogether(ctx, inputs, pooled)
	}
	if pooled {
		defer release(m.runtime.pool, inputs)
	}
	return m.runAlone(ctx, inputs)
}

// runAlone runs inputs that were checked, when a share of the CPUs is free.
func (m *Model) runAlone(ctx context.Context, inputs []oip.Tensor) (*Result, error) {
	waited, err := m.runtime.share(ctx, m.runtime.plan.threads)
	if err != nil {
		return nil, err
	}
	defer m.runtime.cpus.Release(int64(m.runtime.plan.threads))
	r, err := m.session.run(ctx, inputs)
	if err != nil {
		return nil, err
	}
	r.Phases.Queue = waited
	return r, nil
}

// arrange checks the inputs against the graph's and brings them into its order.
func (m *Model) arrange(inputs []oip.Tensor) ([]oip.Tensor, error) {
	ordered := make([]oip.Tensor, len(m.inputs))
	given := make([]bool, len(m.inputs))
	for _, t := range inputs {
		i := find(m.inputs, t.Name)
		if i < 0 {
			return nil, refuse("input %q: the model takes %s", t.Name, names(m.inputs))
		}
		if given[i] {
			return nil, refuse("input %q is there twice", t.Name)
		}
		if err := m.inputs[i].check(t); err != nil {
			return nil, err
		}
		ordered[i], given[i] = t, true
	}
	if i := slices.Index(given, false); i >= 0 {
		return nil, refuse("input %q is missing: the model takes %s", m.inputs[i].Name, names(m.inputs))
	}
	return ordered, nil
}

// check compares a tensor with what is declared.
func (d Declared) check(t oip.Tensor) error {
	if t.Datatype != d.Datatype {
		return refuse("input %q: datatype %q, want %s", d.Name, t.Datatype, d.Datatype)
	}
	if !d.admits(t.Shape) {
		return refuse("input %q: shape %v, want %v (-1 is any)", d.Name, t.Shape, d.Shape)
	}
	if err := t.Check(math.MaxInt32); err != nil {
		return refuse("input %v", err)
	}
	if t.Datatype == oip.BOOL { // any other byte is undefined behaviour in C++
		for i, b := range t.Data {
			if b > 1 {
				return refuse("input %q: byte %d is %d, a BOOL is 0 or 1", d.Name, i, b)
			}
		}
	}
	return nil
}

func (m *Model) checkWanted(outputs []string) error {
	for i, name := range outputs {
		if find(m.outputs, name) < 0 {
			return refuse("output %q: the model gives %s", name, names(m.outputs))
		}
		if slices.Contains(outputs[:i], name) {
			return refuse("output %q is asked for twice", name)
		}
	}
	return nil
}

// choose keeps the outputs that are named; nil keeps all.
func (r *Result) choose(outputs []string) {
	if outputs == nil {
		return
	}
	chosen := make([]oip.Tensor, len(outputs))
	for i, name := range outputs {
		chosen[i] = r.Outputs[slices.IndexFunc(r.Outputs, func(t oip.Tensor) bool { return t.Name == name })]
	}
	r.Outputs = chosen
}

// checkFinite refuses outputs that are no numbers, where the model's task is
// known to give numbers. If an input holds none, its sender is to blame.
func (m *Model) checkFinite(inputs, outputs []oip.Tensor) error {
	if m.bundle.Manifest.Task == bundle.TaskTensor {
		return nil
	}
	for _, o := range outputs {
		v, ok := notFinite(o)
		if !ok {
			continue
		}
		for _, in := range inputs {
			if v, ok := notFinite(in); ok {
				return refuse("input %q holds %v", in.Name, v)
			}
		}
		return &RunError{fmt.Errorf("its output %q holds %v", o.Name, v)}
	}
	return nil
}

// notFinite finds a NaN or an infinity in a float32 tensor.
func notFinite(t oip.Tensor) (float32, bool) {
	if t.Datatype != oip.FP32 || len(t.Data)%4 != 0 {
		return 0, false
	}
	for i := 0; i < len(t.Data); i += 4 {
		// all bits of the exponent are set
		if bits := uint32(t.Data[i]) | uint32(t.Data[i+1])<<8 | uint32(t.Data[i+2])<<16 | uint32(t.Data[i+3])<<24; bits&0x7f800000 == 0x7f800000 {
			return math.Float32frombits(bits), true
		}
	}
	return 0, false
}
