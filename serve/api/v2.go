package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
)

// Bounds of an inference request.
const (
	maxInferBytes    = 256 << 20
	maxInferElements = 16 << 20
)

func (s *Server) server(w http.ResponseWriter, _ *http.Request) {
	s.reply(w, http.StatusOK, oip.Server{Name: "penstock-serve", Version: s.version, Extensions: []string{}})
}

func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	s.reply(w, http.StatusOK, oip.Live{Live: true})
}

// ready is about the server: it has a model and is not going away.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	_, release, err := s.host.Use()
	if err == nil {
		release()
	}
	if err != nil || s.draining.Load() {
		s.reply(w, http.StatusServiceUnavailable, oip.Ready{})
		return
	}
	s.reply(w, http.StatusOK, oip.Ready{Ready: true})
}

// find answers the model of the path, or why there is none.
func (s *Server) find(r *http.Request) (m *model.Model, release func(), err error) {
	if err := s.unknownModel(r); err != nil {
		return nil, nil, err
	}
	m, release, err = s.host.Use()
	if err != nil {
		return nil, nil, err
	}
	if version := r.PathValue("version"); version != "" && version != m.Digest() {
		release()
		return nil, nil, &problem{http.StatusNotFound, fmt.Sprintf("version %q of model %q is not served: the one version is %s", version, m.Name(), m.Digest())}
	}
	return m, release, nil
}

func (s *Server) modelReady(w http.ResponseWriter, r *http.Request) {
	m, release, err := s.find(r)
	if err != nil {
		s.fail(w, classify(err))
		return
	}
	defer release()
	w.Header().Set(DigestHeader, m.Digest())
	s.reply(w, http.StatusOK, oip.Ready{Name: m.Name(), Ready: true})
}

func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	m, release, err := s.find(r)
	if err != nil {
		s.fail(w, classify(err))
		return
	}
	defer release()
	w.Header().Set(DigestHeader, m.Digest())
	s.reply(w, http.StatusOK, oip.Model{
		Name: m.Name(), Versions: []string{m.Digest()}, Platform: "onnx_onnxruntime",
		Inputs: describe(m.Inputs()), Outputs: describe(m.Outputs()),
	})
}

func describe(tensors []model.Declared) []oip.Metadata {
	all := make([]oip.Metadata, len(tensors))
	for i, t := range tensors {
		all[i] = oip.Metadata{Name: t.Name, Datatype: t.Datatype, Shape: t.Shape}
	}
	return all
}

func (s *Server) infer(e *exchange, w http.ResponseWriter, r *http.Request) (any, error) {
	if r.Header.Get("Inference-Header-Content-Length") != "" {
		return nil, &problem{http.StatusBadRequest, "binary tensors are not taken yet: send the data as JSON"}
	}
	body, err := readAll(http.MaxBytesReader(w, r.Body, maxInferBytes))
	e.began = time.Now()
	if err != nil {
		return nil, err
	}
	m, release, err := s.find(r)
	if err != nil {
		return nil, err
	}
	defer release()
	e.digest = m.Digest()
	var request oip.InferRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, &problem{http.StatusBadRequest, fmt.Sprintf("the body is no inference request: %v", err)}
	}
	input, err := inputOf(m, request)
	if err != nil {
		return nil, &problem{http.StatusBadRequest, err.Error()}
	}
	var wanted []string
	for _, o := range request.Outputs {
		wanted = append(wanted, o.Name)
	}
	result, err := m.Infer(r.Context(), []oip.Tensor{input}, wanted)
	var refused *model.InputError
	if errors.As(err, &refused) {
		return nil, &problem{http.StatusBadRequest, err.Error()}
	}
	if err != nil {
		return nil, err
	}
	defer result.Release()
	return inferResponse(m, request.ID, result.Outputs), nil
}

// inputOf checks the request's one input against the model's.
func inputOf(m *model.Model, request oip.InferRequest) (oip.Tensor, error) {
	want := m.Inputs()[0]
	if len(request.Inputs) != 1 || request.Inputs[0].Name != want.Name {
		return oip.Tensor{}, fmt.Errorf("want exactly one input, %q", want.Name)
	}
	in := request.Inputs[0]
	if in.Datatype != oip.FP32 {
		return oip.Tensor{}, fmt.Errorf("input %q: datatype %q, want %s", in.Name, in.Datatype, oip.FP32)
	}
	fits := len(in.Shape) == len(want.Shape)
	for i := 0; fits && i < len(want.Shape); i++ {
		fits = want.Shape[i] < 0 || in.Shape[i] == want.Shape[i]
	}
	if !fits {
		return oip.Tensor{}, fmt.Errorf("input %q: shape %v, want %v (-1 is any)", in.Name, in.Shape, want.Shape)
	}
	n, err := oip.Elements(in.Shape, maxInferElements)
	if err != nil {
		return oip.Tensor{}, fmt.Errorf("input %q: %w", in.Name, err)
	}
	data, err := oip.Floats(in.Data, in.Shape, n)
	if err != nil {
		return oip.Tensor{}, fmt.Errorf("input %q: %w", in.Name, err)
	}
	return oip.Tensor{Name: in.Name, Datatype: oip.FP32, Shape: in.Shape, Data: oip.Bytes(data)}, nil
}

// inferResponse copies the outputs: their memory goes back.
func inferResponse(m *model.Model, id string, outputs []oip.Tensor) oip.InferResponse {
	response := oip.InferResponse{ID: id, Model: m.Name(), Version: m.Digest()}
	for _, t := range outputs {
		response.Outputs = append(response.Outputs, oip.Output{
			Name: t.Name, Shape: t.Shape, Datatype: oip.FP32, Data: slices.Clone(oip.Float32s(t.Data)),
		})
	}
	return response
}
