// Package turbojpeg decodes grey JPEG files by libjpeg-turbo, several times as
// fast as the standard library. It is built in by the tag turbojpeg:
//
//	go build -tags turbojpeg ./cmd/penstock-serve   # Debian: libturbojpeg0-dev
//
// It substitutes for the decoder that bundles name go, so it may do only what
// is shown to be within 1 level of it: files of one component, with the
// accurate inverse cosine transform. The package's tests show that on
// radiographs, photographs and noise, baseline and progressive, of many
// qualities.
//
// That holds for sound files. Of a damaged one that both take for whole, such as
// one with flipped bits, they make different nonsense; libjpeg takes some that
// the standard library refuses.
//
// Refused: colour, where the two decoders differ by a hundred levels (chroma is
// enlarged in another way), and whatever libjpeg warns of. imaging.Decoder
// leaves what is refused to the standard library.
package turbojpeg

import (
	"errors"
	"image"
)

// ErrAbsent is that this program was built without libjpeg-turbo.
var ErrAbsent = errors.New("this program was built without libjpeg-turbo: build it with -tags turbojpeg (Debian: libturbojpeg0-dev), or take the decoder go")

// Open gives the decoder for imaging.Decoder's GreyJPEG, or ErrAbsent.
func Open() (func(data []byte) (*image.Gray, error), error) {
	if !Available() {
		return nil, ErrAbsent
	}
	return decodeGrey, nil
}
