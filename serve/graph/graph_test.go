package graph_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/graph"
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
		t.Skip("PENSTOCK_TEST_DATA is not set: the models of other people are not tried")
	}
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("PENSTOCK_TEST_DATA is set, but: %v", err)
	}
	return dir
}

func glob(t testing.TB, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		must(t, err)
		if len(files) == 0 {
			t.Fatalf("no file %s", pattern)
		}
		all = append(all, files...)
	}
	return all
}

// oracle runs ONNX's own tools and ONNX Runtime, from Python.
func oracle(t *testing.T, args ...string) string {
	t.Helper()
	python, err := process.Cached("mlflow/bin/python")
	must(t, err)
	var stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), python, append([]string{"testdata/oracle.py"}, args...)...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("oracle.py %s: %v\n%s", args[0], err, stderr.String())
	}
	return string(out)
}

func parse(t testing.TB, path string) *graph.Graph {
	t.Helper()
	g, err := graph.Read(path)
	must(t, err)
	return g
}

// again parses and marshals files; it gives pairs of the old and the new.
func again(t *testing.T, files []string) []string {
	t.Helper()
	var pairs []string
	for i, file := range files {
		data, err := parse(t, file).Marshal()
		must(t, err)
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.onnx", i))
		must(t, os.WriteFile(path, data, 0o644))
		pairs = append(pairs, file, path)
	}
	return pairs
}

const bundled = "../../internal/bundle/bundletest/testdata/"

func TestMarshalLosesNothing(t *testing.T) {
	files := glob(t, bundled+"mean.onnx", bundled+"endless.onnx") // endless has a graph within a node
	oracle(t, append([]string{"same"}, again(t, files)...)...)
}

func TestMarshalLosesNothingOfRealModels(t *testing.T) {
	root := corpus(t, "models")
	files := glob(t, root+"/mnist_8/model.onnx", root+"/super_resolution_10/model.onnx",
		root+"/onnx_backend/*/model.onnx", root+"/yalue_test_data/*.onnx")
	// ONNX Runtime has nothing for three graphs of operator set 6; it gives a
	// dictionary for the forest; NumPy has no bfloat16 for the last two.
	unfit := regexp.MustCompile("AvgPool2d|BatchNorm2d|Linear|randomforest|float16|several_inputs")
	files = slices.DeleteFunc(files, unfit.MatchString)
	oracle(t, append([]string{"same"}, again(t, files)...)...)
}

func TestUnknownFieldsSurvive(t *testing.T) {
	data, err := os.ReadFile(bundled + "mean.onnx")
	must(t, err)
	added := protowire.AppendString(protowire.AppendTag(nil, 900, protowire.BytesType), "of a later version")
	g, err := graph.Parse(append(data, added...))
	must(t, err)
	out, err := g.Marshal()
	must(t, err)
	if !bytes.Contains(out, added) || !bytes.Contains(out, []byte("models.py")) { // the producer's name is not in the subset
		t.Error("a field that is not in the subset is lost")
	}
}

func TestInputsAndOutputsAreThoseOfTheGraph(t *testing.T) {
	g := parse(t, bundled+"mean.onnx")
	if got, want := fmt.Sprint(g.Inputs()), "[{input FP32 [-1 1 8 8]}]"; got != want {
		t.Errorf("inputs %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(g.Outputs()), "[{scores FP32 [-1 2]} {heatmap FP32 [-1 2 8 8]} {features FP32 [-1 1]}]"; got != want {
		t.Errorf("outputs %s, want %s", got, want)
	}
}

// In files of IR version 3 weights stand among the inputs too.
func TestWeightsAreNoInputs(t *testing.T) {
	g := parse(t, corpus(t, "models/mnist_8")+"/model.onnx")
	if got, want := fmt.Sprint(g.Inputs()), "[{Input3 FP32 [1 1 28 28]}]"; got != want {
		t.Errorf("inputs %s, want %s", got, want)
	}
}

func TestTestVectorsAreRead(t *testing.T) {
	files := glob(t, corpus(t, "models")+"/*/test_data_set_*/*.pb", corpus(t, "models")+"/onnx_backend/*/test_data_set_*/*.pb")
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(t, err)
		tensor, err := graph.TensorFromPB(data)
		must(t, err)
		if tensor.Datatype != oip.FP32 || len(tensor.Data) == 0 {
			t.Errorf("%s: %s of %d bytes", file, tensor.Datatype, len(tensor.Data))
		}
	}
}

func TestWhatIsNoModelIsRefused(t *testing.T) {
	tag := func(n protowire.Number) []byte { return protowire.AppendTag(nil, n, protowire.BytesType) }
	nodes := bytes.Repeat(append(tag(1), 0), 1<<20+1) // two bytes each, a hundred in memory
	bomb := protowire.AppendBytes(append([]byte{8, 8}, tag(7)...), nodes)
	for name, c := range map[string]struct {
		data []byte
		text string
	}{
		"nothing":    {nil, "not an ONNX file"},
		"text":       {[]byte("hello, world"), "not an ONNX file"},
		"no graph":   {[]byte{8, 8}, "without IR version or graph"},
		"truncated":  {protowire.AppendBytes(append([]byte{8, 8}, tag(7)...), make([]byte, 9))[:8], "not an ONNX file"},
		"many nodes": {bomb, "more than 1048576 nodes"},
	} {
		if _, err := graph.Parse(c.data); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %q", name, err, c.text)
		}
	}
	lying := []byte{8, 200, 1, 8, 200, 1, 16, 1} // 200 x 200 floats, and none there
	if _, err := graph.TensorFromPB(lying); err == nil {
		t.Error("a tensor without its elements was read")
	}
}
