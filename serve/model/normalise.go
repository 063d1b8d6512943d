package model

import (
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
)

// levels are the normalised values of the 256 levels, by channel: x*scale,
// minus mean, over std, in float64, rounded to float32 at the end.
type levels [][256]float32

func levelsOf(in bundle.Input) levels {
	tables := make(levels, in.Channels)
	for c := range tables {
		for v := range tables[c] {
			tables[c][v] = float32((float64(v)*in.Scale - in.Mean[c]) / in.Std[c])
		}
	}
	return tables
}

// normalise writes a picture into planes of [channels, height, width].
func (l levels) normalise(planes []float32, p imaging.Pixels) {
	size := p.Width * p.Height
	for c := range l {
		table, out := &l[c], planes[c*size:(c+1)*size]
		if len(l) == 1 {
			for i, v := range p.Pix[:size] {
				out[i] = table[v]
			}
			continue
		}
		for i, at := 0, c; i < len(out); i, at = i+1, at+len(l) {
			out[i] = table[p.Pix[at]]
		}
	}
}
