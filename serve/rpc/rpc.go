// Package rpc owns the Open Inference Protocol over gRPC, version 2
// (github.com/kserve/open-inference-protocol), and gRPC's own health protocol:
// messages to tensors and back, problems to status codes.
//
// A call of ModelInfer is read as it comes (message.go): how large its message
// is, is known from the first bytes, and those that are large hold a share of a
// bound in bytes, or are refused. So do answers until they are taken (taken.go).
// The messages of all other methods are small.
//
// Raw contents, which is what clients for machines send, are copied once: from
// the frames of the connection into the buffers that the runtime takes
// (codec.go). An answer is raw where the request was, or where an output is of
// FP16 or BF16, which have no other form; typed contents otherwise.
//
// Refused: raw and typed contents in one request, contents in another field
// than their datatype's, FP16 and BF16 that are not raw, two inputs of a name,
// sizes that contradict the shape, shared memory and classification, messages
// above the limit. A panic is its call's failure.
package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // senders may compress
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// Bounds that no flag changes.
const (
	maxStreams    = 128 // calls of a connection at a time
	maxMetadata   = 64 << 10
	maxQuestion   = 64 << 10 // bytes of a message of any method but ModelInfer
	maxWatches    = 64       // of health at a time, over all connections
	handshakeTerm = 10 * time.Second
	idleTerm      = 10 * time.Minute
	pingEvery     = time.Minute // of a silent connection, to find that its other end is gone
	pingTerm      = 20 * time.Second
	pingedAtMost  = 10 * time.Second // a sender that pings more often is turned away
	window        = 1 << 20          // bytes that a sender may be ahead in a call
)

// inferMethod is the method whose messages are large.
const inferMethod = "ModelInfer"

// Inferer answers tensors. Its errors are *service.Problem.
type Inferer interface {
	Infer(ctx context.Context, r service.InferRequest) (*service.Inference, error)
	Reject(c service.Call, err error) *service.Problem
}

// Models tells what is served.
type Models interface {
	Metadata(name, version string) (oip.Model, error)
	ModelReady(name, version string) (digest string, err error)
	Ready() bool
}

// Options are a server's.
type Options struct {
	Infer   Inferer
	Models  Models
	Buffers *buffers.Pool // raw tensors are read into
	Log     *slog.Logger
	Version string        // of the program
	Limits  oip.Limits    // Bytes is a message's
	TLS     *tls.Config   // nil: none
	Calls   int           // of ModelInfer at a time, at least 1
	Bytes   int64         // that the large messages of these calls and the answers that wait hold together, at least 1
	Read    time.Duration // within which a call's message must have come
	Answer  time.Duration // within which an answer must be taken, but for small ones
	// Enter is asked before a call's message is read; its error is a gRPC status.
	// nil: everybody may.
	Enter func(method string, sent metadata.MD) error
	// Refused is told of the calls that end before their method knows of them:
	// for want of a place, or for a message that is too large. nil: nobody is.
	Refused func(service.Kind)
}

// Server answers on a listener.
type Server struct {
	inferencepb.UnimplementedGRPCInferenceServiceServer
	o        Options
	grpc     *grpc.Server
	calls    chan struct{}
	watches  chan struct{}
	room     *service.Room
	dropped  dropped
	draining chan struct{}
	once     sync.Once
}

// New makes a server.
func New(o Options) *Server {
	if o.Refused == nil {
		o.Refused = func(service.Kind) {}
	}
	s := &Server{
		o: o, draining: make(chan struct{}), calls: make(chan struct{}, o.Calls), watches: make(chan struct{}, maxWatches), room: service.NewRoom(o.Bytes),
	}
	s.room.Short = s.dropped.look
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.InTapHandle(s.enter),
		grpc.MaxRecvMsgSize(maxQuestion),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxMetadata),
		grpc.ConnectionTimeout(handshakeTerm),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(4 * window),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTerm, Time: pingEvery, Timeout: pingTerm}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingedAtMost, PermitWithoutStream: true}),
		grpc.StreamInterceptor(s.guardStream),
	}
	transport := insecure.NewCredentials()
	if o.TLS != nil {
		transport = credentials.NewTLS(o.TLS)
	}
	options = append(options, grpc.Creds(knowing{transport}))
	s.grpc = grpc.NewServer(options...)
	inference := s.guarded(inferencepb.GRPCInferenceService_ServiceDesc)
	inference.Methods = slices.DeleteFunc(inference.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == inferMethod })
	inference.Streams = []grpc.StreamDesc{{StreamName: inferMethod, Handler: s.modelInfer}}
	s.grpc.RegisterService(inference, s)
	s.grpc.RegisterService(s.guarded(grpc_health_v1.Health_ServiceDesc), &health{server: s})
	return s
}

// Serve answers on a listener until Drain or Stop.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Drain takes no new call and returns when the last has ended, or ctx has.
func (s *Server) Drain(ctx context.Context) error {
	s.once.Do(func() { close(s.draining) }) // Watch would go on for ever
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop ends all calls: their contexts are cancelled, so that runs are
// terminated.
func (s *Server) Stop() {
	s.once.Do(func() { close(s.draining) })
	s.grpc.Stop()
}

// guarded is a service whose methods keep their panics to themselves: the
// generated ones read the message outside of every interceptor.
func (s *Server) guarded(d grpc.ServiceDesc) *grpc.ServiceDesc {
	d.Methods = slices.Clone(d.Methods)
	for i, m := range d.Methods {
		d.Methods[i].Handler = func(server any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (answer any, err error) {
			defer s.recovered(m.MethodName, &err)
			return m.Handler(server, ctx, s.counted(read), interceptor)
		}
	}
	return &d
}

func (s *Server) guardStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer s.recovered(info.FullMethod, &err)
	if info.FullMethod != inferencepb.GRPCInferenceService_ModelInfer_FullMethodName { // which counts for itself
		stream = countedStream{stream, s}
	}
	return next(server, stream)
}

// counted reads the message of a method that is no ModelInfer, and tells of one
// that is too large.
func (s *Server) counted(read func(any) error) func(any) error {
	return func(message any) error {
		err := read(message)
		if status.Code(err) == codes.ResourceExhausted {
			s.o.Refused(service.TooLarge)
		}
		return err
	}
}

// countedStream does so for a stream.
type countedStream struct {
	grpc.ServerStream
	server *Server
}

func (c countedStream) RecvMsg(message any) error {
	return c.server.counted(c.ServerStream.RecvMsg)(message)
}

// recovered is deferred.
func (s *Server) recovered(method string, err *error) {
	if v := recover(); v != nil {
		s.o.Log.Error("a call broke", "method", method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the server broke on this call")
	}
}

// ServerLive tells that the process answers.
func (s *Server) ServerLive(context.Context, *inferencepb.ServerLiveRequest) (*inferencepb.ServerLiveResponse, error) {
	return &inferencepb.ServerLiveResponse{Live: true}, nil
}

// ServerReady tells whether every model answers and the server is not going
// away.
func (s *Server) ServerReady(context.Context, *inferencepb.ServerReadyRequest) (*inferencepb.ServerReadyResponse, error) {
	return &inferencepb.ServerReadyResponse{Ready: s.ready()}, nil
}

func (s *Server) ready() bool { return !s.leaving() && s.o.Models.Ready() }

func (s *Server) leaving() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// ModelReady tells whether a model answers. One that is not loaded yet is not
// ready; one that there is not is NotFound.
func (s *Server) ModelReady(_ context.Context, r *inferencepb.ModelReadyRequest) (*inferencepb.ModelReadyResponse, error) {
	_, err := s.o.Models.ModelReady(r.GetName(), r.GetVersion())
	var p *service.Problem
	if errors.As(err, &p) && p.Kind == service.Unavailable {
		return &inferencepb.ModelReadyResponse{}, nil
	}
	if err != nil {
		return nil, statusOf(err)
	}
	return &inferencepb.ModelReadyResponse{Ready: true}, nil
}

// ServerMetadata names the server.
func (s *Server) ServerMetadata(context.Context, *inferencepb.ServerMetadataRequest) (*inferencepb.ServerMetadataResponse, error) {
	return &inferencepb.ServerMetadataResponse{Name: "penstock-serve", Version: s.o.Version, Extensions: oip.Extensions}, nil
}

// ModelMetadata describes a model.
func (s *Server) ModelMetadata(_ context.Context, r *inferencepb.ModelMetadataRequest) (*inferencepb.ModelMetadataResponse, error) {
	m, err := s.o.Models.Metadata(r.GetName(), r.GetVersion())
	if err != nil {
		return nil, statusOf(err)
	}
	return &inferencepb.ModelMetadataResponse{
		Name: m.Name, Versions: m.Versions, Platform: m.Platform, Inputs: described(m.Inputs), Outputs: described(m.Outputs),
	}, nil
}

func described(tensors []oip.Metadata) []*inferencepb.ModelMetadataResponse_TensorMetadata {
	all := make([]*inferencepb.ModelMetadataResponse_TensorMetadata, len(tensors))
	for i, t := range tensors {
		all[i] = &inferencepb.ModelMetadataResponse_TensorMetadata{Name: t.Name, Datatype: string(t.Datatype), Shape: t.Shape}
	}
	return all
}
