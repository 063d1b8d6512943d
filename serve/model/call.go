package model

import (
	"errors"
	"fmt"

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
	dims            []int64         // of all that were laid out
	scalars         []func() []byte // how a scalar output is read; nil for the others, and where there is none
}

// prepare makes the values of a run.
func (s *session) prepare(inputs []oip.Tensor, expected [][]int64) (*call, error) {
	dims := 0
	for _, shape := range expected {
		dims += len(shape)
	}
	values := make([]ort.Value, len(inputs)+len(s.outputs))
	c := &call{
		session: s, inputs: values[:0:len(inputs)], outputs: values[len(inputs):len(inputs)],
		owned: make([][]byte, 0, len(s.outputs)), laid: make([]oip.Tensor, 0, len(s.outputs)), dims: make([]int64, 0, dims),
	}
	for _, t := range inputs {
		if err := c.addInput(t); err != nil {
			return c, fmt.Errorf("make the input tensor %q: %w", t.Name, err)
		}
	}
	for i, d := range s.outputs {
		if err := c.addOutput(d, expected[i]); err != nil {
			return c, fmt.Errorf("make the output tensor %q: %w", d.Name, err)
		}
	}
	return c, nil
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
	laid, e := oip.Tensor{Name: d.Name, Datatype: d.Datatype}, elements[d.Datatype]
	if shape != nil { // the session keeps its shapes, the caller gets its own
		at := len(c.dims)
		c.dims = append(c.dims, shape...)
		laid.Shape = c.dims[at:len(c.dims):len(c.dims)]
	}
	var v ort.Value
	var err error
	switch {
	case shape == nil:
	case len(shape) == 0:
		if c.scalars == nil {
			c.scalars = make([]func() []byte, len(c.session.outputs))
		}
		v, c.scalars[len(c.outputs)], err = e.scalar(nil)
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
	c.outputs, c.laid = append(c.outputs, v), append(c.laid, laid)
	return nil
}

// collect gives the outputs after the run.
func (c *call) collect() ([]oip.Tensor, error) {
	for i, v := range c.outputs {
		t := &c.laid[i]
		switch {
		case c.scalars != nil && c.scalars[i] != nil:
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
func (c *call) end(failed bool) (err error) {
	for _, values := range [2][]ort.Value{c.inputs, c.outputs} {
		for _, v := range values {
			if v != nil {
				err = errors.Join(err, v.Destroy())
			}
		}
	}
	for _, b := range c.borrowed {
		c.session.pool.Put(b)
	}
	if failed {
		c.giveBack()
	}
	return err
}

// giveBack gives the outputs' memory back.
func (c *call) giveBack() {
	for _, b := range c.owned {
		c.session.pool.Put(b)
	}
}
