package imaging

import (
	"archive/zip"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// files are those that testdata/files.py has made with Pillow, by name.
func files(t testing.TB) map[string][]byte {
	t.Helper()
	archive, err := zip.OpenReader(filepath.Join("testdata", "files.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	all := map[string][]byte{}
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if all[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestEveryKindOfFileIsReadAsPillowReadsIt: progressive and CMYK JPEG, PNG of
// 1 to 16 bits with and without palette, transparency and interlacing, and the
// eight orientations.
func TestEveryKindOfFileIsReadAsPillowReadsIt(t *testing.T) {
	all := files(t)
	if len(all) < 120 {
		t.Fatalf("testdata/files.zip holds %d files: run files.py", len(all))
	}
	for name, data := range all {
		wanted, isFile := all[name+".png"]
		if !isFile { // a wanted picture
			continue
		}
		t.Run(name, func(t *testing.T) {
			want, err := FromPNG(wanted)
			if err != nil {
				t.Fatal(err)
			}
			img, _, err := Decode(data, DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			got, err := PixelsOf(img, want.Channels)
			if err != nil {
				t.Fatal(err)
			}
			if worst := difference(t, got, want); worst > allowed(name, want.Channels) {
				t.Errorf("%d levels apart", worst)
			}
		})
	}
}

// allowed is how many levels the standard library may differ from libjpeg-turbo
// and libpng: inverse cosine transforms and colour matrices are rounded at
// different places, PNG is exact but for transparency.
func allowed(name string, channels int) int {
	switch {
	case strings.HasSuffix(name, ".jpg") && channels == 3:
		return 3
	case strings.HasSuffix(name, ".jpg"):
		return 1
	case strings.Contains(name, "alpha"), strings.Contains(name, "transparent"), name == "rgba.png":
		return 1
	}
	return 0
}
