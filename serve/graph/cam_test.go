package graph_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/serve/graph"
)

// run gives what ONNX Runtime makes of a graph for one picture.
func run(t *testing.T, g *graph.Graph) map[string]struct {
	Shape []int
	Data  []float32
} {
	t.Helper()
	data, err := g.Marshal()
	must(t, err)
	path := filepath.Join(t.TempDir(), "model.onnx")
	must(t, os.WriteFile(path, data, 0o644))
	var outputs map[string]struct {
		Shape []int
		Data  []float32
	}
	must(t, json.Unmarshal([]byte(oracle(t, "outputs", path)), &outputs))
	return outputs
}

func TestTheMeanOfTheMapPlusTheBiasIsTheLogit(t *testing.T) {
	for _, name := range []string{"gemm", "mean", "matmul"} {
		t.Run(name, func(t *testing.T) {
			g := parse(t, "testdata/heads/"+name+".onnx")
			before, err := g.Marshal()
			must(t, err)
			cam, err := g.AddCAM("scores", 3)
			must(t, err)
			if !cam.Added || cam.Output != "heatmap" || cam.Sigmoid != (name != "mean") {
				t.Errorf("%+v", cam)
			}
			outputs := run(t, cam.Graph)
			if shape := outputs["heatmap"].Shape; !slices.Equal(shape, []int{1, 3, 8, 8}) {
				t.Fatalf("the map has the shape %v", shape)
			}
			d := cam.Difference(outputs["scores"].Data, outputs["heatmap"].Data)
			if !(d < 1e-6) {
				t.Errorf("%v apart", d)
			}
			wrong := slices.Clone(outputs["scores"].Data)
			wrong[2] += 0.01
			if d := cam.Difference(wrong, outputs["heatmap"].Data); d < 0.005 {
				t.Errorf("a wrong score is only %v apart", d)
			}
			wrong[0] = float32(math.NaN())
			if d := cam.Difference(wrong, outputs["heatmap"].Data); !math.IsNaN(d) {
				t.Errorf("a score that is no number is %v apart", d)
			}
			after, err := g.Marshal()
			must(t, err)
			if !bytes.Equal(before, after) {
				t.Error("the graph itself was changed")
			}
		})
	}
}

func TestAMapThatIsThereIsFound(t *testing.T) {
	for name, output := range map[string]string{"heatmap": "map", "xray": "heatmap"} {
		cam, err := parse(t, "testdata/heads/"+name+".onnx").AddCAM("scores", 3)
		must(t, err)
		if cam.Added || cam.Output != output {
			t.Errorf("%s: %+v", name, cam)
		}
	}
	once, err := parse(t, "testdata/heads/gemm.onnx").AddCAM("scores", 3)
	must(t, err)
	twice, err := once.Graph.AddCAM("scores", 3)
	must(t, err)
	if twice.Added || twice.Output != once.Output {
		t.Errorf("%+v", twice)
	}
}

func TestWithoutPoolingAndOneLinearLayerThereIsNoMap(t *testing.T) {
	for name, text := range map[string]string{
		"hidden": "stands where global average pooling", "max": "stands where global average pooling", "softmax": "stands where a linear layer",
	} {
		_, err := parse(t, "testdata/heads/"+name+".onnx").AddCAM("scores", 3)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", name, err, text)
		}
	}
	g := parse(t, "testdata/heads/gemm.onnx")
	for _, c := range []struct {
		scores string
		labels int
		text   string
	}{{"scores", 4, "there are 4 labels"}, {"nothing", 3, `no node makes the tensor "nothing"`}} {
		if _, err := g.AddCAM(c.scores, c.labels); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
