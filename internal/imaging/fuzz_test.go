package imaging

import (
	"errors"
	"image"
	"slices"
	"testing"
)

// fuzzLimits are small enough to see within a fuzzing run whether they hold.
var fuzzLimits = Limits{Bytes: 64 << 10, Pixels: 1 << 18, Aspect: 100, Memory: 2 << 20}

// FuzzDecode takes any bytes for an image: no panic, an *Error or a picture
// within the limits, the same one each time, which can be resized. What a
// decoder's pools hold makes its coverage vary, so that minimising never ends:
//
//	go test -run '^$' -fuzz FuzzDecode -fuzztime 10m -fuzzminimizetime 10x ./internal/imaging
func FuzzDecode(f *testing.F) {
	for _, data := range files(f) {
		if int64(len(data)) < fuzzLimits.Bytes {
			f.Add(data)
		}
	}
	f.Add(announcedPNG(40000, 40000, 8, 0, 0, nil))
	f.Add(announcedPNG(300, 300, 16, 6, 1, make([]byte, 4000)))
	f.Add(announcedJPEG(f, 600, 400, true))
	f.Add(announcedJPEG(f, 60000, 500, false))
	f.Add(repeatedScan(f, 70))
	f.Fuzz(func(t *testing.T, data []byte) {
		var img image.Image
		var err error
		used := allocated(func() { img, _, err = Decode(data, fuzzLimits) })
		if bound := uint64(fuzzLimits.Memory) + 2*uint64(fuzzLimits.Bytes) + 1<<20; used > bound {
			t.Fatalf("%d bytes were allocated, at most %d are to be", used, bound)
		}
		again, _, errAgain := Decode(data, fuzzLimits)
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || refused.Code == "" || refused.Error() == "" || img != nil {
				t.Fatalf("%v and error %T %v", img, err, err)
			}
			if errAgain == nil || errAgain.Error() != err.Error() {
				t.Fatalf("%v, then %v", err, errAgain)
			}
			return
		}
		b := img.Bounds()
		w, h := int64(b.Dx()), int64(b.Dy())
		if w*h > fuzzLimits.Pixels || max(w, h) > fuzzLimits.Aspect*min(w, h) || int64(len(data)) > fuzzLimits.Bytes {
			t.Fatalf("%d bytes gave %d x %d pixels", len(data), w, h)
		}
		spec := Spec{Width: 7, Height: 5, Channels: 3, Filter: "catmullrom", Decoder: "go"}
		first, err := Resize(img, spec)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Resize(again, spec)
		if err != nil || !slices.Equal(first.Pix, second.Pix) {
			t.Fatalf("decoded twice, the pixels differ (%v)", err)
		}
		spec.Channels = 1
		if _, err := Resize(img, spec); err != nil {
			t.Fatal(err)
		}
	})
}
