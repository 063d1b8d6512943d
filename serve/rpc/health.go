package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
)

// watchEvery is how often Watch looks.
const watchEvery = 500 * time.Millisecond

// health answers gRPC's health protocol: the server and the inference service
// are healthy while every model answers; a model has its own health under its
// name.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	server *Server
}

func (h *health) of(name string) grpc_health_v1.HealthCheckResponse_ServingStatus {
	serving := h.server.ready()
	if name != "" && name != inferencepb.GRPCInferenceService_ServiceDesc.ServiceName {
		_, err := h.server.o.Models.ModelReady(name, "")
		if err != nil && status.Code(statusOf(err)) == codes.NotFound {
			return grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN
		}
		serving = err == nil && !h.server.leaving()
	}
	if serving {
		return grpc_health_v1.HealthCheckResponse_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_NOT_SERVING
}

// Check tells the health of a service once.
func (h *health) Check(_ context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	s := h.of(r.GetService())
	if s == grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Errorf(codes.NotFound, "no service and no model %q here", r.GetService())
	}
	return &grpc_health_v1.HealthCheckResponse{Status: s}, nil
}

// Watch tells it whenever it changes. So many may as there are places: it needs
// no token, and goes on.
func (h *health) Watch(r *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	hasRead(stream.Context())
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := grpc_health_v1.HealthCheckResponse_UNKNOWN
	for {
		if now := h.of(r.GetService()); now != last {
			if err := stream.Send(&grpc_health_v1.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-h.server.draining:
			return status.Error(codes.Unavailable, "the server goes away")
		case <-tick.C:
		}
	}
}
