// Package imaging owns the way from the bytes of an image file to the 8-bit
// pixels that a model sees: limits, decoding, grey conversion, resizing. It is
// the one implementation that data set, predict and server share, so that a
// model meets in production exactly what it was trained on.
//
// Resizing is separable convolution with the filter's support widened by the
// scale (antialiased when shrinking), by golang.org/x/image/draw, in 16 bits,
// rounded to the nearest of 256 levels. The aspect ratio is not kept: the
// picture is stretched to the wanted size. A picture that has the size already
// is never resampled.
//
// Refused: formats other than PNG and JPEG, and whatever exceeds the limits,
// before a pixel of it is decoded. Transparent pixels are laid over black.
// EXIF orientation is not looked at.
package imaging

import (
	"fmt"
	"slices"
)

// Spec says what pixels a model wants. Width and Height are in pixels.
type Spec struct {
	Width    int    `yaml:"width" json:"width"`
	Height   int    `yaml:"height" json:"height"`
	Channels int    `yaml:"channels" json:"channels"` // 1 (grey) or 3 (red, green, blue)
	Filter   string `yaml:"filter" json:"filter"`     // see Filters
	Decoder  string `yaml:"decoder" json:"decoder"`   // see Decoders
}

// Filters are the names of the resize filters: bilinear and catmullrom are
// antialiased, nearest is not.
var Filters = []string{"bilinear", "catmullrom", "nearest"}

// Decoders are the names of the image decoders. JPEG decoders differ by many
// levels, so a bundle names the one it was trained with.
var Decoders = []string{"go"}

// maxSide bounds what a model may ask for, in pixels.
const maxSide = 8192

// Validate says which field is wrong and what it may be.
func (s Spec) Validate() error {
	if s.Width < 1 || s.Width > maxSide {
		return fmt.Errorf("width %d: want 1 to %d pixels", s.Width, maxSide)
	}
	if s.Height < 1 || s.Height > maxSide {
		return fmt.Errorf("height %d: want 1 to %d pixels", s.Height, maxSide)
	}
	if s.Channels != 1 && s.Channels != 3 {
		return fmt.Errorf("channels %d: want 1 (grey) or 3 (colour)", s.Channels)
	}
	if !slices.Contains(Filters, s.Filter) {
		return fmt.Errorf("filter %q: want one of %q", s.Filter, Filters)
	}
	if !slices.Contains(Decoders, s.Decoder) {
		return fmt.Errorf("decoder %q: want one of %q", s.Decoder, Decoders)
	}
	return nil
}

// revision changes whenever the same bytes would give other pixels.
const revision = 1

// Pipeline is a short stable name of all that turns bytes into pixels, such as
// go-64x64x1-bilinear-v1. Pixels made under one name are the same everywhere.
func (s Spec) Pipeline() string {
	return fmt.Sprintf("%s-%dx%dx%d-%s-v%d", s.Decoder, s.Width, s.Height, s.Channels, s.Filter, revision)
}

// Preprocess turns the bytes of an image file into the pixels that spec wants.
// Bad bytes give an *Error.
func Preprocess(data []byte, s Spec, l Limits) (Pixels, error) {
	if err := s.Validate(); err != nil {
		return Pixels{}, fmt.Errorf("image spec: %w", err)
	}
	img, _, err := Decode(data, l)
	if err != nil {
		return Pixels{}, err
	}
	return Resize(img, s)
}
