package imaging

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
)

// Pixels is a picture in 8 bits: row major, channels interleaved, so the shape
// is [Height, Width, Channels].
type Pixels struct {
	Width, Height, Channels int
	Pix                     []uint8
}

// check says what keeps p from being a picture of so many channels.
func (p Pixels) check(channels int) error {
	if p.Channels != channels {
		return fmt.Errorf("the picture has %d channels: want %d", p.Channels, channels)
	}
	if p.Width < 1 || p.Height < 1 || len(p.Pix) != p.Width*p.Height*p.Channels {
		return fmt.Errorf("%d bytes are not a picture of %d x %d x %d", len(p.Pix), p.Width, p.Height, p.Channels)
	}
	return nil
}

// PNG encodes the pixels without loss.
func (p Pixels) PNG() ([]byte, error) {
	if err := p.check(p.Channels); err != nil {
		return nil, err
	}
	bounds := image.Rect(0, 0, p.Width, p.Height)
	var img image.Image
	switch p.Channels {
	case 1:
		img = &image.Gray{Pix: p.Pix, Stride: p.Width, Rect: bounds}
	case 3:
		colour := image.NewNRGBA(bounds)
		for i := range p.Width * p.Height {
			copy(colour.Pix[4*i:4*i+3], p.Pix[3*i:3*i+3])
			colour.Pix[4*i+3] = 255
		}
		img = colour
	default:
		return nil, fmt.Errorf("channels %d: want 1 (grey) or 3 (colour)", p.Channels)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("encode PNG: %w", err)
	}
	return out.Bytes(), nil
}

// FromPNG reads what PNG wrote: a grey file gives one channel, a colour file
// three. Any other PNG is refused.
func FromPNG(data []byte) (Pixels, error) {
	img, format, err := Decode(data, DefaultLimits)
	if err != nil {
		return Pixels{}, err
	}
	if format != PNG {
		return Pixels{}, refuse(Unsupported, nil, "a preprocessed picture is a PNG, not a %s", format)
	}
	switch img.ColorModel() {
	case color.GrayModel:
		return PixelsOf(img, 1)
	case color.RGBAModel, color.NRGBAModel:
		return PixelsOf(img, 3)
	}
	return Pixels{}, refuse(Unsupported, nil, "a preprocessed picture has 8 bits in 1 or 3 channels: this PNG was not written by penstock dataset")
}

// Brightness is the mean level, from 0 (black) to 1 (white), NaN without
// pixels. Its sum is of integers, so it does not depend on the order.
func (p Pixels) Brightness() float64 {
	if len(p.Pix) == 0 {
		return math.NaN()
	}
	var sum uint64
	for _, v := range p.Pix {
		sum += uint64(v)
	}
	return float64(sum) / float64(len(p.Pix)) / 255
}
