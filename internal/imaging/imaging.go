// Package imaging owns the way from the bytes of an image file to the 8-bit
// pixels that a model sees: limits, decoding, orientation, grey, resizing. It is
// the one implementation that data set, predict and server share, so that a
// model meets in production exactly what it was trained on.
//
// Resizing is Pillow's method, bit by bit: separable convolution with the
// filter's support widened by the scale (antialiased when shrinking), first
// across, then down, 8 bits in between. The aspect ratio is not kept: the
// picture is stretched to the wanted size. A picture that has the size already
// is never resampled. Colour planes, PSNR and SSIM serve super-resolution.
//
// Decoded are PNG of all kinds and JPEG, baseline and progressive, grey, colour,
// CMYK and YCCK (as Adobe writes them, inverted); turned upright by EXIF, and
// transparent pixels laid over black.
//
// Refused: other formats, lossless, arithmetic-coded and 12-bit JPEG, CMYK
// without Adobe's mark, and whatever exceeds the limits or cannot hold the
// pixels that it announces, before a pixel of it is decoded.
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
const revision = 2

// Size is the bytes of a picture as s wants it.
func (s Spec) Size() int { return s.Width * s.Height * s.Channels }

// Pipeline is a short stable name of all that turns bytes into pixels, such as
// go-64x64x1-bilinear-v2. Pixels made under one name are the same everywhere.
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
