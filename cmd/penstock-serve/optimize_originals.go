package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/variants"
)

// smallSide is the width and height, in pixels, of what is enlarged, where the
// graph takes any.
const smallSide = 64

// originals judges super-resolution: large pictures are made small, enlarged by
// the model, and held to what they were. Models of one channel see the luma.
type originals struct {
	model            bundle.Manifest
	judged, training string // folders
	policy           gate.Policy

	width, height int // of what is enlarged

	pairs  []pair
	parent []float64 // dB of each pair
}

// pair is a picture and what was made of it.
type pair struct{ large, small imaging.Pixels }

func (o *originals) load(ctx context.Context, parent *model.Model) (err error) {
	shape := parent.Inputs()[0].Shape
	o.height, o.width = sideOf(shape[2]), sideOf(shape[3])
	if o.pairs, err = o.read(o.judged); err != nil {
		return err
	}
	o.parent, err = o.likeness(ctx, parent)
	return err
}

// sideOf is the graph's own size in one direction, where it has one.
func sideOf(declared int64) int {
	if declared > 0 {
		return int(declared)
	}
	return smallSide
}

// read makes pairs of all pictures of a folder, in the order of their names;
// all are brought to one size first.
func (o *originals) read(dir string) ([]pair, error) {
	var pairs []pair
	for _, ending := range []string{"*.png", "*.jpg"} {
		files, err := filepath.Glob(filepath.Join(dir, ending))
		if err != nil {
			return nil, err
		}
		for _, file := range slices.Sorted(slices.Values(files)) {
			p, err := o.pair(file)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			pairs = append(pairs, p)
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%s holds no .png or .jpg", dir)
	}
	return pairs, nil
}

func (o *originals) pair(file string) (p pair, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	scale := o.model.SuperResolution.Scale
	spec := imaging.Spec{Width: o.width * scale, Height: o.height * scale, Channels: o.model.Input.Channels, Filter: "catmullrom", Decoder: "go"}
	if p.large, err = imaging.Preprocess(data, spec, imaging.DefaultLimits); err != nil {
		return p, err
	}
	if data, err = p.large.PNG(); err != nil {
		return p, err
	}
	spec.Width, spec.Height = o.width, o.height
	p.small, err = imaging.Preprocess(data, spec, imaging.DefaultLimits)
	return p, err
}

func (o *originals) calibration(context.Context, *model.Model) ([]imaging.Pixels, error) {
	pairs, err := o.read(o.training)
	if err != nil {
		return nil, err
	}
	small := make([]imaging.Pixels, len(pairs))
	for i, p := range pairs {
		small[i] = p.small
	}
	return small, nil
}

func (o *originals) picture() (imaging.Pixels, error) { return o.pairs[0].small, nil }

func (o *originals) judge(ctx context.Context, _, variant *model.Model) (variants.Quality, error) {
	own, err := o.likeness(ctx, variant)
	if err != nil {
		return variants.Quality{}, err
	}
	return variants.JudgePSNR(own, o.parent, variants.Loss{
		Most: *o.policy.VariantPSNR, Confidence: o.policy.Confidence, Replicates: o.policy.Replicates, Seed: o.policy.Seed,
	})
}

// likeness is the PSNR in dB of each enlarged picture.
func (o *originals) likeness(ctx context.Context, m *model.Model) ([]float64, error) {
	scale := o.model.SuperResolution.Scale
	convention := imaging.Convention{Scale: imaging.RGB, Border: scale}
	if o.model.Input.Channels == 1 {
		convention.Scale = imaging.Grey
	}
	values := make([]float64, len(o.pairs))
	for i, p := range o.pairs {
		enlarged, err := o.enlarge(ctx, m, p)
		if err != nil {
			return nil, err
		}
		measured, err := imaging.PSNR(enlarged, p.large, convention)
		if err != nil {
			return nil, err
		}
		values[i] = measured.Value
	}
	return values, nil
}

// enlarge runs the model on a small picture and rounds what it gives to levels.
func (o *originals) enlarge(ctx context.Context, m *model.Model, p pair) (imaging.Pixels, error) {
	result, err := m.Infer(ctx, []oip.Tensor{tensorOf(p.small, o.model.Input)}, []string{o.model.Outputs.Image})
	if err != nil {
		return imaging.Pixels{}, err
	}
	defer result.Release()
	planes, out := oip.Float32s(result.Outputs[0].Data), p.large
	if len(planes) != len(out.Pix) {
		return out, fmt.Errorf("the output %q has %d numbers, want %d", o.model.Outputs.Image, len(planes), len(out.Pix))
	}
	out.Pix = make([]uint8, len(planes))
	plane := out.Width * out.Height
	for i, v := range planes {
		level := float64(v) * 255 / o.model.SuperResolution.Levels
		out.Pix[i%plane*out.Channels+i/plane] = uint8(min(255, max(0, level)) + 0.5)
	}
	return out, nil
}
