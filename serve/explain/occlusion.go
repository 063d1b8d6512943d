package explain

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
)

const defaultTiles = 4

// Occlude covers the picture patch by patch with its mean colour and notes how
// much of the label's score is lost. Patches overlap by half; a cell of the map
// is half a patch, its evidence the mean over the patches that covered it.
//
// When ctx's deadline passes, the map is made of the runs so far and says so
// (Done of Total), if every part of the picture has been covered once;
// otherwise the error is an *Unfinished. Any other end of ctx, and a run that
// fails, is an error.
func Occlude(ctx context.Context, r Runner, p imaging.Pixels, label int, o Options) (Map, error) {
	began := time.Now()
	if o.Tiles == 0 {
		o.Tiles = defaultTiles
	}
	n := min(o.Tiles, p.Width/2, p.Height/2)
	if n < 1 {
		return Map{}, fmt.Errorf("occlusion by %d patches a side of a picture of %d x %d pixels: want at least one patch of 2 x 2", o.Tiles, p.Width, p.Height)
	}
	patches := order(n)
	s := sweep{runner: r, pixels: p, label: label, cells: 2 * n, colour: mean(p), sum: make([]float64, 4*n*n), covered: make([]int, 4*n*n)}
	done, total := 0, len(patches)+1
	base, err := s.score(ctx, p)
	for ; err == nil; done++ {
		if done == len(patches) {
			return s.result(total, total), nil
		}
		err = s.cover(ctx, patches[done], base)
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Map{}, fmt.Errorf("occlusion, after %d of %d runs: %w", done, total, err)
	}
	if done < n*n+1 {
		return Map{}, &Unfinished{done, total, time.Since(began)}
	}
	return s.result(done, total), nil
}

// Remembering gives a Runner that keeps what r said of each picture. A run
// tells of all labels at once, so the maps of several labels of one picture cost
// the runs of one. It is for one picture and one goroutine.
func Remembering(r Runner) Runner { return &remembering{r, map[[sha256.Size]byte][]float32{}} }

type remembering struct {
	runner Runner
	said   map[[sha256.Size]byte][]float32
}

func (r *remembering) Scores(ctx context.Context, p imaging.Pixels) ([]float32, error) {
	key := sha256.Sum256(p.Pix)
	if scores, ok := r.said[key]; ok {
		return scores, nil
	}
	scores, err := r.runner.Scores(ctx, p)
	if err == nil {
		r.said[key] = scores
	}
	return scores, err
}

// patch is the place of a patch: it covers the cells x and x+1, y and y+1.
type patch struct{ x, y int }

// order gives first the patches that cover the picture side by side, then
// those between them.
func order(n int) []patch {
	var first, between []patch
	for y := range 2*n - 1 {
		for x := range 2*n - 1 {
			if x%2 == 0 && y%2 == 0 {
				first = append(first, patch{x, y})
			} else {
				between = append(between, patch{x, y})
			}
		}
	}
	return append(first, between...)
}

// sweep is what the runs of one picture have given so far.
type sweep struct {
	runner  Runner
	pixels  imaging.Pixels
	label   int
	cells   int // along a side
	colour  []uint8
	sum     []float64 // of the score that was lost, by cell
	covered []int
}

func (s *sweep) score(ctx context.Context, p imaging.Pixels) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, context.Cause(ctx)
	}
	scores, err := s.runner.Scores(ctx, p)
	if err != nil {
		return 0, err
	}
	if s.label < 0 || s.label >= len(scores) {
		return 0, fmt.Errorf("label %d of a model that gives %d scores", s.label, len(scores))
	}
	return float64(scores[s.label]), nil
}

func (s *sweep) cover(ctx context.Context, at patch, base float64) error {
	p := s.pixels
	p.Pix = slices.Clone(p.Pix)
	for y := at.y * p.Height / s.cells; y < (at.y+2)*p.Height/s.cells; y++ {
		for x := at.x * p.Width / s.cells; x < (at.x+2)*p.Width/s.cells; x++ {
			copy(p.Pix[(y*p.Width+x)*p.Channels:], s.colour)
		}
	}
	score, err := s.score(ctx, p)
	if err != nil {
		return err
	}
	for y := at.y; y < at.y+2; y++ {
		for x := at.x; x < at.x+2; x++ {
			s.sum[y*s.cells+x] += base - score
			s.covered[y*s.cells+x]++
		}
	}
	return nil
}

func (s *sweep) result(done, total int) Map {
	m := Map{Width: s.cells, Height: s.cells, Evidence: make([]float32, len(s.sum)), Done: done, Total: total, full: fullScore}
	for i, sum := range s.sum {
		m.Evidence[i] = float32(max(0, sum/float64(s.covered[i])))
	}
	return m
}

// mean is the picture's mean colour.
func mean(p imaging.Pixels) []uint8 {
	sums := make([]int, p.Channels)
	for i, v := range p.Pix {
		sums[i%p.Channels] += int(v)
	}
	colour := make([]uint8, p.Channels)
	for c, sum := range sums {
		colour[c] = uint8((sum + p.Width*p.Height/2) / (p.Width * p.Height))
	}
	return colour
}
