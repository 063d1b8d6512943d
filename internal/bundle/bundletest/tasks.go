package bundletest

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
)

// Graphs of the other tasks; testdata/models.py says what they compute.
const (
	Flat     = "flat.onnx"    // scores of the wrong rank
	Unknown  = "unknown.onnx" // has an operator that nobody knows
	Heavy    = "heavy.onnx"   // Mean by way of 16 MB of weights
	Enlarge1 = "enlarge1.onnx"
	Enlarge3 = "enlarge3.onnx"
	Sums     = "sums.onnx"
)

// Graph gives the bytes of one of the graphs.
func Graph(t testing.TB, name string) []byte {
	t.Helper()
	data, err := graphs.ReadFile("testdata/" + name)
	must(t, err)
	return data
}

// Array is a tensor as bundle.WriteArray takes it.
type Array struct {
	Type  string // as numpy writes it: <f4
	Shape []int64
	Data  []byte
}

// Floats is a float32 array.
func Floats(values []float32, shape ...int64) Array {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return Array{"<f4", shape, data}
}

// Ints is an int64 array.
func Ints(values []int64, shape ...int64) Array {
	data := make([]byte, 0, 8*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint64(data, uint64(v))
	}
	return Array{"<i8", shape, data}
}

// Golden is one example of a tensor bundle, in the graph's order.
type Golden struct{ Inputs, Outputs []Array }

// Tensor writes a bundle of the task tensor around any model and its examples.
func Tensor(t testing.TB, model []byte, goldens []Golden, changes ...func(*bundle.Manifest)) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), model, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, bundle.GoldenDir), 0o755))
	m := bundle.Manifest{
		Schema: bundle.Schema, Name: "test", Task: bundle.TaskTensor, Tolerance: 1e-4, Provenance: provenance(),
	}
	for i, g := range goldens {
		stem := bundle.GoldenDir + "/" + string(rune('a'+i))
		m.Goldens = append(m.Goldens, stem)
		for j, a := range g.Inputs {
			must(t, bundle.WriteArray(filepath.Join(dir, bundle.TensorInputFile(stem, j)), a.Type, a.Shape, a.Data))
		}
		for j, a := range g.Outputs {
			must(t, bundle.WriteArray(filepath.Join(dir, bundle.TensorOutputFile(stem, j)), a.Type, a.Shape, a.Data))
		}
	}
	for _, change := range changes {
		change(&m)
	}
	must(t, bundle.WriteManifest(dir, m))
	return dir
}

// NewTensor writes a tensor bundle around Sums.
func NewTensor(t testing.TB, changes ...func(*bundle.Manifest)) string {
	t.Helper()
	golden := Golden{
		Inputs:  []Array{Floats([]float32{1, 2, 3}, 1, 3), Ints([]int64{4, -5, 6}, 1, 3)},
		Outputs: []Array{Floats([]float32{5, -3, 9}, 1, 3), Ints([]int64{8, -10, 12}, 1, 3)},
	}
	return Tensor(t, Graph(t, Sums), []Golden{golden}, changes...)
}

func provenance() bundle.Provenance {
	return bundle.Provenance{Dataset: "none", RunKey: "test", Trainer: "bundletest", Frameworks: map[string]string{"go": "closed form"}}
}

// Scale of the bundles of NewSuperResolution.
const Scale = 2

// NewSuperResolution writes a bundle that doubles pictures of any size, with
// white at 1, for a colour convention: rgb, ycbcr or grey.
func NewSuperResolution(t testing.TB, colour string, changes ...func(*bundle.Manifest)) string {
	t.Helper()
	dir := t.TempDir()
	graph, channels := Enlarge1, 1
	if colour == bundle.ColourRGB {
		graph, channels = Enlarge3, 3
	}
	must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), Graph(t, graph), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, bundle.GoldenDir), 0o755))
	m := bundle.Manifest{
		Schema: bundle.Schema, Name: "test", Task: bundle.TaskSuperResolution,
		Input: bundle.Input{
			Name: "input", Channels: channels, Decoder: "go", Scale: 1.0 / 255, Layout: "nchw",
			Mean: make([]float64, channels), Std: []float64{1, 1, 1}[:channels],
		},
		Outputs:         bundle.Outputs{Image: "image"},
		SuperResolution: bundle.SuperResolution{Scale: Scale, Colour: colour, Levels: 1},
		Tolerance:       1e-4, Goldens: []string{"golden/0.png"}, Provenance: provenance(),
	}
	img := ColourPicture(17, 11, colour == bundle.ColourGrey)
	var file bytes.Buffer
	must(t, png.Encode(&file, img))
	must(t, os.WriteFile(filepath.Join(dir, m.Goldens[0]), file.Bytes(), 0o644))
	pixels := planes(img, colour)
	b := img.Bounds()
	must(t, bundle.WriteUint8(filepath.Join(dir, bundle.InputFile(m.Goldens[0])), []int{b.Dy(), b.Dx(), channels}, pixels))
	must(t, bundle.WriteFloat32(filepath.Join(dir, bundle.OutputFile(m.Goldens[0])), []int{channels, Scale * b.Dy(), Scale * b.Dx()},
		Enlarged(pixels, b.Dx(), b.Dy(), channels)))
	for _, change := range changes {
		change(&m)
	}
	must(t, bundle.WriteManifest(dir, m))
	return dir
}

// ColourPicture is a smooth picture of w x h pixels; a grey one has equal
// planes.
func ColourPicture(w, h int, grey bool) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.NRGBA{uint8(40 + 200*x/w), uint8(30 + 190*y/h), uint8(220 - 150*x/w), 255}
			if grey {
				c.G, c.B = c.R, c.R
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

// planes is what the graph sees of a picture: uint8 [h, w, channels].
func planes(img *image.NRGBA, colour string) []uint8 {
	var pixels []uint8
	for i := 0; i < len(img.Pix); i += 4 {
		r, g, b := img.Pix[i], img.Pix[i+1], img.Pix[i+2]
		if colour == bundle.ColourRGB {
			pixels = append(pixels, r, g, b)
			continue
		}
		y, _, _ := color.RGBToYCbCr(r, g, b)
		pixels = append(pixels, y)
	}
	return pixels
}

// Enlarged is what the graphs Enlarge1 and Enlarge3 give for pixels [h, w, c],
// white being 1: float32 [c, 2h, 2w], in closed form.
func Enlarged(pixels []uint8, w, h, channels int) []float32 {
	out := make([]float32, channels*Scale*h*Scale*w)
	for c := range channels {
		for y := range h {
			for x := range w {
				var sum float64
				for dy := max(0, y-1); dy <= min(h-1, y+1); dy++ {
					for dx := max(0, x-1); dx <= min(w-1, x+1); dx++ {
						sum += float64(pixels[(dy*w+dx)*channels+c]) / 255 / 9
					}
				}
				for i := range Scale * Scale {
					out[(c*Scale*h+Scale*y+i/Scale)*Scale*w+Scale*x+i%Scale] = float32(sum)
				}
			}
		}
	}
	return out
}
