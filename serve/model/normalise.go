package model

import (
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
)

// normalise writes a picture into a plane of [channels, height, width]:
// x*scale, minus mean, over std. A level has 256 values, so each channel's are
// computed once, in float64, and rounded to float32 at the end.
func normalise(plane []float32, p imaging.Pixels, in bundle.Input) {
	size := p.Width * p.Height
	for c := range p.Channels {
		var levels [256]float32
		for v := range levels {
			levels[v] = float32((float64(v)*in.Scale - in.Mean[c]) / in.Std[c])
		}
		out := plane[c*size : (c+1)*size]
		for i := range out {
			out[i] = levels[p.Pix[i*p.Channels+c]]
		}
	}
}
