package model

import (
	"errors"
	"fmt"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/buffers"
)

// call is one run's values. C keeps the addresses of their memory, so the
// buffers are referenced from here until the run is over.
type call struct {
	session         *session
	inputs, outputs []ort.Value
	borrowed        [][]byte        // pooled copies of inputs; go back when the run is over
	owned           [][]byte        // pooled outputs; go back when the result is released
	laid            []oip.Tensor    // the outputs that were laid out; Data is nil for the others
	scalars         []func() []byte // how a scalar output is read; nil for the others
}

// addInput takes a tensor that was checked. Bytes that lie on an address that
// their type must not have are copied.
func (c *call) addInput(t oip.Tensor) error {
	e := elements[t.Datatype]
	if len(t.Shape) == 0 {
		v, _, err := e.scalar(t.Data)
		if err != nil {
			return err
		}
		c.inputs = append(c.inputs, v)
		return nil
	}
	data := t.Data
	if !buffers.Aligned(data, t.Datatype.Size()) {
		data = c.session.pool.Get(len(t.Data))
		copy(data, t.Data)
		c.borrowed = append(c.borrowed, data)
	}
	v, err := ort.NewCustomDataTensor(ort.NewShape(t.Shape...), data, e.ort)
	if err != nil {
		return err
	}
	c.inputs = append(c.inputs, v)
	return nil
}

// addOutput lays an output of the shape out; without one it is left to ONNX
// Runtime. A shape without dimensions is a scalar.
func (c *call) addOutput(d Declared, shape []int64) error {
	// the session keeps its shapes, the caller gets its own
	laid, e := oip.Tensor{Name: d.Name, Datatype: d.Datatype, Shape: slices.Clone(shape)}, elements[d.Datatype]
	var v ort.Value
	var read func() []byte
	var err error
	switch {
	case shape == nil:
	case len(shape) == 0:
		v, read, err = e.scalar(nil)
	default:
		var n int
		if n, err = bytesOf(d.Datatype, shape); err != nil {
			return err
		}
		laid.Data = c.session.pool.Get(n)
		c.owned = append(c.owned, laid.Data)
		v, err = ort.NewCustomDataTensor(ort.NewShape(shape...), laid.Data, e.ort)
	}
	if err != nil {
		return err
	}
	c.outputs, c.laid, c.scalars = append(c.outputs, v), append(c.laid, laid), append(c.scalars, read)
	return nil
}

// collect gives the outputs after the run.
func (c *call) collect() ([]oip.Tensor, error) {
	for i, v := range c.outputs {
		t := &c.laid[i]
		switch {
		case c.scalars[i] != nil:
			t.Data = c.scalars[i]()
		case t.Data == nil:
			data, err := contents(v)
			if err != nil {
				return nil, &RunError{fmt.Errorf("its output %q is no tensor of %s: %w", t.Name, t.Datatype, err)}
			}
			t.Shape, t.Data = v.GetShape(), data
			if n, err := bytesOf(t.Datatype, t.Shape); err != nil || n != len(data) {
				return nil, &RunError{fmt.Errorf("its output %q is not %s of the shape %s", t.Name, t.Datatype, shapeText(t.Shape))}
			}
		}
	}
	return c.laid, nil
}

// end destroys the values and gives the inputs' copies back, and the outputs
// too where the run failed.
func (c *call) end(failed bool) error {
	var errs []error
	for _, v := range append(c.inputs, c.outputs...) {
		if v != nil {
			errs = append(errs, v.Destroy())
		}
	}
	if failed {
		c.borrowed = append(c.borrowed, c.owned...)
	}
	for _, b := range c.borrowed {
		c.session.pool.Put(b)
	}
	return errors.Join(errs...)
}
