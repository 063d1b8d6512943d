package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/measure"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/variants"
)

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

// measureSpeed drives parent and variants in turns, on one picture: with
// one caller for the latency, with as many as there may be for the throughput.
func (p *optimization) measureSpeed(ctx context.Context) (err error) {
	pixels, err := p.evidence.picture()
	if err != nil {
		return err
	}
	input := tensorOf(pixels, p.parent.Manifest.Input)
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

// tensorOf is a picture as the graph takes it.
func tensorOf(pixels imaging.Pixels, in bundle.Input) oip.Tensor {
	return oip.Tensor{
		Name: in.Name, Datatype: oip.FP32, Shape: []int64{1, int64(pixels.Channels), int64(pixels.Height), int64(pixels.Width)},
		Data: oip.Bytes(normalised(pixels, in)),
	}
}

// measureQuality asks about each variant beside its parent.
func (p *optimization) measureQuality(ctx context.Context) error {
	return p.each(func(i int, c *variants.Candidate) (err error) {
		c.Quality, err = p.evidence.judge(ctx, p.open[0], p.open[i])
		return err
	})
}
