package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/serve/model"
)

// Prediction is the answer of POST /v1/models/{name}/predict.
type Prediction struct {
	RequestID   string  `json:"request_id"`
	Model       ModelID `json:"model"`
	Predictions []Score `json:"predictions"` // in the order of the bundle's labels
}

// ModelID says which model answered.
type ModelID struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// Score is one label's: positive where the score reaches the threshold.
type Score struct {
	Label     string  `json:"label"`
	Score     float32 `json:"score"`
	Threshold float64 `json:"threshold"`
	Positive  bool    `json:"positive"`
	Urgency   string  `json:"urgency"`
}

// formOverhead is what a form may add to its one file, in bytes.
const formOverhead = 64 << 10

func (s *Server) predict(e *exchange, w http.ResponseWriter, r *http.Request) (any, error) {
	picture, err := s.picture(w, r)
	e.began = time.Now()
	if err != nil {
		return nil, err
	}
	m, release, err := s.host.Use()
	if err != nil {
		return nil, err
	}
	defer release()
	e.digest = m.Digest()
	scores, err := m.Predict(r.Context(), picture)
	if err != nil {
		return nil, err
	}
	return prediction(e, m, scores.Values), nil
}

func prediction(e *exchange, m *model.Model, scores []float32) Prediction {
	p := Prediction{
		RequestID: e.id, Model: ModelID{m.Name(), m.Digest()},
		Predictions: make([]Score, len(scores)),
	}
	for i, label := range m.Bundle().Manifest.Labels {
		p.Predictions[i] = Score{
			Label: label.Name, Score: scores[i], Threshold: label.Threshold,
			Positive: float64(scores[i]) >= label.Threshold, Urgency: label.Urgency,
		}
	}
	return p
}

// picture reads the bytes of the image: the whole body, or the one file of a
// form. What they are is decided by the bytes, not by what the sender calls
// them.
func (s *Server) picture(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind := r.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(kind)
	if kind != "" && err != nil {
		return nil, &problem{http.StatusBadRequest, fmt.Sprintf("the Content-Type cannot be understood: %v", err)}
	}
	switch {
	case media == "multipart/form-data":
		body := http.MaxBytesReader(w, r.Body, s.limits.Bytes+formOverhead)
		return onlyFile(multipart.NewReader(body, params["boundary"]), s.limits.Bytes)
	case media == "", media == "application/octet-stream", strings.HasPrefix(media, "image/"),
		media == "application/x-www-form-urlencoded": // what curl --data-binary says
		return readAll(http.MaxBytesReader(w, r.Body, s.limits.Bytes))
	}
	return nil, &problem{http.StatusUnsupportedMediaType, fmt.Sprintf("the Content-Type is %s: send a PNG or JPEG as it is, or as the file of a multipart form", media)}
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(r)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, err
	case err != nil:
		return nil, &problem{http.StatusBadRequest, fmt.Sprintf("the body could not be read to its end: %v", err)}
	}
	return data, nil
}

func onlyFile(form *multipart.Reader, limit int64) (file []byte, err error) {
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			return nil, err
		}
		if err != nil {
			return nil, &problem{http.StatusBadRequest, fmt.Sprintf("the form cannot be read: %v", err)}
		}
		if part.FileName() == "" && part.FormName() != "file" {
			continue
		}
		if file != nil {
			return nil, &problem{http.StatusBadRequest, "the form holds more than one file: send one picture a request"}
		}
		if file, err = readAll(http.MaxBytesReader(nil, part, limit)); err != nil {
			return nil, err
		}
	}
	if file == nil {
		return nil, &problem{http.StatusBadRequest, "the form holds no file"}
	}
	return file, nil
}
