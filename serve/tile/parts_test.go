package tile

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// TestSpansCoverASideOnce looks at every length and tile of a small world: what
// is kept covers the side once, and stays away from a tile's own edges.
func TestSpansCoverASideOnce(t *testing.T) {
	for length := 1; length < 60; length++ {
		for overlap := range 6 {
			for tile := 2*overlap + 1; tile < 64; tile++ {
				next := 0
				for _, s := range spans(length, tile, overlap) {
					left, right := s.From == 0 || s.Keep-s.From >= overlap, s.To == length || s.To-s.KeepTo >= overlap
					if s.Keep != next || s.KeepTo <= s.Keep || s.From < 0 || s.To > length || s.To-s.From != min(tile, length) || !left || !right {
						t.Fatalf("%d in tiles of %d, overlap %d: %+v", length, tile, overlap, s)
					}
					next = s.KeepTo
				}
				if next != length {
					t.Fatalf("%d in tiles of %d, overlap %d: covered to %d", length, tile, overlap, next)
				}
			}
		}
	}
}

func TestPlansKeepTheBoundAndTheAlignment(t *testing.T) {
	tr := Traits{Local: true, Scale: 2, Overlap: 13, Align: 4, PerPixel: 1000}
	for _, memory := range []int64{17 << 20, 100 << 20, 4 << 30} {
		for _, size := range [][2]int{{3000, 2001}, {5, 7}, {90, 4000}, {40000, 400}} {
			b := Bounds{Memory: memory, Runs: 2}
			p, err := tr.plan(size[1], size[0], b)
			must(t, err)
			perRow := int64(bandBytes * 4 * size[0])
			if band := perRow * int64(p.rows[0].KeepTo); band > memory/8+perRow*int64(tr.step()+tr.Align) {
				t.Errorf("%d MB, %v: rows of the answer take %d KB", memory>>20, size, band>>10)
			}
			if p.tile > memory || p.tile > memory/2 && p.rows[0].To >= 8*tr.step() {
				t.Errorf("%d MB, %v: a tile takes %d MB", memory>>20, size, p.tile>>20)
			}
			for _, s := range slices.Concat(p.rows, p.columns) {
				if s.From%4 != 0 || s.To%4 != 0 {
					t.Errorf("%v: %+v", size, s)
				}
			}
		}
	}
	for what, refused := range map[string]struct {
		t     Traits
		bound int64
	}{
		"sees 300 pixels around":       {Traits{Local: true, Scale: 2, Overlap: 300, Align: 1, PerPixel: 1000}, 16 << 20},
		"is not known: MatMul":         {Traits{Local: true, Scale: 2, Align: 1, Unknown: "MatMul"}, 16 << 20},
		"(a mean), and what a picture": {Traits{Why: "a mean", Scale: 2, Align: 1, Unknown: "MatMul"}, 16 << 20},
		"exactly 64 x 64 pixels":       {Traits{Why: "it sees all", Scale: 2, Align: 1, Height: 64, Width: 64, PerPixel: 1}, 16 << 20},
		"no larger picture can be put": {Traits{Local: true, Scale: 2, Align: 1, Overlap: 40, Height: 64, Width: 64, PerPixel: 1}, 16 << 20},
	} {
		if _, err := refused.t.plan(100, 100, Bounds{Memory: refused.bound, Runs: 1}); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}

// TestThePNGIsTheOneThatTheStandardLibraryReads writes rows in bands.
func TestThePNGIsTheOneThatTheStandardLibraryReads(t *testing.T) {
	for _, channels := range []int{1, 3} {
		p := noise(300, 211, channels)
		w := newWriter(p.Width, p.Height, channels)
		for from := 0; from < p.Height; from += 50 {
			must(t, w.add(crop(p, span{From: from, To: min(from+50, p.Height)}, span{To: p.Width})))
		}
		file, err := w.end()
		must(t, err)
		got, err := imaging.FromPNG(file)
		must(t, err)
		if got.Channels != channels || !bytes.Equal(got.Pix, p.Pix) {
			t.Errorf("%d channels: other pixels", channels)
		}
		if len(file) > len(p.Pix)*101/100+100 {
			t.Errorf("%d channels: %d bytes for %d of noise", channels, len(file), len(p.Pix))
		}
	}
	data := picture(t, 640, 480)
	img, err := png.Decode(bytes.NewReader(data))
	must(t, err)
	p, err := imaging.PixelsOf(img, 3)
	must(t, err)
	w := newWriter(p.Width, p.Height, 3)
	must(t, w.add(p))
	file, err := w.end()
	must(t, err)
	if len(file) > 2*len(data) {
		t.Errorf("a smooth picture takes %d bytes, image/png makes %d of it", len(file), len(data))
	}
}

// TestColoursAreThoseOfTheWholePicture compares bands with one enlargement of Cb
// and Cr.
func TestColoursAreThoseOfTheWholePicture(t *testing.T) {
	for _, scale := range []int{2, 3, 4} {
		p := noise(41, 57, 3)
		img := image.NewNRGBA(image.Rect(0, 0, p.Width, p.Height))
		for i := range p.Width * p.Height {
			copy(img.Pix[4*i:], []uint8{p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2], 255})
		}
		c, err := coloursOf(img, bundle.ColourYCbCr, scale)
		must(t, err)
		y := noise(p.Width*scale, p.Height*scale, 1)
		var planes [2]imaging.Pixels
		for i := range planes {
			planes[i], err = c.beside[i].Resize(y.Width, y.Height, "catmullrom")
			must(t, err)
		}
		want, err := imaging.JoinYCbCr(y, planes[0], planes[1])
		must(t, err)
		var got []uint8
		for _, s := range spans(p.Height, 20, 4) {
			part := crop(y, span{From: s.Keep * scale, To: s.KeepTo * scale}, span{To: y.Width})
			rows, err := c.join(band{s, part})
			must(t, err)
			got = append(got, rows.Pix...)
		}
		if !bytes.Equal(got, want.Pix) {
			t.Errorf("scale %d: bands give other colours", scale)
		}
	}
}

// TestConventionsOfColour sends a colour picture, a grey one and one with alpha
// to models of each convention.
func TestConventionsOfColour(t *testing.T) {
	colour := bundletest.ColourPicture(40, 30, false)
	through := image.NewNRGBA(colour.Rect)
	for i := 0; i < len(through.Pix); i += 4 {
		copy(through.Pix[i:], []uint8{200, 100, 60, 128}) // over black: 100, 50, 30
	}
	for name, want := range map[string]struct {
		channels int
		alpha    color.NRGBA
	}{
		bundle.ColourRGB: {3, color.NRGBA{100, 50, 30, 255}}, bundle.ColourYCbCr: {3, color.NRGBA{100, 50, 30, 255}}, bundle.ColourGrey: {1, color.NRGBA{63, 63, 63, 255}},
	} {
		m := modeltest.Open(t, modeltest.Runtime(t), bundletest.NewSuperResolution(t, name))
		e := New(Bounds{Memory: LeastMemory, Runs: 2})
		for kind, img := range map[string]image.Image{"colour": colour, "alpha": through} {
			var file bytes.Buffer
			must(t, png.Encode(&file, img))
			answer, err := e.Enlarge(t.Context(), m, file.Bytes())
			must(t, err)
			got, err := imaging.FromPNG(answer.PNG)
			must(t, err)
			if got.Width != 80 || got.Height != 60 || got.Channels != want.channels || answer.Scale != 2 {
				t.Fatalf("%s, %s: %d x %d x %d", name, kind, got.Width, got.Height, got.Channels)
			}
			at := colour.NRGBAAt(20, 15)
			if kind == "alpha" {
				at = want.alpha
			} else if name == bundle.ColourGrey {
				y := color.GrayModel.Convert(at).(color.Gray).Y
				at = color.NRGBA{y, y, y, 255}
			}
			pixel := got.Pix[(30*80+40)*got.Channels:][:got.Channels]
			for c, v := range []uint8{at.R, at.G, at.B}[:got.Channels] {
				if d := int(pixel[c]) - int(v); d < -3 || d > 3 {
					t.Errorf("%s, %s: %v, want about %v", name, kind, pixel, at)
				}
			}
		}
	}
}

func TestAnswersBeyondTheLimitAreRefused(t *testing.T) {
	m := open(t, networks["edsr"])
	_, err := New(Bounds{Memory: DefaultMemory, Runs: 1}).Tensors(t.Context(), m, picture(t, 3000, 2000))
	if err == nil || !strings.Contains(err.Error(), "million") {
		t.Errorf("%v", err)
	}
}

// TestAPictureIsTurnedUprightBeforeItIsEnlarged sends a JPEG whose EXIF says
// that it lies on its side.
func TestAPictureIsTurnedUprightBeforeItIsEnlarged(t *testing.T) {
	var file bytes.Buffer
	must(t, jpeg.Encode(&file, bundletest.ColourPicture(40, 30, false), nil))
	exif := []byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00")
	turned := slices.Concat(file.Bytes()[:2], []byte{0xff, 0xe1, 0, byte(len(exif) + 2)}, exif, file.Bytes()[2:])
	m := modeltest.Open(t, modeltest.Runtime(t), bundletest.NewSuperResolution(t, bundle.ColourRGB))
	answer, err := New(Bounds{Memory: LeastMemory, Runs: 1}).Enlarge(t.Context(), m, turned)
	must(t, err)
	if answer.Width != 60 || answer.Height != 80 {
		t.Errorf("%d x %d", answer.Width, answer.Height)
	}
}
