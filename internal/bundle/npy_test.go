package bundle_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
)

func TestNpyRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	floats := []float32{0, 1.5, -2, 3e-38, 4, 5}
	for _, shape := range [][]int{{6}, {2, 3}, {1, 2, 3}} {
		if err := bundle.WriteFloat32(path, shape, floats); err != nil {
			t.Fatal(err)
		}
		gotShape, got, err := bundle.ReadFloat32(path)
		if err != nil || !slices.Equal(gotShape, shape) || !slices.Equal(got, floats) {
			t.Errorf("got %v %v (%v)", gotShape, got, err)
		}
		if data, err := os.ReadFile(path); err != nil || (len(data)-24)%64 != 0 {
			t.Errorf("%d bytes: the header is not aligned (%v)", len(data), err)
		}
	}
	if _, _, err := bundle.ReadUint8(path); err == nil || !strings.Contains(err.Error(), "astype('uint8')") {
		t.Errorf("float32 read as uint8: %v", err)
	}
}

func TestNpyRefusesWhatItCannotHold(t *testing.T) {
	header := func(text string) []byte {
		return append(append([]byte("\x93NUMPY\x01\x00"), byte(len(text)), 0), text...)
	}
	cases := map[string][]byte{
		"not a .npy":    []byte("hello hello hello"),
		"truncated":     append([]byte("\x93NUMPY\x01\x00\xff\x00"), "{'descr'"...),
		"float64":       header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n"),
		"Fortran order": header("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }\n"),
		"too few":       header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n"),
		"overflow":      header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }\n"),
		"no header":     header("hello"),
	}
	for name, data := range cases {
		path := filepath.Join(t.TempDir(), "a.npy")
		if err := os.WriteFile(path, bytes.Clone(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := bundle.ReadFloat32(path); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
