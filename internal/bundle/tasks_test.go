package bundle_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

func TestReadTakesEveryTask(t *testing.T) {
	variant := func(m *bundle.Manifest) {
		m.Variant = bundle.Variant{Kind: "int8", ToleranceParent: 1e-4}
		m.Provenance.Parent = strings.Repeat("a", 64)
		m.Outputs.HeatmapMethod, m.Outputs.HeatmapDifference = "cam", 1.6e-7
		m.Outputs.HeatmapShift = bundle.Shift{Down: -0.4375, Right: -0.4375}
	}
	for name, dir := range map[string]string{
		"tensor": bundletest.NewTensor(t), "rgb": bundletest.NewSuperResolution(t, bundle.ColourRGB),
		"ycbcr": bundletest.NewSuperResolution(t, bundle.ColourYCbCr), "grey": bundletest.NewSuperResolution(t, bundle.ColourGrey),
		"variant": bundletest.New(t, bundletest.Mean, variant),
	} {
		if _, err := bundle.Read(dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATensorBundleHoldsItsGoldensInTheGraphsOrder(t *testing.T) {
	b, err := bundle.Read(bundletest.NewTensor(t))
	if err != nil {
		t.Fatal(err)
	}
	inputs, outputs, err := b.TensorGolden(b.Manifest.Goldens[0])
	if err != nil || len(inputs) != 2 || len(outputs) != 2 {
		t.Fatalf("%v %v %v", inputs, outputs, err)
	}
	dtype, shape, data, err := bundle.ReadArray(outputs[1])
	if err != nil || dtype != "<i8" || !slices.Equal(shape, []int64{1, 3}) || len(data) != 24 || data[0] != 8 {
		t.Errorf("%s %v %v %v", dtype, shape, data, err)
	}
}

func TestReadRefusesGoldensThatDoNotFitTheTask(t *testing.T) {
	tensor, enlarge := bundletest.NewTensor(t), bundletest.NewSuperResolution(t, bundle.ColourRGB)
	remove(t, tensor, "golden/a.output.0.npy")
	if err := bundle.WriteFloat32(filepath.Join(enlarge, "golden/0.output.npy"), []int{3, 11, 17}, make([]float32, 3*11*17)); err != nil {
		t.Fatal(err)
	}
	for dir, text := range map[string]string{tensor: "golden/a", enlarge: "[3 22 34]"} {
		if _, err := bundle.Read(dir); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}

func TestManifestsOfOtherTasksNameTheKeyThatIsWrong(t *testing.T) {
	cases := []struct {
		name  string
		dir   string
		spoil func(*bundle.Manifest)
		text  string
	}{
		{"input of a tensor", bundletest.NewTensor(t), func(m *bundle.Manifest) { m.Input.Name = "a" }, "input"},
		{"outputs of a tensor", bundletest.NewTensor(t), func(m *bundle.Manifest) { m.Outputs.Scores = "a" }, "outputs"},
		{"labels of a tensor", bundletest.NewTensor(t), func(m *bundle.Manifest) { m.Labels = []bundle.Label{{}} }, "labels"},
		{"picture of a tensor", bundletest.NewTensor(t), func(m *bundle.Manifest) { m.Goldens[0] = "golden/0.png" }, "golden"},
		{"labels", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.Labels = []bundle.Label{{}} }, "labels"},
		{"filter", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.Input.Filter = "bilinear" }, "input.filter"},
		{"width alone", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.Input.Width = 9 }, "any size"},
		{"image", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.Outputs.Image = "" }, "image"},
		{"scores", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.Outputs.Scores = "s" }, "image alone"},
		{"scale", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.SuperResolution.Scale = 0 }, "super_resolution.scale"},
		{"colour", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.SuperResolution.Colour = "bgr" }, "super_resolution.colour"},
		{"ycbcr with three channels", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.SuperResolution.Colour = "ycbcr" }, "input.channels"},
		{"levels", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.SuperResolution.Levels = 2 }, "super_resolution.levels"},
		{"tolerance above white", bundletest.NewSuperResolution(t, "rgb"), func(m *bundle.Manifest) { m.Tolerance = 2 }, "tolerance"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(c.dir, bundle.ManifestFile))
			if err != nil {
				t.Fatal(err)
			}
			m, err := bundle.ParseManifest(data)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(&m)
			if data, err = yaml.Marshal(m); err != nil {
				t.Fatal(err)
			}
			if _, err := bundle.ParseManifest(data); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

func TestParseManifestRefusesBombs(t *testing.T) {
	flow, entries, indented := "name: "+strings.Repeat("[", 1<<10), "name:\n "+strings.Repeat("- ", 1<<10)+"x", ""
	for i := range 100 {
		indented += strings.Repeat(" ", i) + "a:\n"
	}
	for text, want := range map[string]string{
		"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n": "aliases",
		"<<: {name: x}\n":                      "aliases",
		"name: !!binary aGVsbG8=\n":            "tags",
		strings.Repeat("# filler\n", 1<<16):    "at most",
		flow:                                   "deep",
		entries:                                "deep",
		"name: " + strings.Repeat("x", 1<<13):  "a line of",
		indented:                               "columns",
		"name: a\x00b\n":                       "zero byte",
		"schema: 1\nschema: 1\n":               "already defined",
		"schema: 1\n---\nschema: 1\nname: x\n": "one document",
	} {
		if _, err := bundle.ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %q", text, err, want)
		}
	}
}
