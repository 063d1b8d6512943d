package tile

import (
	"bytes"
	"image"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/graph"
	"github.com/penstock-ml/penstock/serve/model"
)

// modelZoo is super_resolution_10 of the ONNX Model Zoo: ESPCN (Shi et al.,
// CVPR 2016), threefold, Y from 0 to 1, 224 x 224 pixels.
func modelZoo(t *testing.T) *model.Model {
	t.Helper()
	file := filepath.Join(corpus(t, "models/super_resolution_10"), "model.onnx")
	return open(t, network{file: file, colour: bundle.ColourYCbCr, scale: 3, input: "input", output: "output", side: 224})
}

func tensorFile(t *testing.T, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	tensor, err := graph.TensorFromPB(data)
	must(t, err)
	return oip.Float32s(tensor.Data)
}

// TestTheModelZoosNetworkGivesItsVector reads the vector's floats as 8 bits:
// they are a picture's.
func TestTheModelZoosNetworkGivesItsVector(t *testing.T) {
	m := modelZoo(t)
	dir := filepath.Join(corpus(t, "models/super_resolution_10"), "test_data_set_0")
	in, want := tensorFile(t, filepath.Join(dir, "input_0.pb")), tensorFile(t, filepath.Join(dir, "output_0.pb"))
	p := imaging.Pixels{Width: 224, Height: 224, Channels: 1, Pix: make([]uint8, 224*224)}
	for i, v := range in {
		p.Pix[i] = uint8(math.Round(float64(v) * 255))
		if d := math.Abs(float64(p.Pix[i])/255 - float64(v)); d > 1e-6 {
			t.Fatalf("element %d of the vector, %v, is %g from a level of 8 bits", i, v, d)
		}
	}
	raw, err := m.Raw(t.Context(), p)
	must(t, err)
	defer raw.Release()
	for i, v := range oip.Float32s(raw.Outputs[0].Data) {
		if d := math.Abs(float64(v - want[i])); d > 1e-5 {
			t.Fatalf("element %d is %v, the vector has %v", i, v, want[i])
		}
	}
	got := enlargedBy(t, newEngine(m, traits(t, m), Bounds{Memory: 1 << 30, Runs: 1}, 1), p)
	for i, v := range want {
		if d := int(got.Pix[i]) - int(level(float64(v)*255)); d < -1 || d > 1 {
			t.Fatalf("pixel %d is %d, the vector has %v", i, got.Pix[i], v)
		}
	}
}

// TestTheModelZoosNetworkBeatsBicubicOnSet5 takes the five pictures of Set5, made
// three times smaller by this project's antialiased catmullrom, as their own
// low-resolution files are for other scales. PSNR of Y as papers take it.
func TestTheModelZoosNetworkBeatsBicubicOnSet5(t *testing.T) {
	m := modelZoo(t)
	e := New(Bounds{Memory: DefaultMemory, Runs: 2})
	files, err := filepath.Glob(filepath.Join(corpus(t, "sr/Set5/GT"), "*.png"))
	must(t, err)
	if len(files) != 5 {
		t.Fatalf("%d pictures", len(files))
	}
	var ours, bicubic float64
	for _, file := range files {
		truth := pixelsOf(t, file)
		truth = crop(truth, span{To: truth.Height / 3 * 3}, span{To: truth.Width / 3 * 3})
		small, err := truth.Resize(truth.Width/3, truth.Height/3, "catmullrom")
		must(t, err)
		answer, err := e.Enlarge(t.Context(), m, encoded(t, small))
		must(t, err)
		got, err := imaging.FromPNG(answer.PNG)
		must(t, err)
		large, err := small.Resize(truth.Width, truth.Height, "catmullrom")
		must(t, err)
		a, b := psnr(t, got, truth), psnr(t, large, truth)
		t.Logf("%-14s %3d x %3d to %3d x %3d: %.2f dB, bicubic %.2f dB", filepath.Base(file), small.Width, small.Height, got.Width, got.Height, a, b)
		ours, bicubic = ours+a/5, bicubic+b/5
	}
	t.Logf("mean of 5: %.2f dB, bicubic %.2f dB", ours, bicubic)
	if ours < bicubic+0.1 {
		t.Errorf("%.2f dB on average, bicubic has %.2f dB", ours, bicubic)
	}
}

// TestAnswersHaveExactlyTheScaleTimesTheSize goes over low-resolution files as
// they are distributed, smaller and larger than the graph's 224 x 224.
func TestAnswersHaveExactlyTheScaleTimesTheSize(t *testing.T) {
	m := modelZoo(t)
	e := New(Bounds{Memory: DefaultMemory, Runs: 2})
	for _, file := range []string{"LRx4/bird.png", "LRx4/woman.png", "LRx2/woman.png", "LRx2/baby.png", "GT/head.png"} {
		data, err := os.ReadFile(filepath.Join(corpus(t, "sr/Set5"), file))
		must(t, err)
		size, _, err := image.DecodeConfig(bytes.NewReader(data))
		must(t, err)
		answer, err := e.Enlarge(t.Context(), m, data)
		must(t, err)
		got, err := imaging.FromPNG(answer.PNG)
		must(t, err)
		if got.Width != 3*size.Width || got.Height != 3*size.Height || got.Channels != 3 || answer.Width != got.Width || answer.Height != got.Height {
			t.Errorf("%s: %d x %d x %d for %d x %d", file, got.Width, got.Height, got.Channels, size.Width, size.Height)
		}
	}
}

func psnr(t *testing.T, got, want imaging.Pixels) float64 {
	t.Helper()
	measured, err := imaging.PSNR(got, want, imaging.Convention{Scale: imaging.YMatlab, Border: 3})
	must(t, err)
	return measured.Value
}

func pixelsOf(t *testing.T, file string) imaging.Pixels {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	img, _, err := imaging.Decode(data, imaging.DefaultLimits)
	must(t, err)
	p, err := imaging.PixelsOf(img, 3)
	must(t, err)
	return p
}

func encoded(t *testing.T, p imaging.Pixels) []byte {
	t.Helper()
	data, err := p.PNG()
	must(t, err)
	return data
}
