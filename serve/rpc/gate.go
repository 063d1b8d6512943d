package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/tap"

	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/service"
)

// readingKey is the key of the timer that ends a call whose message does not
// come.
type readingKey struct{}

// errSlow is why such a call ends.
var errSlow = errors.New("the message did not come in the time that the server gives a call")

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
		if err := s.occupy(ctx, s.watches, "as many watch the server's health as may, ask by Check"); err != nil {
			return ctx, err
		}
	case inferencepb.GRPCInferenceService_ModelInfer_FullMethodName:
		if err := s.occupy(ctx, s.calls, "the server reads and answers as many calls as it may"); err != nil {
			return ctx, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx) // not WithTimeout: a deadline would pass for the sender's
	timer := time.AfterFunc(s.o.Read, func() { cancel(errSlow) })
	context.AfterFunc(ctx, func() { timer.Stop() })
	return context.WithValue(ctx, readingKey{}, timer), nil
}

// occupy takes one of the places until the call has ended, or refuses it.
func (s *Server) occupy(ctx context.Context, places chan struct{}, full string) error {
	select {
	case places <- struct{}{}:
		context.AfterFunc(ctx, func() { <-places })
		return nil
	default:
		s.o.Refused(service.Refused)
		return statusOf(service.Crowded(full))
	}
}

// hasRead says that the message of the call has come: from now on it may take
// its time.
func hasRead(ctx context.Context) {
	if timer, ok := ctx.Value(readingKey{}).(*time.Timer); ok {
		timer.Stop()
	}
}
