package imaging

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPSNRAndSSIMAreTheOracles(t *testing.T) {
	var cases []struct {
		Picture    string
		Scale      Scale
		Border     int
		PSNR, SSIM float64
	}
	if err := json.Unmarshal(read(t, "quality.json"), &cases); err != nil || len(cases) != 6 {
		t.Fatalf("%d cases, %v: run testdata/quality.py", len(cases), err)
	}
	for _, c := range cases {
		want, err := FromPNG(read(t, c.Picture+".png"))
		if err != nil {
			t.Fatal(err)
		}
		half, err := want.Resize(30, 23, "bilinear")
		if err != nil {
			t.Fatal(err)
		}
		got, err := half.Resize(want.Width, want.Height, "catmullrom")
		if err != nil {
			t.Fatal(err)
		}
		psnr, ssim, err := Compare(got, want, Convention{c.Scale, c.Border})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(psnr.Value-c.PSNR) > 1e-9 || math.Abs(ssim.Value-c.SSIM) > 1e-9 {
			t.Errorf("%s: got %s and %s, want %v and %v", c.Picture, psnr, ssim, c.PSNR, c.SSIM)
		}
	}
}

// TestBicubicReferenceOfSet5IsReproduced enlarges as the reference does, by
// the cubic spline in RGB with 8 bits of result; what is left of a difference
// is the edge, which MATLAB mirrors and Pillow cuts the filter off at.
func TestBicubicReferenceOfSet5IsReproduced(t *testing.T) {
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: the bicubic reference is not tried")
	}
	table, err := os.Open(filepath.Join(root, "sr", "bicubic_reference.csv"))
	if err != nil {
		t.Fatalf("PENSTOCK_TEST_DATA is set, but: %v", err)
	}
	defer table.Close()
	rows, err := csv.NewReader(table).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		t.Run(row[2]+"-x"+row[1], func(t *testing.T) {
			factor, wantPSNR, wantSSIM := number(t, row[1]), number(t, row[3]), number(t, row[4])
			truth := colourFile(t, filepath.Join(root, "sr", row[0], "GT", row[2]+".png"))
			low := colourFile(t, filepath.Join(root, "sr", row[0], "LRx"+row[1], row[2]+".png"))
			got, err := low.Resize(low.Width*int(factor), low.Height*int(factor), "catmullrom")
			if err != nil {
				t.Fatal(err)
			}
			psnr, ssim, err := Compare(got, truth, Convention{YMatlab, int(factor)})
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(psnr.Value-wantPSNR) > 0.003 || math.Abs(ssim.Value-wantSSIM) > 0.0003 {
				t.Errorf("got %s and %s, the reference has %v and %v", psnr, ssim, wantPSNR, wantSSIM)
			}
		})
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func colourFile(t *testing.T, path string) Pixels {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, _, err := Decode(data, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	p, err := PixelsOf(img, 3)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEqualPicturesHaveInfinitePSNRAndSSIMOne(t *testing.T) {
	p, err := FromPNG(read(t, "grey.png"))
	if err != nil {
		t.Fatal(err)
	}
	psnr, ssim, err := Compare(p, p, Convention{Grey, 0})
	if err != nil || !math.IsInf(psnr.Value, 1) || ssim.Value != 1 {
		t.Errorf("got %s, %s, %v", psnr, ssim, err)
	}
}

func TestNumbersOfUnlikeConventionsAreNotCompared(t *testing.T) {
	a := Measure{"psnr", 30, Convention{YMatlab, 2}}
	for _, b := range []Measure{{"ssim", 1, a.Convention}, {"psnr", 30, Convention{YMatlab, 4}}, {"psnr", 30, Convention{RGB, 2}}} {
		if _, err := a.Minus(b); err == nil || !strings.Contains(err.Error(), "not comparable") {
			t.Errorf("%s and %s: got %v", a, b, err)
		}
	}
	if d, err := a.Minus(Measure{"psnr", 29, a.Convention}); d != 1 || err != nil {
		t.Errorf("got %v, %v", d, err)
	}
}

func TestMeasuresRefuseWhatHasNoNumber(t *testing.T) {
	grey := Pixels{Width: 12, Height: 12, Channels: 1, Pix: make([]uint8, 144)}
	wide := Pixels{Width: 13, Height: 12, Channels: 1, Pix: make([]uint8, 156)}
	cases := []struct {
		got, want Pixels
		c         Convention
		text      string
	}{
		{grey, wide, Convention{Grey, 0}, "not compared"},
		{grey, grey, Convention{Grey, 1}, "border of 1"},
		{grey, grey, Convention{Grey, -1}, "border of -1"},
		{grey, grey, Convention{YMatlab, 0}, "want 3"},
		{grey, grey, Convention{"y-opencv", 0}, "y-opencv"},
		{Pixels{Width: 12, Height: 12, Channels: 1}, Pixels{Width: 12, Height: 12, Channels: 1}, Convention{Grey, 0}, "0 bytes"},
	}
	for _, c := range cases {
		if _, _, err := Compare(c.got, c.want, c.c); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("want %q, got %v", c.text, err)
		}
	}
}

func TestColourPlanesAreWithinOneLevelOfPillow(t *testing.T) {
	colour, err := FromPNG(read(t, "colour.png"))
	if err != nil {
		t.Fatal(err)
	}
	y, cb, cr, err := colour.YCbCr()
	if err != nil {
		t.Fatal(err)
	}
	for name, plane := range map[string]Pixels{"y": y, "cb": cb, "cr": cr} {
		if worst := difference(t, plane, golden(t, fmt.Sprintf("planes/%s.png", name))); worst > 1 {
			t.Errorf("%s: %d levels apart", name, worst)
		}
	}
	back, err := JoinYCbCr(golden(t, "planes/y.png"), golden(t, "planes/cb.png"), golden(t, "planes/cr.png"))
	if err != nil {
		t.Fatal(err)
	}
	if worst := difference(t, back, golden(t, "planes/rgb.png")); worst > 1 {
		t.Errorf("joined: %d levels apart", worst)
	}
}

func TestGreyHasNoColourPlanes(t *testing.T) {
	grey := Pixels{Width: 3, Height: 1, Channels: 3, Pix: []uint8{0, 0, 0, 77, 77, 77, 255, 255, 255}}
	y, cb, cr, err := grey.YCbCr()
	if err != nil {
		t.Fatal(err)
	}
	if string(y.Pix) != "\x00\x4d\xff" || string(cb.Pix) != "\x80\x80\x80" || string(cr.Pix) != "\x80\x80\x80" {
		t.Errorf("got %v %v %v", y.Pix, cb.Pix, cr.Pix)
	}
	if _, _, _, err := y.YCbCr(); err == nil {
		t.Error("a grey picture was taken for a colour one")
	}
	if _, err := JoinYCbCr(y, cb, Pixels{Width: 1, Height: 1, Channels: 1, Pix: []uint8{1}}); err == nil {
		t.Error("planes of two sizes were joined")
	}
}

func TestSSIMInBandsIsThatOfTheWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	noise := func() plane {
		p := plane{23, 3*band + 5, make([]float64, 23*(3*band+5))}
		for i := range p.v {
			p.v[i] = 255 * random.Float64()
		}
		return p
	}
	a, b := noise(), noise()
	whole := similarities(a, b) / float64((a.w-10)*(a.h-10))
	if got := similarity(a, b); math.Abs(got-whole) > 1e-12 {
		t.Errorf("got %v, want %v", got, whole)
	}
}
