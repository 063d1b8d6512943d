package service

import (
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
)

// TestPicturesCostTheirPixels reads headers alone, which may lie.
func TestPicturesCostTheirPixels(t *testing.T) {
	whole := bundletest.Picture(t, 900, 400, 9)
	lying := append([]byte(nil), whole...)
	copy(lying[16:], []byte{0x7f, 0xff, 0xff, 0xff}) // its width; the sum does not fit any more
	for want, picture := range map[float64][]byte{360_000: whole[:100], leastPixels: bundletest.Picture(t, 9, 9, 9)} {
		if got := pixelsOf(picture); got != want {
			t.Errorf("%v pixels, want %v", got, want)
		}
	}
	for _, picture := range [][]byte{nil, lying, []byte("no picture")} {
		if got := pixelsOf(picture); got != leastPixels {
			t.Errorf("%v pixels of what is no picture", got)
		}
	}
	if got := pixelsIn([]oip.Tensor{{Shape: []int64{2, 1, 300, 400}}, {Shape: []int64{7}}}); got != 240_000 {
		t.Errorf("%v pixels", got)
	}
}
