package rpc

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/penstock-ml/penstock/internal/oip"
)

// Fields of the messages that are weighed.
const (
	requestInputs  = 5 // ModelInferRequest.inputs
	requestOutputs = 6 // ModelInferRequest.outputs
	inputContents  = 5 // InferInputTensor.contents
)

// kinds are the fields of InferTensorContents: bytes of an element in memory,
// and on the wire where it is packed; 0: a varint.
var kinds = map[protowire.Number]struct{ memory, wire int64 }{
	1: {1, 0}, 2: {4, 0}, 3: {8, 0}, 4: {4, 0}, 5: {8, 0}, 6: {4, 4}, 7: {8, 8}, 8: {64, 0}, // a slice grows by doubling
}

// overhead is what a byte of names, shapes and parameters may take in memory: an
// entry of a map, a message of its own.
const overhead = 32

// weight is what protobuf would make of a message: two bytes may become a
// hundred.
type weight struct {
	inputs, outputs int
	words           int64 // bytes of all but contents
	elements        int64
	memory          int64 // bytes of the elements
}

// weigh refuses a message whose parts are more than the limits allow, and
// reserves what it will take, before protobuf makes it.
func (c *call) weigh(rest []byte) error {
	var w weight
	fields(rest, w.field)
	switch {
	case max(w.inputs, w.outputs) > c.limits.Tensors:
		return bad("the request has more than %d inputs or outputs", c.limits.Tensors)
	case w.elements > int64(c.limits.Elements):
		return bad("the inputs have more than %d elements", c.limits.Elements)
	case w.memory > c.limits.Bytes:
		return &oip.BadRequest{TooLarge: true, Text: "the contents of the inputs take too much memory: send them as raw_input_contents"}
	case w.words > int64(c.limits.Header):
		return &oip.BadRequest{TooLarge: true, Text: "the names, shapes and parameters of the request are too long"}
	}
	if all := w.memory + overhead*w.words; all > small {
		return c.share.Hold(all)
	}
	return nil
}

func (w *weight) field(number protowire.Number, kind protowire.Type, value []byte) {
	isMessage := kind == protowire.BytesType
	switch {
	case isMessage && number == requestInputs:
		w.inputs++
		fields(value, func(number protowire.Number, kind protowire.Type, value []byte) {
			if kind == protowire.BytesType && number == inputContents {
				fields(value, w.element)
			} else {
				w.words += 2 + int64(len(value))
			}
		})
	case isMessage && number == requestOutputs:
		w.outputs++
		w.words += int64(len(value))
	default:
		w.words += 2 + int64(len(value))
	}
}

func (w *weight) element(number protowire.Number, kind protowire.Type, value []byte) {
	known, ok := kinds[number]
	n := int64(1)
	switch {
	case !ok:
		w.words += 2 + int64(len(value))
		return
	case number == 8: // bytes
		w.memory += int64(len(value))
	case kind == protowire.BytesType && known.wire > 0:
		n = int64(len(value)) / known.wire
	case kind == protowire.BytesType:
		n = 0
		for _, b := range value {
			if b < 0x80 { // the last of a varint
				n++
			}
		}
	}
	w.elements += n
	w.memory += n * known.memory
}

// fields goes over a message, as far as it is one: protobuf ends there too, and
// says so.
func fields(b []byte, each func(protowire.Number, protowire.Type, []byte)) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return
		}
		value := b[:n]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		each(number, kind, value)
		b = b[n:]
	}
}
