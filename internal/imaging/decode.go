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

// Limits bound what is decoded. Both are checked before a pixel is decoded.
type Limits struct {
	Bytes  int64 // of the file
	Pixels int64 // width times height
}

// DefaultLimits let every radiograph through: 32 MiB, 50 million pixels.
var DefaultLimits = Limits{Bytes: 32 << 20, Pixels: 50_000_000}

// Code says for machines why an image was refused.
type Code string

// The reasons for which an image is refused.
const (
	Empty       Code = "empty"       // no bytes
	TooLarge    Code = "too-large"   // more bytes or pixels than the limits allow
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

// Decode decodes a PNG or JPEG within the limits. Bad bytes give an *Error.
func Decode(data []byte, l Limits) (image.Image, Format, error) {
	if len(data) == 0 {
		return nil, "", refuse(Empty, nil, "the image is empty: no bytes")
	}
	if int64(len(data)) > l.Bytes {
		return nil, "", refuse(TooLarge, nil, "the image file has %d bytes, at most %d are taken", len(data), l.Bytes)
	}
	format, err := Sniff(data)
	if err != nil {
		return nil, "", err
	}
	if err := checkSize(data, format, l); err != nil {
		return nil, format, err
	}
	var img image.Image
	switch format {
	case PNG:
		img, err = png.Decode(bytes.NewReader(data))
	case JPEG:
		img, err = jpeg.Decode(bytes.NewReader(data))
	}
	if err != nil {
		return nil, format, decodeError(data, format, err)
	}
	return img, format, nil
}

var (
	pngMagic  = []byte("\x89PNG\r\n\x1a\n")
	jpegMagic = []byte("\xff\xd8\xff")
)

// Sniff names the format from the file's first bytes; a name or a content type
// is never believed.
func Sniff(data []byte) (Format, error) {
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

func checkSize(data []byte, format Format, l Limits) error {
	var config image.Config
	var err error
	switch format {
	case PNG:
		config, err = png.DecodeConfig(bytes.NewReader(data))
	case JPEG:
		config, err = jpeg.DecodeConfig(bytes.NewReader(data))
	}
	if err != nil {
		return decodeError(data, format, err)
	}
	w, h := int64(config.Width), int64(config.Height)
	if w < 1 || h < 1 {
		return refuse(Damaged, nil, "the %s image says that it has %d x %d pixels", format, w, h)
	}
	if w > l.Pixels/h {
		return refuse(TooLarge, nil, "the image has %d x %d pixels, at most %d pixels are decoded: scale it down first", w, h, l.Pixels)
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
	const overhead = 12 // of a PNG chunk: length, type, checksum
	rest := data[len(pngMagic):]
	for len(rest) >= overhead {
		if string(rest[4:8]) == "IEND" {
			return true
		}
		length := uint64(binary.BigEndian.Uint32(rest))
		if length > uint64(len(rest)-overhead) {
			return false
		}
		rest = rest[overhead+length:]
	}
	return false
}
