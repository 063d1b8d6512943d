//go:build turbojpeg

package resample

/*
#cgo CFLAGS: -O3
#cgo noescape penstock_passes
#cgo nocallback penstock_passes
#include "passes.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// Available tells whether C's passes are built in.
func Available() bool { return true }

// room is what the passes work in. It grows with the sides of a picture, not
// with its area, unless the picture is shrunk to a few rows.
type room struct{ columns, rows []uint8 }

var rooms = sync.Pool{New: func() any { return new(room) }}

// passes is the one place where C gets slices, so it holds them to each other.
func passes(dst []uint8, src imaging.Plane, across, down *imaging.Taps) error {
	if src.Width < 1 || src.Height < 1 || src.Stride < src.Width || len(src.Pix) < (src.Height-1)*src.Stride+src.Width {
		return fmt.Errorf("resize: %d bytes are no plane of %d x %d pixels in rows of %d", len(src.Pix), src.Width, src.Height, src.Stride)
	}
	if err := fits(across, src.Width); err != nil {
		return fmt.Errorf("resize across: %w", err)
	}
	if err := fits(down, src.Height); err != nil {
		return fmt.Errorf("resize down: %w", err)
	}
	width, height := len(across.Start), len(down.Start)
	if len(dst) != width*height {
		return fmt.Errorf("resize: the buffer has %d bytes: want %d for %d x %d", len(dst), width*height, width, height)
	}
	r := rooms.Get().(*room)
	defer rooms.Put(r)
	r.columns = sized(r.columns, (across.Most+C.LANES)*C.LANES)
	r.rows = sized(r.rows, (down.Most+C.LANES)*((width+C.LANES-1)/C.LANES*C.LANES))
	C.penstock_passes(octets(dst), octets(src.Pix), C.size_t(src.Stride), C.int32_t(src.Width), C.int32_t(src.Height),
		ints(across.Start), ints(across.End), ints(across.Weights), C.int32_t(width), C.int32_t(across.Most),
		ints(down.Start), ints(down.End), ints(down.Weights), C.int32_t(height), C.int32_t(down.Most),
		octets(r.columns), octets(r.rows))
	return nil
}

// fits refuses taps of which a pixel begins before the n pixels of the source,
// ends after them, or takes what is no longer kept.
func fits(t *imaging.Taps, n int) error {
	if len(t.Start) == 0 || len(t.End) != len(t.Start) {
		return fmt.Errorf("taps of %d pixels have %d ends", len(t.Start), len(t.End))
	}
	first, reach := 0, 0
	for i, end := range t.End {
		start, count := int(t.Start[i]), int(end)-first
		if count < 1 || count > t.Most || start < 0 || start+count > n || start+t.Most < reach {
			return fmt.Errorf("pixel %d takes %d from %d on, of %d: those before it reach to %d, none takes more than %d", i, count, start, n, reach, t.Most)
		}
		first, reach = int(end), max(reach, start+count)
	}
	if first > len(t.Weights) {
		return fmt.Errorf("there are %d weights, the pixels take %d", len(t.Weights), first)
	}
	return nil
}

// sized gives a slice of n bytes with whatever was in it.
func sized(s []uint8, n int) []uint8 {
	if cap(s) < n {
		return make([]uint8, n)
	}
	return s[:n]
}

func octets(s []uint8) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(&s[0])) }

func ints(s []int32) *C.int32_t { return (*C.int32_t)(unsafe.Pointer(&s[0])) }
