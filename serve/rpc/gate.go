package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/tap"

	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
)

// readingKey is the key of the timer that ends a call whose message does not
// come.
type readingKey struct{}

// enter lets a call in before anything of its message is read: an interceptor
// comes too late to keep a stranger's bytes, or too many at a time, out of
// memory. A call of ModelInfer counts until its stream has ended.
func (s *Server) enter(ctx context.Context, call *tap.Info) (context.Context, error) {
	if s.o.Enter != nil {
		if err := s.o.Enter(call.FullMethodName, call.Header); err != nil {
			return ctx, err
		}
	}
	switch call.FullMethodName {
	case grpc_health_v1.Health_Watch_FullMethodName: // goes on for as long as somebody listens
		if err := occupy(ctx, s.watches, "as many watch the server's health as may, ask by Check"); err != nil {
			return ctx, err
		}
	case inferencepb.GRPCInferenceService_ModelInfer_FullMethodName:
		if err := occupy(ctx, s.calls, "the server reads and answers as many calls as it may"); err != nil {
			return ctx, err
		}
	}
	ctx, cancel := context.WithCancel(ctx) // not WithTimeout: a deadline would pass for the sender's
	timer := time.AfterFunc(s.o.Read, cancel)
	context.AfterFunc(ctx, func() { timer.Stop() })
	return context.WithValue(ctx, readingKey{}, timer), nil
}

// occupy takes one of the places until the call has ended, or refuses it.
func occupy(ctx context.Context, places chan struct{}, full string) error {
	select {
	case places <- struct{}{}:
		context.AfterFunc(ctx, func() { <-places })
		return nil
	default:
		return statusOf(crowded(full))
	}
}

// hasRead says that the message of the call has come: from now on it may take
// its time.
func hasRead(ctx context.Context) {
	if timer, ok := ctx.Value(readingKey{}).(*time.Timer); ok {
		timer.Stop()
	}
}
