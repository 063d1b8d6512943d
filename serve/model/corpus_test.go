package model_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/graph"
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

// tensorFile reads an ONNX TensorProto of float32.
func tensorFile(t *testing.T, path string) oip.Tensor {
	t.Helper()
	tensor, err := graph.TensorFromPB(fileBytes(t, path))
	if err != nil || tensor.Datatype != oip.FP32 {
		t.Fatalf("%s: %v, %s", path, err, tensor.Datatype)
	}
	return tensor
}

func array(t oip.Tensor) bundletest.Array {
	return bundletest.Array{Type: "<f4", Shape: t.Shape, Data: t.Data}
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
		pixels := imaging.Pixels{Width: 28, Height: 28, Channels: 1, Pix: make([]uint8, 28*28)}
		for j, v := range oip.Float32s(input.Data) {
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
		must(t, bundle.WriteFloat32(filepath.Join(dir, bundle.OutputFile(golden)), []int{10}, oip.Float32s(output.Data)))
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

// TestOperatorsGiveTheVectorsOfTheFormat runs the tests of ONNX itself, whose
// outputs are PyTorch's.
func TestOperatorsGiveTheVectorsOfTheFormat(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(corpus(t, "models/onnx_backend"), "*"))
	must(t, err)
	if len(dirs) < 10 {
		t.Fatalf("%d folders", len(dirs))
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			vectors := func(pattern string) (all []bundletest.Array) {
				files, err := filepath.Glob(filepath.Join(dir, "test_data_set_0", pattern))
				must(t, err)
				for _, f := range files {
					all = append(all, array(tensorFile(t, f)))
				}
				return all
			}
			golden := bundletest.Golden{Inputs: vectors("input_*.pb"), Outputs: vectors("output_*.pb")}
			m, err := model.Open(t.Context(), modeltest.Runtime(t),
				read(t, bundletest.Tensor(t, fileBytes(t, filepath.Join(dir, "model.onnx")), []bundletest.Golden{golden})))
			if old := tooOld[filepath.Base(dir)]; old != "" {
				if err == nil || !strings.Contains(err.Error(), old) || !strings.Contains(err.Error(), "operator set 7") {
					t.Errorf("got %v, want %q", err, old)
				}
				return
			}
			must(t, err)
			must(t, m.Close())
		})
	}
}

// tooOld are operators from before operator set 7, which ONNX Runtime never had.
var tooOld = map[string]string{
	"test_AvgPool2d": "AveragePool(1)", "test_BatchNorm2d_eval": "BatchNormalization(6)", "test_Linear": "Gemm(6)",
}

// TestToysGiveWhatTheReferenceEvaluatorGives runs several inputs and outputs of
// many types; testdata/toys.py made what is wanted.
func TestToysGiveWhatTheReferenceEvaluatorGives(t *testing.T) {
	dir := corpus(t, "models/yalue_test_data")
	toy := func(pattern string) (all []bundletest.Array) {
		files, err := filepath.Glob(filepath.Join("testdata/toys", pattern))
		must(t, err)
		for _, f := range files {
			dtype, shape, data, err := bundle.ReadArray(f)
			must(t, err)
			all = append(all, bundletest.Array{Type: dtype, Shape: shape, Data: data})
		}
		return all
	}
	for _, name := range []string{"0_dim_output", "big_fanout", "dynamic_axes", "float16", "multitype", "several_inputs_and_outputs"} {
		t.Run(name, func(t *testing.T) {
			golden := bundletest.Golden{Inputs: toy(name + ".input.*"), Outputs: toy(name + ".output.*")}
			if len(golden.Inputs) == 0 || len(golden.Outputs) == 0 {
				t.Fatal("testdata/toys has nothing of it")
			}
			m, err := model.Open(t.Context(), modeltest.Runtime(t),
				read(t, bundletest.Tensor(t, fileBytes(t, filepath.Join(dir, "example_"+name+".onnx")), []bundletest.Golden{golden})))
			must(t, err)
			must(t, m.Close())
		})
	}
}

func TestAMapAmongTheOutputsIsRefusedByName(t *testing.T) {
	forest := fileBytes(t, filepath.Join(corpus(t, "models/yalue_test_data"), "sklearn_randomforest.onnx"))
	golden := bundletest.Golden{
		Inputs:  []bundletest.Array{bundletest.Floats(make([]float32, 4), 1, 4)},
		Outputs: []bundletest.Array{bundletest.Ints([]int64{0}, 1), bundletest.Floats([]float32{1, 0, 0}, 1, 3)},
	}
	_, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, bundletest.Tensor(t, forest, []bundletest.Golden{golden})))
	if err == nil || !strings.Contains(err.Error(), `output "output_probability" of the graph is a sequence`) || !strings.Contains(err.Error(), "zipmap=False") {
		t.Errorf("got %v", err)
	}
}

// TestARealNetworkGivesTheSameBitsAloneAndInABatch runs pictures of 224 x 224
// one by one and three at a time.
func TestARealNetworkGivesTheSameBitsAloneAndInABatch(t *testing.T) {
	dir := corpus(t, "models/super_resolution_10")
	vector := tensorFile(t, filepath.Join(dir, "test_data_set_0/input_0.pb"))
	golden := bundletest.Golden{
		Inputs:  []bundletest.Array{array(vector)},
		Outputs: []bundletest.Array{array(tensorFile(t, filepath.Join(dir, "test_data_set_0/output_0.pb")))},
	}
	files := bundletest.Tensor(t, fileBytes(t, filepath.Join(dir, "model.onnx")), []bundletest.Golden{golden}, func(m *bundle.Manifest) { m.Tolerance = 1e-3 })
	var alone [3][]byte
	pass := func(batching model.BatchOptions, see func(i int, r *model.Result)) {
		m := modeltest.Open(t, modeltest.Batching(t, batching), files)
		var wg sync.WaitGroup
		for i := range alone {
			wg.Go(func() {
				in := vector
				in.Name, in.Data = "input", slices.Clone(vector.Data)
				for k, v := range oip.Float32s(in.Data) {
					oip.Float32s(in.Data)[k] = v * float32(i+1) / 3
				}
				r, err := m.Infer(t.Context(), []oip.Tensor{in}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Release()
				see(i, r)
			})
		}
		wg.Wait()
		must(t, m.Close())
	}
	pass(model.BatchOptions{}, func(i int, r *model.Result) { alone[i] = slices.Clone(r.Outputs[0].Data) })
	pass(model.BatchOptions{Max: 3, Delay: time.Second}, func(i int, r *model.Result) {
		if r.Phases.Batch != 3 || !bytes.Equal(r.Outputs[0].Data, alone[i]) {
			t.Errorf("picture %d: other bits in a run of %d", i, r.Phases.Batch)
		}
	})
}

// TestSuperResolutionGivesItsVector takes the ONNX Model Zoo's network, whose
// input is no whole number, as tensors.
func TestSuperResolutionGivesItsVector(t *testing.T) {
	dir := corpus(t, "models/super_resolution_10")
	golden := bundletest.Golden{
		Inputs:  []bundletest.Array{array(tensorFile(t, filepath.Join(dir, "test_data_set_0/input_0.pb")))},
		Outputs: []bundletest.Array{array(tensorFile(t, filepath.Join(dir, "test_data_set_0/output_0.pb")))},
	}
	m, err := model.Open(t.Context(), modeltest.Runtime(t),
		read(t, bundletest.Tensor(t, fileBytes(t, filepath.Join(dir, "model.onnx")), []bundletest.Golden{golden}, func(m *bundle.Manifest) { m.Tolerance = 1e-3 })))
	must(t, err)
	must(t, m.Close())
}
