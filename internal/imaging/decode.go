package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
)

// Format names an image file format.
type Format string

// The formats that can be decoded.
const (
	PNG  Format = "png"
	JPEG Format = "jpeg"
)

// Limits bound what is decoded. All are checked by what the file's header says,
// before a pixel is decoded.
type Limits struct {
	Bytes  int64 // of the file
	Pixels int64 // width times height
	Aspect int64 // the longer side over the shorter
	Memory int64 // bytes that decoding may take; a progressive JPEG takes five times its pixels
}

// DefaultLimits let every radiograph through: 32 MiB, 50 million pixels, sides
// of 100 to 1, 512 MiB of memory.
var DefaultLimits = Limits{Bytes: 32 << 20, Pixels: 50_000_000, Aspect: 100, Memory: 512 << 20}

// A scan of a progressive JPEG may take a hundred bytes and goes over the whole
// picture. Encoders write 10 or so. A small picture may have maxScans, one of as
// many pixels as the limit allows largeScans: a second or two of work.
const maxScans, largeScans = 64, 16

// Code says for machines why an image was refused.
type Code string

// The reasons for which an image is refused.
const (
	Empty       Code = "empty"       // no bytes
	TooLarge    Code = "too-large"   // more of something than the limits allow
	Unsupported Code = "unsupported" // not a PNG or JPEG, or a variant that cannot be decoded
	Truncated   Code = "truncated"   // the file ends before the picture does
	Damaged     Code = "damaged"     // the file contradicts itself
)

// Error is a refused image: the fault of the bytes, not of the program.
type Error struct {
	Code Code
	Text string
	Err  error // of the decoder; may be nil
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Text + ": " + e.Err.Error()
	}
	return e.Text
}

func (e *Error) Unwrap() error { return e.Err }

func refuse(code Code, err error, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...), Err: err}
}

// Decoder decodes images and resizes them. The zero value of GreyJPEG means the
// standard library's decoder, which is the one that bundles name go.
type Decoder struct {
	Limits Limits
	// GreyJPEG, where given, decodes JPEG files of one component instead. It must
	// stay within 1 level of the standard library's. What it refuses is left to
	// the standard library, whose word on bad bytes is the last.
	GreyJPEG func(data []byte) (*image.Gray, error)
	// Passes, where given, resizes one channel instead, across and then down, 8
	// bits in between. It must give what this package gives, bit by bit. dst has
	// a byte for each pixel of the result.
	Passes func(dst []uint8, src Plane, across, down *Taps) error
}

// Decode decodes a PNG or JPEG within the limits, upright by its EXIF
// orientation. Bad bytes give an *Error.
func Decode(data []byte, l Limits) (image.Image, Format, error) {
	return Decoder{Limits: l}.Decode(data)
}

// Decode is the function of that name with this decoder.
func (d Decoder) Decode(data []byte) (image.Image, Format, error) {
	if len(data) == 0 {
		return nil, "", refuse(Empty, nil, "the image is empty: no bytes")
	}
	if int64(len(data)) > d.Limits.Bytes {
		return nil, "", refuse(TooLarge, nil, "the image file has %d bytes, at most %d are taken", len(data), d.Limits.Bytes)
	}
	format, err := sniff(data)
	if err != nil {
		return nil, "", err
	}
	head, err := examine(data, format, d.Limits)
	if err != nil {
		return nil, format, err
	}
	var img image.Image
	switch {
	case format == PNG:
		img, err = png.Decode(bytes.NewReader(data))
	case d.GreyJPEG != nil && head.components == 1 && head.refined:
		img, err = d.greyJPEG(data, head)
	default:
		img, err = jpeg.Decode(bytes.NewReader(data))
	}
	if err != nil {
		return nil, format, decodeError(data, format, err)
	}
	return upright(img, head.orientation), format, nil
}

func (d Decoder) greyJPEG(data []byte, head header) (image.Image, error) {
	img, err := d.GreyJPEG(data)
	if err != nil {
		return jpeg.Decode(bytes.NewReader(data))
	}
	if b := img.Bounds(); int64(b.Dx()) != head.width || int64(b.Dy()) != head.height {
		return nil, fmt.Errorf("the decoder gave %d x %d pixels, the header says %d x %d", b.Dx(), b.Dy(), head.width, head.height)
	}
	return img, nil
}

var (
	pngMagic  = []byte("\x89PNG\r\n\x1a\n")
	jpegMagic = []byte("\xff\xd8\xff")
)

// sniff names the format from the file's first bytes; a name or a content type
// is never believed.
func sniff(data []byte) (Format, error) {
	switch {
	case bytes.HasPrefix(data, pngMagic):
		return PNG, nil
	case bytes.HasPrefix(data, jpegMagic):
		return JPEG, nil
	case bytes.HasPrefix(pngMagic, data), bytes.HasPrefix(jpegMagic, data):
		return "", refuse(Truncated, nil, "the image is truncated: it ends after %d bytes", len(data))
	}
	return "", refuse(Unsupported, nil, "not an image that can be read: send a PNG or a JPEG")
}

// examine reads the header and holds it to the limits.
func examine(data []byte, format Format, l Limits) (header, error) {
	var config image.Config
	var err error
	switch format {
	case PNG:
		config, err = png.DecodeConfig(bytes.NewReader(data))
	case JPEG:
		config, err = jpeg.DecodeConfig(bytes.NewReader(data))
	}
	if err != nil {
		return header{}, decodeError(data, format, err)
	}
	w, h := int64(config.Width), int64(config.Height)
	if w < 1 || h < 1 {
		return header{}, refuse(Damaged, nil, "the %s image says that it has %d x %d pixels", format, w, h)
	}
	if w > l.Pixels/h {
		return header{}, refuse(TooLarge, nil, "the image has %d x %d pixels, at most %d pixels are decoded: scale it down first", w, h, l.Pixels)
	}
	if max(w, h) > l.Aspect*min(w, h) {
		return header{}, refuse(TooLarge, nil, "the image has %d x %d pixels: sides of more than %d to 1 are not taken, crop it first", w, h, l.Aspect)
	}
	head := readHeader(data, format, config.Width, config.Height)
	return head, head.affordable(format, l)
}

// affordable refuses what would cost more than such a file is worth: memory for
// pixels that cannot be in it, or work without end.
func (h header) affordable(format Format, l Limits) error {
	scans := min(maxScans, largeScans*l.Pixels/(h.width*h.height))
	if !h.progressive { // each component is in one scan
		scans = int64(h.components)
	}
	switch {
	case h.memory > l.Memory:
		return refuse(TooLarge, nil, "decoding the image of %d x %d pixels takes %d MiB, at most %d MiB are given: scale it down first, or save it in 8 bits without interlacing or progression",
			h.width, h.height, h.memory>>20, l.Memory>>20)
	case h.compressed < h.least:
		return refuse(Truncated, nil, "the %s image is truncated: %d bytes cannot hold the %d x %d pixels that it says it has", format, h.compressed, h.width, h.height)
	case format == JPEG && int64(h.scans) > scans:
		return refuse(TooLarge, nil, "the jpeg image goes over its %d x %d pixels in %d scans, at most %d are decoded: save it anew", h.width, h.height, h.scans, scans)
	}
	return nil
}

// decodeError tells a file that ends too early from one that is broken, and
// both from one that is sound but cannot be read here.
func decodeError(data []byte, format Format, err error) *Error {
	var pngUnsupported png.UnsupportedError
	var jpegUnsupported jpeg.UnsupportedError
	switch {
	case errors.As(err, &pngUnsupported), errors.As(err, &jpegUnsupported):
		return refuse(Unsupported, err, "this kind of %s cannot be read", format)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), !ends(data, format):
		return refuse(Truncated, err, "the %s image is truncated: the file ends before the picture does", format)
	}
	return refuse(Damaged, err, "the %s image is damaged", format)
}

// ends tells whether the file reaches its own end mark; the decoders do not
// always say that they ran out of bytes.
func ends(data []byte, format Format) bool {
	if format == JPEG {
		return bytes.HasSuffix(bytes.TrimRight(data, "\x00"), []byte("\xff\xd9"))
	}
	rest := data[len(pngMagic):]
	for len(rest) >= chunkOverhead {
		if string(rest[4:8]) == "IEND" {
			return true
		}
		length := uint64(binary.BigEndian.Uint32(rest))
		if length > uint64(len(rest)-chunkOverhead) {
			return false
		}
		rest = rest[chunkOverhead+length:]
	}
	return false
}
