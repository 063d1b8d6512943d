package rpc_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/service"
)

// BenchmarkModelInfer is a call over loopback with 150k raw floats and a model
// that takes no time: what gRPC adds, client included.
func BenchmarkModelInfer(b *testing.B) {
	w := newWorld(b, oip.DefaultLimits, grpc.WithInitialWindowSize(1<<20))
	w.echo.infer = func(_ context.Context, r service.InferRequest) (*service.Inference, error) {
		return &service.Inference{Outputs: []oip.Tensor{{Name: "y", Datatype: oip.FP32, Shape: []int64{1, 14}, Data: r.Inputs[0].Data[:56]}}}, nil
	}
	r := request([][]byte{make([]byte, 600_000)}, input("x", oip.FP32, []int64{1, 150_000}, nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.ModelInfer(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
