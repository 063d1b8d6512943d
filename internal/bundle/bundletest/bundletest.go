// Package bundletest builds tiny model bundles for tests: real ONNX graphs
// whose scores are known in closed form, so that their goldens never come from
// the runtime under test.
package bundletest

import (
	"bytes"
	"embed"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
)

// Names of the graphs; testdata/models.py says what they compute.
const (
	Mean    = "mean.onnx"
	Failing = "failing.onnx" // its run fails for pictures brighter than FailsAbove
	Endless = "endless.onnx" // its run takes hours for pictures brighter than FailsAbove
	Renamed = "renamed.onnx" // does not have the output that the manifest names
	Wide    = "wide.onnx"    // wants other pictures than the manifest says
)

// Side is the width and height of the pictures that the model sees.
const Side = 8

// FailsAbove is the level from which Failing fails and Endless does not end:
// 0.9 of 255, and one more.
const FailsAbove = 231

//go:embed testdata/*.onnx
var graphs embed.FS

// weights and biases of the two labels.
var (
	weights = []float64{2, -3}
	biases  = []float64{0, 0.5}
)

// Spec is how the bundle's pictures are preprocessed.
var Spec = imaging.Spec{Width: Side, Height: Side, Channels: 1, Filter: "bilinear", Decoder: "go"}

// New writes a bundle around a graph into a new directory of the test. Each
// change alters the manifest before it is written.
func New(t testing.TB, graph string, changes ...func(*bundle.Manifest)) string {
	t.Helper()
	dir := t.TempDir()
	model, err := graphs.ReadFile("testdata/" + graph)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), model, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, bundle.GoldenDir), 0o755))
	m := Manifest()
	for i, golden := range m.Goldens {
		writeGolden(t, dir, golden, Picture(t, 40, 30, uint8(20+90*i)))
	}
	for _, change := range changes {
		change(&m)
	}
	must(t, bundle.WriteManifest(dir, m))
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Manifest is the manifest of New's bundles.
func Manifest() bundle.Manifest {
	return bundle.Manifest{
		Schema: bundle.Schema, Name: "test", Task: "multilabel",
		Input: bundle.Input{
			Name: "input", Width: Side, Height: Side, Channels: 1, Decoder: Spec.Decoder, Resize: "stretch", Filter: Spec.Filter,
			Scale: 1.0 / 255, Mean: []float64{0}, Std: []float64{1}, Layout: "nchw",
		},
		Outputs: bundle.Outputs{Scores: "scores", Heatmap: "heatmap", Features: "features", Activation: "none"},
		Labels: []bundle.Label{
			{Name: "Nodule", Threshold: 0.6, Urgency: "urgent"},
			{Name: "Effusion", Threshold: 0.5, Urgency: "routine"},
		},
		Tolerance:  1e-4,
		Goldens:    []string{"golden/0.png", "golden/1.png"},
		Provenance: provenance(),
	}
}

// Picture is a PNG of w x h pixels around a level: a texture of a few levels
// whose mean is not the level itself.
func Picture(t testing.TB, w, h int, level uint8) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h)) // grey in a colour file, as in the wild
	for y := range h {
		for x := range w {
			v := uint8(min(255, int(level)+(x*7+y*13)%11))
			img.SetNRGBA(x, y, color.NRGBA{v, v, v, 255})
		}
	}
	var out bytes.Buffer
	must(t, png.Encode(&out, img))
	return out.Bytes()
}

// Scores are the scores of the graphs for preprocessed pixels, in closed form.
func Scores(p imaging.Pixels) []float32 {
	m := p.Brightness()
	scores := make([]float32, len(weights))
	for i := range scores {
		scores[i] = float32(1 / (1 + math.Exp(-(weights[i]*m + biases[i]))))
	}
	return scores
}

func writeGolden(t testing.TB, dir, golden string, picture []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, filepath.FromSlash(golden)), picture, 0o644))
	pixels, err := imaging.Preprocess(picture, Spec, imaging.DefaultLimits)
	must(t, err)
	must(t, bundle.WriteUint8(filepath.Join(dir, bundle.InputFile(golden)), []int{Side, Side, 1}, pixels.Pix))
	scores := Scores(pixels)
	must(t, bundle.WriteFloat32(filepath.Join(dir, bundle.OutputFile(golden)), []int{len(scores)}, scores))
}
