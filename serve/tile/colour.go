package tile

import (
	"image"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
)

// colours are a picture as a model's convention has it: what goes through the
// model, and what is enlarged beside it.
type colours struct {
	seen   imaging.Pixels   // by the model
	beside []imaging.Pixels // Cb and Cr; none where the model sees all
	scale  int
}

// colours separates a picture by the bundle's convention. Alpha is dropped over
// black, as everywhere.
func coloursOf(img image.Image, convention string, scale int) (c colours, err error) {
	channels := 3
	if convention == bundle.ColourGrey {
		channels = 1
	}
	c.scale = scale
	c.seen, err = imaging.PixelsOf(img, channels)
	if err != nil || convention != bundle.ColourYCbCr {
		return c, err
	}
	y, cb, cr, err := c.seen.YCbCr()
	c.seen, c.beside = y, []imaging.Pixels{cb, cr}
	return c, err
}

// channels of the answer.
func (c colours) channels() int { return c.seen.Channels + len(c.beside) }

// margin is how many rows around a band the filter catmullrom looks at when it
// enlarges, and one more.
const margin = 3

// join puts the colours back over a band of the answer.
func (c colours) join(b band) (imaging.Pixels, error) {
	if len(c.beside) == 0 {
		return b.pixels, nil
	}
	var planes [2]imaging.Pixels
	for i, p := range c.beside {
		from, to := max(b.Keep-margin, 0), min(b.KeepTo+margin, p.Height)
		part := imaging.Pixels{Width: p.Width, Height: to - from, Channels: 1, Pix: p.Pix[from*p.Width : to*p.Width]}
		large, err := part.Resize(p.Width*c.scale, part.Height*c.scale, "catmullrom")
		if err != nil {
			return imaging.Pixels{}, err
		}
		first := (b.Keep - from) * c.scale * large.Width
		planes[i] = imaging.Pixels{Width: large.Width, Height: b.pixels.Height, Channels: 1, Pix: large.Pix[first : first+large.Width*b.pixels.Height]}
	}
	return imaging.JoinYCbCr(b.pixels, planes[0], planes[1])
}
