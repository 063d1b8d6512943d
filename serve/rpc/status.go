package rpc

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/penstock-ml/penstock/serve/service"
)

// statuses has the code of every kind of problem.
var statuses = map[service.Kind]codes.Code{
	service.BadInput:    codes.InvalidArgument,
	service.TooLarge:    codes.InvalidArgument, // ResourceExhausted would invite the sender to try again
	service.Unsupported: codes.InvalidArgument,
	service.NotFound:    codes.NotFound,
	service.Denied:      codes.PermissionDenied,
	service.Refused:     codes.ResourceExhausted,
	service.Late:        codes.DeadlineExceeded,
	service.Gone:        codes.Canceled,
	service.Unavailable: codes.Unavailable,
	service.Model:       codes.Internal,
	service.Internal:    codes.Internal,
}

// statusOf is a problem as gRPC says it. A refusal tells when to try again
// (google.rpc.RetryInfo).
func statusOf(err error) error {
	p := service.ProblemOf(err)
	code, ok := statuses[p.Kind]
	if !ok {
		code = codes.Internal
	}
	s := status.New(code, p.Text)
	if p.RetryAfter > 0 {
		detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(p.RetryAfter)})
		if err == nil { // it fails for OK only
			s = detailed
		}
	}
	return s.Err()
}
