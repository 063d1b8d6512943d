package model

import (
	"errors"
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
)

// Bare is a session of its own that is called with nothing around it: no
// queue, no share of the CPUs, no checks. It is what benchmarks compare a
// server with, and what the costs of two variants of a model are compared by.
type Bare struct {
	session *ort.DynamicAdvancedSession
	inputs  []ort.Value
	outputs []Declared
}

// OpenBare opens the bundle's graph for float32 inputs, given in full and in
// the graph's order, that every call runs on, with the runtime's threads and
// provider. Outputs are those that the graph declares.
func OpenBare(r *Runtime, b *bundle.Bundle, inputs []oip.Tensor) (_ *Bare, err error) {
	path := b.Path(bundle.ModelFile)
	_, outputs, err := ort.GetInputOutputInfo(path)
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime cannot open %s: %w", path, err)
	}
	bare := &Bare{}
	defer func() {
		if err != nil {
			err = errors.Join(err, bare.Close())
		}
	}()
	var inNames, outNames []string
	for _, in := range inputs {
		if in.Datatype != oip.FP32 {
			return nil, fmt.Errorf("input %q is of %s: bare runs take FP32 only", in.Name, in.Datatype)
		}
		tensor, err := ort.NewTensor(ort.NewShape(in.Shape...), oip.Float32s(in.Data))
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", in.Name, err)
		}
		bare.inputs, inNames = append(bare.inputs, tensor), append(inNames, in.Name)
	}
	for _, o := range outputs {
		bare.outputs, outNames = append(bare.outputs, Declared{Name: o.Name}), append(outNames, o.Name)
	}
	options, err := bareOptions(r)
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	bare.session, err = ort.NewDynamicAdvancedSession(path, inNames, outNames, options)
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime cannot open %s: %w", path, err)
	}
	return bare, nil
}

// bareOptions are those of a server's session.
func bareOptions(r *Runtime) (*ort.SessionOptions, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		options.SetIntraOpNumThreads(r.plan.threads),
		options.SetInterOpNumThreads(1),
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		r.provider.appendTo(options),
	); err != nil {
		return nil, errors.Join(err, options.Destroy())
	}
	return options, nil
}

// Caller is one line of calls, with output tensors that are reused. It is not
// safe for concurrent use; take one for each goroutine.
type Caller struct {
	bare    *Bare
	outputs []ort.Value
}

// Caller prepares a line of calls by a first run, which makes its outputs.
func (b *Bare) Caller() (*Caller, error) {
	c := &Caller{bare: b, outputs: make([]ort.Value, len(b.outputs))}
	if err := c.Run(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Run is one call of the session.
func (c *Caller) Run() error { return c.bare.session.Run(c.bare.inputs, c.outputs) }

// Outputs are what the last run left, by copy.
func (c *Caller) Outputs() ([]oip.Tensor, error) {
	tensors := make([]oip.Tensor, len(c.outputs))
	for i, v := range c.outputs {
		name := c.bare.outputs[i].Name
		t, ok := v.(*ort.Tensor[float32])
		if !ok {
			return nil, fmt.Errorf("output %q is not a float32 tensor: bare runs give FP32 only", name)
		}
		data := append([]float32(nil), t.GetData()...)
		tensors[i] = oip.Tensor{Name: name, Datatype: oip.FP32, Shape: t.GetShape().Clone(), Data: oip.Bytes(data)}
	}
	return tensors, nil
}

// Close gives the outputs back.
func (c *Caller) Close() error {
	var err error
	for _, v := range c.outputs {
		if v != nil {
			err = errors.Join(err, v.Destroy())
		}
	}
	return err
}

// Close destroys the session. All callers must be closed before.
func (b *Bare) Close() error {
	var err error
	for _, v := range b.inputs {
		err = errors.Join(err, v.Destroy())
	}
	if b.session != nil {
		err = errors.Join(err, b.session.Destroy())
	}
	return err
}

// Levels of graph optimisation that Optimise knows: extended stays the same on
// every machine with this version of ONNX Runtime; all also lays tensors out
// for the machine that it was made on.
const (
	LevelExtended = "extended"
	LevelAll      = "all"
)

// Optimise has ONNX Runtime write the bundle's graph to path as its optimiser
// leaves it, in fp32.
func Optimise(r *Runtime, b *bundle.Bundle, path, level string) error {
	levels := map[string]ort.GraphOptimizationLevel{
		LevelExtended: ort.GraphOptimizationLevelEnableExtended, LevelAll: ort.GraphOptimizationLevelEnableAll,
	}
	ortLevel, known := levels[level]
	if !known {
		return fmt.Errorf("optimisation level %q: known are %s and %s", level, LevelExtended, LevelAll)
	}
	options, err := bareOptions(r)
	if err != nil {
		return err
	}
	defer options.Destroy()
	if err := errors.Join(options.SetGraphOptimizationLevel(ortLevel), options.SetOptimizedModelFilePath(path)); err != nil {
		return err
	}
	from := b.Path(bundle.ModelFile)
	inputs, outputs, err := ort.GetInputOutputInfo(from)
	if err != nil {
		return fmt.Errorf("ONNX Runtime cannot open %s: %w", from, err)
	}
	session, err := ort.NewDynamicAdvancedSession(from, namesOf(inputs), namesOf(outputs), options)
	if err != nil {
		return fmt.Errorf("ONNX Runtime cannot optimise %s: %w", from, err)
	}
	return session.Destroy()
}

func namesOf(declared []ort.InputOutputInfo) []string {
	names := make([]string, len(declared))
	for i, d := range declared {
		names[i] = d.Name
	}
	return names
}
