package imaging

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRadiographsInColourFilesKeepTheirLevels reads real files (RGB and RGBA
// PNG that hold grey) of the wanted size: the pixels are the red channel's.
func TestRadiographsInColourFilesKeepTheirLevels(t *testing.T) {
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: real radiographs are not tried")
	}
	files, err := filepath.Glob(filepath.Join(root, "xray", "nih64", "*.png"))
	if err != nil || len(files) == 0 {
		t.Fatalf("PENSTOCK_TEST_DATA is set, but holds no xray/nih64/*.png (%v)", err)
	}
	spec := Spec{Width: 64, Height: 64, Channels: 1, Filter: "bilinear", Decoder: "go"}
	for _, name := range files[:min(len(files), 300)] {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Preprocess(data, spec, DefaultLimits)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(name), err)
			continue
		}
		img, err := png.Decode(strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got.Pix {
			r, g, b, a := img.At(i%64, i/64).RGBA()
			if uint32(v) != r>>8 || r != g || g != b || a != 0xffff {
				t.Fatalf("%s, pixel %d: %d from %d %d %d %d", filepath.Base(name), i, v, r>>8, g>>8, b>>8, a>>8)
			}
		}
	}
}
