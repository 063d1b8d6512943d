package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/measure"
	"github.com/penstock-ml/penstock/serve/model"
)

// Routes: the ways to ask a server.
const (
	routeBinary = "binary" // Open Inference Protocol over REST, tensors as bytes
	routeJSON   = "json"   // the same, tensors as JSON
	routeGRPC   = "grpc"   // the same over gRPC, raw contents
	routeJPEG   = "jpeg"   // a picture to predict
)

var routeNames = []string{routeBinary, routeJSON, routeGRPC, routeJPEG}

func knownRoute(name string) bool { return slices.Contains(routeNames, name) }

// asked are the routes to measure: those of the flag, or all.
func (o *benchOptions) asked() []string {
	given := o.routes.Value()
	if len(given) == 0 {
		return routeNames
	}
	return slices.DeleteFunc(slices.Clone(routeNames), func(r string) bool { return !slices.Contains(given, r) })
}

func (o *benchOptions) asks(route string) bool { return slices.Contains(o.asked(), route) }

// Names of the two arms that every comparison is about.
const (
	bareName = "bare"
	ownName  = "penstock"
)

// arm is a server and a route of it.
type arm struct {
	name, server, route string
	caller              func(context.Context) (measure.Caller, error)
	own                 bool    // a server of this program
	difference          float64 // of its answer from the bare run's
}

// Tolerances of answers. Tensors are the same bytes in, the same graph:
// another build of ONNX Runtime may sum in another order. Peers, and servers with
// flags of their own, may decode and resize by other libraries; their scores may
// differ by what that does.
const (
	tensorTolerance  = 1e-4
	pictureTolerance = 1e-4
	decoderTolerance = 0.1
)

// requestTerm bounds one exchange.
const requestTerm = 30 * time.Second

// bareArm is ONNX Runtime called directly, on the workload's tensor.
type bareArm struct {
	bare    *model.Bare
	outputs []oip.Tensor // what it gives
	scores  []float32
}

func openBare(r *model.Runtime, b *bundle.Bundle, w workload) (*bareArm, error) {
	bare, err := model.OpenBare(r, b, []oip.Tensor{w.input})
	if err != nil {
		return nil, err
	}
	a := &bareArm{bare: bare}
	caller, err := bare.Caller()
	if err != nil {
		return nil, errors.Join(err, bare.Close())
	}
	a.outputs, err = caller.Outputs()
	if err = errors.Join(err, caller.Close()); err != nil {
		return nil, errors.Join(err, bare.Close())
	}
	i := slices.IndexFunc(a.outputs, func(t oip.Tensor) bool { return t.Name == w.manifest.Outputs.Scores })
	if i < 0 {
		return nil, errors.Join(fmt.Errorf("the graph has no output %q", w.manifest.Outputs.Scores), bare.Close())
	}
	a.scores = w.scores(oip.Float32s(a.outputs[i].Data))
	return a, nil
}

func (a *bareArm) close() error { return a.bare.Close() }

// bareCaller fits model.Caller to what measure drives.
type bareCaller struct{ *model.Caller }

func (bareCaller) Prepare(context.Context) error { return nil }

func (c bareCaller) Call(context.Context) error { return c.Run() }

func (a *bareArm) caller(context.Context) (measure.Caller, error) {
	c, err := a.bare.Caller()
	if err != nil {
		return nil, err
	}
	return bareCaller{c}, nil
}

// connect makes the arms and holds their answers to the bare run's.
func (s *session) connect(ctx context.Context) error {
	s.arms = []arm{{name: bareName, server: bareName, caller: s.bare.caller}}
	for _, server := range s.servers {
		for _, route := range s.options.asked() {
			if err := s.add(ctx, server.name, "http://"+server.public, server.grpc, route); err != nil {
				return err
			}
		}
	}
	for _, peer := range s.options.peers.Value() {
		name, to, ok := strings.Cut(peer, "=")
		if !ok || !s.servers.fresh(name) {
			return verdict.Usage(fmt.Errorf("--peer %q: want NAME=URL with a name of its own", peer))
		}
		for _, route := range s.options.asked() {
			if route == routeGRPC {
				continue // peers are asked over REST
			}
			if err := s.add(ctx, name, strings.TrimSuffix(to, "/"), "", route); err != nil {
				return err
			}
		}
	}
	return nil
}

// errNoRoute means that a peer does not know the address.
var errNoRoute = errors.New("no such route")

func (s *session) add(ctx context.Context, server, base, grpcAddress, route string) error {
	a := arm{name: server + "-" + route, server: server, route: route, own: s.servers.has(server)}
	var err error
	if route == routeGRPC {
		a.caller, a.difference, err = s.grpcArm(ctx, grpcAddress)
	} else {
		a.caller, a.difference, err = s.restArm(ctx, base, route)
	}
	if errors.Is(err, errNoRoute) && !a.own {
		s.env.Logf("%s answers no %s: left out", server, route)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	if tolerance := s.tolerance(a); a.difference > tolerance {
		return fmt.Errorf("%s: its answer differs from ONNX Runtime's by %.3g, more than %.3g: it does not compute the same", a.name, a.difference, tolerance)
	}
	s.arms = append(s.arms, a)
	return nil
}

func (s *session) tolerance(a arm) float64 {
	switch {
	case a.route != routeJPEG:
		return tensorTolerance
	case a.server == ownName && len(s.options.runFlags.Value()) == 0:
		return pictureTolerance
	}
	return decoderTolerance
}

func (s *session) restArm(ctx context.Context, base, route string) (func(context.Context) (measure.Caller, error), float64, error) {
	to, header, body, err := s.work.request(base, route)
	if err != nil {
		return nil, 0, err
	}
	request, err := measure.NewRequest(to, header, body, requestTerm)
	if err != nil {
		return nil, 0, err
	}
	caller, err := request.Caller(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer caller.Close()
	status, answered, content, err := caller.(*measure.HTTPCaller).Exchange(ctx)
	switch {
	case err != nil:
		return nil, 0, err
	case status == http.StatusNotFound:
		return nil, 0, errNoRoute
	case status != http.StatusOK:
		return nil, 0, fmt.Errorf("answered %d: %s", status, bytes.TrimSpace(content[:min(len(content), 300)]))
	}
	worst, err := s.hold(route, answered, content)
	if err != nil {
		return nil, 0, fmt.Errorf("its answer cannot be compared: %w", err)
	}
	return request.Caller, worst, nil
}

// hold compares a REST answer with the bare run.
func (s *session) hold(route string, header http.Header, body []byte) (float64, error) {
	if route == routeJPEG {
		got, err := predictedScores(body)
		if err != nil {
			return 0, err
		}
		return difference(got, s.bare.scores)
	}
	outputs, err := inferredOutputs(header, body)
	if err != nil {
		return 0, err
	}
	return s.holdTensors(outputs)
}

func (s *session) holdTensors(got map[string][]float32) (float64, error) {
	worst := 0.0
	for _, want := range s.bare.outputs {
		d, err := difference(got[want.Name], oip.Float32s(want.Data))
		if err != nil {
			return 0, fmt.Errorf("output %q: %w", want.Name, err)
		}
		worst = max(worst, d)
	}
	return worst, nil
}

// request is what a REST route is sent.
func (w workload) request(base, route string) (to string, header http.Header, body []byte, err error) {
	// In a closed loop nobody is refused for what others ask: the deadline is
	// that of the exchange.
	header = http.Header{api.TimeoutHeader: {strconv.FormatInt(requestTerm.Milliseconds(), 10)}}
	if route == routeJPEG {
		header.Set("Content-Type", "image/jpeg")
		return base + "/v1/models/" + w.manifest.Name + "/predict", header, w.picture, nil
	}
	to = base + "/v2/models/" + w.manifest.Name + "/infer"
	input := map[string]any{"name": w.input.Name, "datatype": w.input.Datatype, "shape": w.input.Shape}
	request := map[string]any{"inputs": []any{input}}
	if route == routeJSON {
		input["data"] = oip.Float32s(w.input.Data)
		header.Set("Content-Type", "application/json")
		body, err = json.Marshal(request)
		return to, header, body, err
	}
	input["parameters"] = map[string]any{"binary_data_size": len(w.input.Data)}
	request["parameters"] = map[string]any{"binary_data_output": true}
	head, err := json.Marshal(request)
	if err != nil {
		return "", nil, nil, err
	}
	header.Set("Content-Type", "application/octet-stream")
	header["Inference-Header-Content-Length"] = []string{strconv.Itoa(len(head))}
	return to, header, append(head, w.input.Data...), nil
}

// predictedScores reads the answer of a predict route.
func predictedScores(body []byte) ([]float32, error) {
	var answer struct {
		Predictions []struct {
			Score float32 `json:"score"`
		} `json:"predictions"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	var scores []float32
	for _, p := range answer.Predictions {
		scores = append(scores, p.Score)
	}
	return scores, nil
}

// inferredOutputs reads the answer of an infer route, by a reader of its own:
// a mistake of the server's codec must not hide behind the same mistake here.
func inferredOutputs(header http.Header, body []byte) (map[string][]float32, error) {
	head := body
	if text := header.Get("Inference-Header-Content-Length"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > len(body) {
			return nil, fmt.Errorf("Inference-Header-Content-Length %q of %d bytes", text, len(body))
		}
		head, body = body[:n], body[n:]
	}
	var answer struct {
		Outputs []struct {
			Name       string    `json:"name"`
			Data       []float32 `json:"data"`
			Parameters struct {
				Size int `json:"binary_data_size"`
			} `json:"parameters"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal(head, &answer); err != nil {
		return nil, err
	}
	outputs := map[string][]float32{}
	for _, o := range answer.Outputs {
		outputs[o.Name] = o.Data
		if size := o.Parameters.Size; size > 0 {
			if size > len(body) || size%4 != 0 {
				return nil, fmt.Errorf("output %q says it has %d bytes, %d are left", o.Name, size, len(body))
			}
			outputs[o.Name] = oip.Float32s(slices.Clone(body[:size]))
			body = body[size:]
		}
	}
	return outputs, nil
}
