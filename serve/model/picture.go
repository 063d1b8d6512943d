package model

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/buffers"
)

// Picture is an image file that was decoded and brought to the model's size.
type Picture struct {
	Image  image.Image    // decoded, upright, in its own size
	Pixels imaging.Pixels // what the model sees, before normalisation
	Phases Phases         // Decode, Resize and the Queue before them
	pool   *buffers.Pool
}

// Release gives the memory of Pixels back; they must not be touched afterwards.
// A second call does nothing.
func (p *Picture) Release() {
	if p.pool != nil {
		p.pool.Put(p.Pixels.Pix)
		p.pool, p.Pixels.Pix = nil, nil
	}
}

// Scores are a picture's: Values from 0 to 1, one for each label. Heatmap is
// the output of that name as the graph leaves it, of the shape HeatmapShape,
// [labels, height, width], or nil where the bundle has none.
type Scores struct {
	Values       []float32
	Heatmap      []float32
	HeatmapShape []int64
	Phases       Phases
}

// wantsPictures refuses models of other tasks.
func (m *Model) wantsPictures() error {
	if task := m.bundle.Manifest.Task; task != bundle.TaskMultilabel {
		return refuse("model %s is of the task %s: it has no labels to score pictures for", m.Name(), task)
	}
	return nil
}

// Prepare decodes the bytes of an image file and resizes it, when a CPU is
// free. *imaging.Error is the sender's fault.
func (m *Model) Prepare(ctx context.Context, data []byte) (*Picture, error) {
	if err := m.wantsPictures(); err != nil {
		return nil, err
	}
	waited, err := m.runtime.share(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer m.runtime.cpus.Release(1)
	p := &Picture{Phases: Phases{Queue: waited}}
	began := time.Now()
	if p.Image, _, err = m.runtime.decoder.Decode(data); err != nil {
		return nil, err
	}
	p.Phases.Decode = time.Since(began)
	began = time.Now()
	p.pool = m.runtime.pool
	p.Pixels = imaging.Pixels{Width: m.spec.Width, Height: m.spec.Height, Channels: m.spec.Channels, Pix: p.pool.Get(m.spec.Size())}
	if err := m.runtime.decoder.ResizeInto(p.Pixels.Pix, p.Image, m.spec); err != nil {
		p.Release()
		return nil, err
	}
	p.Phases.Resize = time.Since(began)
	return p, nil
}

// Score runs the model on a picture; its phases are those of the picture and of
// the run.
func (m *Model) Score(ctx context.Context, p *Picture) (*Scores, error) { return m.score(ctx, p, true) }

// ScoreOnly is Score without the heat map, which is larger than all the rest.
func (m *Model) ScoreOnly(ctx context.Context, p *Picture) (*Scores, error) {
	return m.score(ctx, p, false)
}

func (m *Model) score(ctx context.Context, p *Picture, heatmap bool) (*Scores, error) {
	if err := m.wantsPictures(); err != nil {
		return nil, err
	}
	if err := m.takes(p.Pixels); err != nil {
		return nil, err
	}
	r, err := m.infer(ctx, []oip.Tensor{m.planes([]imaging.Pixels{p.Pixels})}, true)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	values, err := m.scoresOf(r, 1)
	if err != nil {
		return nil, err
	}
	s := &Scores{Values: values[0], Phases: p.Phases}
	s.Phases.Queue += r.Phases.Queue
	s.Phases.Run, s.Phases.Batch = r.Phases.Run, r.Phases.Batch
	if i := find(m.outputs, m.bundle.Manifest.Outputs.Heatmap); heatmap && i >= 0 {
		t := r.Outputs[i]
		s.HeatmapShape = t.Shape[1:]
		s.Heatmap = append(s.Heatmap, oip.Float32s(t.Data)...)
	}
	return s, nil
}

// Predict takes the bytes of an image file and scores it: Prepare and Score.
func (m *Model) Predict(ctx context.Context, data []byte) (*Scores, error) {
	p, err := m.Prepare(ctx, data)
	if err != nil {
		return nil, err
	}
	defer p.Release()
	return m.Score(ctx, p)
}

// ScoreBatch takes preprocessed pictures and gives each one's scores, and how
// long the inference of one took on average.
func (m *Model) ScoreBatch(ctx context.Context, pictures []imaging.Pixels) (scores [][]float32, each time.Duration, err error) {
	if err := m.wantsPictures(); err != nil {
		return nil, 0, err
	}
	if len(pictures) == 0 {
		return nil, 0, errors.New("no picture to score")
	}
	for _, p := range pictures {
		if err := m.takes(p); err != nil {
			return nil, 0, err
		}
	}
	var took time.Duration
	for step := m.step(len(pictures)); len(scores) < len(pictures); {
		part := pictures[len(scores):min(len(scores)+step, len(pictures))]
		input := m.planes(part)
		r, err := m.runAlone(ctx, []oip.Tensor{input})
		m.runtime.pool.Put(input.Data)
		if err != nil {
			return nil, 0, err
		}
		values, err := m.scoresOf(r, len(part))
		took += r.Phases.Run
		r.Release()
		if err != nil {
			return nil, 0, err
		}
		scores = append(scores, values...)
	}
	return scores, took / time.Duration(len(pictures)), nil
}

// step is how many of n pictures go through the graph together.
func (m *Model) step(n int) int {
	if m.free {
		return n
	}
	return 1
}

// takes refuses pixels of another size.
func (m *Model) takes(p imaging.Pixels) error {
	s := m.spec
	if p.Width != s.Width || p.Height != s.Height || p.Channels != s.Channels || len(p.Pix) != s.Size() {
		return refuse("a picture of %d x %d x %d, the model takes %d x %d x %d", p.Width, p.Height, p.Channels, s.Width, s.Height, s.Channels)
	}
	return nil
}

// planes normalises pictures of one size into a pooled tensor [n, channels,
// height, width]; the caller puts its data back.
func (m *Model) planes(pictures []imaging.Pixels) oip.Tensor {
	first := pictures[0]
	size := first.Channels * first.Height * first.Width
	t := oip.Tensor{
		Name: m.inputs[0].Name, Datatype: oip.FP32,
		Shape: []int64{int64(len(pictures)), int64(first.Channels), int64(first.Height), int64(first.Width)},
		Data:  m.runtime.pool.Get(4 * size * len(pictures)),
	}
	floats := oip.Float32s(t.Data)
	for i, p := range pictures {
		m.levels.normalise(floats[i*size:(i+1)*size], p)
	}
	return t
}

// scoresOf gives the scores of a run of n pictures, from 0 to 1, as copies.
func (m *Model) scoresOf(r *Result, n int) ([][]float32, error) {
	raw, err := m.rawScores(r, n)
	if err != nil {
		return nil, err
	}
	for _, scores := range raw {
		if err := m.activate(scores); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

// rawScores gives the scores output as the graph leaves it, as copies.
func (m *Model) rawScores(r *Result, n int) ([][]float32, error) {
	labels := len(m.bundle.Manifest.Labels)
	got := r.Outputs[0]
	if len(got.Shape) != 2 || got.Shape[0] != int64(n) || got.Shape[1] != int64(labels) {
		return nil, &RunError{fmt.Errorf("its scores have the shape %s, want [%d, %d]", shapeText(got.Shape), n, labels)}
	}
	all := append([]float32(nil), oip.Float32s(got.Data)...)
	scores := make([][]float32, n)
	for i := range scores {
		scores[i] = all[i*labels : (i+1)*labels : (i+1)*labels]
	}
	return scores, nil
}

// activate turns what the graph gives into scores from 0 to 1, in place.
func (m *Model) activate(scores []float32) error {
	for i, raw := range scores {
		score := float64(raw)
		if m.bundle.Manifest.Outputs.Activation == "sigmoid" {
			score = 1 / (1 + math.Exp(-score))
		}
		if !(score >= 0 && score <= 1) { // NaN too
			return &RunError{fmt.Errorf("its score for %s is %v, want a number from 0 to 1", m.bundle.Manifest.Labels[i].Name, score)}
		}
		scores[i] = float32(score)
	}
	return nil
}
