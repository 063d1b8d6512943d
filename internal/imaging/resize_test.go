package imaging

import (
	"archive/zip"
	"bytes"
	"fmt"
	"image"
	"image/color"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// golden opens what testdata/pillow.py has made with Pillow.
func golden(t *testing.T, name string) Pixels {
	t.Helper()
	archive, err := zip.OpenReader(filepath.Join("testdata", "pillow.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	file, err := archive.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := FromPNG(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestResizeGivesPillowsPixels(t *testing.T) {
	sizes := [][2]int{{16, 12}, {100, 90}, {61, 20}, {23, 47}, {7, 131}, {122, 94}, {13, 3}, {1, 1}}
	for _, picture := range []string{"grey", "colour"} {
		source, err := FromPNG(read(t, picture+".png"))
		if err != nil {
			t.Fatal(err)
		}
		for _, filter := range Filters {
			for _, size := range sizes {
				name := fmt.Sprintf("resize/%s/%s/%dx%d.png", picture, filter, size[0], size[1])
				t.Run(strings.TrimSuffix(name, ".png"), func(t *testing.T) {
					got, err := source.Resize(size[0], size[1], filter)
					if err != nil {
						t.Fatal(err)
					}
					if worst := difference(t, got, golden(t, name)); worst != 0 {
						t.Errorf("%d levels apart", worst)
					}
				})
			}
		}
	}
}

// typesOf is one picture in all types that decoders give.
func typesOf(bounds image.Rectangle) map[string]image.Image {
	random := rand.New(rand.NewPCG(1, 2))
	nrgba := image.NewNRGBA(bounds)
	for i := range nrgba.Pix {
		nrgba.Pix[i] = uint8(random.Uint32())
	}
	grey, grey16, rgba := image.NewGray(bounds), image.NewGray16(bounds), image.NewRGBA(bounds)
	cmyk, wide, widePremultiplied := image.NewCMYK(bounds), image.NewNRGBA64(bounds), image.NewRGBA64(bounds)
	ycc := map[image.YCbCrSubsampleRatio]*image.YCbCr{}
	planes := [][]uint8{grey16.Pix, wide.Pix, cmyk.Pix}
	for ratio := image.YCbCrSubsampleRatio444; ratio <= image.YCbCrSubsampleRatio410; ratio++ {
		img := image.NewYCbCr(bounds, ratio)
		ycc[ratio], planes = img, append(planes, img.Y, img.Cb, img.Cr)
	}
	for _, plane := range planes {
		for i := range plane {
			plane[i] = uint8(random.Uint32())
		}
	}
	paletted := image.NewPaletted(bounds, color.Palette{color.NRGBA{10, 200, 30, 255}, color.NRGBA{200, 100, 0, 99}, color.RGBA{9, 9, 9, 255}})
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := nrgba.At(x, y)
			grey.Set(x, y, c)
			rgba.Set(x, y, c)
			widePremultiplied.Set(x, y, wide.At(x, y))
			paletted.SetColorIndex(x, y, uint8(random.IntN(3)))
		}
	}
	types := map[string]image.Image{
		"grey": grey, "grey16": grey16, "rgba": rgba, "nrgba": nrgba, "cmyk": cmyk, "nrgba64": wide,
		"rgba64": widePremultiplied, "paletted": paletted,
	}
	for ratio, img := range ycc {
		types[ratio.String()] = img
	}
	return types
}

func TestEveryImageTypeGivesWhatTheGeneralWayGives(t *testing.T) {
	for name, img := range typesOf(image.Rect(3, 5, 24, 18)) {
		for _, channels := range []int{1, 3} {
			got, err := PixelsOf(img, channels)
			if err != nil {
				t.Fatal(name, err)
			}
			// an embedded interface hides the concrete type
			want, err := PixelsOf(struct{ image.Image }{img}, channels)
			if err != nil {
				t.Fatal(name, err)
			}
			if ycc, ok := img.(*image.YCbCr); ok && channels == 1 {
				want.Pix = ycc.Y // a colour JPEG's own luma
			}
			// Alpha in 8 or in 16 bits is rounded at different places.
			if worst := difference(t, got, want); worst > 1 {
				t.Errorf("%s in %d channels: %d levels from the general way", name, channels, worst)
			}
		}
	}
}

func TestSubImagesAreReadAtTheirPlace(t *testing.T) {
	for name, img := range typesOf(image.Rect(0, 0, 20, 16)) {
		place := image.Rect(6, 4, 16, 11)
		sub := img.(interface {
			SubImage(image.Rectangle) image.Image
		}).SubImage(place)
		for _, channels := range []int{1, 3} {
			whole, err := PixelsOf(img, channels)
			if err != nil {
				t.Fatal(name, err)
			}
			got, err := PixelsOf(sub, channels)
			if err != nil {
				t.Fatal(name, err)
			}
			for y := range got.Height {
				at := ((y+place.Min.Y)*whole.Width + place.Min.X) * channels
				if want := whole.Pix[at : at+got.Width*channels]; !bytes.Equal(got.Pix[y*len(want):(y+1)*len(want)], want) {
					t.Fatalf("%s in %d channels, row %d is not that of the whole picture", name, channels, y)
				}
			}
		}
	}
}

func TestResizeOfADecodedPictureIsThatOfItsPixels(t *testing.T) {
	for name, img := range typesOf(image.Rect(0, 0, 33, 29)) {
		for _, filter := range Filters {
			for _, channels := range []int{1, 3} {
				pixels, err := PixelsOf(img, channels)
				if err != nil {
					t.Fatal(err)
				}
				want, err := pixels.Resize(17, 40, filter)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Resize(img, Spec{Width: 17, Height: 40, Channels: channels, Filter: filter, Decoder: "go"})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.Pix, want.Pix) {
					t.Errorf("%s, %s, %d channels: differs", name, filter, channels)
				}
			}
		}
	}
}

func TestFlatPicturesStayFlat(t *testing.T) {
	for _, level := range []uint8{0, 1, 128, 254, 255} {
		p := Pixels{Width: 19, Height: 23, Channels: 3, Pix: bytes.Repeat([]byte{level}, 19*23*3)}
		for _, filter := range Filters {
			for _, size := range [][2]int{{5, 7}, {64, 48}, {19, 1}, {200, 23}} {
				got, err := p.Resize(size[0], size[1], filter)
				if err != nil {
					t.Fatal(err)
				}
				if slices.Min(got.Pix) != level || slices.Max(got.Pix) != level {
					t.Errorf("%s to %v: level %d became %d to %d", filter, size, level, slices.Min(got.Pix), slices.Max(got.Pix))
				}
			}
		}
	}
}

func TestExtremeContrastNeitherWrapsNorLeaksIntoTheNeighbouringRow(t *testing.T) {
	// Rows of black and white in turn and noise of the two: the largest sums and
	// overshoots that there are. The general way works row by row in float64.
	random := rand.New(rand.NewPCG(3, 4))
	p := Pixels{Width: 40, Height: 31, Channels: 1, Pix: make([]uint8, 40*31)}
	for i := range p.Pix {
		p.Pix[i] = uint8(255 * random.IntN(2))
		if i/40%4 == 0 {
			p.Pix[i] = uint8(255 * (i / 160 % 2))
		}
	}
	for filter, k := range kernels {
		for _, to := range []int{7, 39, 40, 41, 133} {
			got, err := p.Resize(to, 31, filter)
			if err != nil {
				t.Fatal(err)
			}
			across := makeTaps(k, 40, to)
			for y := range 31 {
				for x := range to {
					start, weights := across.of(x)
					sum := 0.0
					for i, w := range weights {
						sum += float64(p.Pix[y*40+start+i]) * float64(w) / (1 << precision)
					}
					if to == 40 {
						sum = float64(p.Pix[y*40+x])
					}
					want := min(255, max(0, sum))
					if d := float64(got.Pix[y*to+x]) - want; d > 0.5001 || d < -0.5001 {
						t.Fatalf("%s to %d, at %d, %d: %d, want %.2f", filter, to, x, y, got.Pix[y*to+x], want)
					}
				}
			}
		}
	}
}

func TestResizeIntoRefusesABufferOfAnotherSize(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	err := ResizeInto(make([]uint8, 191), img, small)
	if err == nil || !strings.Contains(err.Error(), "want 192") {
		t.Errorf("got %v", err)
	}
}

func TestResizeRefusesWhatItDoesNotKnow(t *testing.T) {
	p := Pixels{Width: 2, Height: 2, Channels: 1, Pix: make([]uint8, 4)}
	if _, err := p.Resize(3, 3, "mitchell"); err == nil || !strings.Contains(err.Error(), "mitchell") {
		t.Errorf("unknown filter: got %v", err)
	}
	if _, err := p.Resize(0, 3, "box"); err == nil || !strings.Contains(err.Error(), "0 x 3") {
		t.Errorf("no width: got %v", err)
	}
	p.Pix = p.Pix[:3]
	if _, err := p.Resize(3, 3, "box"); err == nil || !strings.Contains(err.Error(), "3 bytes") {
		t.Errorf("too few bytes: got %v", err)
	}
}

func TestResizesAtTheSameTimeDoNotMix(t *testing.T) {
	img := typesOf(image.Rect(0, 0, 90, 70))["rgba"]
	spec := func(i int) Spec {
		return Spec{Width: 10 + i%cachedAxes*2, Height: 20 + i%7, Channels: 1 + 2*(i%2), Filter: Filters[i%len(Filters)], Decoder: "go"}
	}
	const n = 3 * cachedAxes // more sizes than the cache keeps
	want := make([]Pixels, n)
	for i := range want {
		var err error
		if want[i], err = Resize(img, spec(i)); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range want {
				got, err := Resize(img, spec(i))
				if err != nil || !slices.Equal(got.Pix, want[i].Pix) {
					t.Errorf("%+v: other pixels than alone (%v)", spec(i), err)
				}
			}
		})
	}
	all.Wait()
	if len(cache.taps) > cachedAxes {
		t.Errorf("the cache holds %d axes", len(cache.taps))
	}
}

func TestResizeIntoAllocatesNothingThatGrowsWithThePicture(t *testing.T) {
	for name, img := range typesOf(image.Rect(0, 0, 400, 300)) {
		for _, channels := range []int{1, 3} {
			spec := Spec{Width: 64, Height: 64, Channels: channels, Filter: "bilinear", Decoder: "go"}
			dst := make([]uint8, spec.Size())
			resize := func() {
				if err := ResizeInto(dst, img, spec); err != nil {
					t.Fatal(err)
				}
			}
			resize() // the weights and the scratch
			const times = 20
			used := allocated(func() {
				for range times {
					resize()
				}
			}) / times
			// A row of the widest kind and tables of a palette, not 120,000 pixels. A
			// collection in between costs the scratch, once.
			if used > 8<<10 {
				t.Errorf("%s in %d channels: %d bytes", name, channels, used)
			}
		}
	}
}
