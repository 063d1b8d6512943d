package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// Metadata of an answer; the names are those of the REST side's headers.
const (
	digestKey    = "penstock-model-digest"
	requestIDKey = "penstock-request-id"
)

// modelInfer takes the place of the generated handler, before which gRPC would
// read the whole message: as a stream of one message it is called first, and
// looks the same to the sender.
func (s *Server) modelInfer(_ any, stream grpc.ServerStream) (err error) {
	defer s.recovered(inferMethod, &err)
	ctx := stream.Context()
	c := &call{limits: s.o.Limits, loan: buffers.NewLoan(s.o.Buffers), share: s.room.Share()}
	defer c.giveBack()
	trace := service.TraceOf(traceparents(ctx))
	about := service.Call{ID: service.NewID(), Trace: trace.ID, Began: time.Now()}
	if err := stream.SetHeader(metadata.Pairs(requestIDKey, about.ID, service.TraceHeader, trace.String())); err != nil {
		return err
	}
	if err := s.receive(ctx, c, about); err != nil {
		return err
	}
	hasRead(ctx)
	answer, err := s.infer(ctx, c, about)
	if err != nil {
		return err
	}
	return stream.SendMsg(answer)
}

// receive reads the message. Its error is a status: what is wrong with the
// message itself is the call's.
func (s *Server) receive(ctx context.Context, c *call, about service.Call) error {
	m, end, err := s.open(ctx, c)
	if err == nil {
		defer end()
		c.broken = c.read(m)
		var refused *service.Problem
		if m.failed != nil {
			err = ofTransport(ctx, m.failed)
		} else if errors.As(c.broken, &refused) {
			err = statusOf(refused)
		}
	}
	if err != nil {
		about.Began = time.Time{}                 // how long it took to come is not the server's fault
		s.o.Infer.Reject(about, unread(ctx, err)) // counted; the model's name has not come
	}
	return err
}

func (s *Server) infer(ctx context.Context, c *call, about service.Call) (any, error) {
	about.Model, about.Version, about.Began = c.GetModelName(), c.GetModelVersion(), time.Now()
	about.Deadline, _ = ctx.Deadline()
	inputs, outputs, err := c.request()
	if err != nil {
		return nil, statusOf(s.o.Infer.Reject(about, err))
	}
	result, err := s.o.Infer.Infer(ctx, service.InferRequest{Call: about, Inputs: inputs, Outputs: outputs})
	if err != nil {
		return nil, statusOf(err)
	}
	defer result.Release()
	_ = grpc.SetHeader(ctx, metadata.Pairs(digestKey, result.Digest)) // it fails where nobody listens any more
	began := time.Now()
	answer, err := s.respond(ctx, c, result)
	if err != nil {
		result.Fail(err)
		return nil, statusOf(err)
	}
	result.Encoded(time.Since(began))
	return answer, nil
}

func traceparents(ctx context.Context) []string {
	sent, _ := metadata.FromIncomingContext(ctx)
	return sent.Get(service.TraceHeader)
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
	case len(c.GetId()) > oip.MaxText:
		return nil, nil, bad("id is longer than %d bytes", oip.MaxText)
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
func (s *Server) respond(ctx context.Context, c *call, result *service.Inference) (answer, error) {
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
	return encode(m, raw, func(size int) (mem.BufferPool, error) { return s.memory(ctx, c, size) })
}
