//go:build turbojpeg

package turbojpeg

import (
	"archive/zip"
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/imaging"
)

// encoded gives grey JPEG files of the pictures, made by libjpeg in Python:
// the standard library writes no progressive ones.
func encoded(t testing.TB, pictures ...string) map[string][]byte {
	t.Helper()
	python, err := process.Cached("mlflow/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), python, append([]string{"testdata/encode.py"}, pictures...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("encode.py: %v\n%s", err, stderr.String())
	}
	archive, err := zip.NewReader(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// compare decodes every file by both decoders, through imaging, and gives the
// number of pixels by how many levels they are apart.
func compare(t *testing.T, files map[string][]byte) (apart [256]int) {
	t.Helper()
	calls := 0
	turbo := imaging.Decoder{Limits: imaging.DefaultLimits, GreyJPEG: func(data []byte) (*image.Gray, error) {
		calls++
		img, err := decodeGrey(data)
		if err != nil { // imaging would leave it to the standard library
			t.Errorf("refused: %v", err)
		}
		return img, err
	}}
	for name, data := range files {
		want, _, err := imaging.Decode(data, imaging.DefaultLimits)
		if err != nil {
			t.Fatal(name, err)
		}
		got, _, err := turbo.Decode(data)
		if err != nil {
			t.Fatal(name, err)
		}
		worst := 0
		a, b := want.(*image.Gray), got.(*image.Gray)
		for y := range a.Rect.Dy() {
			for x := range a.Rect.Dx() {
				d := int(a.GrayAt(x, y).Y) - int(b.GrayAt(x, y).Y)
				d = max(d, -d)
				apart[d]++
				worst = max(worst, d)
			}
		}
		if worst > 1 {
			t.Errorf("%s: %d levels apart", name, worst)
		}
	}
	if calls != len(files) {
		t.Errorf("%d of %d files were given to libjpeg-turbo", calls, len(files))
	}
	return apart
}

func TestGreyJPEGIsWithinOneLevelOfTheStandardLibrary(t *testing.T) {
	files := encoded(t)
	if len(files) != 12*7*2 {
		t.Fatalf("%d files", len(files))
	}
	apart := compare(t, files)
	t.Logf("%d files: pixels apart by 0, 1 levels: %v", len(files), apart[:2])
}

// TestGreyJPEGOfRealPicturesIsWithinOneLevel is what the substitution rests on.
func TestGreyJPEGOfRealPicturesIsWithinOneLevel(t *testing.T) {
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: real pictures are not tried")
	}
	var pictures []string
	for pattern, most := range map[string]int{"xray/nih64/*.png": 300, "sr/Set5/GT/*.png": 5, "sr/train/Kodak/*.png": 8} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) < most {
			t.Fatalf("PENSTOCK_TEST_DATA is set, but holds %d files %s (%v)", len(found), pattern, err)
		}
		pictures = append(pictures, found[:most]...)
	}
	files := encoded(t, pictures...)
	apart := compare(t, files)
	t.Logf("%d files: pixels apart by 0, 1 levels: %v", len(files), apart[:2])
}

func TestColourIsRefused(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 16, 16))
	for i := range 16 {
		img.Set(i, i, color.RGBA{255, 0, uint8(i), 255})
	}
	var data bytes.Buffer
	if err := jpeg.Encode(&data, img, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeGrey(data.Bytes()); err == nil || err.Error() != "libjpeg-turbo: the JPEG is not grey" {
		t.Errorf("got %v", err)
	}
}

// TestTruncatedFilesAreRefused: libjpeg would fill the rest with grey.
func TestTruncatedFilesAreRefused(t *testing.T) {
	decode, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	turbo := imaging.Decoder{Limits: imaging.DefaultLimits, GreyJPEG: decode}
	files := encoded(t)
	for _, name := range []string{"noise-17x31-q75-baseline.jpg", "noise-17x31-q75-progressive.jpg"} {
		data := files[name]
		for n := range len(data) - 2 {
			if _, _, err := turbo.Decode(data[:n]); err == nil {
				t.Errorf("%s: the first %d of %d bytes give a picture", name, n, len(data))
			}
		}
		if _, err := decodeGrey(nil); err == nil {
			t.Error("no bytes give a picture")
		}
	}
}

// BenchmarkDecode is one grey radiograph by either decoder: a large one, and one
// as small as its set-up counts.
func BenchmarkDecode(b *testing.B) {
	for _, side := range []int{1024, 96} {
		data := radiograph(b, side)
		for name, d := range map[string]imaging.Decoder{"go": {}, "turbo": {GreyJPEG: decodeGrey}} {
			d.Limits = imaging.DefaultLimits
			b.Run(fmt.Sprintf("%s-%d", name, side), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := d.Decode(data); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// radiograph is a JPEG of structure and noise.
func radiograph(b *testing.B, side int) []byte {
	b.Helper()
	img := image.NewGray(image.Rect(0, 0, side, side))
	seed := uint32(1)
	for i := range img.Pix {
		seed = seed*1664525 + 1013904223
		img.Pix[i] = uint8(60 + i%side*64/side + i/side*32/side + int(seed>>29))
	}
	var data bytes.Buffer
	if err := jpeg.Encode(&data, img, &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	return data.Bytes()
}
