package rpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/dev/logtest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/rpc"
	"github.com/penstock-ml/penstock/serve/service"
)

// limits are ones that a test can reach.
var limits = oip.Limits{Bytes: 1 << 20, Elements: 1 << 18, Tensors: 3, Depth: 8, Header: 64 << 10}

// echo answers its inputs, or what infer says.
type echo struct {
	infer    func(ctx context.Context, r service.InferRequest) (*service.Inference, error)
	ready    error
	rejected chan error
	refused  chan service.Kind
}

func (e *echo) Infer(ctx context.Context, r service.InferRequest) (*service.Inference, error) {
	if e.infer != nil {
		return e.infer(ctx, r)
	}
	outputs := slices.Clone(r.Inputs)
	for i := range outputs {
		outputs[i].Data = bytes.Clone(outputs[i].Data) // theirs are not kept
	}
	return &service.Inference{Account: service.Account{Model: r.Model, Digest: "d1"}, Outputs: outputs}, nil
}

func (e *echo) Reject(_ service.Call, err error) *service.Problem {
	e.rejected <- err
	return service.ProblemOf(err)
}

func (e *echo) Metadata(name, version string) (oip.Model, error) {
	if name != "m" || version != "" && version != "d1" {
		return oip.Model{}, service.Bad(service.NotFound, "no model %q here", name)
	}
	return oip.Model{Name: name, Versions: []string{"d1"}, Platform: "p", Inputs: []oip.Metadata{{Name: "x", Datatype: oip.FP32, Shape: []int64{-1, 2}}}}, nil
}

func (e *echo) ModelReady(name, version string) (string, error) {
	if _, err := e.Metadata(name, version); err != nil {
		return "", err
	}
	return "d1", e.ready
}

func (e *echo) Ready() bool { return e.ready == nil }

// world is a server on loopback and a client of it.
type world struct {
	echo   *echo
	server *rpc.Server
	pool   *buffers.Pool
	conn   *grpc.ClientConn
	inferencepb.GRPCInferenceServiceClient
	log logtest.Buffer
}

func newWorld(tb testing.TB, l oip.Limits, options ...grpc.DialOption) *world {
	tb.Helper()
	return newWorldWith(tb, l, time.Minute, options...)
}

// newWorldWith makes one whose answers must be taken within a term.
func newWorldWith(tb testing.TB, l oip.Limits, answer time.Duration, options ...grpc.DialOption) *world {
	tb.Helper()
	w := &world{echo: &echo{rejected: make(chan error, 100), refused: make(chan service.Kind, 100)}, pool: buffers.New()}
	w.server = rpc.New(rpc.Options{
		Infer: w.echo, Models: w.echo, Buffers: w.pool, Version: "v1", Limits: l, Calls: 8, Bytes: 4 << 20, Read: 300 * time.Millisecond, Answer: answer, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Refused: func(k service.Kind) {
			select {
			case w.echo.refused <- k:
			default: // some tests ask until they are let in
			}
		},
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(listener) }()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	w.conn, err = grpc.NewClient(listener.Addr().String(), options...)
	if err != nil {
		tb.Fatal(err)
	}
	w.GRPCInferenceServiceClient = inferencepb.NewGRPCInferenceServiceClient(w.conn)
	tb.Cleanup(func() {
		w.server.Stop()
		if err := errors.Join(w.conn.Close(), <-served); err != nil {
			tb.Error(err)
		}
		if n := w.pool.Lent(); n != 0 {
			tb.Errorf("%d buffers were not given back", n)
		}
	})
	return w
}

func input(name string, datatype oip.Datatype, shape []int64, contents *inferencepb.InferTensorContents) *inferencepb.ModelInferRequest_InferInputTensor {
	return &inferencepb.ModelInferRequest_InferInputTensor{Name: name, Datatype: string(datatype), Shape: shape, Contents: contents}
}

func request(raw [][]byte, inputs ...*inferencepb.ModelInferRequest_InferInputTensor) *inferencepb.ModelInferRequest {
	return &inferencepb.ModelInferRequest{ModelName: "m", Id: "7", Inputs: inputs, RawInputContents: raw}
}

// cases has two elements of every datatype, typed and raw.
var cases = []struct {
	datatype oip.Datatype
	contents *inferencepb.InferTensorContents
	raw      []byte
}{
	{oip.BOOL, &inferencepb.InferTensorContents{BoolContents: []bool{true, false}}, []byte{1, 0}},
	{oip.INT8, &inferencepb.InferTensorContents{IntContents: []int32{-128, 127}}, []byte{128, 127}},
	{oip.INT16, &inferencepb.InferTensorContents{IntContents: []int32{-32768, 2}}, little(int16(-32768), int16(2))},
	{oip.INT32, &inferencepb.InferTensorContents{IntContents: []int32{-1 << 31, 2}}, little(int32(-1<<31), int32(2))},
	{oip.INT64, &inferencepb.InferTensorContents{Int64Contents: []int64{-1 << 63, 2}}, little(int64(-1<<63), int64(2))},
	{oip.UINT8, &inferencepb.InferTensorContents{UintContents: []uint32{255, 2}}, []byte{255, 2}},
	{oip.UINT16, &inferencepb.InferTensorContents{UintContents: []uint32{65535, 2}}, little(uint16(65535), uint16(2))},
	{oip.UINT32, &inferencepb.InferTensorContents{UintContents: []uint32{1 << 31, 2}}, little(uint32(1<<31), uint32(2))},
	{oip.UINT64, &inferencepb.InferTensorContents{Uint64Contents: []uint64{1 << 63, 2}}, little(uint64(1<<63), uint64(2))},
	{oip.FP32, &inferencepb.InferTensorContents{Fp32Contents: []float32{0.1, -2}}, little(float32(0.1), float32(-2))},
	{oip.FP64, &inferencepb.InferTensorContents{Fp64Contents: []float64{0.1, -2}}, little(0.1, -2.0)},
	{oip.BYTES, &inferencepb.InferTensorContents{BytesContents: [][]byte{[]byte("a"), {}}}, []byte("\x01\x00\x00\x00a\x00\x00\x00\x00")},
	{oip.FP16, nil, []byte{1, 2, 3, 4}},
	{oip.BF16, nil, []byte{1, 2, 3, 4}},
}

func little(values ...any) (b []byte) {
	for _, v := range values {
		b, _ = binary.Append(b, binary.LittleEndian, v) // of fixed size all
	}
	return b
}

func TestEveryDatatypeIsAnsweredAsItWasSent(t *testing.T) {
	w := newWorld(t, limits)
	for _, c := range cases {
		if c.contents != nil {
			r, err := w.ModelInfer(t.Context(), request(nil, input("x", c.datatype, []int64{2}, c.contents)))
			if err != nil {
				t.Fatalf("%s: %v", c.datatype, err)
			}
			if r.RawOutputContents != nil || r.Outputs[0].GetContents().String() != c.contents.String() {
				t.Errorf("%s came back as %v", c.datatype, r)
			}
		}
		r, err := w.ModelInfer(t.Context(), request([][]byte{c.raw}, input("x", c.datatype, []int64{1, 2}, nil)))
		if err != nil {
			t.Fatalf("%s raw: %v", c.datatype, err)
		}
		out := r.Outputs[0]
		if out.Contents != nil || len(r.RawOutputContents) != 1 || !bytes.Equal(r.RawOutputContents[0], c.raw) || out.Datatype != string(c.datatype) || !slices.Equal(out.Shape, []int64{1, 2}) {
			t.Errorf("%s raw came back as %v", c.datatype, r)
		}
		if r.Id != "7" || r.ModelName != "m" || r.ModelVersion != "d1" {
			t.Errorf("got %v", r)
		}
	}
}

func TestHalfPrecisionIsAnsweredRawToATypedRequest(t *testing.T) {
	w := newWorld(t, limits)
	w.echo.infer = func(context.Context, service.InferRequest) (*service.Inference, error) {
		return &service.Inference{Outputs: []oip.Tensor{{Name: "a", Datatype: oip.FP32, Shape: []int64{1}, Data: []byte{1, 2, 3, 4}}, {Name: "b", Datatype: oip.BF16, Shape: []int64{1}, Data: []byte{5, 6}}}}, nil
	}
	r, err := w.ModelInfer(t.Context(), request(nil, input("x", oip.FP32, []int64{1}, &inferencepb.InferTensorContents{Fp32Contents: []float32{1}})))
	if err != nil || len(r.RawOutputContents) != 2 || r.Outputs[0].Contents != nil || !bytes.Equal(r.RawOutputContents[1], []byte{5, 6}) {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestWhatContradictsTheProtocolIsInvalid(t *testing.T) {
	w := newWorld(t, limits)
	one := &inferencepb.InferTensorContents{Fp32Contents: []float32{1}}
	x := func(datatype oip.Datatype, shape ...int64) *inferencepb.ModelInferRequest_InferInputTensor {
		return input("x", datatype, shape, nil)
	}
	shared := x(oip.FP32, 1)
	shared.Parameters = map[string]*inferencepb.InferParameter{"shared_memory_region": {}}
	twice := request(nil, input("x", oip.FP32, []int64{1}, one))
	twice.Outputs = []*inferencepb.ModelInferRequest_InferRequestedOutputTensor{{Name: "y"}, {Name: "y"}}
	classes := request(nil, input("x", oip.FP32, []int64{1}, one))
	classes.Outputs = []*inferencepb.ModelInferRequest_InferRequestedOutputTensor{{Name: "y", Parameters: map[string]*inferencepb.InferParameter{"classification": {}}}}
	four := []byte{1, 2, 3, 4}
	for _, c := range []struct {
		r    *inferencepb.ModelInferRequest
		says string
	}{
		{request(nil), "no inputs"},
		{request([][]byte{four}), "no inputs"},
		{request([][]byte{four}, input("x", oip.FP32, []int64{1}, one)), "contents beside raw_input_contents"},
		{request([][]byte{four, four}, x(oip.FP32, 1)), "2 tensors for 1 inputs"},
		{request([][]byte{four, four, four, four}, x(oip.FP32, 1)), "more than 3 tensors"},
		{request([][]byte{four}, input("", oip.FP32, []int64{1}, nil)), "has no name"},
		{request([][]byte{four, four}, x(oip.FP32, 1), x(oip.FP32, 1)), "two inputs"},
		{request([][]byte{four}, x("FLOAT", 1)), "none of the protocol's"},
		{request([][]byte{four}, x(oip.FP32, 2)), "4 bytes, the shape [2] of FP32 has 8"},
		{request([][]byte{four}, x(oip.FP32, -1)), "at least 1"},
		{request([][]byte{four}, x(oip.FP32, 0)), "at least 1"},
		{request([][]byte{four}, x(oip.FP32, 1<<40, 1<<40)), "more than 262144 elements"},
		{request([][]byte{four}, x(oip.BOOL, 4)), "a BOOL is 0 or 1"},
		{request([][]byte{four}, x(oip.BYTES, 1)), "goes beyond"},
		{request(nil, x(oip.FP32, 1)), "fp32_contents has 0 elements, want 1"},
		{request(nil, x(oip.FP16, 1)), "send it as raw_input_contents"},
		{request(nil, input("x", oip.BF16, []int64{1}, one)), "send it as raw_input_contents"},
		{request(nil, input("x", oip.INT32, []int64{1}, one)), "int_contents has 0 elements, want 1"},
		{request(nil, input("x", oip.FP32, []int64{1}, &inferencepb.InferTensorContents{Fp32Contents: []float32{1}, BoolContents: []bool{true}})), "bool_contents has 1 elements, want 0"},
		{request(nil, input("x", oip.INT8, []int64{1}, &inferencepb.InferTensorContents{IntContents: []int32{128}})), "element 0 is 128"},
		{request(nil, input("x", oip.UINT16, []int64{1}, &inferencepb.InferTensorContents{UintContents: []uint32{1 << 16}})), "out of range"},
		{request([][]byte{four}, shared), "shared_memory_region is not offered"},
		{twice, "asked for twice"},
		{classes, "classification is not offered"},
	} {
		_, err := w.ModelInfer(t.Context(), c.r)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v does not say %q", c.r, err, c.says)
		}
		select {
		case <-w.echo.rejected:
		default:
			t.Errorf("%v was not counted", c.r)
		}
	}
}

func TestEveryKindOfProblemHasItsCode(t *testing.T) {
	w := newWorld(t, limits)
	want := map[service.Kind]codes.Code{
		service.BadInput: codes.InvalidArgument, service.TooLarge: codes.InvalidArgument, service.Unsupported: codes.InvalidArgument,
		service.NotFound: codes.NotFound, service.Denied: codes.PermissionDenied, service.Refused: codes.ResourceExhausted,
		service.Late: codes.DeadlineExceeded, service.Gone: codes.Canceled, service.Unavailable: codes.Unavailable,
		service.Model: codes.Internal, service.Internal: codes.Internal,
	}
	for _, kind := range service.Kinds {
		w.echo.infer = func(context.Context, service.InferRequest) (*service.Inference, error) {
			return nil, &service.Problem{Kind: kind, Text: "text of it", RetryAfter: map[bool]time.Duration{true: 3 * time.Second}[kind == service.Refused]}
		}
		_, err := w.ModelInfer(t.Context(), request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil)))
		s := status.Convert(err)
		if code, ok := want[kind]; !ok || s.Code() != code || s.Message() != "text of it" {
			t.Errorf("%s became %v", kind, err)
		}
		details := s.Details()
		if (kind == service.Refused) != (len(details) == 1) {
			t.Fatalf("%s has the details %v", kind, details)
		}
		if len(details) == 1 {
			if again, ok := details[0].(*errdetails.RetryInfo); !ok || again.GetRetryDelay().AsDuration() != 3*time.Second {
				t.Errorf("got %v", details)
			}
		}
	}
}

func TestCallTellsDeadlineTraceAndNames(t *testing.T) {
	w := newWorld(t, limits)
	got := make(chan service.InferRequest, 1)
	w.echo.infer = func(_ context.Context, r service.InferRequest) (*service.Inference, error) {
		got <- r
		return &service.Inference{Account: service.Account{Model: "m", Digest: "d9"}}, nil
	}
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-00f067aa0ba902b7-01"), time.Minute)
	defer cancel()
	r := request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil))
	r.ModelVersion = "d9"
	r.Outputs = []*inferencepb.ModelInferRequest_InferRequestedOutputTensor{{Name: "y"}}
	var header metadata.MD
	if _, err := w.ModelInfer(ctx, r, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	c := <-got
	deadline, _ := ctx.Deadline()
	if c.Model != "m" || c.Version != "d9" || c.Trace != trace || !slices.Equal(c.Outputs, []string{"y"}) || c.Deadline.Sub(deadline).Abs() > time.Second || c.Began.IsZero() {
		t.Errorf("got %+v", c)
	}
	if !slices.Equal(header.Get("penstock-model-digest"), []string{"d9"}) || !slices.Equal(header.Get("penstock-request-id"), []string{c.ID}) || c.ID == "" {
		t.Errorf("got the header %v", header)
	}
	if _, err := w.ModelInfer(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if c := <-got; !c.Deadline.IsZero() || len(c.Trace) != 32 || c.Trace == trace {
		t.Errorf("without a deadline and a trace: %+v", c)
	}
}

func TestPanicStaysInItsCall(t *testing.T) {
	w := newWorld(t, limits)
	w.echo.infer = func(context.Context, service.InferRequest) (*service.Inference, error) { panic("broken") }
	_, err := w.ModelInfer(t.Context(), request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil)))
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "broken") || !strings.Contains(w.log.String(), "panic=broken") {
		t.Errorf("got %v, log %s", err, &w.log)
	}
	if r, err := w.ServerLive(t.Context(), &inferencepb.ServerLiveRequest{}); err != nil || !r.Live {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestMessageAboveTheLimitIsRefused(t *testing.T) {
	w := newWorld(t, limits)
	_, err := w.ModelInfer(t.Context(), request([][]byte{make([]byte, limits.Bytes)}, input("x", oip.INT8, []int64{limits.Bytes}, nil)))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestClientThatLeavesCancelsTheRun(t *testing.T) {
	w := newWorld(t, limits)
	began, ended := make(chan bool), make(chan error, 1)
	w.echo.infer = func(ctx context.Context, _ service.InferRequest) (*service.Inference, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, service.ProblemOf(ctx.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, err := w.ModelInfer(ctx, request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil)))
	if status.Code(err) != codes.Canceled || !errors.Is(<-ended, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCompressedMessagesAreTaken(t *testing.T) {
	w := newWorld(t, limits)
	r, err := w.ModelInfer(t.Context(), request([][]byte{make([]byte, 1000)}, input("x", oip.INT8, []int64{1000}, nil)), grpc.UseCompressor("gzip"))
	if err != nil || len(r.RawOutputContents[0]) != 1000 {
		t.Errorf("got %v", err)
	}
}
