// Package tile owns the enlarging of whole pictures by super-resolution models:
// it cuts a picture into tiles that fit into a bound of memory, runs each, puts
// them together without a seam, adds the colours and encodes a PNG of exactly
// scale x the picture.
//
// Tiles overlap by the receptive field of the graph, which serve/graph computes:
// what is kept of a tile never saw the tile's own edge, unless that is the
// picture's. So the answer is, bit by bit, that of one run of the whole picture,
// and memory is the only reason for tiles. All tiles of a picture have one
// shape.
//
// Pictures whose sides the graph cannot take (smaller than a graph of fixed size,
// no multiple of what its strides want) are continued to the right and below by
// their last pixels, and the answer is cut to size: whole and tiled runs alike.
//
// Refused: graphs that see the whole picture (global averages, attention) where
// the picture is too large to be run at once within the bound.
package tile

import (
	"fmt"
	"math"
	"time"
)

// Traits are what the tiles of a model depend on.
type Traits struct {
	Local         bool    // tiles give what the whole picture gives
	Why           string  // where they do not
	Scale         int     // output pixels for an input pixel, each way
	Overlap       int     // input pixels that a tile needs around what is kept of it
	Align         int     // tiles start at, and sides are, multiples of it
	Height, Width int     // that the graph takes; 0: any
	PerPixel      float64 // bytes that a run takes for each pixel of a tile; 0: not known
	Unknown       string  // why it is not
}

// Bounds say what enlarging may take.
type Bounds struct {
	Memory int64         // bytes of all runs of a model at a time
	Runs   int           // runs at a time
	Term   time.Duration // of a picture; 0: as long as it takes
}

const (
	// inReserve is what the runtime's allocator takes for a byte that a run
	// needs: it grows by powers of two and keeps what it has.
	inReserve = 2.5
	// longest bounds a tile's side: beyond it, the overlap costs little.
	longest = 512
	// bandBytes is what a pixel of the answer takes before it is encoded: what
	// the model gave, the colours beside it, and both together.
	bandBytes = 6
)

// span is a tile along one side of the picture, in input pixels: it is run from
// From to To, and Keep to KeepTo of it is kept.
type span struct{ From, To, Keep, KeepTo int }

// plan is how a picture is cut.
type plan struct {
	height, width int    // that is run: the picture's, or continued
	rows, columns []span // of the tiles
	tile          int64  // bytes that the run of a tile takes
}

// tiles is how many there are.
func (p plan) tiles() int { return len(p.rows) * len(p.columns) }

// tooLarge is why a picture is not enlarged.
type tooLarge struct{ text string }

func (e *tooLarge) Error() string { return e.text }

// plan cuts a picture.
func (t Traits) plan(height, width int, b Bounds) (plan, error) {
	p := plan{height: multiple(max(height, t.Height), t.Align), width: multiple(max(width, t.Width), t.Align)}
	tileHeight, tileWidth := p.height, p.width
	switch {
	case t.Height > 0 || t.Width > 0:
		if t.Height > 0 {
			tileHeight = t.Height
		}
		if t.Width > 0 {
			tileWidth = t.Width
		}
		if fits := height <= tileHeight && width <= tileWidth; !t.Local && (height != tileHeight || width != tileWidth) {
			return p, &tooLarge{fmt.Sprintf("the model takes pictures of exactly %d x %d pixels, as %s; this one has %d x %d", tileWidth, tileHeight, t.Why, width, height)}
		} else if !fits && (tileHeight < height && tileHeight <= 2*t.step() || tileWidth < width && tileWidth <= 2*t.step()) {
			return p, &tooLarge{fmt.Sprintf("the model takes %d x %d pixels at a time and sees %d beyond each: no larger picture can be put together, and this one has %d x %d", tileWidth, tileHeight, t.Overlap, width, height)}
		}
	case !t.Local:
		if need := t.bytes(p.height, p.width); t.PerPixel == 0 || need > b.Memory {
			return p, t.tooLargeAsAWhole(width, height, need, b)
		}
	default:
		side, err := t.side(b)
		if err != nil {
			return p, err
		}
		tileHeight, tileWidth = min(side, t.rows(p.width, b), p.height), min(side, p.width)
	}
	p.rows, p.columns = spans(p.height, tileHeight, t.step()), spans(p.width, tileWidth, t.step())
	// A graph of fixed size takes what it takes: it ran at load.
	p.tile = min(t.bytes(tileHeight, tileWidth), b.Memory)
	return p, nil
}

func (t Traits) tooLargeAsAWhole(width, height int, need int64, b Bounds) error {
	if t.PerPixel == 0 {
		return &tooLarge{fmt.Sprintf("the model cannot be run in tiles (%s), and what a picture takes as a whole is not known (%s)", t.Why, t.Unknown)}
	}
	return &tooLarge{fmt.Sprintf("the model cannot be run in tiles (%s), and %d x %d pixels at once take %d MB, the bound is %d MB: send a smaller picture, of up to %d pixels",
		t.Why, width, height, need>>20, b.Memory>>20, int64(float64(b.Memory)/(t.PerPixel*inReserve)))}
}

// step is the overlap, so that tiles start where strides want.
func (t Traits) step() int { return multiple(t.Overlap, t.Align) }

// side is that of square tiles, as many as may run at a time side by side;
// where those would be little more than overlap, one at a time.
func (t Traits) side(b Bounds) (int, error) {
	if t.PerPixel == 0 {
		return 0, &tooLarge{"what a tile takes is not known: " + t.Unknown}
	}
	of := func(memory int64) int {
		side := min(int(math.Sqrt(float64(memory)/(t.PerPixel*inReserve))), max(longest, 8*t.step()))
		return side / t.Align * t.Align
	}
	side := of(b.Memory / int64(max(b.Runs, 1)))
	if side < 4*t.step() {
		side = of(b.Memory)
	}
	if least := 2*t.step() + t.Align; side < least {
		return 0, &tooLarge{fmt.Sprintf("the model sees %d pixels around each: the least tile takes %d MB, the bound is %d MB", t.Overlap, t.bytes(least, least)>>20, b.Memory>>20)}
	}
	return side, nil
}

// rows is how many rows of input a tile of a wide picture may have, so that the
// rows of the answer that a row of tiles gives stay small beside the bound.
func (t Traits) rows(width int, b Bounds) int {
	perRow := int64(bandBytes * t.Scale * t.Scale * width)
	rows := int(b.Memory/4/int64(max(b.Runs, 1))/perRow)/t.Align*t.Align + 2*t.step()
	return max(rows, 2*t.step()+t.Align)
}

func (t Traits) bytes(height, width int) int64 {
	return int64(t.PerPixel * inReserve * float64(height) * float64(width))
}

// spans cuts a side of the given length into tiles of one length.
func spans(length, tile, overlap int) []span {
	if length <= tile {
		return []span{{0, length, 0, length}}
	}
	var all []span
	for from, keep := 0, 0; ; from += tile - 2*overlap {
		from = min(from, length-tile)
		s := span{from, from + tile, keep, from + tile - overlap}
		if s.To == length {
			s.KeepTo = length
			return append(all, s)
		}
		all = append(all, s)
		keep = s.KeepTo
	}
}

// multiple rounds up to one of align.
func multiple(n, align int) int { return (n + align - 1) / align * align }
