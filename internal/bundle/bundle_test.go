package bundle_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadGivesTheManifestThatWasWritten(t *testing.T) {
	b, err := bundle.Read(bundletest.New(t, bundletest.Mean))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bundletest.Manifest(), b.Manifest); diff != "" {
		t.Error(diff)
	}
	if !bundle.ValidDigest(b.Digest) {
		t.Errorf("digest %q", b.Digest)
	}
}

func TestDigestIsOfTheSortedSums(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "b", []byte("hello\n"))
	write(t, dir, "a/c", []byte("hello\n"))
	write(t, dir, bundle.SumsFile, []byte("not part of it"))
	got, err := bundle.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	// (sha256sum b a/c | sort | sha256sum)
	const want = "0909b4e4e0d2478acf7e41ada7353a6370e26a5f5099ae53fe4be364665f2bfe"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDigestChangesWithEveryByteAndName(t *testing.T) {
	dir := bundletest.New(t, bundletest.Mean)
	before, err := bundle.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "golden/1.png"), filepath.Join(dir, "golden/2.png")); err != nil {
		t.Fatal(err)
	}
	after, err := bundle.DigestDir(dir)
	if err != nil || before == after {
		t.Errorf("digest %s after renaming a file (%v)", after, err)
	}
}

func TestReadRefusesWhatIsNoBundle(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		text  string
	}{
		{"no manifest", func(t *testing.T, dir string) { remove(t, dir, bundle.ManifestFile) }, "not a model bundle"},
		{"no model", func(t *testing.T, dir string) { remove(t, dir, bundle.ModelFile) }, "model.onnx"},
		{"golden without pixels", func(t *testing.T, dir string) { remove(t, dir, "golden/0.input.npy") }, "golden pixels"},
		{"golden without scores", func(t *testing.T, dir string) { remove(t, dir, "golden/1.output.npy") }, "golden scores"},
		{"too few scores", func(t *testing.T, dir string) {
			if err := bundle.WriteFloat32(filepath.Join(dir, "golden/0.output.npy"), []int{1}, []float32{0.5}); err != nil {
				t.Fatal(err)
			}
		}, "1 scores, the bundle has 2 labels"},
		{"pixels of another shape", func(t *testing.T, dir string) {
			if err := bundle.WriteUint8(filepath.Join(dir, "golden/0.input.npy"), []int{1, 8, 8}, make([]uint8, 64)); err != nil {
				t.Fatal(err)
			}
		}, "want [height, width, channels]"},
		{"a link", func(t *testing.T, dir string) {
			if err := os.Symlink("/etc/hostname", filepath.Join(dir, "golden", "host")); err != nil {
				t.Fatal(err)
			}
		}, "not a plain file"},
		{"external tensor above", func(t *testing.T, dir string) { write(t, dir, "model.onnx", bundletest.External("../weights")) }, "outside the bundle"},
		{"external tensor at a root", func(t *testing.T, dir string) { write(t, dir, "model.onnx", bundletest.External("/etc/passwd")) }, "outside the bundle"},
		{"external tensor in memory", func(t *testing.T, dir string) { write(t, dir, "model.onnx", bundletest.External("*/_ORT_MEM_ADDR_/*")) }, "outside the bundle"},
		{"external tensor missing", func(t *testing.T, dir string) { write(t, dir, "model.onnx", bundletest.External("weights")) }, "external tensor"},
		{"IR version 1", func(t *testing.T, dir string) { write(t, dir, "model.onnx", bundletest.Header(1)) }, "IR version 1"},
		{"an empty model", func(t *testing.T, dir string) { write(t, dir, "model.onnx", nil) }, "0 bytes without an IR version"},
		{"no operator set", func(t *testing.T, dir string) { write(t, dir, "model.onnx", bundletest.Header(8)[:2]) }, "operator set"},
		{"not ONNX", func(t *testing.T, dir string) { write(t, dir, "model.onnx", []byte("hello")) }, "not an ONNX file"},
		{"unknown key", func(t *testing.T, dir string) { appendManifest(t, dir, "temperature: 3\n") }, "temperature"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := bundletest.New(t, bundletest.Mean)
			c.spoil(t, dir)
			if _, err := bundle.Read(dir); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

func TestReadTakesExternalTensorsInside(t *testing.T) {
	dir := bundletest.New(t, bundletest.Mean)
	write(t, dir, "model.onnx", bundletest.External("weights/all.bin"))
	write(t, dir, "weights/all.bin", []byte{1})
	if _, err := bundle.Read(dir); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
		t.Fatal(err)
	}
}

func appendManifest(t *testing.T, dir, text string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, bundle.ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, bundle.ManifestFile, append(data, text...))
}

func TestManifestNamesTheKeyThatIsWrong(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(*bundle.Manifest)
		text  string
	}{
		{"schema", func(m *bundle.Manifest) { m.Schema = 2 }, "schema 2"},
		{"name", func(m *bundle.Manifest) { m.Name = "../x" }, "name"},
		{"task to come", func(m *bundle.Manifest) { m.Task = "multiclass" }, "not built yet"},
		{"task", func(m *bundle.Manifest) { m.Task = "regression" }, "task"},
		{"input name", func(m *bundle.Manifest) { m.Input.Name = "" }, "input.name"},
		{"channels", func(m *bundle.Manifest) { m.Input.Channels = 4 }, "input.channels"},
		{"mean", func(m *bundle.Manifest) { m.Input.Mean = nil }, "input.mean"},
		{"std", func(m *bundle.Manifest) { m.Input.Std = []float64{0} }, "input.std"},
		{"scale", func(m *bundle.Manifest) { m.Input.Scale = 0 }, "input.scale"},
		{"layout", func(m *bundle.Manifest) { m.Input.Layout = "nhwc" }, "input.layout"},
		{"resize", func(m *bundle.Manifest) { m.Input.Resize = "crop" }, "input.resize"},
		{"scores", func(m *bundle.Manifest) { m.Outputs.Scores = "" }, "outputs.scores"},
		{"activation", func(m *bundle.Manifest) { m.Outputs.Activation = "" }, "outputs.activation"},
		{"softmax", func(m *bundle.Manifest) { m.Outputs.Activation = "softmax" }, "independent"},
		{"labels", func(m *bundle.Manifest) { m.Labels = nil }, "labels"},
		{"same label twice", func(m *bundle.Manifest) { m.Labels[1].Name = m.Labels[0].Name }, "labels[1].name"},
		{"threshold", func(m *bundle.Manifest) { m.Labels[0].Threshold = 1.5 }, "threshold"},
		{"urgency", func(m *bundle.Manifest) { m.Labels[0].Urgency = "soon" }, "urgency"},
		{"method without a heat map", func(m *bundle.Manifest) { m.Outputs.Heatmap, m.Outputs.HeatmapMethod = "", "cam" }, "outputs.heatmap"},
		{"method", func(m *bundle.Manifest) { m.Outputs.HeatmapMethod = "gradcam" }, "heatmap_method"},
		{"shift of no map", func(m *bundle.Manifest) { m.Outputs.Heatmap, m.Outputs.HeatmapShift = "", bundle.Shift{Down: 1} }, "heatmap_shift"},
		{"shift by no number", func(m *bundle.Manifest) { m.Outputs.HeatmapShift.Right = math.NaN() }, "numbers of cells"},
		{"difference without a method", func(m *bundle.Manifest) { m.Outputs.HeatmapDifference = 1e-7 }, "heatmap_difference"},
		{"image of another task", func(m *bundle.Manifest) { m.Outputs.Image = "image" }, "outputs.image"},
		{"section of another task", func(m *bundle.Manifest) { m.SuperResolution.Scale = 2 }, "super_resolution"},
		{"variant", func(m *bundle.Manifest) { m.Variant.Kind = "int4" }, "variant.kind"},
		{"variant without a parent's tolerance", func(m *bundle.Manifest) { m.Variant.Kind = "int8" }, "tolerance_parent"},
		{"variant without a parent", func(m *bundle.Manifest) { m.Variant = bundle.Variant{Kind: "int8", ToleranceParent: 1e-4} }, "provenance.parent"},
		{"tolerance", func(m *bundle.Manifest) { m.Tolerance = 0 }, "tolerance"},
		{"no goldens", func(m *bundle.Manifest) { m.Goldens = nil }, "goldens"},
		{"escaping golden", func(m *bundle.Manifest) { m.Goldens[0] = "golden/../../x.png" }, "golden"},
		{"same golden twice", func(m *bundle.Manifest) { m.Goldens[1] = "golden/0.jpg" }, "twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := bundletest.Manifest()
			c.spoil(&m)
			data, err := yaml.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bundle.ParseManifest(data); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}
