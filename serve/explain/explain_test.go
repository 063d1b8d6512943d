package explain_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/explain"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// corner is a model whose score is the brightness of the upper left quarter.
type corner struct {
	runs int
	then func(run int) error // called before each run
}

func (c *corner) Scores(ctx context.Context, p imaging.Pixels) ([]float32, error) {
	c.runs++
	if c.then != nil {
		if err := c.then(c.runs); err != nil {
			return nil, err
		}
	}
	sum := 0
	for y := range p.Height / 2 {
		for x := range p.Width / 2 {
			sum += int(p.Pix[y*p.Width+x])
		}
	}
	return []float32{0, float32(sum) / float32(255*p.Width*p.Height/4)}, nil
}

// bright is 16 x 16 pixels, white in the upper left quarter.
func bright() imaging.Pixels {
	p := imaging.Pixels{Width: 16, Height: 16, Channels: 1, Pix: make([]uint8, 256)}
	for y := range 8 {
		for x := range 8 {
			p.Pix[y*16+x] = 255
		}
	}
	return p
}

func TestOcclusionFindsWhatTheScoreStandsOn(t *testing.T) {
	p, r := bright(), &corner{}
	before := slices.Clone(p.Pix)
	m, err := explain.Occlude(t.Context(), r, p, 1, explain.Options{})
	must(t, err)
	if r.runs != 50 || m.Done != 50 || !m.Complete() || m.Width != 8 || m.Height != 8 {
		t.Errorf("%d runs, map %+v", r.runs, m)
	}
	if !slices.Equal(p.Pix, before) {
		t.Error("the picture was changed")
	}
	for i, v := range m.Evidence {
		// patches reach one cell beyond the quarter
		if x, y := i%8, i/8; (x > 4 || y > 4) && v != 0 || (x < 3 && y < 3) && v < 0.05 {
			t.Errorf("evidence %v at %d, %d", v, x, y)
		}
	}
}

func TestMapsOfSeveralLabelsCostTheRunsOfOne(t *testing.T) {
	r := &corner{}
	remembering := explain.Remembering(r)
	for label := range 2 {
		m, err := explain.Occlude(t.Context(), remembering, bright(), label, explain.Options{})
		must(t, err)
		if (m.Peak() > 0) != (label == 1) || !m.Complete() { // the score of label 0 is always 0
			t.Errorf("label %d: %+v", label, m)
		}
	}
	if r.runs != 50 {
		t.Errorf("%d runs for the maps of two labels", r.runs)
	}
}

func TestOcclusionEndsAtTheDeadlineWithWhatItHas(t *testing.T) {
	for _, c := range []struct {
		last   int // the last run before the deadline
		enough bool
	}{{10, false}, {17, true}, {30, true}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		over := &deadline{Context: ctx}
		r := &corner{then: func(run int) error {
			if run > c.last {
				over.passed = true
				return context.DeadlineExceeded
			}
			return nil
		}}
		m, err := explain.Occlude(over, r, bright(), 1, explain.Options{})
		cancel(nil)
		var unfinished *explain.Unfinished
		switch {
		case c.enough && (err != nil || m.Done != c.last || m.Total != 50 || m.Complete()):
			t.Errorf("deadline after %d runs: %+v %v", c.last, m, err)
		case !c.enough && (!errors.As(err, &unfinished) || unfinished.Done != c.last || unfinished.Total != 50):
			t.Errorf("deadline after %d runs: %v", c.last, err)
		}
		for i, v := range m.Evidence {
			if math.IsNaN(float64(v)) {
				t.Fatalf("deadline after %d runs: cell %d is %v", c.last, i, v)
			}
		}
	}
}

// deadline is a context whose deadline passes when the test says so.
type deadline struct {
	context.Context
	passed bool
}

func (d *deadline) Err() error {
	if d.passed {
		return context.DeadlineExceeded
	}
	return nil
}

func TestOcclusionTellsFaultsFromTheDeadline(t *testing.T) {
	broken := errors.New("the model is broken")
	r := &corner{then: func(run int) error {
		if run == 20 {
			return broken
		}
		return nil
	}}
	if _, err := explain.Occlude(t.Context(), r, bright(), 1, explain.Options{}); !errors.Is(err, broken) {
		t.Errorf("a failing run: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client is gone")
	r = &corner{then: func(run int) error {
		if run == 30 {
			cancel(gone)
		}
		return nil
	}}
	if _, err := explain.Occlude(ctx, r, bright(), 1, explain.Options{}); !errors.Is(err, gone) || r.runs != 30 {
		t.Errorf("a client that is gone: %v after %d runs", err, r.runs)
	}
	if _, err := explain.Occlude(t.Context(), &corner{}, bright(), 2, explain.Options{}); err == nil || !strings.Contains(err.Error(), "label 2") {
		t.Errorf("an unknown label: %v", err)
	}
}

// grey is a picture with a ramp of levels.
func grey(w, h int) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * 7)
	}
	return img
}

func overlay(t *testing.T, img image.Image, m explain.Map) image.Image {
	t.Helper()
	data, err := explain.Overlay(img, m)
	must(t, err)
	out, err := png.Decode(bytes.NewReader(data))
	must(t, err)
	return out
}

func saturation(c color.Color) int {
	r, g, b, _ := c.RGBA()
	return int(max(r, g, b)-min(r, g, b)) >> 8
}

func TestOverlayColoursTheEvidenceAndNothingElse(t *testing.T) {
	m := explain.CAM([]float32{-3, -1, -2, -1, 0, -1, -1, -1, 5}, 3, 3) // lower right only
	picture := grey(90, 60)
	out := overlay(t, picture, m)
	if out.Bounds().Dx() != 90 || out.Bounds().Dy() != 60 {
		t.Fatalf("%v", out.Bounds())
	}
	for _, at := range []image.Point{{0, 0}, {40, 25}, {10, 55}} {
		v := picture.GrayAt(at.X, at.Y).Y
		if got := color.RGBAModel.Convert(out.At(at.X, at.Y)); got != (color.RGBA{v, v, v, 255}) {
			t.Errorf("at %v, without evidence: %v, want grey %d", at, got, v)
		}
	}
	for x := 76; x < 90; x++ {
		if s := saturation(out.At(x, 58)); s < 60 {
			t.Errorf("at %d, with evidence: saturation %d", x, s)
		}
	}
}

// A shift by a cell moves the evidence by a cell's width in the picture.
func TestOverlayLaysShiftedEvidenceWhereItBelongs(t *testing.T) {
	m := explain.CAM([]float32{0, 0, 0, 0, 9, 0, 0, 0, 0}, 3, 3)
	straight := overlay(t, grey(90, 60), m)
	m.Shift = [2]float64{-1, 0.5}
	shifted := overlay(t, grey(90, 60), m)
	if a, b := saturation(straight.At(45, 30)), saturation(shifted.At(45+15, 30-20)); a < 60 || b < 60 {
		t.Errorf("saturation %d and %d at the peaks", a, b)
	}
	if s := saturation(shifted.At(45, 50)); s != 0 {
		t.Errorf("saturation %d where the evidence was", s)
	}
}

func TestOverlayOfNoEvidenceIsThePicture(t *testing.T) {
	out := overlay(t, grey(20, 20), explain.CAM([]float32{-1, -2, -3, 0}, 2, 2))
	for i := range 400 {
		if saturation(out.At(i%20, i/20)) != 0 {
			t.Fatalf("colour at %d, %d", i%20, i/20)
		}
	}
}

func TestOverlayOfWeakEvidenceLooksWeak(t *testing.T) {
	for evidence, c := range map[float32]struct {
		least, most int
		faint       bool
	}{0.05: {0, 20, true}, 0.3: {20, 90, false}, 5: {90, 255, false}} {
		m := explain.CAM([]float32{evidence}, 1, 1)
		if s := saturation(overlay(t, grey(9, 9), m).At(4, 4)); s < c.least || s > c.most || m.Faint() != c.faint {
			t.Errorf("evidence of %v logits: saturation %d, faint %v", evidence, s, m.Faint())
		}
	}
}

func TestOverlayIsBounded(t *testing.T) {
	m := explain.CAM([]float32{1}, 1, 1)
	for size, want := range map[image.Point]image.Point{
		{3000, 1500}: {1024, 512}, {1024, 1024}: {1024, 1024}, {1, 4000}: {1, 1024},
	} {
		if got := overlay(t, grey(size.X, size.Y), m).Bounds().Size(); got != want {
			t.Errorf("%v becomes %v, want %v", size, got, want)
		}
	}
	if _, err := explain.Overlay(grey(3, 3), explain.Map{Width: 2, Height: 2}); err == nil {
		t.Error("a map without values was laid over a picture")
	}
}
