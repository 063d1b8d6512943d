package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/serve/measure"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/variants"
)

// batchSize is how many pictures go through a model together for their scores.
const batchSize = 32

// measure finds out speed and quality of every variant that can be.
func (p *optimization) measure(ctx context.Context) error {
	if len(p.open) == 1 {
		return nil // there is nothing but the parent
	}
	if err := p.measureSpeed(ctx); err != nil {
		return fmt.Errorf("speed: %w", err)
	}
	if err := p.measureQuality(ctx); err != nil {
		return fmt.Errorf("quality: %w", err)
	}
	return nil
}

// measureSpeed drives parent and variants in turns, on one test picture: with
// one caller for the latency, with as many as there may be for the throughput.
func (p *optimization) measureSpeed(ctx context.Context) (err error) {
	pixels, err := readPixels(p.testDir, p.test[0])
	if err != nil {
		return err
	}
	in := p.parent.Manifest.Input
	input := oip.Tensor{
		Name: in.Name, Datatype: oip.FP32, Shape: []int64{1, int64(in.Channels), int64(in.Height), int64(in.Width)},
		Data: oip.Bytes(normalised(pixels, in)),
	}
	var arms []measure.Arm
	for _, m := range p.open {
		bare, err := model.OpenBare(p.runtime, m.Bundle(), []oip.Tensor{input})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, bare.Close()) }()
		arms = append(arms, measure.Arm{Name: m.Digest(), Caller: (&bareArm{bare: bare}).caller})
	}
	o := p.options
	rounds := int(o.duration / o.round)
	progress := p.env.Progress("optimize", 2*(rounds+1))
	defer progress.Finish()
	var series [2][]measure.Series
	for i, callers := range []int{1, p.runtime.Callers()} {
		plan := measure.Plan{Callers: callers, Rounds: rounds, Length: o.round, Seed: o.seed}
		if series[i], err = measure.Run(ctx, plan, arms, func() { progress.Add(1, "") }); err != nil {
			return err
		}
	}
	if p.latency, err = measure.Summarise(series[0][0]); err != nil {
		return err
	}
	return p.each(func(i int, c *variants.Candidate) error {
		one, err := measure.Compare(series[0][0], series[0][i], o.seed) // parent over variant: a speed-up
		if err != nil {
			return err
		}
		all, err := measure.Compare(series[1][i], series[1][0], o.seed)
		if err != nil {
			return err
		}
		c.Speedup, c.Throughput = one.RatioP50, all.Throughput
		c.Latency, err = measure.Summarise(series[0][i])
		return err
	})
}

// each goes over the variants that can be, with their place in p.open.
func (p *optimization) each(do func(i int, c *variants.Candidate) error) error {
	at := 1
	for k := range p.candidates {
		if p.candidates[k].Refusal != nil {
			continue
		}
		if err := do(at, &p.candidates[k]); err != nil {
			return fmt.Errorf("%s: %w", p.candidates[k].Kind, err)
		}
		at++
	}
	return nil
}

// measureQuality asks the policy's gate about each variant, with its parent as
// the champion and the data set's test rows as the evidence.
func (p *optimization) measureQuality(ctx context.Context) error {
	parent, err := p.predict(ctx, p.open[0])
	if err != nil {
		return err
	}
	expected := make([]evaluation.Example, len(p.test))
	for i, r := range p.test {
		expected[i] = evaluation.Example{ID: r.File, SHA256: r.SHA256, Group: r.Group, Batch: r.Batch, Labels: r.Labels}
	}
	policy := p.w.Project.Gate
	return p.each(func(i int, c *variants.Candidate) error {
		own, err := p.predict(ctx, p.open[i])
		if err != nil {
			return err
		}
		report, err := evaluation.Evaluate(evaluation.Input{
			Settings: policy.Settings(), Model: c.Digest, Dataset: p.dataset, Expected: expected, Candidate: own,
			Champion: &evaluation.Champion{
				Model: p.parent.Digest, Dataset: p.dataset, Expected: expected, Candidate: own, Own: parent, Here: parent,
			},
		})
		if err != nil {
			return err
		}
		decided, err := gate.Decide(policy, report)
		if err != nil {
			return err
		}
		c.Quality = variants.Quality{Verdict: decided.Verdict, Reason: decided.Reason.Text, Metric: "macro AUROC"}
		c.Quality.Value, c.Quality.Change = estimateOf(report.Comparison.Candidate).Value, estimateOf(report.Comparison.Difference)
		return nil
	})
}

// estimateOf is a metric as a plain number; what is not there is not a number.
func estimateOf(m evaluation.Metric) measure.Estimate {
	return measure.Estimate{Value: orNaN(m.Value), Low: orNaN(m.Low), High: orNaN(m.High)}
}

// predict scores the test rows.
func (p *optimization) predict(ctx context.Context, m *model.Model) (evaluation.Predictions, error) {
	source := predictor{env: p.env, w: p.w, runtime: p.runtime, split: dataset.Test}
	progress := p.env.Progress(fmt.Sprintf("predict %.12s", m.Digest()), len(p.test))
	defer progress.Finish()
	rows, err := scoreAll(ctx, m, p.testDir, p.test, batchSize, p.runtime.Callers(), progress)
	if err != nil {
		return evaluation.Predictions{}, err
	}
	// Through the file's form and back, so that what is judged is what predict
	// would have left.
	data, err := predictions.Encode(source.meta(m.Bundle(), p.dataset), rows)
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
