package rpc

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
)

// Fields that the codec handles by itself.
const (
	rawInputs  = 7 // ModelInferRequest.raw_input_contents: call.go
	rawOutputs = 6 // ModelInferResponse.raw_output_contents
)

// codec is protobuf, except that ModelInfer's answers are written without the
// copies that the general one makes of raw contents. Its requests do not come
// here: see message.go.
type codec struct{}

func (codec) Name() string { return proto.Name }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if a, ok := v.(answer); ok {
		return mem.BufferSlice(a), nil
	}
	return encoding.GetCodecV2(proto.Name).Marshal(v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	return encoding.GetCodecV2(proto.Name).Unmarshal(data, v)
}

// answer is a ModelInferResponse ready to be sent.
type answer mem.BufferSlice

// encode writes a message and raw contents behind it into one buffer, after
// which theirs are free.
func encode(m *inferencepb.ModelInferResponse, raw [][]byte, memory func(size int) (mem.BufferPool, error)) (answer, error) {
	size := protobuf.Size(m)
	for _, data := range raw {
		size += protowire.SizeTag(rawOutputs) + protowire.SizeBytes(len(data))
	}
	pool, err := memory(size)
	if err != nil {
		return nil, err
	}
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
