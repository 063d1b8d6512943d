package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/penstock-ml/penstock/serve/service"
)

// frame is what encoding/json makes of a model's answer without the request's id
// and the scores: all but those is the same in every answer.
type frame struct {
	digest string
	parts  [2][]string // before, between and after the scores, by whether the one before is positive
	length int         // of an answer, about
}

// What stands before an id and a score. A label cannot hold it: a quotation mark
// of its own has a backslash before it.
const beforeID, beforeScore = `{"request_id":"`, `"score":`

// frameOf makes the frame of an answer without explanations.
func frameOf(p *service.Prediction) (*frame, error) {
	f := &frame{digest: p.Digest}
	for i, positive := range []bool{false, true} {
		empty := service.Prediction{Account: service.Account{Model: p.Model, Digest: p.Digest}}
		for _, s := range p.Scores {
			s.Score, s.Positive = 0, positive
			empty.Scores = append(empty.Scores, s)
		}
		text, err := json.Marshal(predictionOf("", &empty, false))
		if err != nil {
			return nil, err
		}
		f.parts[i] = strings.Split(strings.TrimPrefix(string(text), beforeID), beforeScore+"0")
		f.length = len(text) + 64 + 16*len(p.Scores)
	}
	return f, nil
}

// fill appends the answer to a request, whose id is letters and digits.
func (f *frame) fill(body []byte, id string, scores []service.Score) []byte {
	body = append(append(body, beforeID...), id...)
	part := f.parts[0][0]
	for i, s := range scores {
		body = append(append(body, part...), beforeScore...)
		body = appendScore(body, s.Score)
		if part = f.parts[0][i+1]; s.Positive {
			part = f.parts[1][i+1]
		}
	}
	return append(body, part...)
}

// appendScore writes a number from 0 to 1 as encoding/json does.
func appendScore(body []byte, score float32) []byte {
	if score == 0 || score >= 1e-6 {
		return strconv.AppendFloat(body, float64(score), 'f', -1, 32)
	}
	text, err := json.Marshal(score) // with an exponent
	if err != nil {
		panic(err) // it is no score
	}
	return append(body, text...)
}

// frames are kept by the model's name, those of the digest that answered last.
type frames struct {
	mu     sync.Mutex
	byName map[string]*frame
}

func (all *frames) of(p *service.Prediction) (*frame, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if f := all.byName[p.Model]; f != nil && f.digest == p.Digest {
		return f, nil
	}
	f, err := frameOf(p)
	if err == nil {
		all.byName[p.Model] = f
	}
	return f, err
}
