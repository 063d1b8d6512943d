package rpc

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// call is a ModelInferRequest: the message without its raw contents, and these
// in borrowed buffers.
type call struct {
	inferencepb.ModelInferRequest
	raw    [][]byte
	broken error // the message's own fault, and so the sender's

	limits oip.Limits
	loan   *buffers.Loan
	share  service.Share // of what all calls may hold together, until giveBack
}

// giveBack ends the use of all borrowed memory.
func (c *call) giveBack() {
	c.loan.End()
	c.raw = nil
	c.share.End()
}

// read goes over the message's own fields: raw contents go from the frames of
// the connection straight to where they stay; the rest, which is small, is put
// together and left to protobuf.
func (c *call) read(m *message) error {
	var rest []byte
	for {
		tag, err := binary.ReadUvarint(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return errCut
		}
		number, kind := protowire.DecodeTag(tag)
		if number != rawInputs || kind != protowire.BytesType {
			rest = protowire.AppendVarint(rest, tag)
			if rest, err = appendValue(rest, m, kind); err != nil {
				return err
			}
			continue
		}
		if len(c.raw) == c.limits.Tensors {
			return &oip.BadRequest{Text: fmt.Sprintf("raw_input_contents has more than %d tensors", c.limits.Tensors)}
		}
		b, err := c.tensorOf(m)
		if err != nil {
			return err
		}
		c.raw = append(c.raw, b)
	}
	if err := c.weigh(rest); err != nil {
		return err
	}
	if err := (protobuf.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(rest, &c.ModelInferRequest); err != nil {
		return &oip.BadRequest{Text: fmt.Sprintf("the message is no ModelInferRequest: %v", err)}
	}
	return nil
}

// tensorOf reads a field into a borrowed buffer. The length in a compressed
// message is believed as far as it has come.
func (c *call) tensorOf(m *message) ([]byte, error) {
	n, err := length(m)
	if err != nil {
		return nil, err
	}
	first := n
	if !m.exact {
		first = min(n, small)
	}
	b, have := c.loan.Get(first, nil), 0
	for {
		k, err := io.ReadFull(m, b[have:])
		if have += k; err != nil {
			return nil, errCut
		}
		if have == n {
			return b, nil
		}
		b = c.loan.Get(min(n, 2*have), b)
	}
}

var errCut = &oip.BadRequest{Text: "the message is no ModelInferRequest: it is cut short"}

// length reads the length of a field whose bytes may come.
func length(m *message) (int, error) {
	n, err := binary.ReadUvarint(m)
	switch {
	case err != nil:
		return 0, errCut
	case n > uint64(m.left) && !m.exact:
		m.failed = errLarge
		return 0, errLarge
	case n > uint64(m.left):
		return 0, errCut
	}
	return int(n), nil
}

// appendValue copies a field's value as it is.
func appendValue(to []byte, m *message, kind protowire.Type) ([]byte, error) {
	n := 0
	switch kind {
	case protowire.VarintType:
		v, err := binary.ReadUvarint(m)
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
		if n, err = length(m); err != nil {
			return nil, err
		}
		to = protowire.AppendVarint(to, uint64(n))
	default:
		return nil, &oip.BadRequest{Text: fmt.Sprintf("the message is no ModelInferRequest: wire type %d is not understood", kind)}
	}
	for have := 0; have < n; { // a length is believed as far as it has come
		k := min(n-have, max(have, small))
		to = slices.Grow(to, k)
		to = to[:len(to)+k]
		if _, err := io.ReadFull(m, to[len(to)-k:]); err != nil {
			return nil, errCut
		}
		have += k
	}
	return to, nil
}
