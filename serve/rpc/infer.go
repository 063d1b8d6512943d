package rpc

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/service"
)

// Metadata of an answer; the names are those of the REST side's headers.
const (
	digestKey    = "penstock-model-digest"
	requestIDKey = "penstock-request-id"
	traceKey     = "traceparent" // of a request: W3C Trace Context
)

// modelInfer takes the place of the generated handler, which would read the
// message by the general codec.
func (s *Server) modelInfer(server any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	c := &call{limits: s.o.Limits, buffers: s.o.Buffers}
	defer c.giveBack()
	if err := read(c); err != nil {
		return nil, err // gRPC's own: too large, too slow, or the sender is gone
	}
	hasRead(ctx)
	method := func(ctx context.Context, _ any) (any, error) { return s.infer(ctx, c) }
	if interceptor == nil {
		return method(ctx, c)
	}
	info := &grpc.UnaryServerInfo{Server: server, FullMethod: inferencepb.GRPCInferenceService_ModelInfer_FullMethodName}
	return interceptor(ctx, c, info, method)
}

func (s *Server) infer(ctx context.Context, c *call) (any, error) {
	about := service.Call{Model: c.GetModelName(), Version: c.GetModelVersion(), ID: service.NewID(), Trace: traceID(ctx), Began: time.Now()}
	about.Deadline, _ = ctx.Deadline()
	sent := metadata.Pairs(requestIDKey, about.ID)
	defer func() { _ = grpc.SetHeader(ctx, sent) }() // it fails where nobody listens any more
	inputs, outputs, err := c.request()
	if err != nil {
		return nil, statusOf(s.o.Infer.Reject(about, err))
	}
	result, err := s.o.Infer.Infer(ctx, service.InferRequest{Call: about, Inputs: inputs, Outputs: outputs})
	if err != nil {
		return nil, statusOf(err)
	}
	sent.Set(digestKey, result.Digest)
	began := time.Now()
	answer, err := respond(c, result)
	if err != nil {
		result.Fail(err)
		return nil, statusOf(err)
	}
	result.Encoded(time.Since(began))
	result.Release()
	return answer, nil
}

var traceparent = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$`)

// traceID is the trace that the sender's traceparent names.
func traceID(ctx context.Context) string {
	sent, _ := metadata.FromIncomingContext(ctx)
	if values := sent.Get(traceKey); len(values) == 1 {
		if found := traceparent.FindStringSubmatch(values[0]); found != nil {
			return found[1]
		}
	}
	return ""
}

func bad(format string, args ...any) error {
	return &oip.BadRequest{Text: fmt.Sprintf(format, args...)}
}

// request gives the tensors of the message, and the names of the outputs that
// are wanted: nil for all.
func (c *call) request() (inputs []oip.Tensor, outputs []string, err error) {
	switch {
	case c.broken != nil:
		return nil, nil, c.broken
	case len(c.Inputs) == 0:
		return nil, nil, bad("the request has no inputs")
	case len(c.Inputs) > c.limits.Tensors || len(c.Outputs) > c.limits.Tensors:
		return nil, nil, bad("the request has more than %d inputs or outputs", c.limits.Tensors)
	case len(c.raw) > 0 && len(c.raw) != len(c.Inputs):
		return nil, nil, bad("raw_input_contents has %d tensors for %d inputs: one for each, in their order", len(c.raw), len(c.Inputs))
	}
	left := c.limits.Elements
	for i, in := range c.Inputs {
		t, err := c.tensor(i, in, left)
		if err != nil {
			return nil, nil, err
		}
		if slices.ContainsFunc(inputs, func(o oip.Tensor) bool { return o.Name == t.Name }) {
			return nil, nil, bad("the name %q stands for two inputs", t.Name)
		}
		n, err := oip.Elements(t.Shape, left)
		if err != nil {
			return nil, nil, bad("input %q: %v", t.Name, err)
		}
		left -= n
		inputs = append(inputs, t)
	}
	for _, out := range c.Outputs {
		if err := offered(out.GetName(), out.GetParameters()); err != nil {
			return nil, nil, err
		}
		if slices.Contains(outputs, out.GetName()) {
			return nil, nil, bad("the output %q is asked for twice", out.GetName())
		}
		outputs = append(outputs, out.GetName())
	}
	return inputs, outputs, nil
}

// tensor is the i-th input, of at most limit elements.
func (c *call) tensor(i int, in *inferencepb.ModelInferRequest_InferInputTensor, limit int) (oip.Tensor, error) {
	t := oip.Tensor{Name: in.GetName(), Datatype: oip.Datatype(in.GetDatatype()), Shape: in.GetShape()}
	if t.Name == "" {
		return t, bad("input %d has no name", i)
	}
	if !t.Datatype.Known() {
		return t, bad("input %q: the datatype %q is none of the protocol's", t.Name, t.Datatype)
	}
	if err := offered(t.Name, in.GetParameters()); err != nil {
		return t, err
	}
	if len(c.raw) > 0 {
		if in.Contents != nil {
			return t, bad("input %q has contents beside raw_input_contents: one of them", t.Name)
		}
		t.Data = c.raw[i]
		return t, t.Check(limit)
	}
	n, err := oip.Elements(t.Shape, limit)
	if err != nil {
		return t, bad("input %q: %v", t.Name, err)
	}
	if t.Data, err = c.pack(t.Datatype, in.GetContents(), n); err != nil {
		return t, bad("input %q: %v", t.Name, err)
	}
	return t, nil
}

// offered refuses the extensions that this server does not have.
func offered(tensor string, parameters map[string]*inferencepb.InferParameter) error {
	for _, extension := range []string{"shared_memory_region", "classification"} {
		if _, ok := parameters[extension]; ok {
			return bad("%q: %s is not offered", tensor, extension)
		}
	}
	return nil
}

// respond makes the answer: raw where the request was, or where it must be.
func respond(c *call, result *service.Inference) (answer, error) {
	m := &inferencepb.ModelInferResponse{ModelName: result.Model, ModelVersion: result.Digest, Id: c.GetId()}
	asRaw := len(c.raw) > 0 || slices.ContainsFunc(result.Outputs, func(t oip.Tensor) bool { return t.Datatype == oip.FP16 || t.Datatype == oip.BF16 })
	var raw [][]byte
	for _, t := range result.Outputs {
		out := &inferencepb.ModelInferResponse_InferOutputTensor{Name: t.Name, Datatype: string(t.Datatype), Shape: t.Shape}
		if asRaw {
			raw = append(raw, t.Data)
		} else {
			out.Contents = unpack(t)
		}
		m.Outputs = append(m.Outputs, out)
	}
	return encode(m, raw)
}
