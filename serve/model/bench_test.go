package model_test

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// workBundle is a multilabel bundle around work.onnx, a network of about 10 ms
// on 224 x 224 pixels.
func workBundle(t testing.TB) *bundle.Bundle {
	t.Helper()
	dir, spec := t.TempDir(), imaging.Spec{Width: 224, Height: 224, Channels: 1, Filter: "bilinear", Decoder: "go"}
	noErr := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	noErr(os.Mkdir(filepath.Join(dir, bundle.GoldenDir), 0o755))
	noErr(os.WriteFile(filepath.Join(dir, bundle.ModelFile), graphFile(t, "work.onnx"), 0o644))
	picture := greyPNG(t, 300, 280)
	pixels, err := imaging.Preprocess(picture, spec, imaging.DefaultLimits)
	noErr(err)
	noErr(os.WriteFile(filepath.Join(dir, "golden/0.png"), picture, 0o644))
	noErr(bundle.WriteUint8(filepath.Join(dir, "golden/0.input.npy"), []int{224, 224, 1}, pixels.Pix))
	noErr(bundle.WriteFloat32(filepath.Join(dir, "golden/0.output.npy"), []int{4}, []float32{0.5, 0.5, 0.5, 0.5}))
	m := bundle.Manifest{
		Schema: bundle.Schema, Name: "work", Task: bundle.TaskMultilabel, Tolerance: 1e-4, Goldens: []string{"golden/0.png"},
		Input: bundle.Input{
			Name: "input", Width: 224, Height: 224, Channels: 1, Decoder: "go", Resize: "stretch", Filter: "bilinear",
			Scale: 1.0 / 255, Mean: []float64{0.5}, Std: []float64{0.25}, Layout: "nchw",
		},
		Outputs: bundle.Outputs{Scores: "scores", Activation: "none"},
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		m.Labels = append(m.Labels, bundle.Label{Name: name, Threshold: 0.5, Urgency: "routine"})
	}
	noErr(bundle.WriteManifest(dir, m))
	b, err := bundle.Read(dir)
	noErr(err)
	return b
}

func greyPNG(t testing.TB, w, h int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = uint8(i*7 + i/w*13)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// BenchmarkAdded compares a bare call of the session with Infer on the same
// tensor and with Score on the same picture, one after the other in every
// iteration.
func BenchmarkAdded(b *testing.B) {
	r := modeltest.Runtime(b)
	files := workBundle(b)
	m, err := model.Open(b.Context(), r, files)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	input := oip.Tensor{Name: "input", Datatype: oip.FP32, Shape: []int64{1, 1, 224, 224}, Data: r.Buffers().Get(4 * 224 * 224)}
	clear(input.Data)
	bare, err := model.OpenBare(r, files, []oip.Tensor{input})
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	caller, err := bare.Caller()
	if err != nil {
		b.Fatal(err)
	}
	defer caller.Close()
	picture, err := m.Prepare(b.Context(), greyPNG(b, 300, 280))
	if err != nil {
		b.Fatal(err)
	}
	defer picture.Release()
	arms := []struct {
		name string
		run  func() error
		took []time.Duration
	}{
		{name: "bare", run: caller.Run},
		{name: "infer", run: func() error {
			result, err := m.Infer(b.Context(), []oip.Tensor{input}, nil)
			if err == nil {
				result.Release()
			}
			return err
		}},
		{name: "score", run: func() error { _, err := m.Score(b.Context(), picture); return err }},
	}
	for n := 0; b.Loop(); n++ {
		for i := range arms {
			arm := &arms[(i+n)%len(arms)] // no arm always comes first
			began := time.Now()
			if err := arm.run(); err != nil {
				b.Fatal(err)
			}
			arm.took = append(arm.took, time.Since(began))
		}
	}
	median := func(i int) float64 {
		slices.Sort(arms[i].took)
		return arms[i].took[len(arms[i].took)/2].Seconds() * 1000
	}
	b.ReportMetric(median(0), "bare-ms/p50")
	b.ReportMetric(median(1)-median(0), "infer-added-ms/p50")
	b.ReportMetric(median(2)-median(0), "score-added-ms/p50")
}

// BenchmarkRequest shows what a request allocates beside its decode.
func BenchmarkRequest(b *testing.B) {
	r := modeltest.Runtime(b)
	m, err := model.Open(b.Context(), r, workBundle(b))
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	picture, err := m.Prepare(b.Context(), greyPNG(b, 300, 280))
	if err != nil {
		b.Fatal(err)
	}
	defer picture.Release()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Score(b.Context(), picture); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOverhead is Infer on a graph that does nothing to speak of.
func BenchmarkOverhead(b *testing.B) {
	m := modeltest.Open(b, modeltest.Runtime(b), bundletest.New(b, bundletest.Mean))
	input := []oip.Tensor{{Name: "input", Datatype: oip.FP32, Shape: []int64{1, 1, 8, 8}, Data: make([]byte, 256)}}
	b.ReportAllocs()
	for b.Loop() {
		r, err := m.Infer(b.Context(), input, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Release()
	}
}
