package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/serve/measure"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/variants"
)

// batchSize is how many pictures go through a model together for their scores.
const batchSize = 32

// labelled judges by the labels of a data set's test rows: the policy's gate,
// with the parent as the champion.
type labelled struct {
	p      *optimization
	test   []dataset.Row
	dir    string
	parent evaluation.Predictions
}

func (l *labelled) source(split string) *predictor {
	return &predictor{env: l.p.env, w: l.p.w, runtime: l.p.runtime, split: split}
}

func (l *labelled) load(ctx context.Context, parent *model.Model) (err error) {
	if l.test, l.dir, err = l.source(dataset.Test).rows(ctx, parent, l.p.dataset); err != nil {
		return err
	}
	if len(l.test) == 0 {
		return fmt.Errorf("data set %s has no test rows to judge by", l.p.dataset)
	}
	l.parent, err = l.predict(ctx, parent)
	return err
}

func (l *labelled) calibration(ctx context.Context, parent *model.Model) ([]imaging.Pixels, error) {
	rows, dir, err := l.source(dataset.Train).rows(ctx, parent, l.p.dataset)
	if err != nil {
		return nil, err
	}
	var pictures []imaging.Pixels
	for _, r := range drawn(rows, l.p.options.calibration, l.p.options.seed) {
		picture, err := readPixels(dir, r)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture)
	}
	return pictures, nil
}

func (l *labelled) picture() (imaging.Pixels, error) { return readPixels(l.dir, l.test[0]) }

func (l *labelled) judge(ctx context.Context, parent, variant *model.Model) (variants.Quality, error) {
	own, err := l.predict(ctx, variant)
	if err != nil {
		return variants.Quality{}, err
	}
	expected := make([]evaluation.Example, len(l.test))
	for i, r := range l.test {
		expected[i] = evaluation.Example{ID: r.File, SHA256: r.SHA256, Group: r.Group, Batch: r.Batch, Labels: r.Labels}
	}
	policy, data := l.p.w.Project.Gate, l.p.dataset
	report, err := evaluation.Evaluate(evaluation.Input{
		Settings: policy.Settings(), Model: variant.Digest(), Dataset: data, Expected: expected, Candidate: own,
		Champion: &evaluation.Champion{
			Model: parent.Digest(), Dataset: data, Expected: expected, Candidate: own, Own: l.parent, Here: l.parent,
		},
	})
	if err != nil {
		return variants.Quality{}, err
	}
	decided, err := gate.Decide(policy, report)
	if err != nil {
		return variants.Quality{}, err
	}
	return variants.Quality{
		Verdict: decided.Verdict, Reason: decided.Reason.Text, Metric: "macro_auroc", N: len(l.test),
		Value: estimateOf(report.Comparison.Candidate).Value, Change: estimateOf(report.Comparison.Difference),
	}, nil
}

// estimateOf is a metric as a plain number; what is not there is not a number.
func estimateOf(m evaluation.Metric) measure.Estimate {
	return measure.Estimate{Value: orNaN(m.Value), Low: orNaN(m.Low), High: orNaN(m.High)}
}

// predict scores the test rows, through the file's form and back, so that what
// is judged is what predict would have left.
func (l *labelled) predict(ctx context.Context, m *model.Model) (evaluation.Predictions, error) {
	progress := l.p.env.Progress(fmt.Sprintf("predict %.12s", m.Digest()), len(l.test))
	defer progress.Finish()
	rows, err := scoreAll(ctx, m, l.dir, l.test, batchSize, l.p.runtime.Callers(), progress)
	if err != nil {
		return evaluation.Predictions{}, err
	}
	data, err := predictions.Encode(l.source(dataset.Test).meta(m.Bundle(), l.p.dataset), rows)
	if err != nil {
		return evaluation.Predictions{}, err
	}
	meta, rows, err := predictions.Decode(data)
	if err != nil {
		return evaluation.Predictions{}, err
	}
	sum := sha256.Sum256(data)
	return evaluation.Predictions{Meta: meta, Rows: rows, SHA256: hex.EncodeToString(sum[:])}, nil
}
