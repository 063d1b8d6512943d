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

// radiographFiles are one large radiograph as JPEG and as PNG.
func radiographFiles(b *testing.B) map[string][]byte {
	img := radiograph()
	var jpg, portable bytes.Buffer
	if err := jpeg.Encode(&jpg, img, &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	if err := png.Encode(&portable, img); err != nil {
		b.Fatal(err)
	}
	return map[string][]byte{"jpeg-1024": jpg.Bytes(), "png-1024": portable.Bytes()}
}

// BenchmarkPreprocess is from the bytes of a large radiograph to the pixels of
// a model of 224 x 224, by one core.
func BenchmarkPreprocess(b *testing.B) {
	spec := Spec{Width: 224, Height: 224, Channels: 1, Filter: "bilinear", Decoder: "go"}
	for name, data := range radiographFiles(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Preprocess(data, spec, DefaultLimits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecode is the first half of BenchmarkPreprocess.
func BenchmarkDecode(b *testing.B) {
	for name, data := range radiographFiles(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Decode(data, DefaultLimits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkResize is the second half, by each filter, for a colour picture, and
// for a small one.
func BenchmarkResize(b *testing.B) {
	grey := radiograph()
	colour := image.NewYCbCr(grey.Rect, image.YCbCrSubsampleRatio420)
	copy(colour.Y, grey.Pix)
	for _, filter := range Filters {
		spec := Spec{Width: 224, Height: 224, Channels: 1, Filter: filter, Decoder: "go"}
		b.Run("grey-1024-"+filter, func(b *testing.B) { resizes(b, grey, spec) })
		spec.Channels = 3
		b.Run("grey-1024-in-colour-"+filter, func(b *testing.B) { resizes(b, grey, spec) })
		b.Run("colour-1024-"+filter, func(b *testing.B) { resizes(b, colour, spec) })
	}
	small := grey.SubImage(image.Rect(0, 0, 96, 96))
	b.Run("grey-96-to-64-bilinear", func(b *testing.B) {
		resizes(b, small, Spec{Width: 64, Height: 64, Channels: 1, Filter: "bilinear", Decoder: "go"})
	})
}

func resizes(b *testing.B, img image.Image, spec Spec) {
	b.ReportAllocs()
	dst := make([]uint8, spec.Size())
	for b.Loop() {
		if err := ResizeInto(dst, img, spec); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms")
	if spec.Channels == 1 && spec.Filter == "bilinear" && spec.Width == 224 {
		b.ReportMetric(2, "ms-bound")
	}
}
