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

// pixelsOf copies a picture that has the right size.
func pixelsOf(img image.Image, channels int) (Pixels, error) {
	b := img.Bounds()
	p := Pixels{b.Dx(), b.Dy(), channels, make([]uint8, b.Dx()*b.Dy()*channels)}
	switch channels {
	case 1:
		fillGrey(p, img)
	case 3:
		fillColour(p, img)
	default:
		return Pixels{}, fmt.Errorf("channels %d: want 1 (grey) or 3 (colour)", channels)
	}
	return p, nil
}

func fillGrey(p Pixels, img image.Image) {
	b := img.Bounds()
	if grey, ok := img.(*image.Gray); ok {
		for y := range p.Height {
			at := grey.PixOffset(b.Min.X, b.Min.Y+y)
			copy(p.Pix[y*p.Width:(y+1)*p.Width], grey.Pix[at:])
		}
		return
	}
	for y := range p.Height {
		for x := range p.Width {
			r, _, _, _ := img.At(b.Min.X+x, b.Min.Y+y).RGBA() // r = g = b
			p.Pix[y*p.Width+x] = eight(r)
		}
	}
}

func fillColour(p Pixels, img image.Image) {
	b := img.Bounds()
	at := 0
	for y := range p.Height {
		for x := range p.Width {
			r, g, bl, _ := img.At(b.Min.X+x, b.Min.Y+y).RGBA()
			p.Pix[at], p.Pix[at+1], p.Pix[at+2] = eight(r), eight(g), eight(bl)
			at += 3
		}
	}
}

// eight rounds a 16-bit channel to the nearest of 256 levels.
func eight(v uint32) uint8 { return uint8((v + 128) / 257) }

// PNG encodes the pixels without loss.
func (p Pixels) PNG() ([]byte, error) {
	if len(p.Pix) != p.Width*p.Height*p.Channels {
		return nil, fmt.Errorf("%d bytes are not a picture of %d x %d x %d", len(p.Pix), p.Width, p.Height, p.Channels)
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
		return pixelsOf(img, 1)
	case color.RGBAModel, color.NRGBAModel:
		return pixelsOf(img, 3)
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
