package service

import (
	"bytes"
	"context"
	"image"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
)

// Enlarger runs a super-resolution model over a whole picture, in tiles where
// it is large, and encodes what comes out.
type Enlarger interface {
	Enlarge(ctx context.Context, m *model.Model, picture []byte) (*Enlargement, error)
}

// Enlargement is what an Enlarger gives.
type Enlargement struct {
	Enlarged
	Phases Phases
}

func scaleOf(m *model.Model) int {
	if m.Task() != bundle.TaskSuperResolution {
		return 0
	}
	return m.Bundle().Manifest.SuperResolution.Scale
}

// score decodes, resizes and runs within one turn. Heat maps come after it.
func (w *work) score(ctx context.Context, m *model.Model, r PredictRequest) (*Prediction, error) {
	ctx, err := w.enter(ctx)
	if err != nil {
		return nil, err
	}
	picture, err := m.Prepare(ctx, r.Picture)
	if err != nil {
		return nil, err
	}
	w.release = append(w.release, picture.Release)
	score := m.ScoreOnly
	if r.Explain {
		score = m.Score
	}
	scores, err := score(ctx, picture)
	w.leave(err == nil)
	if err != nil {
		return nil, err
	}
	w.took(scores.Phases) // the picture's are among them
	if w.served.Replay != nil {
		w.served.Replay.AddPicture(r.Picture)
	}
	p := &Prediction{Scores: decide(m, scores.Values)}
	if r.Explain {
		if err := w.explain(ctx, p, m, picture, scores); err != nil {
			return nil, err
		}
	}
	p.Account = w.account()
	return p, nil
}

// decide compares the scores with the operating thresholds.
func decide(m *model.Model, scores []float32) []Score {
	labels := m.Bundle().Manifest.Labels
	all := make([]Score, len(labels))
	for i, label := range labels {
		all[i] = Score{
			Label: label.Name, Score: scores[i], Threshold: label.Threshold,
			Positive: float64(scores[i]) >= label.Threshold, Urgency: label.Urgency,
		}
	}
	return all
}

// leastPixels is what enlarging a smaller picture costs too.
const leastPixels = 50_000

// pixelsOf is a picture's size by its header, within the limits of pictures:
// what is no picture is found out soon.
func pixelsOf(picture []byte) float64 {
	size, _, err := image.DecodeConfig(bytes.NewReader(picture))
	if err != nil {
		return leastPixels
	}
	return min(max(float64(size.Width)*float64(size.Height), leastPixels), float64(imaging.DefaultLimits.Pixels))
}

// pixelsIn is the same of tensors [n, channels, height, width].
func pixelsIn(inputs []oip.Tensor) float64 {
	pixels := 0.0
	for _, t := range inputs {
		if s := t.Shape; len(s) == 4 {
			pixels += float64(s[0]) * float64(s[2]) * float64(s[3])
		}
	}
	return min(max(pixels, leastPixels), float64(imaging.DefaultLimits.Pixels))
}

func (w *work) enlarge(ctx context.Context, m *model.Model, r PredictRequest) (*Prediction, error) {
	ctx, err := w.enterWith(ctx, pixelsOf(r.Picture)/1e6)
	if err != nil {
		return nil, err
	}
	e, err := w.s.o.Enlarger.Enlarge(ctx, m, r.Picture)
	w.leave(err == nil)
	if err != nil {
		return nil, err
	}
	waited := w.phases.Queue
	w.phases = e.Phases
	w.phases.Queue += waited
	if w.served.Replay != nil {
		w.served.Replay.AddPicture(r.Picture)
	}
	return &Prediction{Enlarged: &e.Enlarged, Account: w.account()}, nil
}
