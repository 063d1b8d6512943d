package oip

import (
	"io"
	"strconv"
)

// Request is the body of POST /v2/models/M/infer, its tensors as bytes.
type Request struct {
	ID            string
	Parameters    map[string]any // string, int64, uint64, float64, bool
	Inputs        []Tensor
	Outputs       []Requested // none: all
	BinaryOutputs bool        // how outputs travel about which nothing is said
}

// Requested names an output that the caller wants.
type Requested struct {
	Name       string
	Binary     bool // as bytes behind the JSON
	Parameters map[string]any
}

// Binary tells whether the output of this name is to travel as bytes behind the
// JSON.
func (r Request) Binary(output string) bool {
	for _, o := range r.Outputs {
		if o.Name == output {
			return o.Binary
		}
	}
	return r.BinaryOutputs
}

// Response is the body of its answer.
type Response struct {
	ID         string
	Model      string
	Version    string
	Parameters map[string]any
	Outputs    []Tensor
}

// ReadRequest reads an inference request: JSON, or where headerLength (the
// header Inference-Header-Content-Length) is not -1, so many bytes of JSON and
// then the tensors' bytes, which are read to where they stay. contentLength is
// -1 where it is not known. Errors that are the sender's are *BadRequest;
// others are the reader's own.
//
// Refused: what breaks a limit; fields that come twice, two inputs of a name;
// data whose nesting, number or kind contradicts shape and datatype; data
// beside binary_data_size; sizes that disagree; shared memory and
// classification, which this server does not have. Fields that the protocol
// does not know are skipped.
func ReadRequest(body io.Reader, contentLength int64, headerLength int, l Limits, alloc Alloc) (Request, error) {
	d := &decoder{limits: l, alloc: alloc, left: l.Elements}
	err := d.read(body, contentLength, headerLength, d.request)
	return Request{d.id, d.parameters, d.tensors, d.requested, d.binary}, err
}

// ReadText reads the whole body of a request in JSON, and ParseRequest makes the
// request of it: ReadRequest in two steps, for a server that may refuse a
// request before it spends anything on its contents.
func ReadText(body io.Reader, contentLength int64, l Limits, alloc Alloc) ([]byte, error) {
	if contentLength > l.Bytes {
		return nil, tooLarge(l.Bytes)
	}
	return readAll(body, contentLength, l.Bytes, alloc.orMake())
}

// ParseRequest is the second step. See ReadText.
func ParseRequest(text []byte, l Limits, alloc Alloc) (Request, error) {
	d := &decoder{limits: l, alloc: alloc.orMake(), left: l.Elements, behind: -1}
	err := d.parse(text, d.request)
	return Request{d.id, d.parameters, d.tensors, d.requested, d.binary}, err
}

// ReadResponse reads the answer to an inference request as ReadRequest reads a
// request. Dimensions of 0 are allowed.
func ReadResponse(body io.Reader, contentLength int64, headerLength int, l Limits, alloc Alloc) (Response, error) {
	d := &decoder{limits: l, alloc: alloc, left: l.Elements, response: true}
	err := d.read(body, contentLength, headerLength, d.answer)
	return Response{d.id, d.model, d.version, d.parameters, d.tensors}, err
}

// decoder is one body under way.
type decoder struct {
	scanner
	limits   Limits
	alloc    Alloc
	left     int // elements that may still come
	behind   int // bytes that may still come behind the JSON; -1: it is all there is
	response bool

	id, model, version string
	parameters         map[string]any
	tensors            []Tensor
	counts             []int // elements of each tensor
	sizes              []int // bytes of each behind the JSON; -1: it has data
	requested          []Requested
	binary             bool
}

func (d *decoder) read(body io.Reader, contentLength int64, headerLength int, object func() error) error {
	d.alloc = d.alloc.orMake()
	if headerLength < 0 {
		text, err := ReadText(body, contentLength, d.limits, d.alloc)
		if err != nil {
			return err
		}
		d.behind = -1
		return d.parse(text, object)
	}
	if contentLength > d.limits.Bytes {
		return tooLarge(d.limits.Bytes)
	}
	text, err := d.header(body, contentLength, headerLength)
	if err != nil {
		return err
	}
	if err := d.parse(text, object); err != nil {
		return err
	}
	if contentLength >= 0 && d.behind > 0 {
		return bad("the tensors' binary_data_size leave %d bytes of the body over: the sizes disagree", d.behind)
	}
	return d.readTensors(body)
}

// parse reads one object and wants nothing behind it.
func (d *decoder) parse(text []byte, object func() error) error {
	d.text, d.depth = text, d.limits.Depth
	if err := object(); err != nil {
		return err
	}
	if d.peek(); d.at != len(d.text) {
		return d.fail("the JSON goes on after its object: %s", d.here())
	}
	return nil
}

// header reads the JSON in front of binary tensors.
func (d *decoder) header(body io.Reader, contentLength int64, n int) ([]byte, error) {
	switch {
	case n == 0:
		return nil, bad("Inference-Header-Content-Length is 0: a body without JSON is not understood, describe the tensor")
	case n > d.limits.Header:
		return nil, bad("Inference-Header-Content-Length is %d, at most %d is taken", n, d.limits.Header)
	case contentLength >= 0 && int64(n) > contentLength:
		return nil, bad("Inference-Header-Content-Length is %d, but the body has %d bytes", n, contentLength)
	}
	d.behind = int(d.limits.Bytes) - n
	if contentLength >= 0 {
		d.behind = int(contentLength) - n
	}
	return readFull(body, n, "the JSON that Inference-Header-Content-Length announces", d.alloc)
}

// readTensors reads what stands behind the JSON.
func (d *decoder) readTensors(body io.Reader) error {
	for i, size := range d.sizes {
		if size < 0 {
			continue
		}
		t := &d.tensors[i]
		var err error
		if t.Data, err = readFull(body, size, strconv.Quote(t.Name), d.alloc); err != nil {
			return err
		}
		switch t.Datatype {
		case BYTES:
			err = t.checkTexts(d.counts[i])
		case BOOL:
			err = t.checkBools()
		}
		if err != nil {
			return err
		}
	}
	return readEnd(body)
}

func (d *decoder) request() error {
	var asked []*bool // of each output: whether it is to be binary, nil where nothing is said
	err := d.object("the request", func(key string) (err error) {
		switch key {
		case "id":
			if !d.word("null") {
				d.id, err = d.string("id")
			}
		case "parameters":
			d.parameters, err = d.values("parameters")
		case "inputs":
			err = d.array("inputs", d.limits.Tensors, d.tensor)
		case "outputs":
			if d.word("null") {
				return nil
			}
			err = d.array("outputs", d.limits.Tensors, func() error {
				binary, err := d.output()
				asked = append(asked, binary)
				return err
			})
		default:
			err = d.skip(key)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(d.tensors) == 0 {
		return bad("the request has no inputs")
	}
	binary, err := flag(d.parameters, "binary_data_output", "parameters")
	d.binary = binary != nil && *binary
	for i, b := range asked {
		d.requested[i].Binary = b != nil && *b || b == nil && d.binary
	}
	return err
}

func (d *decoder) answer() error {
	return d.object("the answer", func(key string) (err error) {
		switch key {
		case "id":
			d.id, err = d.string("id")
		case "model_name":
			d.model, err = d.string("model_name")
		case "model_version":
			d.version, err = d.string("model_version")
		case "parameters":
			d.parameters, err = d.values("parameters")
		case "outputs":
			err = d.array("outputs", d.limits.Tensors, d.tensor)
		default:
			err = d.skip(key)
		}
		return err
	})
}
