//go:build turbojpeg

package turbojpeg

import (
	"image"
	"slices"
	"testing"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// FuzzGreyJPEG gives any bytes to libjpeg-turbo, by way of imaging: the process
// lives on, the picture has the size that the header says, and it is the same
// one each time, also by a handle that has seen no other.
//
//	go test -tags turbojpeg -run '^$' -fuzz FuzzGreyJPEG -fuzztime 10m -fuzzminimizetime 10x ./serve/turbojpeg
func FuzzGreyJPEG(f *testing.F) {
	for _, data := range encoded(f) {
		if len(data) < 2000 {
			f.Add(data)
		}
	}
	d := imaging.Decoder{
		Limits:   imaging.Limits{Bytes: 64 << 10, Pixels: 1 << 16, Aspect: 100, Memory: 2 << 20},
		GreyJPEG: decodeGrey,
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, _, err := d.Decode(data)
		second, _, errAgain := d.Decode(data)
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("%v, then %v", err, errAgain)
		}
		a, grey := first.(*image.Gray)
		if !grey {
			return
		}
		if !slices.Equal(a.Pix, second.(*image.Gray).Pix) {
			t.Fatal("decoded twice, the pixels differ")
		}
		asApart(t, "fuzzed", data)
	})
}
