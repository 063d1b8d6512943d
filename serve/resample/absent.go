//go:build !turbojpeg

package resample

import "github.com/penstock-ml/penstock/internal/imaging"

// Available tells whether C's passes are built in.
func Available() bool { return false }

func passes([]uint8, imaging.Plane, *imaging.Taps, *imaging.Taps) error { return ErrAbsent }
