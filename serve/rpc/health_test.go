package rpc_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/service"
)

func TestMetadataAndReadiness(t *testing.T) {
	w := newWorld(t, limits)
	if r, err := w.ServerMetadata(t.Context(), &inferencepb.ServerMetadataRequest{}); err != nil || r.Name != "penstock-serve" || r.Version != "v1" || !slices.Equal(r.Extensions, oip.Extensions) {
		t.Errorf("got %v, %v", r, err)
	}
	m, err := w.ModelMetadata(t.Context(), &inferencepb.ModelMetadataRequest{Name: "m"})
	if err != nil || m.Versions[0] != "d1" || m.Inputs[0].Datatype != "FP32" || !slices.Equal(m.Inputs[0].Shape, []int64{-1, 2}) {
		t.Errorf("got %v, %v", m, err)
	}
	if _, err := w.ModelMetadata(t.Context(), &inferencepb.ModelMetadataRequest{Name: "m", Version: "d2"}); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := w.ModelReady(t.Context(), &inferencepb.ModelReadyRequest{Name: "another"}); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
	for _, ready := range []bool{true, false} {
		if !ready {
			w.echo.ready = service.Bad(service.Unavailable, "no model is loaded yet")
		}
		r, err := w.ModelReady(t.Context(), &inferencepb.ModelReadyRequest{Name: "m"})
		if err != nil || r.Ready != ready {
			t.Errorf("got %v, %v, want %v", r, err, ready)
		}
		s, err := w.ServerReady(t.Context(), &inferencepb.ServerReadyRequest{})
		if err != nil || s.Ready != ready {
			t.Errorf("got %v, %v, want %v", s, err, ready)
		}
		serving := map[bool]grpc_health_v1.HealthCheckResponse_ServingStatus{true: grpc_health_v1.HealthCheckResponse_SERVING, false: grpc_health_v1.HealthCheckResponse_NOT_SERVING}[ready]
		for _, name := range []string{"", "inference.GRPCInferenceService", "m"} {
			h, err := grpc_health_v1.NewHealthClient(w.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
			if err != nil || h.Status != serving {
				t.Errorf("health of %q: %v, %v", name, h, err)
			}
		}
	}
	_, err = grpc_health_v1.NewHealthClient(w.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "another"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
}

func TestDrainLetsCallsEndAndEndsWatches(t *testing.T) {
	w := newWorld(t, limits)
	watch, err := grpc_health_v1.NewHealthClient(w.conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := watch.Recv(); err != nil || h.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("got %v, %v", h, err)
	}
	began, end := make(chan bool), make(chan bool)
	w.echo.infer = func(context.Context, service.InferRequest) (*service.Inference, error) {
		close(began)
		<-end
		return &service.Inference{}, nil
	}
	answered := make(chan error, 1)
	go func() {
		_, err := w.ModelInfer(t.Context(), request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil)))
		answered <- err
	}()
	<-began
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.server.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a drain with a call under way ended with %v", err)
	}
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v", err)
	}
	close(end)
	if err := w.server.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the call under way ended with %v", err)
	}
}

func TestStopCancelsWhatIsLeft(t *testing.T) {
	w := newWorld(t, limits)
	began := make(chan bool)
	w.echo.infer = func(ctx context.Context, _ service.InferRequest) (*service.Inference, error) {
		close(began)
		<-ctx.Done()
		return nil, service.ProblemOf(ctx.Err())
	}
	answered := make(chan error, 1)
	go func() {
		_, err := w.ModelInfer(t.Context(), request([][]byte{{1}}, input("x", oip.INT8, []int64{1}, nil)))
		answered <- err
	}()
	<-began
	w.server.Stop()
	if err := <-answered; err == nil {
		t.Error("the call had success")
	}
}
