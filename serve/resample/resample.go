// Package resample makes the two passes of imaging's resizing in C, of which the
// compiler makes vector instructions, as Go's does not: for one channel, several
// times as fast and bit by bit the same. Like libjpeg-turbo, with which it is
// switched on, it is built in by the tag turbojpeg.
//
// It refuses taps that reach beyond the picture. Those of imaging do not.
package resample

import (
	"errors"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// ErrAbsent is that this program was built without C's passes.
var ErrAbsent = errors.New("this program was built without the resizing in C: build it with -tags turbojpeg, or take the decoder go")

// Open gives the passes for imaging.Decoder, or ErrAbsent.
func Open() (func(dst []uint8, src imaging.Plane, across, down *imaging.Taps) error, error) {
	if !Available() {
		return nil, ErrAbsent
	}
	return passes, nil
}
