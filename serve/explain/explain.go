// Package explain makes heat maps: where in a picture the evidence for a label
// lies, as far as a model can be asked.
//
// Two methods. CAM (class activation mapping, Zhou et al., CVPR 2016) reads the
// map that a network with global average pooling and a linear layer has within
// it; for such a network it is exact: the mean of the map plus the bias is the
// logit. Occlude (Zeiler and Fergus, ECCV 2014) covers a patch of the picture
// at a time and looks how much the score falls; it asks for nothing but scores
// and many runs. Both show what moved the score, not where the finding is: see
// Caveat.
package explain

import (
	"context"
	"fmt"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// Caveat is to stand beside every heat map.
const Caveat = "A heat map shows which regions of the picture moved the model's score. It does not outline a finding, " +
	"does not show that the score is right, and may light up what has nothing to do with the disease. " +
	"In a comparison on chest X-rays such maps localised findings worse than radiologists did " +
	"(Saporta et al., Nature Machine Intelligence 4, 2022). Not for clinical use on its own."

// Map is the evidence for one label over the whole picture, whatever the
// picture's size: Evidence[y*Width+x] is that of the cell at row y, column x,
// 0 where there is none, never negative, in logits (CAM) or in score that is
// lost (Occlude).
type Map struct {
	Width, Height int
	Evidence      []float32
	Done, Total   int // runs that it stands on, and that were planned; 0 of 0 for CAM
	// Shift, [y, x], is how far what a cell tells of lies off the cell's own
	// place in the picture, in cells.
	Shift [2]float64
	full  float32
}

// What an overlay shows in full colour, at least.
const (
	fullLogits = 1    // a picture that looked like the cell everywhere would raise the logit by so much
	fullScore  = 0.05 // covering the cell takes so much of the score
)

// Complete tells whether all planned runs were made.
func (m Map) Complete() bool { return m.Done == m.Total }

// Peak is the greatest evidence; 0 means that there is none anywhere.
func (m Map) Peak() float32 {
	var peak float32
	for _, v := range m.Evidence {
		peak = max(peak, v)
	}
	return peak
}

// Faint tells that nowhere is there evidence worth to speak of: an overlay
// shows nearly nothing.
func (m Map) Faint() bool { return m.Peak() <= m.full/10 }

// CAM takes one label's map as the graph gives it, [h, w] in logits, and keeps
// what speaks for the label.
func CAM(heat []float32, h, w int) Map {
	m := Map{Width: w, Height: h, Evidence: make([]float32, h*w), full: fullLogits}
	for i := range m.Evidence {
		m.Evidence[i] = max(0, heat[i])
	}
	return m
}

// Runner gives the scores, from 0 to 1, of a preprocessed picture.
type Runner interface {
	Scores(ctx context.Context, p imaging.Pixels) ([]float32, error)
}

// Options of Occlude. The zero value asks for 49 + 1 runs.
type Options struct {
	Tiles int // patches along a side that cover the picture once; 0: 4
}

// Unfinished means that the time was over before every part of the picture had
// been covered once: there is no map.
type Unfinished struct {
	Done, Total int
	Took        time.Duration
}

func (e *Unfinished) Error() string {
	return fmt.Sprintf("occlusion had made %d of %d runs when its time was over, after %v: too few for a map; allow more time",
		e.Done, e.Total, e.Took.Round(time.Millisecond))
}
