package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// RunError is a fault of the model: its graph could not be run on an input
// that was sound, or gave what no score can be.
type RunError struct{ Err error }

func (e *RunError) Error() string { return "the model failed: " + e.Err.Error() }
func (e *RunError) Unwrap() error { return e.Err }

// Tensor is a float32 tensor in C order.
type Tensor struct {
	Name  string
	Shape []int64
	Data  []float32
}

// Predict takes the bytes of an image file and gives a score from 0 to 1 for
// each label.
func (m *Model) Predict(ctx context.Context, data []byte) ([]float32, error) {
	release, err := m.runtime.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	pixels, err := imaging.Preprocess(data, m.spec, m.limits)
	if err != nil {
		return nil, err
	}
	scores, err := m.scores(ctx, []imaging.Pixels{pixels})
	if err != nil {
		return nil, err
	}
	return scores[0], nil
}

// Score takes preprocessed pictures and gives each one's scores, and how long
// the inference of one took on average.
func (m *Model) Score(ctx context.Context, pictures []imaging.Pixels) (scores [][]float32, each time.Duration, err error) {
	if len(pictures) == 0 {
		return nil, 0, errors.New("no picture to score")
	}
	release, err := m.runtime.slot(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer release()
	began := time.Now()
	scores, err = m.scores(ctx, pictures)
	return scores, time.Since(began) / time.Duration(len(pictures)), err
}

// Infer runs a tensor as it is, [n, channels, height, width], already
// normalised, and gives all outputs that the manifest names, as the graph
// leaves them.
func (m *Model) Infer(ctx context.Context, input Tensor) ([]Tensor, error) {
	release, err := m.runtime.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	outputs, err := m.run(ctx, input.Shape, input.Data)
	if err != nil {
		return nil, err
	}
	for _, o := range outputs {
		for _, v := range o.Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, &RunError{fmt.Errorf("its output %q holds %v", o.Name, v)}
			}
		}
	}
	return outputs, nil
}

// scores wants the slot. Pictures go through the graph together, or one by one
// where it takes one only.
func (m *Model) scores(ctx context.Context, pictures []imaging.Pixels) ([][]float32, error) {
	step := len(pictures)
	if m.batch > 0 {
		step = m.batch
	}
	var all [][]float32
	for start := 0; start < len(pictures); start += step {
		raw, err := m.rawScores(ctx, pictures[start:min(start+step, len(pictures))])
		if err != nil {
			return nil, err
		}
		for _, scores := range raw {
			if err := m.activate(scores); err != nil {
				return nil, err
			}
		}
		all = append(all, raw...)
	}
	return all, nil
}

// rawScores gives the scores output as the graph leaves it.
func (m *Model) rawScores(ctx context.Context, pictures []imaging.Pixels) ([][]float32, error) {
	in := m.bundle.Manifest.Input
	plane := in.Channels * in.Height * in.Width
	data := make([]float32, len(pictures)*plane)
	for i, p := range pictures {
		if p.Width != in.Width || p.Height != in.Height || p.Channels != in.Channels {
			return nil, fmt.Errorf("a picture of %d x %d x %d, the model takes %d x %d x %d",
				p.Width, p.Height, p.Channels, in.Width, in.Height, in.Channels)
		}
		normalise(data[i*plane:(i+1)*plane], p, in)
	}
	shape := []int64{int64(len(pictures)), int64(in.Channels), int64(in.Height), int64(in.Width)}
	outputs, err := m.run(ctx, shape, data)
	if err != nil {
		return nil, err
	}
	labels := len(m.bundle.Manifest.Labels)
	if got := outputs[0]; len(got.Shape) != 2 || got.Shape[0] != shape[0] || got.Shape[1] != int64(labels) {
		return nil, &RunError{fmt.Errorf("its scores have the shape %s, want [%d, %d]", shapeText(got.Shape), shape[0], labels)}
	}
	scores := make([][]float32, len(pictures))
	for i := range scores {
		scores[i] = outputs[0].Data[i*labels : (i+1)*labels : (i+1)*labels]
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

// run is one call of the session; it ends early when ctx does. The outputs are
// copies.
func (m *Model) run(ctx context.Context, shape []int64, data []float32) (tensors []Tensor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	input, err := ort.NewTensor(ort.NewShape(shape...), data)
	if err != nil {
		return nil, fmt.Errorf("make the input tensor: %w", err)
	}
	defer func() { err = errors.Join(err, input.Destroy()) }()
	values := make([]ort.Value, len(m.outputs))
	defer func() {
		for _, v := range values {
			if v != nil {
				err = errors.Join(err, v.Destroy())
			}
		}
	}()
	if err := m.call(ctx, input, values); err != nil {
		return nil, err
	}
	tensors = make([]Tensor, len(values))
	for i, v := range values {
		t, ok := v.(*ort.Tensor[float32])
		if !ok {
			return nil, &RunError{fmt.Errorf("its output %q is not a float32 tensor", m.outputs[i].Name)}
		}
		tensors[i] = Tensor{m.outputs[i].Name, t.GetShape().Clone(), append([]float32(nil), t.GetData()...)}
	}
	return tensors, nil
}

func (m *Model) call(ctx context.Context, input ort.Value, outputs []ort.Value) error {
	options, err := ort.NewRunOptions()
	if err != nil {
		return fmt.Errorf("make run options: %w", err)
	}
	terminated := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { terminated <- options.Terminate() })
	err = m.session.RunWithOptions([]ort.Value{input}, outputs, options)
	cancelled := !stop()
	var terminateErr error
	if cancelled {
		terminateErr = <-terminated // before the options go away
	}
	if destroyErr := options.Destroy(); destroyErr != nil || terminateErr != nil {
		return errors.Join(err, destroyErr, terminateErr)
	}
	if err != nil && cancelled {
		return context.Cause(ctx)
	}
	if err != nil {
		return &RunError{err}
	}
	return nil
}
