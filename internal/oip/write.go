package oip

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// ErrNotJSON is an answer with a number that JSON cannot hold: NaN or an
// infinity.
var ErrNotJSON = errors.New("JSON cannot hold it; ask for the output with binary_data")

// Body is a body ready to be sent: JSON, and behind it the bytes of the tensors
// that travel as such, which are the tensors' own.
type Body struct {
	JSON   []byte
	Behind [][]byte
	binary bool
}

// Length is the Content-Length, in bytes.
func (b Body) Length() int {
	n := len(b.JSON)
	for _, data := range b.Behind {
		n += len(data)
	}
	return n
}

// HeaderLength is the value of Inference-Header-Content-Length; -1 where
// nothing is binary and the header is left out.
func (b Body) HeaderLength() int {
	if !b.binary {
		return -1
	}
	return len(b.JSON)
}

// ContentType is the value of Content-Type.
func (b Body) ContentType() string {
	if b.binary {
		return "application/octet-stream"
	}
	return "application/json"
}

// WriteTo writes the body.
func (b Body) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b.JSON)
	total := int64(n)
	for _, data := range b.Behind {
		if err != nil {
			break
		}
		n, err = w.Write(data)
		total += int64(n)
	}
	return total, err
}

// EncodeResponse makes the answer to a request: the JSON, with the outputs that
// the request wants as bytes announced in it. The JSON is written into what
// alloc lends. An output in a datatype that JSON does not have is a
// *BadRequest; one with a number that JSON cannot hold is ErrNotJSON.
func EncodeResponse(r Response, request Request, alloc Alloc) (Body, error) {
	e := encoder{text: room(r.Outputs, request.Binary, alloc)}
	e.raw(`{`)
	if r.ID != "" {
		e.raw(`"id":`).quoted(r.ID).raw(`,`)
	}
	e.raw(`"model_name":`).quoted(r.Model).raw(`,"model_version":`).quoted(r.Version)
	e.parameters(r.Parameters).raw(`,"outputs":[`)
	e.tensors(r.Outputs, request.Binary)
	e.raw(`]}`)
	return Body{e.text, e.behind, e.binary}, e.err
}

// EncodeRequest makes the body of a request, with its inputs as bytes behind
// the JSON where binary is set.
func EncodeRequest(r Request, binary bool, alloc Alloc) (Body, error) {
	all := func(string) bool { return binary }
	e := encoder{text: room(r.Inputs, all, alloc)}
	e.raw(`{`)
	if r.ID != "" {
		e.raw(`"id":`).quoted(r.ID).raw(`,`)
	}
	e.raw(`"inputs":[`)
	e.tensors(r.Inputs, all)
	e.raw(`]`).parameters(withFlag(r.Parameters, "binary_data_output", r.BinaryOutputs, false))
	for i, o := range r.Outputs {
		e.raw([]string{`,"outputs":[`, `,`}[min(i, 1)])
		e.raw(`{"name":`).quoted(o.Name)
		e.parameters(withFlag(o.Parameters, "binary_data", o.Binary, r.BinaryOutputs)).raw(`}`)
		if i == len(r.Outputs)-1 {
			e.raw(`]`)
		}
	}
	e.raw(`}`)
	return Body{e.text, e.behind, e.binary}, e.err
}

// withFlag is parameters with the flag as it should be, where that is not what
// goes without saying.
func withFlag(parameters map[string]any, name string, value, implied bool) map[string]any {
	said, ok := parameters[name].(bool)
	if ok && said == value || !ok && value == implied {
		return parameters
	}
	all := map[string]any{name: value}
	for key, v := range parameters {
		if key != name {
			all[key] = v
		}
	}
	return all
}

// longest is how many bytes of JSON an element has at most, with its comma.
var longest = map[Datatype]int{
	BOOL: 6, INT8: 5, UINT8: 4, INT16: 7, UINT16: 6, INT32: 12, UINT32: 11, INT64: 21, UINT64: 21, FP32: 16, FP64: 25,
}

// room borrows what the JSON needs, so that it need not grow: texts aside.
func room(tensors []Tensor, binary func(string) bool, alloc Alloc) []byte {
	n := 512
	for _, t := range tensors {
		n += 256 + 2*len(t.Name) + 21*len(t.Shape)
		if size := t.Datatype.Size(); size > 0 && !binary(t.Name) {
			n += len(t.Data) / size * longest[t.Datatype]
		}
	}
	if alloc == nil {
		return make([]byte, 0, n)
	}
	return alloc(n, nil)[:0]
}

// encoder writes JSON; its first error stays.
type encoder struct {
	text   []byte
	behind [][]byte
	binary bool
	err    error
}

func (e *encoder) raw(s string) *encoder {
	e.text = append(e.text, s...)
	return e
}

func (e *encoder) value(v any) *encoder {
	data, err := json.Marshal(v)
	if err != nil && e.err == nil {
		e.err = fmt.Errorf("the answer's parameters: %w", err)
	}
	e.text = append(e.text, data...)
	return e
}

func (e *encoder) quoted(s string) *encoder { return e.value(s) }

func (e *encoder) parameters(values map[string]any) *encoder {
	if len(values) == 0 {
		return e
	}
	return e.raw(`,"parameters":`).value(values)
}

func (e *encoder) tensors(tensors []Tensor, binary func(name string) bool) {
	for i, t := range tensors {
		if i > 0 {
			e.raw(`,`)
		}
		e.raw(`{"name":`).quoted(t.Name).raw(`,"datatype":`).quoted(string(t.Datatype)).raw(`,"shape":[`)
		for k, d := range t.Shape {
			if k > 0 {
				e.raw(`,`)
			}
			e.text = strconv.AppendInt(e.text, d, 10)
		}
		e.raw(`]`)
		if binary(t.Name) {
			e.raw(`,"parameters":{"binary_data_size":`)
			e.text = strconv.AppendInt(e.text, int64(len(t.Data)), 10)
			e.raw(`}}`)
			e.behind, e.binary = append(e.behind, t.Data), true
			continue
		}
		e.raw(`,"data":[`)
		if err := e.data(t); err != nil && e.err == nil {
			e.err = fmt.Errorf("output %q: %w", t.Name, err)
		}
		e.raw(`]}`)
	}
}

// data writes the elements, flat.
func (e *encoder) data(t Tensor) error {
	if t.Datatype == BYTES {
		return e.texts(t.Data)
	}
	write, size := writers[t.Datatype], t.Datatype.Size()
	if write == nil {
		return bad("%s cannot travel as JSON: ask for the output with binary_data", t.Datatype)
	}
	text := e.text
	for i := 0; i+size <= len(t.Data); i += size {
		if i > 0 {
			text = append(text, ',')
		}
		var ok bool
		if text, ok = write(text, t.Data[i:]); !ok {
			return fmt.Errorf("element %d is NaN or infinite: %w", i/size, ErrNotJSON)
		}
	}
	e.text = text
	return nil
}

// texts writes the elements of BYTES.
func (e *encoder) texts(data []byte) error {
	for i := 0; len(data) > 0; i++ {
		if len(data) < 4 || uint64(len(data)-4) < uint64(binary.LittleEndian.Uint32(data)) {
			return fmt.Errorf("element %d goes beyond the tensor's bytes", i)
		}
		end := 4 + int(binary.LittleEndian.Uint32(data))
		if !utf8.Valid(data[4:end]) {
			return bad("element %d is no UTF-8, JSON cannot hold it: ask for the output with binary_data", i)
		}
		if i > 0 {
			e.raw(`,`)
		}
		e.quoted(string(data[4:end]))
		data = data[end:]
	}
	return nil
}

// writer appends one element; false where JSON cannot hold it.
type writer func(text, data []byte) ([]byte, bool)

var writers = map[Datatype]writer{
	BOOL: func(text, data []byte) ([]byte, bool) { return strconv.AppendBool(text, data[0] != 0), true },
	INT8: func(text, data []byte) ([]byte, bool) {
		return strconv.AppendInt(text, int64(int8(data[0])), 10), true
	},
	INT16: func(text, data []byte) ([]byte, bool) {
		return strconv.AppendInt(text, int64(int16(binary.LittleEndian.Uint16(data))), 10), true
	},
	INT32: func(text, data []byte) ([]byte, bool) {
		return strconv.AppendInt(text, int64(int32(binary.LittleEndian.Uint32(data))), 10), true
	},
	INT64: func(text, data []byte) ([]byte, bool) {
		return strconv.AppendInt(text, int64(binary.LittleEndian.Uint64(data)), 10), true
	},
	UINT8: func(text, data []byte) ([]byte, bool) { return strconv.AppendUint(text, uint64(data[0]), 10), true },
	UINT16: func(text, data []byte) ([]byte, bool) {
		return strconv.AppendUint(text, uint64(binary.LittleEndian.Uint16(data)), 10), true
	},
	UINT32: func(text, data []byte) ([]byte, bool) {
		return strconv.AppendUint(text, uint64(binary.LittleEndian.Uint32(data)), 10), true
	},
	UINT64: func(text, data []byte) ([]byte, bool) {
		return strconv.AppendUint(text, binary.LittleEndian.Uint64(data), 10), true
	},
	FP32: func(text, data []byte) ([]byte, bool) {
		return appendFloat(text, float64(math.Float32frombits(binary.LittleEndian.Uint32(data))), 32)
	},
	FP64: func(text, data []byte) ([]byte, bool) {
		return appendFloat(text, math.Float64frombits(binary.LittleEndian.Uint64(data)), 64)
	},
}

func appendFloat(text []byte, f float64, bits int) ([]byte, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return text, false
	}
	return strconv.AppendFloat(text, f, 'g', -1, bits), true
}
