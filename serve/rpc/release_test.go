package rpc_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
	"github.com/penstock-ml/penstock/serve/service"
)

// served is a host of one model, and counts.
type served struct {
	m    *model.Model
	seen chan metrics.Outcome
}

func (s served) Name() string            { return "m" }
func (s served) Count(r metrics.Request) { s.seen <- r.Outcome }
func (s served) Use() (*model.Model, func(), error) {
	release, err := s.m.Acquire()
	return s.m, release, err
}

// TestAnAnswerThatCannotBeEncodedKeepsNoModelLoaded: a graph may give an output a
// name that is no UTF-8, which gRPC cannot say.
func TestAnAnswerThatCannotBeEncodedKeepsNoModelLoaded(t *testing.T) {
	graph := bytes.ReplaceAll(bundletest.Graph(t, bundletest.Sums), []byte("twice"), []byte("tw\xffce"))
	b, err := bundle.Read(bundletest.Tensor(t, graph, []bundletest.Golden{{
		Inputs:  []bundletest.Array{bundletest.Floats([]float32{1, 2, 3}, 1, 3), bundletest.Ints([]int64{1, 2, 3}, 1, 3)},
		Outputs: []bundletest.Array{bundletest.Floats([]float32{2, 4, 6}, 1, 3), bundletest.Ints([]int64{2, 4, 6}, 1, 3)},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(t.Context(), modeltest.Runtime(t), b)
	if err != nil {
		t.Fatal(err)
	}
	w, host := newWorld(t, limits), served{m, make(chan metrics.Outcome, 2)}
	w.echo.infer = service.New(service.Options{
		Log: slog.New(slog.DiscardHandler), SLO: time.Second, Models: []service.Served{{Host: host, Counter: host}},
	}).Infer
	_, err = w.ModelInfer(t.Context(), request([][]byte{make([]byte, 12), make([]byte, 24)},
		input("a", oip.FP32, []int64{1, 3}, nil), input("b", oip.INT64, []int64{1, 3}, nil)))
	if status.Code(err) != codes.Internal || <-host.seen != metrics.ServerError {
		t.Errorf("%v", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the call still holds the model")
	}
}
