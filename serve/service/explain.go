package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/explain"
	"github.com/penstock-ml/penstock/serve/model"
)

// Method is how a heat map was made.
type Method string

// The methods.
const (
	CAM       Method = "cam"       // the bundle's heatmap output, which was found to be a class activation map
	OwnMap    Method = "model"     // the bundle's heatmap output, of which nobody knows what it is
	Occlusion Method = "occlusion" // what covering parts of the picture does to the score
)

// Methods are all of them.
var Methods = []Method{CAM, OwnMap, Occlusion}

// explain makes a heat map for each positive finding, within the time that
// there is. Findings for which there was none keep a note that says so: the
// scores are worth answering without them. What else goes wrong is an error.
func (w *work) explain(ctx context.Context, p *Prediction, m *model.Model, picture *model.Picture, scores *model.Scores) error {
	began := time.Now()
	defer func() { w.phases.Explain = time.Since(began) }()
	ctx, cancel := context.WithDeadline(ctx, w.explainUntil(began))
	defer cancel()
	select {
	case w.s.explaining <- struct{}{}:
		defer func() { <-w.s.explaining }()
	case <-ctx.Done():
		// each finding below says so
	}
	of := subject{m, picture, scores, explain.Remembering(runner{m})}
	left := positives(p.Scores)
	for i, s := range p.Scores {
		if !s.Positive {
			continue
		}
		e := Explanation{Label: s.Label}
		if err := e.draw(ctx, left, of, i); err != nil {
			return fmt.Errorf("explain %s: %w", s.Label, err)
		}
		left--
		p.Explanations = append(p.Explanations, e)
		p.Caveat = explain.Caveat
	}
	return nil
}

func positives(scores []Score) (n int) {
	for _, s := range scores {
		if s.Positive {
			n++
		}
	}
	return n
}

// subject is what is explained.
type subject struct {
	model   *model.Model
	picture *model.Picture
	scores  *model.Scores
	runner  explain.Runner
}

// draw makes one map, in its share of the time for so many that are left. The
// end of that time is no error.
func (e *Explanation) draw(ctx context.Context, left int, of subject, label int) error {
	until, _ := ctx.Deadline()
	own, cancel := context.WithTimeout(ctx, time.Until(until)/time.Duration(left))
	defer cancel()
	heat, err := e.heat(own, of, label)
	if err == nil {
		err = e.overlay(of.picture, heat)
	}
	if err != nil && errors.Is(own.Err(), context.DeadlineExceeded) {
		e.Note, err = noTime(err), nil
	}
	return err
}

// explainUntil leaves a part of the sender's own time for the answer.
func (w *work) explainUntil(now time.Time) time.Time {
	if w.call.Deadline.IsZero() {
		return now.Add(w.s.o.ExplainTerm)
	}
	return now.Add(w.call.Deadline.Sub(now) * 9 / 10)
}

func noTime(err error) string {
	var unfinished *explain.Unfinished
	if errors.As(err, &unfinished) {
		return unfinished.Error()
	}
	return "there was no time left for a heat map: allow more"
}

// heat gives the label's evidence: from the graph itself where it has a map,
// else by occlusion.
func (e *Explanation) heat(ctx context.Context, of subject, label int) (explain.Map, error) {
	if heatmap := of.scores.Heatmap; heatmap != nil {
		e.Method = OwnMap
		known := of.model.Heatmap()
		if known.Method == model.MethodCAM {
			e.Method, e.Exact = CAM, true
		}
		h, w := int(of.scores.HeatmapShape[1]), int(of.scores.HeatmapShape[2])
		heat := explain.CAM(heatmap[label*h*w:(label+1)*h*w], h, w)
		heat.Shift = [2]float64{known.Shift.Down, known.Shift.Right}
		return heat, ctx.Err()
	}
	e.Method = Occlusion
	heat, err := explain.Occlude(ctx, of.runner, of.picture.Pixels, label, explain.Options{})
	if err == nil && !heat.Complete() {
		e.Note = fmt.Sprintf("coarse: the time was over after %d of %d runs", heat.Done, heat.Total)
	}
	return heat, err
}

func (e *Explanation) overlay(picture *model.Picture, heat explain.Map) (err error) {
	if heat.Faint() && e.Note == "" {
		e.Note = "no region of the picture speaks for the finding by itself"
	}
	if e.PNG, err = explain.Overlay(picture.Image, heat); err != nil {
		return err
	}
	size, err := png.DecodeConfig(bytes.NewReader(e.PNG))
	e.Width, e.Height = size.Width, size.Height
	return err
}

// runner runs the pictures of an occlusion, each waiting for its CPUs like
// everybody.
type runner struct{ m *model.Model }

func (r runner) Scores(ctx context.Context, p imaging.Pixels) ([]float32, error) {
	scores, _, err := r.m.ScoreBatch(ctx, []imaging.Pixels{p})
	if err != nil {
		return nil, err
	}
	return scores[0], nil
}
