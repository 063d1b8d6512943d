package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var small = Spec{Width: 16, Height: 12, Channels: 1, Filter: "bilinear", Decoder: "go"}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func encodePNG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func encodeJPEG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// hugePNG is a sound PNG header that announces w x h pixels and holds none.
func hugePNG(w, h uint32) []byte {
	chunk := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	chunk = binary.BigEndian.AppendUint32(chunk, h)
	chunk = append(chunk, 8, 0, 0, 0, 0)
	out := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n"), 13)
	out = append(out, chunk...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
}

func TestPreprocessNamesWhatIsWrongWithAnImage(t *testing.T) {
	sound := read(t, "grey.png")
	flipped := bytes.Clone(sound)
	flipped[len(flipped)/2] ^= 0xff
	grey, err := png.Decode(bytes.NewReader(sound))
	if err != nil {
		t.Fatal(err)
	}
	jpg := encodeJPEG(t, grey)
	cases := []struct {
		name string
		data []byte
		code Code
		text string
	}{
		{"no bytes", nil, Empty, "no bytes"},
		{"text", []byte("patient,finding\n"), Unsupported, "send a PNG or a JPEG"},
		{"gif", []byte("GIF89a\x01\x00\x01\x00"), Unsupported, "send a PNG or a JPEG"},
		{"40,000 x 40,000", hugePNG(40000, 40000), TooLarge, "40000 x 40000 pixels"},
		{"huge file", append(bytes.Clone(pngMagic), make([]byte, DefaultLimits.Bytes)...), TooLarge, "bytes"},
		{"half a signature", pngMagic[:5], Truncated, "truncated"},
		{"PNG without pixels", hugePNG(10, 10), Truncated, "truncated"},
		{"truncated PNG", sound[:len(sound)*2/3], Truncated, "png image is truncated"},
		{"truncated JPEG", jpg[:len(jpg)*2/3], Truncated, "jpeg image is truncated"},
		{"JPEG cut in its header", jpg[:20], Truncated, "jpeg image is truncated"},
		{"flipped bits", flipped, Damaged, "damaged"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Preprocess(c.data, small, DefaultLimits)
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("got error %v, want *Error", err)
			}
			if refused.Code != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %s %q, want code %s and %q in the text", refused.Code, err, c.code, c.text)
			}
		})
	}
}

func TestDecodeTellsTheFormatByTheBytes(t *testing.T) {
	grey := image.NewGray(image.Rect(0, 0, 3, 2))
	for want, data := range map[Format][]byte{PNG: encodePNG(t, grey), JPEG: encodeJPEG(t, grey)} {
		_, got, err := Decode(data, DefaultLimits)
		if err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestGreyInColourFilesKeepsItsLevels(t *testing.T) {
	spec := Spec{Width: 16, Height: 16, Channels: 1, Filter: "bilinear", Decoder: "go"}
	rect := image.Rect(0, 0, 16, 16)
	grey, rgba, nrgba := image.NewGray(rect), image.NewRGBA(rect), image.NewNRGBA(rect)
	wide, paletted := image.NewGray16(rect), image.NewPaletted(rect, nil)
	for i := range 256 {
		v := uint8(i)
		x, y := i%16, i/16
		grey.SetGray(x, y, color.Gray{v})
		rgba.SetRGBA(x, y, color.RGBA{v, v, v, 255})
		nrgba.SetNRGBA(x, y, color.NRGBA{v, v, v, 255})
		wide.SetGray16(x, y, color.Gray16{uint16(v) * 257})
		paletted.Palette = append(paletted.Palette, color.Gray{v})
		paletted.Pix[i] = v
	}
	for name, img := range map[string]image.Image{"grey": grey, "rgba": rgba, "nrgba": nrgba, "grey16": wide, "paletted": paletted} {
		got, err := Preprocess(encodePNG(t, img), spec, DefaultLimits)
		if err != nil {
			t.Fatal(name, err)
		}
		if !bytes.Equal(got.Pix, grey.Pix) {
			t.Errorf("%s: levels changed", name)
		}
	}
}

func difference(t *testing.T, a, b Pixels) int {
	t.Helper()
	if a.Width != b.Width || a.Height != b.Height || a.Channels != b.Channels {
		t.Fatalf("%dx%dx%d is not %dx%dx%d", a.Width, a.Height, a.Channels, b.Width, b.Height, b.Channels)
	}
	worst := 0
	for i := range a.Pix {
		worst = max(worst, int(math.Abs(float64(a.Pix[i])-float64(b.Pix[i]))))
	}
	return worst
}

func TestPNGRoundTripIsExact(t *testing.T) {
	for _, channels := range []int{1, 3} {
		p := Pixels{Width: 7, Height: 5, Channels: channels, Pix: make([]uint8, 35*channels)}
		for i := range p.Pix {
			p.Pix[i] = uint8(i * 31)
		}
		data, err := p.PNG()
		if err != nil {
			t.Fatal(err)
		}
		back, err := FromPNG(data)
		if err != nil {
			t.Fatal(err)
		}
		if difference(t, p, back) != 0 {
			t.Errorf("%d channels: pixels changed", channels)
		}
		again, err := back.PNG()
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("%d channels: encoding again gives other bytes (%v)", channels, err)
		}
	}
}

func TestPreprocessedPixelsPassThroughPreprocessUnchanged(t *testing.T) {
	first, err := Preprocess(read(t, "grey.png"), small, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	data, err := first.PNG()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Preprocess(data, small, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if difference(t, first, second) != 0 {
		t.Error("a picture of the right size was resampled")
	}
}

func TestSpecValidateNamesTheField(t *testing.T) {
	cases := map[string]func(*Spec){
		"width": func(s *Spec) { s.Width = 0 }, "height": func(s *Spec) { s.Height = 1 << 20 },
		"channels": func(s *Spec) { s.Channels = 2 }, "filter": func(s *Spec) { s.Filter = "mitchell" },
		"decoder": func(s *Spec) { s.Decoder = "" },
	}
	for field, spoil := range cases {
		spec := small
		spoil(&spec)
		if err := spec.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if err := small.Validate(); err != nil {
		t.Error(err)
	}
}

func TestPipelineNamesAllThatChangesPixels(t *testing.T) {
	if got := small.Pipeline(); got != "go-16x12x1-bilinear-v2" {
		t.Errorf("got %s", got)
	}
}

func TestBrightness(t *testing.T) {
	p := Pixels{Width: 2, Height: 1, Channels: 1, Pix: []uint8{0, 255}}
	if p.Brightness() != 0.5 {
		t.Errorf("got %v, want 0.5", p.Brightness())
	}
}
