package imaging

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"testing"
)

// radiograph is 1024 x 1024 grey pixels with structure and noise.
func radiograph() *image.Gray {
	img := image.NewGray(image.Rect(0, 0, 1024, 1024))
	seed := uint32(1)
	for i := range img.Pix {
		seed = seed*1664525 + 1013904223
		x, y := i%1024, i/1024
		img.Pix[i] = uint8(60 + x/16 + y/32 + int(seed>>29))
	}
	return img
}

// BenchmarkPreprocess is from the bytes of a large radiograph to the pixels of
// a model of 224 x 224, by one core.
func BenchmarkPreprocess(b *testing.B) {
	img := radiograph()
	var jpg, portable bytes.Buffer
	if err := jpeg.Encode(&jpg, img, &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	if err := png.Encode(&portable, img); err != nil {
		b.Fatal(err)
	}
	spec := Spec{Width: 224, Height: 224, Channels: 1, Filter: "bilinear", Decoder: "go"}
	for name, data := range map[string][]byte{"jpeg-1024": jpg.Bytes(), "png-1024": portable.Bytes()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Preprocess(data, spec, DefaultLimits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
