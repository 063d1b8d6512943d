package main

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
)

// workload is what every arm is asked: a picture, and the tensor that the
// model's own preprocessing makes of it.
type workload struct {
	manifest  bundle.Manifest
	picture   []byte // JPEG
	described string
	input     oip.Tensor // FP32 [1, channels, height, width], normalised
}

func (o *benchOptions) workload(b *bundle.Bundle) (workload, error) {
	w := workload{manifest: b.Manifest}
	if b.Manifest.Task != bundle.TaskMultilabel {
		return w, fmt.Errorf("bundle %s is of the task %s: bench measures multilabel models", b.Dir, b.Manifest.Task)
	}
	var err error
	if o.picture != "" {
		w.picture, err = os.ReadFile(o.picture)
		w.described = fmt.Sprintf("%s, %d bytes", o.picture, len(w.picture))
	} else {
		w.picture, err = enlargedGolden(b, o.side, o.seed)
		w.described = fmt.Sprintf("grey JPEG of %d x %d made of %s, %d bytes", o.side, o.side, b.Manifest.Goldens[0], len(w.picture))
	}
	if err != nil {
		return w, err
	}
	pixels, err := imaging.Preprocess(w.picture, model.SpecOf(b.Manifest.Input), imaging.DefaultLimits)
	if err != nil {
		return w, fmt.Errorf("the picture: %w", err)
	}
	in := b.Manifest.Input
	w.input = oip.Tensor{
		Name: in.Name, Datatype: oip.FP32, Shape: []int64{1, int64(in.Channels), int64(in.Height), int64(in.Width)},
		Data: oip.Bytes(normalised(pixels, in)),
	}
	return w, nil
}

// noise is by how many levels the enlarged picture is roughened: a smooth one
// would be smaller and decode faster than pictures of the world.
const noise = 3

// enlargedGolden is a golden's picture as a large grey JPEG.
func enlargedGolden(b *bundle.Bundle, side int, seed uint64) ([]byte, error) {
	data, err := os.ReadFile(b.Path(b.Manifest.Goldens[0]))
	if err != nil {
		return nil, err
	}
	large := imaging.Spec{Width: side, Height: side, Channels: 1, Filter: "catmullrom", Decoder: "go"}
	pixels, err := imaging.Preprocess(data, large, imaging.DefaultLimits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Manifest.Goldens[0], err)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	grey := image.NewGray(image.Rect(0, 0, side, side))
	for i, p := range pixels.Pix {
		grey.Pix[i] = uint8(min(255, max(0, int(p)+random.IntN(2*noise+1)-noise)))
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, grey, &jpeg.Options{Quality: 90}); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// normalised lays pixels out as [channels, height, width], x*scale, minus mean,
// over std.
func normalised(p imaging.Pixels, in bundle.Input) []float32 {
	plane := p.Width * p.Height
	out := make([]float32, plane*p.Channels)
	for i, v := range p.Pix {
		c := i % p.Channels
		out[c*plane+i/p.Channels] = float32((float64(v)*in.Scale - in.Mean[c]) / in.Std[c])
	}
	return out
}

// scores are the raw output as the manifest's activation makes it.
func (w workload) scores(raw []float32) []float32 {
	out := make([]float32, len(raw))
	for i, v := range raw {
		if w.manifest.Outputs.Activation == "sigmoid" {
			v = float32(1 / (1 + math.Exp(-float64(v))))
		}
		out[i] = v
	}
	return out
}

// difference is the greatest one of two lists.
func difference(a, b []float32) (float64, error) {
	if len(a) != len(b) || len(a) == 0 {
		return 0, fmt.Errorf("%d numbers, want %d", len(a), len(b))
	}
	worst := 0.0
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if math.IsNaN(d) {
			return 0, errors.New("it holds what is no number")
		}
		worst = max(worst, d)
	}
	return worst, nil
}
