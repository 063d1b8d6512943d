package imaging

import (
	"fmt"
	"image/color"
)

// YCbCr separates a colour picture into its luma and its two colour
// differences, each a picture of one channel of the same size: full-range ITU-R
// BT.601 as in JPEG (JFIF 1.02), levels 0 to 255, no colour at 128. It is what
// Pillow's convert("YCbCr") gives, within 1 level.
func (p Pixels) YCbCr() (y, cb, cr Pixels, err error) {
	if err := p.check(3); err != nil {
		return y, cb, cr, err
	}
	n := p.Width * p.Height
	planes := make([]uint8, 3*n)
	plane := func(i int) Pixels {
		return Pixels{Width: p.Width, Height: p.Height, Channels: 1, Pix: planes[i*n : (i+1)*n : (i+1)*n]}
	}
	y, cb, cr = plane(0), plane(1), plane(2)
	for i := range n {
		at := p.Pix[3*i : 3*i+3 : 3*i+3]
		y.Pix[i], cb.Pix[i], cr.Pix[i] = color.RGBToYCbCr(at[0], at[1], at[2])
	}
	return y, cb, cr, nil
}

// JoinYCbCr makes a colour picture of the three planes that YCbCr gives.
func JoinYCbCr(y, cb, cr Pixels) (Pixels, error) {
	for _, plane := range []Pixels{y, cb, cr} {
		if err := plane.check(1); err != nil {
			return Pixels{}, err
		}
		if plane.Width != y.Width || plane.Height != y.Height {
			return Pixels{}, fmt.Errorf("a plane of %d x %d does not lie over one of %d x %d", plane.Width, plane.Height, y.Width, y.Height)
		}
	}
	out := Pixels{Width: y.Width, Height: y.Height, Channels: 3, Pix: make([]uint8, 3*len(y.Pix))}
	for i, luma := range y.Pix {
		at := out.Pix[3*i : 3*i+3 : 3*i+3]
		at[0], at[1], at[2] = color.YCbCrToRGB(luma, cb.Pix[i], cr.Pix[i])
	}
	return out, nil
}
