package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

func pngOf(t *testing.T, img image.Image) []byte {
	t.Helper()
	var file bytes.Buffer
	must(t, png.Encode(&file, img))
	return file.Bytes()
}

// TestAnXRayModelAndOneThatEnlargesStandSideBySide wants scores of the one and
// a picture of the other, from one process; then the second is swapped, which
// replays what it was sent.
func TestAnXRayModelAndOneThatEnlargesStandSideBySide(t *testing.T) {
	w := newWorld(t)
	xray := w.publish(bundletest.Mean)
	enlarge := w.publishDir(bundletest.NewSuperResolution(t, bundle.ColourYCbCr, called("enhance")))
	s := w.serve(t.TempDir(), "--name", "enhance", "--tile-memory", "16", "--slo", "30s")
	load := func(name, digest string) string {
		t.Helper()
		code, body := s.do("PUT", s.admin+"/admin/v1/models/"+name, fmt.Appendf(nil, `{"digest":%q}`, digest))
		if code != 200 {
			t.Fatalf("load %s: %d %s", name, code, body)
		}
		return string(body)
	}
	load("test", xray)
	load("enhance", enlarge)
	s.told("local, in tiles that overlap by 1 pixels", 1)

	picture := pngOf(t, bundletest.ColourPicture(601, 403, false)) // more than a tile of the 16 MiB
	for range 2 {
		response, err := s.client.Post(s.public+"/v1/models/enhance/predict", "image/png", bytes.NewReader(picture))
		must(t, err)
		img, err := png.Decode(response.Body)
		response.Body.Close()
		must(t, err)
		if size := img.Bounds().Size(); size != image.Pt(1202, 806) || response.Header.Get("Content-Type") != "image/png" ||
			response.Header.Get("Penstock-Image-Size") != "1202x806" || response.Header.Get("Penstock-Model-Digest") != enlarge {
			t.Errorf("%v %v", size, response.Header)
		}
		for _, phase := range []string{"decode", "resize", "queue", "run", "encode"} {
			if !strings.Contains(response.Header.Get("Server-Timing"), phase+";dur=") {
				t.Errorf("no %s in %q", phase, response.Header.Get("Server-Timing"))
			}
		}
		near(t, img, 600, 400, color.NRGBA{139, 124, 146, 255}) // the middle of what was sent
	}
	if code, body := s.predict(picture); code != 200 || !strings.Contains(string(body), `"Nodule"`) {
		t.Errorf("the X-ray model beside it: %d %s", code, body)
	}
	if code, body := s.do("POST", s.public+"/v1/models/enhance/predict", []byte("no picture")); code != http.StatusUnsupportedMediaType {
		t.Errorf("what is no picture: %d %s", code, body)
	}

	next := w.publishDir(bundletest.NewSuperResolution(t, bundle.ColourYCbCr, called("enhance"), func(m *bundle.Manifest) { m.Provenance.RunKey = "next" }))
	if status := load("enhance", next); !strings.Contains(status, `"replayed":2`) || !strings.Contains(status, `"difference_max":0`) {
		t.Errorf("replay of the next model: %s", status)
	}
}

// near wants a pixel's colour within a few levels: Cb and Cr were filtered.
func near(t *testing.T, img image.Image, x, y int, want color.NRGBA) {
	t.Helper()
	got := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
	for _, d := range []int{int(got.R) - int(want.R), int(got.G) - int(want.G), int(got.B) - int(want.B)} {
		if d < -4 || d > 4 {
			t.Errorf("pixel %d, %d is %v, want about %v", x, y, got, want)
		}
	}
}

func TestTheBoundOfTilesIsChecked(t *testing.T) {
	w := newWorld(t)
	code, out := w.run("run", "--name", "test", "--slot", "s", "--bucket", "none", "--state", t.TempDir(), "--tile-memory", "1")
	if code != 2 || !strings.Contains(out, "--tile-memory 1: want at least 16") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
