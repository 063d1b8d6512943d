package oip

import (
	"bytes"
	"fmt"
	"slices"
)

// described is a tensor's JSON object.
type described struct {
	tensor     Tensor
	parameters map[string]any
	dataAt     int // where data was passed by for want of shape and datatype; 0: it was not
	dataEnd    int
	hasData    bool
	n          int // elements
}

// tensor reads one object of inputs (of outputs, in an answer), and its data
// where it has some.
func (d *decoder) tensor() error {
	var t described
	err := d.object("a tensor", func(key string) (err error) {
		switch key {
		case "name":
			t.tensor.Name, err = d.string("a tensor's name")
		case "datatype":
			var name string
			name, err = d.string("a tensor's datatype")
			t.tensor.Datatype = Datatype(name)
		case "shape":
			t.tensor.Shape, err = d.shape("a tensor's shape")
		case "parameters":
			t.parameters, err = d.values("a tensor's parameters")
		case "data":
			t.hasData = true
			if t.tensor.Shape != nil && t.tensor.Datatype != "" {
				return d.take(&t)
			}
			d.peek()
			t.dataAt = d.at
			err = d.pass()
			t.dataEnd = d.at
		default:
			err = d.skip(key)
		}
		return err
	})
	if err != nil {
		return named(err, t.tensor.Name)
	}
	if err := d.finish(&t); err != nil {
		return named(err, t.tensor.Name)
	}
	return nil
}

// named says which tensor an error is about.
func named(err error, name string) error {
	e, ok := err.(*BadRequest)
	if !ok || name == "" {
		return err
	}
	return &BadRequest{e.TooLarge, fmt.Sprintf("%q: %s", name, e.Text)}
}

// count checks datatype and shape, and gives the number of elements.
func (d *decoder) count(t Tensor) (int, error) {
	if !t.Datatype.Known() {
		return 0, d.fail("the datatype %q is none of the protocol's", t.Datatype)
	}
	n, err := 0, error(nil)
	if !d.response || !slices.Contains(t.Shape, 0) {
		n, err = Elements(t.Shape, d.left)
	}
	if err != nil {
		return 0, d.fail("%v", err)
	}
	d.left -= n
	return n, nil
}

// take reads data that stands at d.at.
func (d *decoder) take(t *described) (err error) {
	if t.n, err = d.count(t.tensor); err != nil {
		return err
	}
	return d.data(&t.tensor, t.n, d.alloc)
}

// pass goes over data that is read later, when shape and datatype are known,
// and so need not be checked now.
func (d *decoder) pass() error {
	rest := d.text[d.at:]
	for open, at := 0, 0; ; {
		end := bytes.IndexByte(rest[at:], ']') + 1
		if part := rest[at : at+end]; end == 0 || rest[0] != '[' || bytes.IndexByte(part, '"') >= 0 {
			return d.skip("data")
		} else if open += bytes.Count(part, []byte("[")) - 1; open == 0 {
			d.at += at + end
			return nil
		}
		at += end
	}
}

// finish checks a tensor's object as a whole, and files it.
func (d *decoder) finish(t *described) error {
	size, sized, err := binarySize(t.parameters)
	switch {
	case err != nil:
		return err
	case t.tensor.Name == "":
		return d.fail("a tensor has no name")
	case t.tensor.Datatype == "":
		return d.fail("there is no datatype")
	case t.tensor.Shape == nil:
		return d.fail("there is no shape")
	case slices.ContainsFunc(d.tensors, func(o Tensor) bool { return o.Name == t.tensor.Name }):
		return d.fail("the name stands for two tensors")
	case t.hasData && sized:
		return d.fail("there are both data and binary_data_size: one of them")
	case !t.hasData && !sized:
		return d.fail("there is neither data nor binary_data_size")
	case t.hasData:
		size = -1
		if t.dataAt > 0 {
			back := d.scanner
			d.at = t.dataAt
			if err = d.take(t); err == nil && d.at != t.dataEnd {
				err = d.fail("the data does not end where its brackets do")
			}
			d.scanner = back
		}
	default:
		err = d.announce(t, size)
	}
	if err != nil {
		return err
	}
	d.tensors, d.counts, d.sizes = append(d.tensors, t.tensor), append(d.counts, t.n), append(d.sizes, int(size))
	return nil
}

// announce checks the size of a tensor that stands behind the JSON.
func (d *decoder) announce(t *described, size int64) (err error) {
	if d.behind < 0 {
		return d.fail("binary_data_size needs the header Inference-Header-Content-Length")
	}
	if t.n, err = d.count(t.tensor); err != nil {
		return err
	}
	wide := t.tensor.Datatype.Size()
	switch {
	case wide > 0 && size != int64(t.n*wide):
		return d.fail("binary_data_size is %d, the shape %v of %s has %d", size, t.tensor.Shape, t.tensor.Datatype, t.n*wide)
	case size > int64(d.behind):
		return d.fail("binary_data_size is %d, but %d bytes are left of the body: the sizes disagree", size, d.behind)
	}
	d.behind -= int(size)
	return nil
}

// binarySize finds binary_data_size, and refuses what this server does not
// have.
func binarySize(parameters map[string]any) (size int64, ok bool, err error) {
	if _, shared := parameters["shared_memory_region"]; shared {
		return 0, false, bad("shared memory is not offered: send data or binary_data_size")
	}
	value, ok := parameters["binary_data_size"]
	if !ok {
		return 0, false, nil
	}
	size, whole := value.(int64)
	if !whole || size < 0 {
		return 0, false, bad("binary_data_size is %v, want an integer from 0 on", value)
	}
	return size, true, nil
}

// output reads one object of a request's outputs. What is said about binary
// is nil where nothing is.
func (d *decoder) output() (binary *bool, err error) {
	var o Requested
	err = d.object("an output", func(key string) (err error) {
		switch key {
		case "name":
			o.Name, err = d.string("an output's name")
		case "parameters":
			o.Parameters, err = d.values("an output's parameters")
		default:
			err = d.skip(key)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case o.Name == "":
		return nil, d.fail("an output has no name")
	case slices.ContainsFunc(d.requested, func(r Requested) bool { return r.Name == o.Name }):
		return nil, d.fail("the output %q is asked for twice", o.Name)
	}
	for _, extension := range []string{"shared_memory_region", "classification"} {
		if _, ok := o.Parameters[extension]; ok {
			return nil, d.fail("the output %q: %s is not offered", o.Name, extension)
		}
	}
	d.requested = append(d.requested, o)
	return flag(o.Parameters, "binary_data", fmt.Sprintf("the output %q", o.Name))
}

// flag finds a boolean parameter; nil where there is none.
func flag(parameters map[string]any, name, where string) (*bool, error) {
	value, ok := parameters[name]
	if !ok {
		return nil, nil
	}
	b, ok := value.(bool)
	if !ok {
		return nil, bad("%s: %s is %v, want true or false", where, name, value)
	}
	return &b, nil
}
