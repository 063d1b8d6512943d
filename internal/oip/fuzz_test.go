package oip_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/penstock-ml/penstock/internal/oip"
)

// meter lends memory and notes how much.
type meter struct{ bytes int }

func (m *meter) lend(n int, before []byte) []byte {
	m.bytes += n
	b := make([]byte, n)
	copy(b, before)
	return b
}

// fuzzRead reads body and holds the reader to what is promised of any body: no
// panic, an error that is the sender's, memory in proportion to what was sent,
// tensors that fit their shapes, and the same request after writing and reading
// it again.
func fuzzRead(t *testing.T, body []byte, length int64, headerLength int) {
	limits := oip.Limits{Bytes: 1 << 20, Header: 1 << 16, Elements: 1 << 16, Tensors: 16, Depth: 16}
	var m meter
	r, err := oip.ReadRequest(bytes.NewReader(body), length, headerLength, limits, m.lend)
	// An element of 8 bytes has 2 characters at least; a body of unknown length
	// is read into 64 KiB at first, and again into twice as much.
	if most := 128<<10 + 8*len(body); m.bytes > most {
		t.Fatalf("%d bytes were borrowed for %d", m.bytes, len(body))
	}
	if err != nil {
		var fault *oip.BadRequest
		if !errors.As(err, &fault) || fault.Text == "" {
			t.Fatalf("%v is not the sender's fault", err)
		}
		return
	}
	for _, in := range r.Inputs {
		if in.Datatype != oip.BYTES {
			if err := in.Check(limits.Elements); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, binary := range []bool{true, false} {
		again(t, r, binary)
	}
}

func again(t *testing.T, r oip.Request, binary bool) {
	body, err := oip.EncodeRequest(r, binary, nil)
	var fault *oip.BadRequest
	if !binary && (errors.Is(err, oip.ErrNotJSON) || errors.As(err, &fault)) {
		return // FP16, NaN, bytes that are no text
	}
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	if _, err := body.WriteTo(&all); err != nil || all.Len() != body.Length() {
		t.Fatal(err, all.Len(), body.Length())
	}
	back, err := oip.ReadRequest(&all, int64(body.Length()), body.HeaderLength(), oip.DefaultLimits, nil)
	if err != nil {
		t.Fatalf("%s: %v", body.JSON, err)
	}
	if back.ID != r.ID || back.BinaryOutputs != r.BinaryOutputs || !reflect.DeepEqual(back.Inputs, r.Inputs) || len(back.Outputs) != len(r.Outputs) {
		t.Fatalf("%+v came back as %+v", r, back)
	}
	for i, o := range r.Outputs {
		if back.Outputs[i].Name != o.Name || back.Outputs[i].Binary != o.Binary {
			t.Fatalf("the output %+v came back as %+v", o, back.Outputs[i])
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, body := range []string{
		`{"id":"7","inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[0.1,-2e-3]}],"outputs":[{"name":"y"}]}`,
		`{"inputs":[{"data":[[1],[2]],"shape":[2,1],"datatype":"INT8","name":"x"}],"parameters":{"a":1.5,"binary_data_output":true}}`,
		`{"inputs":[{"name":"x","datatype":"BYTES","shape":[2],"data":["a","\u00e9"]}],"more":{"a":[null,true,{}]}}`,
		`{"inputs":[{"name":"x","datatype":"BOOL","shape":[1],"data":[true]},{"name":"y","datatype":"UINT64","shape":[1],"data":[18446744073709551615]}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzRead(t, body, -1, -1)
		fuzzRead(t, body, int64(len(body)), -1)
	})
}

func FuzzReadBinary(f *testing.F) {
	header := `{"inputs":[{"name":"x","datatype":"FP16","shape":[2],"parameters":{"binary_data_size":4}}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}`
	f.Add([]byte(header+"abcd"), len(header))
	header = `{"inputs":[{"name":"x","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":9}},{"name":"y","datatype":"INT8","shape":[1],"data":[3]}]}`
	f.Add([]byte(header+"\x01\x00\x00\x00a\x00\x00\x00\x00"), len(header))
	f.Fuzz(func(t *testing.T, body []byte, headerLength int) {
		fuzzRead(t, body, int64(len(body)), headerLength)
		fuzzRead(t, body, -1, headerLength)
	})
}
