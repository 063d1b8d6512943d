package model_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// corpus is a folder of the data that is not in the repository. Where
// PENSTOCK_TEST_DATA is set, it must be there.
func corpus(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: the models of other people are not tried")
	}
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("PENSTOCK_TEST_DATA is set, but: %v", err)
	}
	return dir
}

// floats is a float32 tensor in C order.
type floats struct {
	Shape []int64
	Data  []float32
}

// tensorFile reads an ONNX TensorProto of float32.
func tensorFile(t *testing.T, path string) floats {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tensor floats
	var raw []byte
	for len(data) > 0 {
		n, kind, used := protowire.ConsumeTag(data)
		data = data[max(used, 0):]
		switch {
		case used < 0:
			t.Fatalf("%s is no TensorProto", path)
		case n == 1 && kind == protowire.VarintType: // dims
			v, k := protowire.ConsumeVarint(data)
			tensor.Shape, used = append(tensor.Shape, int64(v)), k
		case n == 1 && kind == protowire.BytesType: // dims, packed
			packed, k := protowire.ConsumeBytes(data)
			for used = k; len(packed) > 0; {
				v, k := protowire.ConsumeVarint(packed)
				tensor.Shape, packed = append(tensor.Shape, int64(v)), packed[k:]
			}
		case n == 4 || n == 9: // float_data, packed, or raw_data
			raw, used = protowire.ConsumeBytes(data)
		default:
			used = protowire.ConsumeFieldValue(n, kind, data)
		}
		if used < 0 {
			t.Fatalf("%s is no TensorProto", path)
		}
		data = data[used:]
	}
	for ; len(raw) >= 4; raw = raw[4:] {
		tensor.Data = append(tensor.Data, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
	}
	return tensor
}

// TestMNISTGivesItsVectors makes a bundle of the ONNX Model Zoo's MNIST: its
// pictures are whole numbers from 0 to 255, so that they pass as PNG, and its
// outputs are another framework's.
func TestMNISTGivesItsVectors(t *testing.T) {
	source := corpus(t, "models/mnist_8")
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, bundle.GoldenDir), 0o755))
	graph, err := os.ReadFile(filepath.Join(source, "model.onnx"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), graph, 0o644))
	m := bundle.Manifest{
		Schema: bundle.Schema, Name: "mnist", Task: "multilabel", Tolerance: 1e-2, // of values around 1000
		Input: bundle.Input{
			Name: "Input3", Width: 28, Height: 28, Channels: 1, Decoder: "go", Resize: "stretch", Filter: "bilinear",
			Scale: 1, Mean: []float64{0}, Std: []float64{1}, Layout: "nchw",
		},
		Outputs: bundle.Outputs{Scores: "Plus214_Output_0", Activation: "sigmoid"},
	}
	for digit := range 10 {
		m.Labels = append(m.Labels, bundle.Label{Name: fmt.Sprint(digit), Threshold: 0.5, Urgency: "routine"})
	}
	for i := range 3 {
		vectors := filepath.Join(source, fmt.Sprintf("test_data_set_%d", i))
		input, output := tensorFile(t, filepath.Join(vectors, "input_0.pb")), tensorFile(t, filepath.Join(vectors, "output_0.pb"))
		pixels := imaging.Pixels{Width: 28, Height: 28, Channels: 1, Pix: make([]uint8, len(input.Data))}
		for j, v := range input.Data {
			pixels.Pix[j] = uint8(v)
			if float32(pixels.Pix[j]) != v {
				t.Fatalf("pixel %d of vector %d is %v", j, i, v)
			}
		}
		picture, err := pixels.PNG()
		must(t, err)
		golden := fmt.Sprintf("golden/%d.png", i)
		m.Goldens = append(m.Goldens, golden)
		must(t, os.WriteFile(filepath.Join(dir, golden), picture, 0o644))
		must(t, bundle.WriteUint8(filepath.Join(dir, bundle.InputFile(golden)), []int{28, 28, 1}, pixels.Pix))
		must(t, bundle.WriteFloat32(filepath.Join(dir, bundle.OutputFile(golden)), []int{10}, output.Data))
	}
	must(t, bundle.WriteManifest(dir, m))
	loaded, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, dir)) // checks the goldens
	must(t, err)
	defer loaded.Close()
	// its first dimension is fixed at one picture: several go one by one
	p, err := imaging.Preprocess(fileBytes(t, filepath.Join(dir, "golden/0.png")), loaded.Spec(), imaging.DefaultLimits)
	must(t, err)
	scores, _, err := loaded.ScoreBatch(t.Context(), []imaging.Pixels{p, p, p})
	must(t, err)
	if len(scores) != 3 || fmt.Sprint(scores[0]) != fmt.Sprint(scores[2]) {
		t.Errorf("got %v", scores)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fileBytes(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// TestModelsThatAreNoBundleAreRefusedByName takes real files: one from before
// operator sets, one for another task.
func TestModelsThatAreNoBundleAreRefusedByName(t *testing.T) {
	root := corpus(t, "models")
	for name, text := range map[string]string{
		"super_resolution_tutorial": "IR version 1",
		"super_resolution_10":       "want [?, 1, 8, 8]",
	} {
		files, err := filepath.Glob(filepath.Join(root, name, "*.onnx"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v %v", name, files, err)
		}
		dir := bundletest.New(t, bundletest.Mean)
		must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), fileBytes(t, files[0]), 0o644))
		b, err := bundle.Read(dir)
		if err == nil {
			_, err = model.Open(t.Context(), modeltest.Runtime(t), b)
		}
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", name, err, text)
		}
	}
}
