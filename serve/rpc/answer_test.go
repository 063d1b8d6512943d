package rpc_test

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/service"
)

// answers gives every request an output of so many bytes.
func answers(n int) func(context.Context, service.InferRequest) (*service.Inference, error) {
	return func(context.Context, service.InferRequest) (*service.Inference, error) {
		return &service.Inference{Outputs: []oip.Tensor{{Name: "y", Datatype: oip.INT8, Shape: []int64{int64(n)}, Data: make([]byte, n)}}}, nil
	}
}

// narrow keeps clients from taking more of an answer than they read.
var narrow = grpc.WithInitialWindowSize(64 << 10)

// ask asks for an answer and takes nothing of it.
func ask(ctx context.Context, t *testing.T, w *world, options ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	options = append(options, grpc.MaxCallRecvMsgSize(8<<20))
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, inferencepb.GRPCInferenceService_ModelInfer_FullMethodName, options...)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stream.SendMsg(sized(1)), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil { // which comes with the answer
		t.Fatal(err)
	}
	return stream
}

// full tells whether a call is refused for want of room.
func full(t *testing.T, w *world) bool {
	t.Helper()
	_, err := w.ModelInfer(t.Context(), sized(1))
	if err != nil && !(refused(err) && strings.HasPrefix(status.Convert(err).Message(), "the requests under way hold as much memory as they may: try again later")) {
		t.Fatal(err)
	}
	return err != nil
}

// again asks until there is room.
func again(t *testing.T, w *world, when string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); full(t, w); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: there is no room", when)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// uncollected keeps Go from collecting by itself, as it does for minutes where
// little goes on, or much is held.
func uncollected(t *testing.T) {
	before := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(before) })
}

func TestAnswersThatNobodyTakesHoldBoundedMemory(t *testing.T) {
	for name, options := range map[string][]grpc.CallOption{"as they are": nil, "to compressed messages": {grpc.UseCompressor("gzip")}} {
		w := newWorld(t, roomy, narrow) // 4 MiB together
		w.echo.infer = answers(3 << 20)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		first := ask(ctx, t, w, options...)
		for i := range 20 {
			if !full(t, w) {
				t.Fatalf("%s: an answer beside one that nobody takes, time %d", name, i)
			}
		}
		w.echo.infer = answers(2 << 10)
		if full(t, w) {
			t.Errorf("%s: a small answer is refused", name)
		}
		w.echo.infer = answers(3 << 20)
		got := &inferencepb.ModelInferResponse{}
		if err := first.RecvMsg(got); err != nil || len(got.GetRawOutputContents()) != 1 || len(got.RawOutputContents[0]) != 3<<20 {
			t.Errorf("%s: taken late: %v", name, err)
		}
		again(t, w, name+", after it was taken")
		ask(ctx, t, w, options...)
		if !full(t, w) {
			t.Errorf("%s: an answer beside one that nobody takes", name)
		}
		leave()
		again(t, w, name+", after its client has left")
	}
}

func TestManySmallerAnswersThatNobodyTakesHoldBoundedMemoryToo(t *testing.T) {
	w := newWorld(t, roomy, narrow) // 4 MiB together
	w.echo.infer = answers(100 << 10)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range 30 {
		ask(ctx, t, w)
	}
	if full(t, w) {
		t.Error("30 answers of 100 KiB fill 4 MiB")
	}
	for range 30 {
		ask(ctx, t, w)
	}
	if !full(t, w) {
		t.Error("60 answers of 100 KiB leave room in 4 MiB")
	}
	leave()
	again(t, w, "after their client has left")
}

func TestAnAnswerWhoseConnectionBreaksGivesItsRoomBack(t *testing.T) {
	uncollected(t)
	w := newWorld(t, roomy, narrow)
	other, err := grpc.NewClient(w.conn.Target(), narrow, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	w.echo.infer = answers(3 << 20)
	ask(t.Context(), t, &world{conn: other})
	if !full(t, w) {
		t.Error("an answer beside one that nobody takes")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	again(t, w, "after its connection broke")
}

func TestAnAnswerThatIsNotTakenInItsTimeEndsItsConnection(t *testing.T) {
	w := newWorldWith(t, roomy, 200*time.Millisecond, narrow)
	w.echo.infer = answers(3 << 20)
	stream := ask(t.Context(), t, w)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(w.log.String(), "not taken in time"); {
		if time.Now().After(deadline) {
			t.Fatal("its connection is not closed")
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	if err := stream.RecvMsg(&inferencepb.ModelInferResponse{}); status.Code(err) != codes.Unavailable {
		t.Errorf("its client is told %v", err)
	}
	again(t, w, "afterwards")
}
