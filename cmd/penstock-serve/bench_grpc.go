package main

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
	"github.com/penstock-ml/penstock/serve/measure"
)

// maxMessage is that of the server's side, generously.
const maxMessage = 256 << 20

// grpcCaller sends one request over a connection of its own.
type grpcCaller struct {
	conn    *grpc.ClientConn
	client  inferencepb.GRPCInferenceServiceClient
	request *inferencepb.ModelInferRequest
}

func (s *session) grpcArm(ctx context.Context, address string) (func(context.Context) (measure.Caller, error), float64, error) {
	in := s.work.input
	request := &inferencepb.ModelInferRequest{
		ModelName:        s.work.manifest.Name,
		Inputs:           []*inferencepb.ModelInferRequest_InferInputTensor{{Name: in.Name, Datatype: string(in.Datatype), Shape: in.Shape}},
		RawInputContents: [][]byte{in.Data},
	}
	open := func(context.Context) (measure.Caller, error) {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
		if err != nil {
			return nil, err
		}
		return &grpcCaller{conn, inferencepb.NewGRPCInferenceServiceClient(conn), request}, nil
	}
	caller, err := open(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer caller.Close()
	answer, err := caller.(*grpcCaller).exchange(ctx)
	if err != nil {
		return nil, 0, err
	}
	if len(answer.RawOutputContents) != len(answer.Outputs) {
		return nil, 0, fmt.Errorf("%d raw contents for %d outputs", len(answer.RawOutputContents), len(answer.Outputs))
	}
	outputs := map[string][]float32{}
	for i, o := range answer.Outputs {
		outputs[o.Name] = oip.Float32s(slices.Clone(answer.RawOutputContents[i]))
	}
	worst, err := s.holdTensors(outputs)
	return open, worst, err
}

// Prepare has nothing to do: the connection is kept alive.
func (c *grpcCaller) Prepare(context.Context) error { return nil }

// Call sends the request and waits for the answer.
func (c *grpcCaller) Call(ctx context.Context) error {
	_, err := c.exchange(ctx)
	return err
}

func (c *grpcCaller) exchange(ctx context.Context) (*inferencepb.ModelInferResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTerm)
	defer cancel()
	return c.client.ModelInfer(ctx, c.request)
}

// Close ends the connection.
func (c *grpcCaller) Close() error { return c.conn.Close() }
