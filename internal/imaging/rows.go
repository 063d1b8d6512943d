package imaging

import (
	"image"
	"image/color"
)

// rows gives a picture row by row in 8 bits of 1 or 3 channels, whatever type
// it was decoded to, so that no second copy of the picture is made.
type rows struct {
	w, h, channels int
	// read gives row y, counted from 0: w*channels bytes, in dst or in the
	// picture itself; valid until dst is used again.
	read  func(dst []uint8, y int) []uint8
	plane Plane // that read gives the rows of; without Pix where there is none
}

// Plane is one channel of a picture in 8 bits: row y begins at Pix[y*Stride].
type Plane struct {
	Width, Height, Stride int
	Pix                   []uint8
}

// row gives row y of the plane, for rows.
func (p Plane) row(_ []uint8, y int) []uint8 { return p.Pix[y*p.Stride:][:p.Width] }

// planeOf gives the plane of a picture that has its levels in one.
func planeOf(img image.Image, b image.Rectangle) Plane {
	p := Plane{Width: b.Dx(), Height: b.Dy()}
	switch img := img.(type) {
	case *image.Gray:
		p.Stride, p.Pix = img.Stride, img.Pix[img.PixOffset(b.Min.X, b.Min.Y):]
	case *image.YCbCr:
		p.Stride, p.Pix = img.YStride, img.Y[img.YOffset(b.Min.X, b.Min.Y):]
	}
	return p
}

// rowsOf has short ways for the types that the decoders give; they give what
// the last one gives, except that a grey model takes a colour JPEG's own luma
// instead of going to RGB and back.
func rowsOf(img image.Image, channels int) rows {
	b := img.Bounds()
	r := rows{w: b.Dx(), h: b.Dy(), channels: channels}
	if channels != 1 {
		r.read = colourRows(img, b)
	} else if r.plane = planeOf(img, b); r.plane.Pix != nil {
		r.read = r.plane.row
	} else {
		r.read = greyRows(img, b)
	}
	return r
}

// grey tells whether the picture has the same level in red, green and blue
// everywhere, by its type.
func grey(img image.Image) bool {
	switch img.(type) {
	case *image.Gray, *image.Gray16:
		return true
	}
	return false
}

// rows gives pixels as they are.
func (p Pixels) rows() rows {
	n := p.Width * p.Channels
	return rows{w: p.Width, h: p.Height, channels: p.Channels, read: func(_ []uint8, y int) []uint8 { return p.Pix[y*n : (y+1)*n] }}
}

func greyRows(img image.Image, b image.Rectangle) func(dst []uint8, y int) []uint8 {
	switch img := img.(type) {
	case *image.Gray16:
		return func(dst []uint8, y int) []uint8 {
			at := img.PixOffset(b.Min.X, b.Min.Y+y)
			for x := range dst {
				p := img.Pix[at+2*x : at+2*x+2]
				dst[x] = eight(uint32(p[0])<<8 | uint32(p[1]))
			}
			return dst
		}
	case *image.Paletted:
		var table [256]uint8
		for i, c := range img.Palette {
			table[i] = luma(over(c))
		}
		return func(dst []uint8, y int) []uint8 {
			at := img.PixOffset(b.Min.X, b.Min.Y+y)
			for x, i := range img.Pix[at : at+b.Dx()] {
				dst[x] = table[i]
			}
			return dst
		}
	}
	colours, scratch := colourRows(img, b), make([]uint8, 3*b.Dx())
	return func(dst []uint8, y int) []uint8 {
		row := colours(scratch, y)
		for x := range dst {
			p := row[3*x : 3*x+3 : 3*x+3]
			dst[x] = luma(p[0], p[1], p[2])
		}
		return dst
	}
}

func colourRows(img image.Image, b image.Rectangle) func(dst []uint8, y int) []uint8 {
	switch img := img.(type) {
	case *image.Gray:
		return func(dst []uint8, y int) []uint8 {
			at := img.PixOffset(b.Min.X, b.Min.Y+y)
			for x, v := range img.Pix[at : at+b.Dx()] {
				dst[3*x], dst[3*x+1], dst[3*x+2] = v, v, v
			}
			return dst
		}
	case *image.YCbCr:
		return func(dst []uint8, y int) []uint8 {
			ycbcrRow(dst, img, b.Min.X, b.Min.Y+y)
			return dst
		}
	case *image.NRGBA:
		return func(dst []uint8, y int) []uint8 {
			at := img.PixOffset(b.Min.X, b.Min.Y+y)
			for x := range b.Dx() {
				p := img.Pix[at+4*x : at+4*x+4 : at+4*x+4]
				dst[3*x], dst[3*x+1], dst[3*x+2] = overBlack(p[0], p[3]), overBlack(p[1], p[3]), overBlack(p[2], p[3])
			}
			return dst
		}
	case *image.RGBA:
		return func(dst []uint8, y int) []uint8 {
			at := img.PixOffset(b.Min.X, b.Min.Y+y)
			for x := range b.Dx() {
				p, to := img.Pix[at+4*x:at+4*x+3:at+4*x+3], dst[3*x:3*x+3:3*x+3]
				to[0], to[1], to[2] = p[0], p[1], p[2]
			}
			return dst
		}
	case *image.Paletted:
		var table [256][3]uint8
		for i, c := range img.Palette {
			table[i][0], table[i][1], table[i][2] = over(c)
		}
		return func(dst []uint8, y int) []uint8 {
			at := img.PixOffset(b.Min.X, b.Min.Y+y)
			for x, i := range img.Pix[at : at+b.Dx()] {
				copy(dst[3*x:3*x+3], table[i][:])
			}
			return dst
		}
	}
	if img, ok := img.(image.RGBA64Image); ok { // without an allocation a pixel
		return func(dst []uint8, y int) []uint8 {
			for x := range b.Dx() {
				c := img.RGBA64At(b.Min.X+x, b.Min.Y+y)
				dst[3*x], dst[3*x+1], dst[3*x+2] = eight(uint32(c.R)), eight(uint32(c.G)), eight(uint32(c.B))
			}
			return dst
		}
	}
	return func(dst []uint8, y int) []uint8 {
		for x := range b.Dx() {
			dst[3*x], dst[3*x+1], dst[3*x+2] = over(img.At(b.Min.X+x, b.Min.Y+y))
		}
		return dst
	}
}

// ycbcrRow gives what color.YCbCrToRGB gives, without a call for each pixel.
func ycbcrRow(dst []uint8, img *image.YCbCr, x0, y int) {
	halved := 0 // how often the width of the colour planes is
	switch img.SubsampleRatio {
	case image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420:
		halved = 1
	case image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410:
		halved = 2
	}
	at := img.COffset(x0, y)
	luma, blue, red := img.Y[img.YOffset(x0, y):], img.Cb[at:], img.Cr[at:]
	first := x0 >> halved
	for x := range len(dst) / 3 {
		c := (x0+x)>>halved - first
		level, cb, cr := int32(luma[x])*0x10101, int32(blue[c])-128, int32(red[c])-128
		p := dst[3*x : 3*x+3 : 3*x+3]
		p[0] = high(level + 91881*cr)
		p[1] = high(level - 22554*cb - 46802*cr)
		p[2] = high(level + 116130*cb)
	}
}

// high is the part before the point of 16 bits, held to 0 and 255.
func high(v int32) uint8 {
	if uint32(v)&0xff000000 == 0 {
		return uint8(v >> 16)
	}
	return uint8(^(v >> 31))
}

// over lays a colour over black and rounds it to 8 bits.
func over(c color.Color) (r, g, b uint8) {
	if c, ok := c.(color.NRGBA); ok {
		return overBlack(c.R, c.A), overBlack(c.G, c.A), overBlack(c.B, c.A)
	}
	wideR, wideG, wideB, _ := c.RGBA()
	return eight(wideR), eight(wideG), eight(wideB)
}

// overBlack is v*alpha/255, rounded to the nearest level.
func overBlack(v, alpha uint8) uint8 {
	if alpha == 255 {
		return v
	}
	return uint8((uint32(v)*uint32(alpha) + 127) / 255)
}

// eight rounds a 16-bit channel to the nearest of 256 levels.
func eight(v uint32) uint8 { return uint8((v + 128) / 257) }

// luma is that of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, in the weights of
// Pillow's convert("L"). Grey (R = G = B) keeps its level.
func luma(r, g, b uint8) uint8 {
	return uint8((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}
