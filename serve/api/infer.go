package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// headerLengthHeader says how long the JSON before binary tensors is.
const headerLengthHeader = "Inference-Header-Content-Length"

func (s *Server) infer(w http.ResponseWriter, r *http.Request) {
	c, room, err := s.admit(r, s.tensors.Bytes)
	if err != nil {
		s.reject(w, r, c, err)
		return
	}
	defer room.leave()
	if r.URL.RawQuery != "" {
		s.reject(w, r, c, service.Bad(service.BadInput, "the query has a parameter that is not known: infer takes none"))
		return
	}
	loan := buffers.NewLoan(s.o.Buffers)
	defer loan.End()
	request, parse, err := s.read(r, loan)
	c.Began = time.Now()
	if err != nil {
		s.reject(w, r, c, err)
		return
	}
	exchangeOf(r).open = false // the service counts it
	i, err := s.service.Infer(r.Context(), service.InferRequest{Call: c, Inputs: request.Inputs, Outputs: wanted(request), Parse: parse})
	if err != nil {
		fail(w, err)
		return
	}
	defer i.Release()
	w.Header().Set(DigestHeader, i.Digest)
	began := time.Now()
	body, err := oip.EncodeResponse(oip.Response{ID: request.ID, Model: i.Model, Version: i.Digest, Outputs: i.Outputs}, *request, loan.Get)
	if err == nil {
		err = room.answer(body.Length())
	}
	if err != nil {
		if errors.Is(err, oip.ErrNotJSON) {
			err = service.Bad(service.BadInput, "%v", err)
		}
		i.Fail(err)
		fail(w, err)
		return
	}
	i.Encoded(time.Since(began))
	if n := body.HeaderLength(); n >= 0 {
		w.Header().Set(headerLengthHeader, strconv.Itoa(n))
	}
	w.Header().Set("Content-Type", body.ContentType())
	w.Header().Set("Content-Length", strconv.Itoa(body.Length()))
	timed(w.Header(), i.Phases.List(), time.Since(c.Began))
	w.WriteHeader(http.StatusOK)
	// An error here means that the client is gone: there is nobody to tell.
	_, _ = body.WriteTo(w)
}

// read reads the body: JSON, which is parsed later, into request, or JSON and
// the bytes of tensors, where that is hardly any work.
func (s *Server) read(r *http.Request, l *buffers.Loan) (request *oip.Request, parse func() ([]oip.Tensor, []string, error), err error) {
	request = &oip.Request{}
	if n, told := numberIn(r.Header, headerLengthHeader); told {
		if n < 0 {
			return request, nil, service.Bad(service.BadInput, "%s: want one whole number of bytes", headerLengthHeader)
		}
		var err error
		*request, err = oip.ReadRequest(r.Body, r.ContentLength, n, s.tensors, l.Get)
		return request, nil, err
	}
	text, err := oip.ReadText(r.Body, r.ContentLength, s.tensors, l.Get)
	return request, func() ([]oip.Tensor, []string, error) {
		var err error
		*request, err = oip.ParseRequest(text, s.tensors, l.Get)
		return request.Inputs, wanted(request), err
	}, err
}

// wanted are the outputs that a request names; nil: all.
func wanted(r *oip.Request) (names []string) {
	for _, o := range r.Outputs {
		names = append(names, o.Name)
	}
	return names
}
