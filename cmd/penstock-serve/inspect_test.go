package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/graph"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

const heads = "../../serve/graph/testdata/heads/"

// headBundle is a bundle around one of the networks that heads.py made; its
// golden is PyTorch's.
func headBundle(t *testing.T, kind string, changes ...func(*bundle.Manifest)) string {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(heads + kind + ".onnx")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), data, 0o644))
	var scores map[string][]float32
	data, err = os.ReadFile(heads + "golden.json")
	must(t, err)
	must(t, json.Unmarshal(data, &scores))
	p := imaging.Pixels{Width: 16, Height: 16, Channels: 1, Pix: make([]uint8, 256)}
	for i := range p.Pix {
		p.Pix[i] = uint8(i)
	}
	picture, err := p.PNG()
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, bundle.GoldenDir), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "golden/0.png"), picture, 0o644))
	must(t, bundle.WriteUint8(filepath.Join(dir, "golden/0.input.npy"), []int{16, 16, 1}, p.Pix))
	must(t, bundle.WriteFloat32(filepath.Join(dir, "golden/0.output.npy"), []int{3}, scores[kind]))
	m := bundletest.Manifest()
	m.Input.Name, m.Input.Width, m.Input.Height = "image", 16, 16
	m.Outputs = bundle.Outputs{Scores: "scores", Activation: "none"}
	if kind == "xray" { // as the trainer writes it
		m.Outputs.Heatmap, m.Outputs.Features = "heatmap", "features"
	}
	if kind == "mean" {
		m.Outputs.Activation = "sigmoid"
	}
	m.Labels = append(m.Labels, bundle.Label{Name: "Mass", Threshold: 0.5, Urgency: "routine"})
	m.Goldens = []string{"golden/0.png"}
	for _, change := range changes {
		change(&m)
	}
	must(t, bundle.WriteManifest(dir, m))
	return dir
}

// inspect runs the command on a bundle; no bucket is needed.
func inspect(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "penstock-serve", append([]string{"inspect"}, args...)...)
	c.Dir = t.TempDir()
	c.Env = []string{"PENSTOCK_ONNXRUNTIME=" + library(t), "PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir}
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(out)
}

func readBundle(t *testing.T, dir string) *bundle.Bundle {
	t.Helper()
	b, err := bundle.Read(dir)
	must(t, err)
	return b
}

func TestAddCAMMakesABundleOfItsOwn(t *testing.T) {
	for _, kind := range []string{"gemm", "mean", "matmul", "heatmap", "xray"} {
		t.Run(kind, func(t *testing.T) {
			parent, out := headBundle(t, kind), filepath.Join(t.TempDir(), "out")
			if code, said := inspect(t, "--bundle", parent, "--add-cam", "--out", out); code != 0 {
				t.Fatalf("exit code %d: %s", code, said)
			}
			old, made := readBundle(t, parent), readBundle(t, out)
			o := made.Manifest.Outputs
			if made.Digest == old.Digest || made.Manifest.Provenance.Parent != old.Digest || o.HeatmapMethod != "cam" ||
				!(o.HeatmapDifference >= 0 && o.HeatmapDifference < 1e-6) {
				t.Errorf("%s of %s: %+v %+v", made.Digest, old.Digest, made.Manifest.Provenance, o)
			}
			// strides with symmetric padding: a cell is 2 pixels, of the X-ray network 8,
			// and sees as far on both sides of the first
			want := bundle.Shift{Down: -0.25, Right: -0.25}
			if kind == "xray" {
				want = bundle.Shift{Down: -0.4375, Right: -0.4375}
			}
			if o.HeatmapShift != want {
				t.Errorf("shifted by %v, want %v", o.HeatmapShift, want)
			}
			sameFiles(t, parent, out, "golden/0.png", "golden/0.input.npy", "golden/0.output.npy")
			if kind == "heatmap" || kind == "xray" { // it had one, and did not say so
				sameFiles(t, parent, out, bundle.ModelFile)
			}
			again := filepath.Join(t.TempDir(), "again")
			code, said := inspect(t, "--bundle", out, "--add-cam", "--out", again)
			if _, err := os.Stat(again); code != 0 || !strings.Contains(said, "already") || err == nil {
				t.Errorf("a second time: exit code %d, %s", code, said)
			}
		})
	}
}

func sameFiles(t *testing.T, a, b string, names ...string) {
	t.Helper()
	for _, name := range names {
		one, err := os.ReadFile(filepath.Join(a, name))
		must(t, err)
		two, err := os.ReadFile(filepath.Join(b, name))
		must(t, err)
		if !bytes.Equal(one, two) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestAddCAMRefusesWhatHasNoExactMap(t *testing.T) {
	taken := t.TempDir()
	out := filepath.Join(t.TempDir(), "out")
	for name, c := range map[string]struct {
		bundle string
		out    string
		code   int
		text   string
	}{
		"two layers":   {headBundle(t, "hidden"), out, 1, "stands where global average pooling"},
		"maximum":      {headBundle(t, "max"), out, 1, "stands where global average pooling"},
		"another map":  {bundletest.New(t, bundletest.Mean), out, 1, "no class activation map"},
		"taken folder": {headBundle(t, "gemm"), taken, 2, "is there already"},
	} {
		code, said := inspect(t, "--bundle", c.bundle, "--add-cam", "--out", c.out)
		if code != c.code || !strings.Contains(said, c.text) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", name, code, c.code, c.text, said)
		}
	}
	if code, said := inspect(t, "--bundle", headBundle(t, "gemm"), "--add-cam"); code != 2 || !strings.Contains(said, "--out") {
		t.Errorf("without --out: exit code %d, %s", code, said)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(out), "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestAMapThatIsNotExactIsRefused(t *testing.T) {
	parent := readBundle(t, headBundle(t, "gemm"))
	g, err := graph.Read(parent.Path(bundle.ModelFile))
	must(t, err)
	a := camAdder{runtime: modeltest.Runtime(t), parent: parent}
	a.cam, err = g.AddCAM("scores", 3)
	must(t, err)
	a.cam.Bias[1] += 0.001
	out := filepath.Join(t.TempDir(), "out")
	if _, err := a.write(t.Context(), out); err == nil || !strings.Contains(err.Error(), "the map is not exact") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestInspectShowsEveryTask(t *testing.T) {
	for name, c := range map[string]struct {
		bundle string
		texts  []string
	}{
		"tensor":           {bundletest.NewTensor(t), []string{"task: tensor", "input: "}},
		"super-resolution": {bundletest.NewSuperResolution(t, "rgb"), []string{"task: super-resolution", "scale: 2", "colour: rgb, white is 1", "tiles: local, in tiles that overlap by 1 pixels, at multiples of 1; 108 bytes a pixel"}},
		"multilabel":       {bundletest.New(t, bundletest.Mean), []string{"task: multilabel", "Nodule    0.6000"}},
	} {
		code, said := inspect(t, "--bundle", c.bundle)
		for _, text := range c.texts {
			if code != 0 || !strings.Contains(said, text) {
				t.Errorf("%s: exit code %d, no %q in\n%s", name, code, text, said)
			}
		}
	}
	code, said := inspect(t, "--bundle", bundletest.NewTensor(t), "--add-cam", "--out", filepath.Join(t.TempDir(), "out"))
	if code != 1 || !strings.Contains(said, "for the task tensor") {
		t.Errorf("a map for tensors: exit code %d, %s", code, said)
	}
}
