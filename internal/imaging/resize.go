package imaging

import (
	"fmt"
	"image"
	"image/color"

	"golang.org/x/image/draw"
)

// Resize brings img to the size and channels of s, stretched, in 8 bits.
func Resize(img image.Image, s Spec) (Pixels, error) {
	scaler, err := scalerOf(s.Filter)
	if err != nil {
		return Pixels{}, err
	}
	if s.Channels == 1 {
		img = Grey(img)
	}
	if b := img.Bounds(); b.Dx() == s.Width && b.Dy() == s.Height {
		return pixelsOf(img, s.Channels)
	}
	// 16 bits a channel in between: x/image truncates when it stores 8.
	scaled := image.NewRGBA64(image.Rect(0, 0, s.Width, s.Height))
	scaler.Scale(scaled, scaled.Bounds(), img, img.Bounds(), draw.Src, nil)
	return pixelsOf(scaled, s.Channels)
}

func scalerOf(filter string) (draw.Scaler, error) {
	switch filter {
	case "bilinear":
		return draw.BiLinear, nil
	case "catmullrom":
		return draw.CatmullRom, nil
	case "nearest":
		return draw.NearestNeighbor, nil
	}
	return nil, fmt.Errorf("filter %q: want one of %q", filter, Filters)
}

// Grey converts to 8-bit grey: luma of ITU-R BT.601 (0.299 R + 0.587 G +
// 0.114 B), over black where the picture is transparent. A colour file that
// holds grey (R = G = B, opaque) keeps its levels exactly. It is the only grey
// conversion there is.
func Grey(img image.Image) *image.Gray {
	if grey, ok := img.(*image.Gray); ok {
		return grey
	}
	b := img.Bounds()
	grey := image.NewGray(image.Rect(0, 0, b.Dx(), b.Dy()))
	for y := range b.Dy() {
		row := grey.Pix[y*grey.Stride : y*grey.Stride+b.Dx()]
		greyRow(row, img, b.Min.X, b.Min.Y+y)
	}
	return grey
}

// greyRow has short ways for the types that radiographs come in. They give what
// the last one gives, except that a colour JPEG's own luma is taken as it is
// instead of going to RGB and back.
func greyRow(row []uint8, img image.Image, x0, y int) {
	switch img := img.(type) {
	case *image.YCbCr:
		at := img.YOffset(x0, y)
		copy(row, img.Y[at:at+len(row)])
	case *image.Gray16:
		for i := range row {
			row[i] = img.Pix[img.PixOffset(x0+i, y)]
		}
	case *image.NRGBA:
		for i := range row {
			p := img.Pix[img.PixOffset(x0+i, y):]
			row[i] = luma(color.NRGBA{R: p[0], G: p[1], B: p[2], A: p[3]}.RGBA())
		}
	case *image.RGBA:
		for i := range row {
			p := img.Pix[img.PixOffset(x0+i, y):]
			row[i] = luma(color.RGBA{R: p[0], G: p[1], B: p[2], A: p[3]}.RGBA())
		}
	default:
		for i := range row {
			row[i] = luma(img.At(x0+i, y).RGBA())
		}
	}
}

// luma takes alpha-premultiplied 16-bit channels and gives 8 bits, as Go's
// color.GrayModel does.
func luma(r, g, b, _ uint32) uint8 {
	return uint8((19595*r + 38470*g + 7471*b + 1<<15) >> 24)
}
