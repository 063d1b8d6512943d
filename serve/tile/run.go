package tile

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
)

// Runner runs the pixels of a tile: its first output is float32 [1, channels,
// height*scale, width*scale].
type Runner interface {
	Raw(ctx context.Context, p imaging.Pixels) (*model.Result, error)
}

// engine runs the tiles of a model.
type engine struct {
	runner Runner
	traits Traits
	bounds Bounds
	memory *semaphore.Weighted // of Bounds.Memory, over all pictures
	levels float64             // what white is
}

func newEngine(r Runner, t Traits, b Bounds, levels float64) *engine {
	return &engine{r, t, b, semaphore.NewWeighted(b.Memory), levels}
}

// spent is what runs took, by wall clock.
type spent struct{ queue, run time.Duration }

// band is rows of the answer, in 8 bits, from input row Keep on.
type band struct {
	span
	pixels imaging.Pixels
}

// enlarge runs the pixels tile by tile and gives the answer from above to below
// in bands, whose pixels are used again for the next one.
func (e *engine) enlarge(ctx context.Context, p imaging.Pixels, give func(band) error) (s spent, err error) {
	cut, err := e.traits.plan(p.Height, p.Width, e.bounds)
	if err != nil {
		return s, err
	}
	scale := e.traits.Scale
	whole := continued(p, cut.height, cut.width)
	var pix []uint8
	for _, row := range cut.rows {
		row.KeepTo = min(row.KeepTo, p.Height)
		if row.Keep >= row.KeepTo {
			break // what follows was continued
		}
		b := band{row, imaging.Pixels{Width: p.Width * scale, Height: (row.KeepTo - row.Keep) * scale, Channels: p.Channels}}
		if n := b.pixels.Width * b.pixels.Height * p.Channels; cap(pix) < n {
			pix = make([]uint8, n)
		}
		b.pixels.Pix = pix[:b.pixels.Width*b.pixels.Height*p.Channels]
		took, err := e.band(ctx, whole, cut, b)
		s.queue, s.run = s.queue+took.queue, s.run+took.run
		if err != nil {
			return s, err
		}
		if err := give(b); err != nil {
			return s, err
		}
	}
	return s, nil
}

// band runs a row of tiles, as many at a time as may run.
func (e *engine) band(whole context.Context, p imaging.Pixels, cut plan, b band) (spent, error) {
	began := time.Now()
	group, ctx := errgroup.WithContext(whole)
	group.SetLimit(max(e.bounds.Runs, 1))
	each := make([]spent, len(cut.columns))
	for i, column := range cut.columns {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			defer func() { // in a goroutine of its own it would end the process
				if v := recover(); v != nil {
					err = fmt.Errorf("a tile broke: %v\n%s", v, debug.Stack())
				}
			}()
			each[i], err = e.tile(ctx, p, cut.tile, b, column)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return spent{}, err
	}
	if whole.Err() != nil {
		return spent{}, context.Cause(whole)
	}
	var sum spent
	for _, s := range each {
		sum.queue, sum.run = sum.queue+s.queue, sum.run+s.run
	}
	return sum.of(time.Since(began)), nil
}

// of shares what passed out in the proportion of what tiles side by side spent.
func (s spent) of(passed time.Duration) spent {
	part := float64(s.run) / max(float64(s.run+s.queue), 1)
	run := time.Duration(part * float64(passed))
	return spent{passed - run, run}
}

// tile runs one and lays what is kept of it into the band.
func (e *engine) tile(ctx context.Context, p imaging.Pixels, bytes int64, b band, column span) (s spent, err error) {
	began := time.Now()
	if err := e.memory.Acquire(ctx, bytes); err != nil {
		return s, context.Cause(ctx)
	}
	defer e.memory.Release(bytes)
	s.queue = time.Since(began)
	r, err := e.runner.Raw(ctx, crop(p, b.span, column))
	if err != nil {
		return s, err
	}
	defer r.Release()
	s.queue, s.run = s.queue+r.Phases.Queue, r.Phases.Run
	out, scale := r.Outputs[0], int64(e.traits.Scale)
	height, width := int64(b.To-b.From)*scale, int64(column.To-column.From)*scale
	if want := []int64{1, int64(p.Channels), height, width}; fmt.Sprint(out.Shape) != fmt.Sprint(want) {
		return s, &model.RunError{Err: fmt.Errorf("its output %q has the shape %v for a tile of %d x %d pixels, want %v", out.Name, out.Shape, column.To-column.From, b.To-b.From, want)}
	}
	e.lay(b, column, oip.Float32s(out.Data), int(height), int(width))
	return s, nil
}

// lay turns planes of a tile into 8 bits and puts what is kept of them into the
// band.
func (e *engine) lay(b band, column span, planes []float32, height, width int) {
	scale, channels := e.traits.Scale, b.pixels.Channels
	from, to := column.Keep*scale, min(column.KeepTo*scale, b.pixels.Width)
	left, above := (column.Keep-column.From)*scale, (b.Keep-b.From)*scale
	factor := 255 / e.levels
	for c := range channels {
		plane := planes[c*height*width:]
		for y := range b.pixels.Height {
			row := plane[(above+y)*width+left:]
			line := b.pixels.Pix[y*b.pixels.Width*channels:]
			for x := from; x < to; x++ {
				line[x*channels+c] = level(float64(row[x-from]) * factor)
			}
		}
	}
}

// level rounds to the nearest of 256, halves up, and clips.
func level(v float64) uint8 {
	switch {
	case v <= 0:
		return 0
	case v >= 255:
		return 255
	}
	return uint8(v + 0.5)
}

// crop copies a tile out.
func crop(p imaging.Pixels, rows, columns span) imaging.Pixels {
	if rows.From == 0 && rows.To == p.Height && columns.From == 0 && columns.To == p.Width {
		return p
	}
	out := imaging.Pixels{Width: columns.To - columns.From, Height: rows.To - rows.From, Channels: p.Channels}
	n := out.Width * p.Channels
	out.Pix = make([]uint8, 0, n*out.Height)
	for y := rows.From; y < rows.To; y++ {
		at := (y*p.Width + columns.From) * p.Channels
		out.Pix = append(out.Pix, p.Pix[at:at+n]...)
	}
	return out
}

// continued repeats the last column and row as often as it takes.
func continued(p imaging.Pixels, height, width int) imaging.Pixels {
	if p.Height == height && p.Width == width {
		return p
	}
	out := imaging.Pixels{Width: width, Height: height, Channels: p.Channels, Pix: make([]uint8, 0, width*height*p.Channels)}
	n := p.Width * p.Channels
	for y := range height {
		row := p.Pix[min(y, p.Height-1)*n:][:n]
		out.Pix = append(out.Pix, row...)
		for range width - p.Width {
			out.Pix = append(out.Pix, row[n-p.Channels:]...)
		}
	}
	return out
}
