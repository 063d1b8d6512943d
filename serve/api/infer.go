package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/service"
)

// headerLengthHeader says how long the JSON before binary tensors is.
const headerLengthHeader = "Inference-Header-Content-Length"

func (s *Server) infer(w http.ResponseWriter, r *http.Request) {
	c, leave, err := s.admit(r, s.tensors.Bytes)
	if err != nil {
		s.reject(w, r, c, err)
		return
	}
	defer leave()
	loan := loan{pool: s.o.Buffers}
	defer loan.end()
	request, err := s.read(r, &loan)
	c.Began = time.Now()
	if err != nil {
		s.reject(w, r, c, err)
		return
	}
	var wanted []string
	for _, o := range request.Outputs {
		wanted = append(wanted, o.Name)
	}
	exchangeOf(r).open = nil // the service counts it
	i, err := s.service.Infer(r.Context(), service.InferRequest{Call: c, Inputs: request.Inputs, Outputs: wanted})
	if err != nil {
		fail(w, err)
		return
	}
	defer i.Release()
	w.Header().Set(DigestHeader, i.Digest)
	began := time.Now()
	body, err := oip.EncodeResponse(oip.Response{ID: request.ID, Model: i.Model, Version: i.Digest, Outputs: i.Outputs}, request, loan.get)
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

// read reads the body: JSON, or JSON and the bytes of tensors.
func (s *Server) read(r *http.Request, l *loan) (oip.Request, error) {
	header := -1
	if text := r.Header.Get(headerLengthHeader); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return oip.Request{}, service.Bad(service.BadInput, "%s: want a whole number of bytes", headerLengthHeader)
		}
		header = n
	}
	return oip.ReadRequest(r.Body, r.ContentLength, header, s.tensors, l.get)
}
