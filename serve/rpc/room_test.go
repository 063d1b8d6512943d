package rpc_test

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/service"
)

// roomy lets messages of 4 MiB in, which is all that may be held together.
var roomy = oip.Limits{Bytes: 4 << 20, Elements: 4 << 20, Tensors: 3, Depth: 8, Header: 64 << 10}

func sized(n int) *inferencepb.ModelInferRequest {
	return request([][]byte{make([]byte, n)}, input("x", oip.INT8, []int64{int64(n)}, nil))
}

// refused tells whether a call was refused for now.
func refused(err error) bool {
	s := status.Convert(err)
	if s.Code() != codes.ResourceExhausted || len(s.Details()) != 1 {
		return false
	}
	_, ok := s.Details()[0].(*errdetails.RetryInfo)
	return ok
}

func TestMessagesThatAreHeldTogetherAreBoundedInBytes(t *testing.T) {
	w := newWorld(t, roomy)
	began, end := make(chan bool), make(chan bool)
	w.echo.infer = func(_ context.Context, r service.InferRequest) (*service.Inference, error) {
		if len(r.Inputs[0].Data) == 3<<20 {
			began <- true
			<-end
		}
		return &service.Inference{}, nil
	}
	first := make(chan error, 1)
	go func() {
		_, err := w.ModelInfer(t.Context(), sized(3<<20))
		first <- err
	}()
	<-began
	for name, options := range map[string][]grpc.CallOption{"as it is": nil, "compressed": {grpc.UseCompressor("gzip")}} {
		if _, err := w.ModelInfer(t.Context(), sized(5<<19), options...); !refused(err) {
			t.Errorf("2.5 MiB beside 3 of 4, %s: %v", name, err)
		}
		select {
		case err := <-w.echo.rejected:
			if service.ProblemOf(err).Kind != service.Refused {
				t.Errorf("counted as %v", err)
			}
		default:
			t.Error("the refusal is not counted")
		}
	}
	if _, err := w.ModelInfer(t.Context(), sized(1<<19)); err != nil {
		t.Errorf("a small one beside them: %v", err)
	}
	close(end)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := w.ModelInfer(t.Context(), sized(5<<19)); err != nil {
		t.Errorf("when the first has ended: %v", err)
	}
}

func TestALargeMessageComesWholeAsItIsAndCompressed(t *testing.T) {
	w := newWorld(t, roomy)
	sent := bytes.Repeat([]byte("abcdefg\x00"), 3<<17)
	for name, options := range map[string][]grpc.CallOption{"as it is": nil, "compressed": {grpc.UseCompressor("gzip")}} {
		options = append(options, grpc.MaxCallRecvMsgSize(8<<20))
		r, err := w.ModelInfer(t.Context(), request([][]byte{sent}, input("x", oip.INT8, []int64{3 << 20}, nil)), options...)
		if err != nil || !bytes.Equal(r.GetRawOutputContents()[0], sent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.ModelInfer(t.Context(), sized(5<<20), grpc.UseCompressor("gzip"))
	if status.Code(err) != codes.ResourceExhausted || refused(err) {
		t.Errorf("5 MiB in a few bytes: %v", err)
	}
}

func TestQuestionsAreSmall(t *testing.T) {
	w := newWorld(t, roomy)
	_, err := w.ModelReady(t.Context(), &inferencepb.ModelReadyRequest{Name: strings.Repeat("a", 100<<10)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a question of 100 KiB: %v", err)
	}
	watch, err := grpc_health_v1.NewHealthClient(w.conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: strings.Repeat("a", 100<<10)})
	if err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a watch of 100 KiB: %v", err)
	}
	for range 2 {
		if kind := <-w.echo.refused; kind != service.TooLarge {
			t.Errorf("counted as %s", kind)
		}
	}
}

func TestMoreWatchesThanThereArePlacesForAreRefused(t *testing.T) {
	w := newWorld(t, limits)
	client := grpc_health_v1.NewHealthClient(w.conn)
	ctx, leave := context.WithCancel(t.Context())
	watch := func(ctx context.Context) error {
		stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for i := range 64 {
		if err := watch(ctx); err != nil {
			t.Fatalf("watch %d: %v", i, err)
		}
	}
	if err := watch(t.Context()); !refused(err) {
		t.Errorf("one more: %v", err)
	}
	if kind := <-w.echo.refused; kind != service.Refused {
		t.Errorf("it is counted as %s", kind)
	}
	if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Errorf("a look beside them: %v", err)
	}
	leave()
	for deadline := time.Now().Add(10 * time.Second); watch(t.Context()) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("their places are not free again")
		}
	}
}

func TestAnswersCarryTheTrace(t *testing.T) {
	w := newWorld(t, limits)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for name, sent := range map[string]string{"goes on": "00-" + trace + "-00f067aa0ba902b7-01", "begins": "none", "of a later version": "01-" + trace + "-00f067aa0ba902b7-01-more"} {
		for _, r := range []*inferencepb.ModelInferRequest{sized(1), request(nil)} { // the second is wrong
			var header metadata.MD
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", sent)
			_, err := w.ModelInfer(ctx, r, grpc.Header(&header))
			if got := header.Get("traceparent"); len(got) != 1 || len(got[0]) != 55 || strings.Contains(got[0], trace) != (name != "begins") || strings.Contains(got[0], "00f067aa0ba902b7") {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if len(header.Get("penstock-request-id")) != 1 {
				t.Errorf("%s: %v", name, header)
			}
		}
	}
}

func TestAnIDThatIsTooLongIsRefused(t *testing.T) {
	w := newWorld(t, limits)
	r := sized(1)
	for n, want := range map[int]codes.Code{4 << 10: codes.OK, 4<<10 + 1: codes.InvalidArgument} {
		r.Id = strings.Repeat("i", n)
		if _, err := w.ModelInfer(t.Context(), r); status.Code(err) != want {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// Two bytes of a message may become a hundred in memory.
func TestAMessageOfManySmallPartsTakesNoMoreMemoryThanOneOfFew(t *testing.T) {
	w := newWorld(t, roomy)
	for name, r := range map[string]*inferencepb.ModelInferRequest{
		"inputs":     {Inputs: slices.Repeat([]*inferencepb.ModelInferRequest_InferInputTensor{{}}, 1<<19)},
		"outputs":    {Outputs: slices.Repeat([]*inferencepb.ModelInferRequest_InferRequestedOutputTensor{{}}, 1<<19)},
		"dimensions": request(nil, input("x", oip.FP32, make([]int64, 1<<20), nil)),
		"texts":      request(nil, input("x", oip.BYTES, []int64{1}, &inferencepb.InferTensorContents{BytesContents: make([][]byte, 1<<20)})),
	} {
		var before, after runtime.MemStats
		data, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&before)
		err = w.conn.Invoke(t.Context(), inferencepb.GRPCInferenceService_ModelInfer_FullMethodName, request(nil), request(nil), grpc.ForceCodecV2(marshalled(data)))
		runtime.ReadMemStats(&after)
		if status.Code(err) != codes.InvalidArgument && !refused(err) {
			t.Errorf("%s: %v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 12<<20 {
			t.Errorf("%s: %d bytes of a message took %d", name, len(data), took)
		}
	}
}

// marshalled is a codec whose messages are all the same.
type marshalled []byte

func (marshalled) Name() string { return "proto" }
func (m marshalled) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(m)}, nil
}
func (marshalled) Unmarshal(mem.BufferSlice, any) error { return nil }
