package rpc_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/service"
)

func TestMoreCallsThanAllowedAreRefusedUntilOneHasEnded(t *testing.T) {
	w := newWorld(t, limits) // 8 at a time
	began := make(chan bool, 8)
	w.echo.infer = func(ctx context.Context, _ service.InferRequest) (*service.Inference, error) {
		began <- true
		<-ctx.Done()
		return nil, service.ProblemOf(ctx.Err())
	}
	small := func() *inferencepb.ModelInferRequest {
		return request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil))
	}
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error, 8)
	for range 8 {
		go func() {
			_, err := w.ModelInfer(ctx, small())
			ended <- err
		}()
	}
	for range 8 {
		<-began
	}
	if _, err := w.ModelInfer(t.Context(), small()); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a ninth call: %v", err)
	}
	if _, err := w.ServerReady(t.Context(), &inferencepb.ServerReadyRequest{}); err != nil {
		t.Errorf("readiness beside them: %v", err)
	}
	if kind := <-w.echo.refused; kind != service.Refused {
		t.Errorf("the ninth is counted as %s", kind)
	}
	leave()
	for range 8 {
		<-ended
	}
	// the server hears of it a moment after the clients have left
	for deadline := time.Now().Add(10 * time.Second); ; {
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := w.ModelInfer(short, small())
		cancel()
		if status.Code(err) == codes.DeadlineExceeded { // it was let in
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after they have ended: %v", err)
		}
	}
}

// nothing sends the headers of a call and no message.
func nothing(ctx context.Context, w *world) error {
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, inferencepb.GRPCInferenceService_ModelInfer_FullMethodName)
	if err != nil {
		return err
	}
	return stream.RecvMsg(&inferencepb.ModelInferResponse{})
}

func TestACallWhoseMessageIsNotReadIsCountedByWhatIsWrong(t *testing.T) {
	w := newWorld(t, limits) // 1 MiB, 300 ms to come
	for name, c := range map[string]struct {
		call func() error
		code codes.Code
		kind service.Kind
	}{
		"too large": {func() error {
			_, err := w.ModelInfer(t.Context(), sized(1<<20))
			return err
		}, codes.ResourceExhausted, service.TooLarge},
		"too large when it is unpacked": {func() error {
			_, err := w.ModelInfer(t.Context(), sized(1<<20), grpc.UseCompressor("gzip"))
			return err
		}, codes.ResourceExhausted, service.TooLarge},
		"it does not come": {func() error { return nothing(t.Context(), w) }, codes.Canceled, service.BadInput},
		"its client leaves": {func() error {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			return nothing(ctx, w)
		}, codes.Canceled, service.Gone},
	} {
		if err := c.call(); status.Code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		if p := service.ProblemOf(<-w.echo.rejected); p.Kind != c.kind {
			t.Errorf("%s: counted as %s, want %s", name, p.Kind, c.kind)
		}
		if n := len(w.echo.rejected); n != 0 {
			t.Errorf("%s: counted %d times more", name, n)
		}
	}
}

func TestACallWhoseMessageDoesNotComeIsEndedAndOneThatWorksLongerIsNot(t *testing.T) {
	w := newWorld(t, limits) // 300 ms to come
	stream, err := w.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, inferencepb.GRPCInferenceService_ModelInfer_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&inferencepb.ModelInferResponse{}); status.Code(err) != codes.Canceled {
		t.Errorf("a call without a message: %v", err)
	}
	w.echo.infer = func(ctx context.Context, r service.InferRequest) (*service.Inference, error) {
		select {
		case <-time.After(600 * time.Millisecond):
			return &service.Inference{}, nil
		case <-ctx.Done():
			return nil, service.ProblemOf(ctx.Err())
		}
	}
	if _, err := w.ModelInfer(t.Context(), request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil))); err != nil {
		t.Errorf("a run of 600 ms: %v", err)
	}
}
