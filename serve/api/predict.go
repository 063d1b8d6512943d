package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// Prediction is the answer of POST /v1/models/{name}/predict by a model that
// scores labels.
type Prediction struct {
	RequestID    string        `json:"request_id"`
	Model        ModelID       `json:"model"`
	Predictions  []Score       `json:"predictions"` // in the order of the bundle's labels
	Explanations []Explanation `json:"explanations,omitempty"`
	Caveat       string        `json:"caveat,omitempty"` // beside every explanation
}

// ModelID says which model answered.
type ModelID struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// Decisions.
const (
	Positive = "positive"
	Negative = "negative"
)

// Score is one label's: positive where the score reaches the threshold.
type Score struct {
	Label     string  `json:"label"`
	Score     float32 `json:"score"`
	Threshold float64 `json:"threshold"`
	Positive  bool    `json:"positive"`
	Decision  string  `json:"decision"` // the same as a word
	Urgency   string  `json:"urgency"`
}

// Explanation is the heat map of one positive finding over the picture. Its PNG
// stands in PNG, or in a part of its own; neither where there was no time.
type Explanation struct {
	Label  string         `json:"label"`
	Method service.Method `json:"method"`
	Exact  bool           `json:"exact"`
	Note   string         `json:"note,omitempty"`
	PNG    []byte         `json:"png,omitempty"`  // base64
	Part   string         `json:"part,omitempty"` // Content-ID of its part
	Width  int            `json:"width,omitempty"`
	Height int            `json:"height,omitempty"`
}

func (s *Server) predict(w http.ResponseWriter, r *http.Request) {
	c, room, err := s.admit(r, s.picture.Bytes+formOverhead)
	if err != nil {
		s.reject(w, r, c, err)
		return
	}
	defer room.leave()
	explain, err := explainAsked(r.URL.RawQuery)
	if err != nil {
		s.reject(w, r, c, err)
		return
	}
	loan := buffers.NewLoan(s.o.Buffers)
	defer loan.End()
	picture, err := s.pictureOf(w, r, c.Deadline, loan)
	c.Began = time.Now()
	if err != nil {
		s.reject(w, r, c, err)
		return
	}
	exchangeOf(r).open = false // the service counts it
	p, err := s.service.Predict(r.Context(), service.PredictRequest{Call: c, Picture: picture, Explain: explain})
	if err != nil {
		fail(w, err)
		return
	}
	defer p.Release()
	w.Header().Set(DigestHeader, p.Digest)
	if p.Enlarged != nil {
		if err := room.answer(len(p.Enlarged.PNG)); err != nil {
			p.Fail(err)
			fail(w, err)
			return
		}
		w.Header().Set(ScaleHeader, fmt.Sprint(p.Enlarged.Scale))
		w.Header().Set(SizeHeader, fmt.Sprintf("%dx%d", p.Enlarged.Width, p.Enlarged.Height))
		p.Encoded(0) // it came as a PNG
		timed(w.Header(), p.Phases.List(), time.Since(c.Began))
		send(w, http.StatusOK, "image/png", p.Enlarged.PNG)
		return
	}
	began := time.Now()
	kind, body, err := s.encode(c.ID, p, wantsParts(r.Header.Values("Accept")), loan)
	if err == nil {
		err = room.answer(len(body) + pngs(p))
	}
	if err != nil {
		p.Fail(err)
		fail(w, err)
		return
	}
	p.Encoded(time.Since(began))
	timed(w.Header(), p.Phases.List(), time.Since(c.Began))
	send(w, http.StatusOK, kind, body)
}

// explainAsked reads the query.
func explainAsked(query string) (bool, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return false, service.Bad(service.BadInput, "the query cannot be understood")
	}
	explain := false
	for name, given := range values {
		switch {
		case name != "explain":
			return false, service.Bad(service.BadInput, "the query has a parameter that is not known: there is only explain")
		case len(given) != 1 || given[0] != "true" && given[0] != "false":
			return false, service.Bad(service.BadInput, "explain: want true or false, once")
		}
		explain = given[0] == "true"
	}
	return explain, nil
}

// wantsParts tells whether multipart/mixed is accepted by name.
func wantsParts(accept []string) bool {
	for _, line := range accept {
		for kind := range strings.SplitSeq(line, ",") {
			media, params, err := mime.ParseMediaType(kind)
			if err != nil || media != "multipart/mixed" {
				continue
			}
			never := params["q"] != "" && strings.Trim(params["q"], "0.") == ""
			return !never
		}
	}
	return false
}

// encode makes the body: JSON with the heat maps as base64, or a part of JSON
// and one for each heat map.
func (s *Server) encode(id string, p *service.Prediction, parts bool, l *buffers.Loan) (kind string, body []byte, err error) {
	if !parts && len(p.Explanations) == 0 && p.Caveat == "" {
		f, err := s.frames.of(p)
		if err != nil {
			return "", nil, fmt.Errorf("encode the answer: %w", err)
		}
		return "application/json", append(f.fill(l.Get(f.length, nil)[:0], id, p.Scores), '\n'), nil
	}
	text, err := json.Marshal(predictionOf(id, p, parts))
	if err != nil {
		return "", nil, fmt.Errorf("encode the answer: %w", err)
	}
	if !parts {
		return "application/json", append(text, '\n'), nil
	}
	var out bytes.Buffer
	m := multipart.NewWriter(&out)
	write := func(header textproto.MIMEHeader, data []byte) error {
		part, err := m.CreatePart(header)
		if err == nil {
			_, err = part.Write(data)
		}
		return err
	}
	err = write(textproto.MIMEHeader{"Content-Type": {"application/json"}}, text)
	for i, e := range p.Explanations {
		if err == nil && len(e.PNG) > 0 {
			err = write(textproto.MIMEHeader{"Content-Type": {"image/png"}, "Content-Id": {"<" + partName(i) + ">"}}, e.PNG)
		}
	}
	if err == nil {
		err = m.Close()
	}
	return mime.FormatMediaType("multipart/mixed", map[string]string{"boundary": m.Boundary()}), out.Bytes(), err
}

// pngs is how many bytes the heat maps have, which are held beside the body.
func pngs(p *service.Prediction) (n int) {
	for _, e := range p.Explanations {
		n += len(e.PNG)
	}
	return n
}

func partName(i int) string { return fmt.Sprintf("explanation-%d", i) }

func predictionOf(id string, p *service.Prediction, parts bool) Prediction {
	answer := Prediction{
		RequestID: id, Model: ModelID{p.Model, p.Digest}, Caveat: p.Caveat,
		Predictions: make([]Score, len(p.Scores)),
	}
	for i, s := range p.Scores {
		decision := Negative
		if s.Positive {
			decision = Positive
		}
		answer.Predictions[i] = Score{s.Label, s.Score, s.Threshold, s.Positive, decision, s.Urgency}
	}
	for i, e := range p.Explanations {
		shown := Explanation{Label: e.Label, Method: e.Method, Exact: e.Exact, Note: e.Note, Width: e.Width, Height: e.Height}
		switch {
		case len(e.PNG) == 0:
		case parts:
			shown.Part = partName(i)
		default:
			shown.PNG = e.PNG
		}
		answer.Explanations = append(answer.Explanations, shown)
	}
	return answer
}
