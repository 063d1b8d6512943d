package imaging

import (
	"fmt"
	"image"
	"sync"
)

// Resize brings img to the size and channels of s, stretched, in 8 bits.
func Resize(img image.Image, s Spec) (Pixels, error) {
	if err := s.Validate(); err != nil {
		return Pixels{}, fmt.Errorf("image spec: %w", err)
	}
	p := Pixels{s.Width, s.Height, s.Channels, make([]uint8, s.Size())}
	return p, ResizeInto(p.Pix, img, s)
}

// ResizeInto is Resize into a buffer of s.Size() bytes that the caller has. It
// allocates nothing that grows with the picture.
func ResizeInto(dst []uint8, img image.Image, s Spec) error {
	return Decoder{}.ResizeInto(dst, img, s)
}

// ResizeInto is the function of that name with this decoder's passes.
func (d Decoder) ResizeInto(dst []uint8, img image.Image, s Spec) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("image spec: %w", err)
	}
	return d.render(dst, img, s.Width, s.Height, s.Channels, s.Filter)
}

// Resize brings the picture to another size, stretched. The filter is one of
// Filters.
func (p Pixels) Resize(width, height int, filter string) (Pixels, error) {
	if err := p.check(p.Channels); err != nil {
		return Pixels{}, err
	}
	if width < 1 || height < 1 {
		return Pixels{}, fmt.Errorf("a picture cannot become one of %d x %d pixels", width, height)
	}
	out := Pixels{width, height, p.Channels, make([]uint8, width*height*p.Channels)}
	return out, Decoder{}.resample(out.Pix, p.rows(), width, height, filter)
}

// PixelsOf copies a picture in 8 bits and 1 channel (its luma) or 3, in its own
// size.
func PixelsOf(img image.Image, channels int) (Pixels, error) {
	b := img.Bounds()
	p := Pixels{b.Dx(), b.Dy(), channels, make([]uint8, b.Dx()*b.Dy()*max(0, channels))}
	return p, Decoder{}.render(p.Pix, img, p.Width, p.Height, channels, nearest)
}

// render resamples a decoded picture. One without colour is resampled once for
// all three channels: they would come out the same.
func (d Decoder) render(dst []uint8, img image.Image, width, height, channels int, filter string) error {
	n := width * height
	if channels != 3 || len(dst) != 3*n || !grey(img) {
		return d.resample(dst, rowsOf(img, channels), width, height, filter)
	}
	// In the last third of dst, from where it is spread over the whole: what
	// is written never overtakes what is read.
	levels := dst[2*n:]
	if err := d.resample(levels, rowsOf(img, 1), width, height, filter); err != nil {
		return err
	}
	for i, v := range levels {
		p := dst[3*i : 3*i+3 : 3*i+3]
		p[0], p[1], p[2] = v, v, v
	}
	return nil
}

// resample resizes in two passes, first across, then down, with the result of
// the first in 8 bits, as Pillow does; bit by bit the same where the filter's
// weights are. Of the first pass only the rows that the second needs at a time
// are kept.
func (d Decoder) resample(dst []uint8, src rows, width, height int, filter string) error {
	if src.channels != 1 && src.channels != 3 {
		return fmt.Errorf("channels %d: want 1 (grey) or 3 (colour)", src.channels)
	}
	if src.w < 1 || src.h < 1 || width < 1 || height < 1 {
		return fmt.Errorf("a picture of %d x %d pixels cannot become one of %d x %d", src.w, src.h, width, height)
	}
	if want := width * height * src.channels; len(dst) != want {
		return fmt.Errorf("the buffer has %d bytes: want %d for %d x %d x %d", len(dst), want, width, height, src.channels)
	}
	across, err := tapsFor(filter, src.w, width)
	if err != nil {
		return err
	}
	down, err := tapsFor(filter, src.h, height)
	if err != nil {
		return err
	}
	if d.Passes != nil && src.plane.Pix != nil && across.Most+down.Most > 2 { // of 1 each, pixels are but copied
		return d.Passes(dst, src.plane, across, down)
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.prepare(src, across, down)
	n := width * src.channels
	for y := range height {
		first, weights := down.of(y)
		s.require(first, first+len(weights))
		s.column(dst[y*n:(y+1)*n], first, weights)
	}
	return nil
}

// scratch is what one resize works with. All of it grows with the sides of a
// picture, not with its area, unless the picture is shrunk to a few rows.
type scratch struct {
	src    rows
	across *Taps
	copied bool // across changes nothing

	a, b   []uint8  // two rows of the source
	packed []uint64 // both of them, see pack
	ring   []uint8  // rows of the first pass; row y stands at y modulo depth
	n      int      // bytes of a row in it
	depth  int
	made   int // rows before this one have been made, as far as they are needed
	sums   []int32
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) prepare(src rows, across, down *Taps) {
	s.src, s.across, s.copied = src, across, across.identity(src.w)
	s.n = len(across.Start) * src.channels
	s.depth = down.Most + 1 // rows are made by two
	s.made = 0
	s.a, s.b = sized(s.a, src.w*src.channels), sized(s.b, src.w*src.channels)
	s.packed = sized(s.packed, src.w*src.channels)
	s.ring = sized(s.ring, s.n*s.depth)
	s.sums = sized(s.sums, s.n)
}

// release gives the scratch back, without a hold on the picture.
func (s *scratch) release() {
	s.src, s.across = rows{}, nil
	scratches.Put(s)
}

// sized gives a slice of n with whatever was in it.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

func (s *scratch) row(y int) []uint8 {
	at := y % s.depth * s.n
	return s.ring[at : at+s.n]
}

// require makes the rows from first up to end that are not made yet.
func (s *scratch) require(first, end int) {
	for s.made = max(s.made, first); s.made < end; {
		y := s.made
		if s.copied {
			copy(s.row(y), s.src.read(s.a, y))
			s.made++
			continue
		}
		two := y+1 < s.src.h
		a, b := s.src.read(s.a, y), []uint8(nil)
		toA, toB := s.row(y), s.row(y)
		if b = a; two {
			b, toB = s.src.read(s.b, y+1), s.row(y+1)
		}
		pack(s.packed, a, b)
		if s.src.channels == 1 {
			across1(toA, toB, s.packed, s.across)
		} else {
			across3(toA, toB, s.packed, s.across)
		}
		s.made += 2
	}
}
