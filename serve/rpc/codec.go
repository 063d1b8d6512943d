package rpc

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
)

// Fields that the codec handles by itself.
const (
	rawInputs  = 7 // ModelInferRequest.raw_input_contents
	rawOutputs = 6 // ModelInferResponse.raw_output_contents
)

// codec is protobuf, except that ModelInfer's messages are read and written
// without the copies that the general one makes of raw contents.
type codec struct{}

func (codec) Name() string { return proto.Name }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if a, ok := v.(answer); ok {
		return mem.BufferSlice(a), nil
	}
	return encoding.GetCodecV2(proto.Name).Marshal(v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	if c, ok := v.(*call); ok {
		// It is the sender's fault, which gRPC would call its own: the method says so.
		c.broken = c.read(data)
		return nil
	}
	return encoding.GetCodecV2(proto.Name).Unmarshal(data, v)
}

// call is a ModelInferRequest: the message without its raw contents, and these
// in borrowed buffers.
type call struct {
	inferencepb.ModelInferRequest
	raw    [][]byte
	broken error

	limits   oip.Limits
	buffers  Buffers
	borrowed [][]byte
}

func (c *call) borrow(n int) []byte {
	b := c.buffers.Get(n)
	c.borrowed = append(c.borrowed, b)
	return b
}

// giveBack ends the use of all borrowed memory.
func (c *call) giveBack() {
	for _, b := range c.borrowed {
		c.buffers.Put(b)
	}
	c.borrowed, c.raw = nil, nil
}

// read goes over the message's own fields: raw contents go from the frames of
// the connection straight to where they stay; the rest, which is small, is put
// together and left to protobuf.
func (c *call) read(data mem.BufferSlice) error {
	r := data.Reader()
	defer r.Close()
	var rest []byte
	for r.Remaining() > 0 {
		tag, err := binary.ReadUvarint(r)
		if err != nil {
			return errCut
		}
		number, kind := protowire.DecodeTag(tag)
		if number != rawInputs || kind != protowire.BytesType {
			rest = protowire.AppendVarint(rest, tag)
			if rest, err = appendValue(rest, r, kind); err != nil {
				return err
			}
			continue
		}
		if len(c.raw) == c.limits.Tensors {
			return &oip.BadRequest{Text: fmt.Sprintf("raw_input_contents has more than %d tensors", c.limits.Tensors)}
		}
		n, err := length(r)
		if err != nil {
			return err
		}
		b := c.borrow(n)
		if _, err := io.ReadFull(r, b); err != nil {
			return errCut
		}
		c.raw = append(c.raw, b)
	}
	if err := (protobuf.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(rest, &c.ModelInferRequest); err != nil {
		return &oip.BadRequest{Text: fmt.Sprintf("the message is no ModelInferRequest: %v", err)}
	}
	return nil
}

var errCut = &oip.BadRequest{Text: "the message is no ModelInferRequest: it is cut short"}

// length reads the length of a field whose bytes are there.
func length(r *mem.Reader) (int, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(r.Remaining()) {
		return 0, errCut
	}
	return int(n), nil
}

// appendValue copies a field's value as it is.
func appendValue(to []byte, r *mem.Reader, kind protowire.Type) ([]byte, error) {
	n := 0
	switch kind {
	case protowire.VarintType:
		v, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, errCut
		}
		return protowire.AppendVarint(to, v), nil
	case protowire.Fixed32Type:
		n = 4
	case protowire.Fixed64Type:
		n = 8
	case protowire.BytesType:
		var err error
		if n, err = length(r); err != nil {
			return nil, err
		}
		to = protowire.AppendVarint(to, uint64(n))
	default:
		return nil, &oip.BadRequest{Text: fmt.Sprintf("the message is no ModelInferRequest: wire type %d is not understood", kind)}
	}
	to = slices.Grow(to, n)
	to = to[:len(to)+n]
	if _, err := io.ReadFull(r, to[len(to)-n:]); err != nil {
		return nil, errCut
	}
	return to, nil
}

// answer is a ModelInferResponse ready to be sent.
type answer mem.BufferSlice

// encode writes a message and raw contents behind it into one buffer of gRPC's
// own, after which theirs are free.
func encode(m *inferencepb.ModelInferResponse, raw [][]byte) (answer, error) {
	size := protobuf.Size(m)
	for _, data := range raw {
		size += protowire.SizeTag(rawOutputs) + protowire.SizeBytes(len(data))
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(size)
	b, err := protobuf.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buffer)[:0], m)
	if err != nil {
		pool.Put(buffer)
		return nil, fmt.Errorf("the answer cannot be encoded: %w", err)
	}
	for _, data := range raw {
		b = protowire.AppendTag(b, rawOutputs, protowire.BytesType)
		b = protowire.AppendBytes(b, data)
	}
	*buffer = b
	return answer{mem.NewBuffer(buffer, pool)}, nil
}
