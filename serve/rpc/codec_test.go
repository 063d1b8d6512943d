package rpc

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/buffers"
)

// frames cuts a message into pieces, as connections do.
func frames(message []byte, size int) mem.BufferSlice {
	var all mem.BufferSlice
	for len(message) > size {
		all = append(all, mem.SliceBuffer(message[:size]))
		message = message[size:]
	}
	return append(all, mem.SliceBuffer(message))
}

// whole is a message that comes in such pieces.
func whole(text []byte, size int) *message {
	r := frames(text, size).Reader()
	return &message{from: bufio.NewReader(r), left: len(text), exact: true, hold: func(int64) error { return nil }}
}

// FuzzCodec holds the codec to protobuf's own reading of the same bytes.
func FuzzCodec(f *testing.F) {
	full, err := protobuf.Marshal(&inferencepb.ModelInferRequest{
		ModelName: "m", Id: "7", Parameters: map[string]*inferencepb.InferParameter{"a": {ParameterChoice: &inferencepb.InferParameter_DoubleParam{DoubleParam: 1.5}}},
		Inputs: []*inferencepb.ModelInferRequest_InferInputTensor{
			{Name: "x", Datatype: "FP32", Shape: []int64{1, -2}, Contents: &inferencepb.InferTensorContents{Fp32Contents: []float32{1, 2}}},
		},
		RawInputContents: [][]byte{{1, 2, 3}, {}, make([]byte, 300)},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full, 7)
	f.Add([]byte{0x3a, 0x80, 0x80, 0x80, 0x80, 0x08}, 1)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		pool := buffers.New()
		c := &call{limits: oip.Limits{Bytes: 1 << 20, Tensors: 8, Elements: 1 << 20, Header: 1 << 20}, loan: buffers.NewLoan(pool)}
		broken := c.read(whole(text, 1+(size&1023)))
		var want inferencepb.ModelInferRequest
		err := protobuf.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(text, &want)
		groups := broken != nil && strings.Contains(broken.Error(), "wire type") // which no message of the protocol has
		most := max(len(want.RawInputContents), len(want.Inputs), len(want.Outputs))
		if !groups && most <= 8 && (broken == nil) != (err == nil) {
			t.Fatalf("got %v, protobuf %v", broken, err)
		}
		if broken == nil {
			if len(c.raw) != len(want.RawInputContents) {
				t.Fatalf("got %d raw tensors, want %d", len(c.raw), len(want.RawInputContents))
			}
			for i := range c.raw {
				if !bytes.Equal(c.raw[i], want.RawInputContents[i]) {
					t.Fatalf("raw tensor %d is %x, want %x", i, c.raw[i], want.RawInputContents[i])
				}
			}
			want.RawInputContents = nil
			if !protobuf.Equal(&c.ModelInferRequest, &want) {
				t.Fatalf("got %v, want %v", &c.ModelInferRequest, &want)
			}
		}
		c.giveBack()
		if pool.Lent() != 0 {
			t.Fatal("buffers were not given back")
		}
	})
}

// BenchmarkRead is a request of 150k raw floats in frames of 16 KiB; the ratio
// is to gRPC's own codec.
func BenchmarkRead(b *testing.B) {
	raw := make([]byte, 600_000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range raw {
		raw[i] = byte(random.Uint32())
	}
	text, err := protobuf.Marshal(&inferencepb.ModelInferRequest{
		ModelName: "m", RawInputContents: [][]byte{raw},
		Inputs: []*inferencepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{1, 150_000}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	data := frames(text, 16<<10)
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		pool := buffers.New()
		for b.Loop() {
			c := &call{limits: oip.DefaultLimits, loan: buffers.NewLoan(pool)}
			r := data.Reader()
			if err := c.read(&message{from: bufio.NewReader(r), left: r.Remaining(), exact: true, hold: c.share.Hold}); err != nil {
				b.Fatal(err)
			}
			c.giveBack()
		}
	})
	b.Run("protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m inferencepb.ModelInferRequest
			if err := encoding.GetCodecV2(proto.Name).Unmarshal(data, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
