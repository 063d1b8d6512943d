package imaging

import (
	"encoding/binary"
	"image"
)

var exifMagic = []byte("Exif\x00\x00")

// orientation reads tag 0x0112 of the first directory of EXIF (CIPA DC-008, a
// TIFF file). What cannot be read, or is not 1 to 8, is upright.
func orientation(tiff []byte) int {
	const upright, tag, short, entry = 1, 0x0112, 3, 12
	if len(tiff) < 8 {
		return upright
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return upright
	}
	directory := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(directory) < entry {
			return upright
		}
		if order.Uint16(directory) == tag && order.Uint16(directory[2:]) == short && order.Uint32(directory[4:]) == 1 {
			if v := int(order.Uint16(directory[8:])); v >= 1 && v <= 8 {
				return v
			}
			return upright
		}
		directory = directory[entry:]
	}
	return upright
}

// turn is how an orientation is undone: pixel x, y of the upright picture is
// that of the file's picture at x, y (y, x where the axes are swapped), counted
// from the far edge where a side is flipped.
type turn struct{ swap, flipX, flipY bool }

var turns = [9]turn{
	2: {flipX: true},
	3: {flipX: true, flipY: true},
	4: {flipY: true},
	5: {swap: true},
	6: {swap: true, flipY: true},
	7: {swap: true, flipX: true, flipY: true},
	8: {swap: true, flipX: true},
}

// upright gives the picture as it is meant to be seen. It is copied unless it
// is upright already. img is of a type that image/png and image/jpeg give.
func upright(img image.Image, orientation int) image.Image {
	if orientation == 1 {
		return img
	}
	t, b := turns[orientation], img.Bounds()
	to := image.Rect(0, 0, b.Dx(), b.Dy())
	if t.swap {
		to = image.Rect(0, 0, b.Dy(), b.Dx())
	}
	switch img := img.(type) {
	case *image.Gray:
		out := image.NewGray(to)
		t.turn(out.Pix, img.Pix, img.Stride, b, 1)
		return out
	case *image.Gray16:
		out := image.NewGray16(to)
		t.turn(out.Pix, img.Pix, img.Stride, b, 2)
		return out
	case *image.Paletted:
		out := image.NewPaletted(to, img.Palette)
		t.turn(out.Pix, img.Pix, img.Stride, b, 1)
		return out
	case *image.NRGBA:
		out := image.NewNRGBA(to)
		t.turn(out.Pix, img.Pix, img.Stride, b, 4)
		return out
	case *image.RGBA:
		out := image.NewRGBA(to)
		t.turn(out.Pix, img.Pix, img.Stride, b, 4)
		return out
	case *image.CMYK:
		out := image.NewCMYK(to)
		t.turn(out.Pix, img.Pix, img.Stride, b, 4)
		return out
	case *image.NRGBA64:
		out := image.NewNRGBA64(to)
		t.turn(out.Pix, img.Pix, img.Stride, b, 8)
		return out
	case *image.RGBA64:
		out := image.NewRGBA64(to)
		t.turn(out.Pix, img.Pix, img.Stride, b, 8)
		return out
	case *image.YCbCr:
		return t.turnYCbCr(img, to)
	}
	panic("imaging: the decoders give no such image")
}

// turn writes the upright plane to dst, without gaps between rows. src begins
// at the first pixel of bounds.
func (t turn) turn(dst, src []uint8, stride int, bounds image.Rectangle, size int) {
	w, h := bounds.Dx(), bounds.Dy()
	// Where the upright picture's first pixel is, and how far the next ones are.
	first, right, down := 0, size, stride
	if t.flipX {
		first, right = first+(w-1)*size, -size
	}
	if t.flipY {
		first, down = first+(h-1)*stride, -stride
	}
	if t.swap {
		w, h, right, down = h, w, down, right
	}
	for y := range h {
		at := first + y*down
		row := dst[y*w*size : (y+1)*w*size]
		if size == 1 {
			for x := range row {
				row[x] = src[at]
				at += right
			}
			continue
		}
		for x := range w {
			copy(row[x*size:(x+1)*size], src[at:at+size])
			at += right
		}
	}
}

// turnYCbCr gives full colour planes: halved ones would not lie over the luma
// again where a side is odd.
func (t turn) turnYCbCr(img *image.YCbCr, to image.Rectangle) image.Image {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	out := image.NewYCbCr(to, image.YCbCrSubsampleRatio444)
	t.turn(out.Y, img.Y[img.YOffset(b.Min.X, b.Min.Y):], img.YStride, b, 1)
	plane := make([]uint8, w*h)
	for _, colour := range []struct{ dst, src []uint8 }{{out.Cb, img.Cb}, {out.Cr, img.Cr}} {
		for y := range h {
			for x := range w {
				plane[y*w+x] = colour.src[img.COffset(b.Min.X+x, b.Min.Y+y)]
			}
		}
		t.turn(colour.dst, plane, w, b, 1)
	}
	return out
}
