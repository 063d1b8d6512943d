package tile

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/service"
)

// TestTilesGiveTheBitsOfTheWholePicture compares the answers in 8 bits with
// those of one run, at tiles of many sizes and pictures of odd ones.
func TestTilesGiveTheBitsOfTheWholePicture(t *testing.T) {
	sizes := [][2]int{{101, 67}, {64, 65}, {33, 90}, {11, 80}, {5, 5}, {1, 3}}
	for name, sides := range map[string][]int{"edsr": {40, 47, 64, 90}, "plain": {10, 16, 33, 64}, "grey": {12}, "levels": {16, 22, 40}} {
		m := open(t, networks[name])
		tr := traits(t, m)
		if !tr.Local {
			t.Fatalf("%s: %s", name, tr)
		}
		for _, size := range sizes {
			p := noise(size[0], size[1], m.Bundle().Manifest.Input.Channels)
			whole := newEngine(m, tr, Bounds{Memory: 1 << 40, Runs: 1}, 1)
			want := enlargedBy(t, whole, p)
			for _, side := range sides {
				e := newEngine(m, tr, boundFor(tr, side), 1)
				cut, err := tr.plan(p.Height, p.Width, e.bounds)
				must(t, err)
				if got := enlargedBy(t, e, p); got.Width != want.Width || got.Height != want.Height || !bytes.Equal(got.Pix, want.Pix) {
					t.Errorf("%s: %d tiles of %d pixels differ from the whole picture of %d x %d", name, cut.tiles(), side, size[0], size[1])
				}
				if size[0] > 64 && size[1] > 60 && side < 60 && cut.tiles() < 4 {
					t.Errorf("%s: %d tiles of %d pixels for %d x %d", name, cut.tiles(), side, size[0], size[1])
				}
			}
		}
	}
}

// TestTilesGiveTheFloatsOfTheWholePicture looks at the graph's own numbers, not
// at 8 bits of them, and shows that one pixel less of overlap would not do.
func TestTilesGiveTheFloatsOfTheWholePicture(t *testing.T) {
	for name, side := range map[string]int{"edsr": 41, "plain": 13, "levels": 24} {
		m := open(t, networks[name])
		tr := traits(t, m)
		p := noise(96, 58, m.Bundle().Manifest.Input.Channels)
		if differ(t, m, tr, p, side) != 0 {
			t.Errorf("%s: tiles of %d differ by %v", name, side, differ(t, m, tr, p, side))
		}
		less := tr
		less.Overlap -= tr.Align
		if differ(t, m, less, p, side) == 0 {
			t.Errorf("%s: an overlap of %d pixels would do", name, less.Overlap)
		}
	}
}

// differ is the greatest difference between the floats of tiles and of the
// whole picture.
func differ(t *testing.T, m *model.Model, tr Traits, p imaging.Pixels, side int) float64 {
	t.Helper()
	run := func(p imaging.Pixels) []float32 {
		r, err := m.Raw(t.Context(), p)
		must(t, err)
		defer r.Release()
		return append([]float32(nil), oip.Float32s(r.Outputs[0].Data)...)
	}
	cut, err := tr.plan(p.Height, p.Width, boundFor(tr, side))
	must(t, err)
	whole, s, worst := run(p), tr.Scale, 0.0
	for _, row := range cut.rows {
		for _, column := range cut.columns {
			tile := run(crop(p, row, column))
			for c := range p.Channels {
				for y := row.Keep * s; y < row.KeepTo*s; y++ {
					for x := column.Keep * s; x < column.KeepTo*s; x++ {
						got := tile[(c*(row.To-row.From)*s+y-row.From*s)*(column.To-column.From)*s+x-column.From*s]
						worst = max(worst, math.Abs(float64(got-whole[(c*p.Height*s+y)*p.Width*s+x])))
					}
				}
			}
		}
	}
	return worst
}

// TestAGraphOfFixedSizeGivesWhatAFreeOneGives has two networks with the same
// weights, one of which takes 24 x 24 pixels and nothing else.
func TestAGraphOfFixedSizeGivesWhatAFreeOneGives(t *testing.T) {
	fixed, free := open(t, networks["fixed"]), open(t, networks["plain"])
	tr := traits(t, fixed)
	if tr.Height != 24 || tr.Width != 24 || !tr.Local {
		t.Fatalf("%s", tr)
	}
	bounds := Bounds{Memory: 1 << 30, Runs: 2}
	for _, size := range [][2]int{{24, 24}, {25, 24}, {101, 67}, {48, 30}} {
		p := noise(size[0], size[1], 1)
		got := enlargedBy(t, newEngine(fixed, tr, bounds, 1), p)
		if want := enlargedBy(t, newEngine(free, traits(t, free), bounds, 1), p); !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%v differs", size)
		}
	}
	// Smaller ones are continued: what the last pixels are repeated for is cut off.
	for _, size := range [][2]int{{23, 40}, {7, 5}, {1, 1}} {
		p := noise(size[0], size[1], 1)
		got := enlargedBy(t, newEngine(fixed, tr, bounds, 1), p)
		all := enlargedBy(t, newEngine(free, traits(t, free), bounds, 1), continued(p, max(size[1], 24), max(size[0], 24)))
		for y := range got.Height {
			if row := got.Pix[y*got.Width:][:got.Width]; !bytes.Equal(row, all.Pix[y*all.Width:][:got.Width]) {
				t.Fatalf("%v: row %d differs", size, y)
			}
		}
	}
}

func TestAGraphThatSeesTheWholePictureIsRunWholeOrRefused(t *testing.T) {
	m := open(t, networks["attention"])
	tr := traits(t, m)
	if tr.Local || !strings.Contains(tr.String(), "GlobalAveragePool") || tr.PerPixel == 0 {
		t.Fatalf("%s", tr)
	}
	e := newEngine(m, tr, Bounds{Memory: tr.bytes(60, 60), Runs: 2}, 1)
	p := noise(60, 60, 3)
	r, err := m.Raw(t.Context(), p)
	must(t, err)
	defer r.Release()
	got, want := enlargedBy(t, e, p), oip.Float32s(r.Outputs[0].Data)
	for i, v := range want[:120] {
		if got.Pix[3*i] != level(float64(v)*255) {
			t.Fatalf("pixel %d is %d, the graph gave %v", i, got.Pix[3*i], v)
		}
	}
	_, err = e.enlarge(t.Context(), noise(61, 60, 3), func(band) error { return nil })
	var large *imaging.Error
	if err = refusal(err); !errors.As(err, &large) || large.Code != imaging.TooLarge {
		t.Fatalf("%v", err)
	}
	if p := service.ProblemOf(err); p.Kind != service.TooLarge {
		t.Errorf("told as %s", p.Kind)
	}
	for _, word := range []string{"GlobalAveragePool", "61 x 60", "send a smaller picture", "3600 pixels"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// stopping ends ctx at its third tile.
type stopping struct {
	Runner
	stop func()
	runs int
}

func (s *stopping) Raw(ctx context.Context, p imaging.Pixels) (*model.Result, error) {
	if s.runs++; s.runs == 3 {
		s.stop()
	}
	return s.Runner.Raw(ctx, p)
}

// broken is a runner with a fault of the program.
type broken struct{}

func (broken) Raw(context.Context, imaging.Pixels) (*model.Result, error) { panic("out of range") }

func TestATileThatBreaksIsItsRequestsFailure(t *testing.T) {
	tr := Traits{Local: true, Scale: 2, Align: 1, PerPixel: 100}
	_, err := newEngine(broken{}, tr, Bounds{Memory: 1 << 20, Runs: 2}, 1).enlarge(t.Context(), noise(90, 90, 1), func(band) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "out of range") || service.ProblemOf(err).Kind != service.Internal {
		t.Errorf("%v", err)
	}
}

func TestTheTermEndsAPicture(t *testing.T) {
	m := open(t, networks["edsr"])
	_, err := New(Bounds{Memory: 32 << 20, Runs: 1, Term: 200 * time.Millisecond}).Enlarge(t.Context(), m, picture(t, 3000, 2000))
	if !errors.Is(err, context.DeadlineExceeded) || service.ProblemOf(err).Kind != service.Late {
		t.Errorf("%v", err)
	}
}

func TestTheEndOfARequestEndsItBetweenTiles(t *testing.T) {
	m := open(t, networks["plain"])
	tr := traits(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	s := &stopping{Runner: m, stop: cancel}
	_, err := newEngine(s, tr, boundFor(tr, 16), 1).enlarge(ctx, noise(200, 200, 1), func(band) error { return nil })
	if !errors.Is(err, context.Canceled) || s.runs > 4 {
		t.Errorf("%v after %d runs", err, s.runs)
	}
}
