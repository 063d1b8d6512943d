package tile

import (
	"bytes"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// corpus is a folder of the data that is not in the repository. Where
// PENSTOCK_TEST_DATA is set, it must be there.
func corpus(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: the models and pictures of other people are not tried")
	}
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("PENSTOCK_TEST_DATA is set, but: %v", err)
	}
	return dir
}

// network is a graph and its convention.
type network struct {
	file          string // below testdata, or a path
	colour        string
	scale         int
	input, output string
	side          int // of the golden, 0: 17 x 11
}

var networks = map[string]network{
	"edsr":      {file: "edsr.onnx", colour: bundle.ColourRGB, scale: 2},
	"attention": {file: "attention.onnx", colour: bundle.ColourRGB, scale: 2},
	"plain":     {file: "plain.onnx", colour: bundle.ColourYCbCr, scale: 3},
	"grey":      {file: "plain.onnx", colour: bundle.ColourGrey, scale: 3},
	"levels":    {file: "levels.onnx", colour: bundle.ColourGrey, scale: 2, side: 12},
	"fixed":     {file: "fixed.onnx", colour: bundle.ColourYCbCr, scale: 3, side: 24},
}

// open makes a bundle around a network, whose golden is its own first run, and
// opens it.
func open(t testing.TB, n network) *model.Model {
	t.Helper()
	return modeltest.Open(t, modeltest.Runtime(t), n.bundle(t))
}

func (n network) bundle(t testing.TB) string {
	t.Helper()
	if n.input == "" {
		n.input, n.output = "x", "y"
	}
	path := n.file
	if !filepath.IsAbs(path) {
		path = filepath.Join("testdata", path)
	}
	graph, err := os.ReadFile(path)
	must(t, err)
	var m bundle.Manifest
	dir := bundletest.NewSuperResolution(t, n.colour, func(changed *bundle.Manifest) {
		changed.Input.Name, changed.Outputs.Image, changed.SuperResolution.Scale = n.input, n.output, n.scale
		m = *changed
	})
	must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), graph, 0o644))
	golden, size := filepath.Join(dir, m.Goldens[0]), [2]int{17, 11}
	if n.side > 0 {
		size = [2]int{n.side, n.side}
	}
	var file bytes.Buffer
	must(t, png.Encode(&file, bundletest.ColourPicture(size[0], size[1], n.colour == bundle.ColourGrey)))
	must(t, os.WriteFile(golden, file.Bytes(), 0o644))
	img, _, err := imaging.Decode(file.Bytes(), imaging.DefaultLimits)
	must(t, err)
	separated, err := coloursOf(img, n.colour, n.scale)
	must(t, err)
	p := separated.seen
	must(t, bundle.WriteUint8(bundle.InputFile(golden), []int{p.Height, p.Width, p.Channels}, p.Pix))
	shape := []int{p.Channels, n.scale * p.Height, n.scale * p.Width}
	must(t, bundle.WriteFloat32(bundle.OutputFile(golden), shape, make([]float32, shape[0]*shape[1]*shape[2])))
	must(t, bundle.WriteFloat32(bundle.OutputFile(golden), shape, n.bare(t, dir, p)))
	return dir
}

// bare runs pixels with nothing around ONNX Runtime.
func (n network) bare(t testing.TB, dir string, p imaging.Pixels) []float32 {
	t.Helper()
	b, err := bundle.Read(dir)
	must(t, err)
	session, err := model.OpenBare(modeltest.Runtime(t), b, []oip.Tensor{tensor(n.input, p)})
	must(t, err)
	defer session.Close()
	caller, err := session.Caller()
	must(t, err)
	defer caller.Close()
	out, err := caller.Outputs()
	must(t, err)
	return oip.Float32s(out[0].Data)
}

// tensor is pixels over 255, as the bundles' manifests have it.
func tensor(name string, p imaging.Pixels) oip.Tensor {
	planes := make([]float32, len(p.Pix))
	for i, v := range p.Pix {
		planes[i%p.Channels*p.Width*p.Height+i/p.Channels] = float32(float64(v) * (1.0 / 255))
	}
	return oip.Tensor{Name: name, Datatype: oip.FP32, Shape: []int64{1, int64(p.Channels), int64(p.Height), int64(p.Width)}, Data: oip.Bytes(planes)}
}

// noise is pixels without any pattern: what a tile gets wrong shows.
func noise(width, height, channels int) imaging.Pixels {
	random := rand.New(rand.NewPCG(1, 2))
	p := imaging.Pixels{Width: width, Height: height, Channels: channels, Pix: make([]uint8, width*height*channels)}
	for i := range p.Pix {
		p.Pix[i] = uint8(random.UintN(256))
	}
	return p
}

// traits are those of the model's graph.
func traits(t testing.TB, m *model.Model) Traits {
	t.Helper()
	found, err := Look(m.Bundle())
	must(t, err)
	return found
}

// enlargedBy runs pixels through an engine.
func enlargedBy(t testing.TB, e *engine, p imaging.Pixels) imaging.Pixels {
	t.Helper()
	out := imaging.Pixels{Width: p.Width * e.traits.Scale, Height: p.Height * e.traits.Scale, Channels: p.Channels}
	_, err := e.enlarge(t.Context(), p, func(b band) error {
		out.Pix = append(out.Pix, slices.Clone(b.pixels.Pix)...)
		return nil
	})
	must(t, err)
	return out
}

// boundFor is the bound that makes square tiles of a side.
func boundFor(tr Traits, side int) Bounds {
	return Bounds{Memory: tr.bytes(side, side) + 64, Runs: 1}
}
