package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
)

// enter lets a call in before anything of its message is read: an interceptor
// comes too late to keep a stranger's bytes, or too many at a time, out of
// memory. A call counts until its stream has ended.
func (s *Server) enter(ctx context.Context, call *tap.Info) (context.Context, error) {
	if s.o.Enter != nil {
		if err := s.o.Enter(call.FullMethodName, call.Header); err != nil {
			return ctx, err
		}
	}
	if call.FullMethodName != inferencepb.GRPCInferenceService_ModelInfer_FullMethodName {
		return ctx, nil
	}
	select {
	case s.calls <- struct{}{}:
		context.AfterFunc(ctx, func() { <-s.calls })
		return ctx, nil
	default:
		return ctx, status.Error(codes.ResourceExhausted, "the server reads and answers as many calls as it may: try again later or on another server")
	}
}
