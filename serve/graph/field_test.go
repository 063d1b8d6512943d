package graph_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/serve/graph"
	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// seen is what oracle.py found by changing pixels: how far the input pixel
// lies from the pixel where the output begins, [y, x].
type seen struct {
	Before, After [2]int
	Scale         [2]float64
}

func observe(t *testing.T, files ...string) []seen {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(oracle(t, append([]string{"sees"}, files...)...)), "\n")
	all := make([]seen, len(files))
	for i := range all {
		must(t, json.Unmarshal([]byte(lines[i]), &all[i]))
	}
	return all
}

func field(t *testing.T, file, output string) graph.Field {
	t.Helper()
	f, err := parse(t, file).ReceptiveField(output)
	must(t, err)
	if !f.Local {
		t.Fatalf("%s is not local: %s", file, f.Why)
	}
	return f
}

func TestReceptiveFieldIsWhatChangingPixelsShows(t *testing.T) {
	files := glob(t, "testdata/*.onnx")
	align := map[string]int{"unet.onnx": 4, "mixed.onnx": 4, "classes.onnx": 8}
	for i, s := range observe(t, files...) {
		f := field(t, files[i], "y")
		name := filepath.Base(files[i])
		farthest := max(s.Before[0], s.Before[1], s.After[0]-f.Stride+1, s.After[1]-f.Stride+1)
		if f.Overlap != farthest {
			t.Errorf("%s: an overlap of %d, pixels as far as %d away change the output", name, f.Overlap, farthest)
		}
		if want := float64(f.Scale) / float64(f.Stride); s.Scale != [2]float64{want, want} {
			t.Errorf("%s: scale %d over %d, seen %v", name, f.Scale, f.Stride, s.Scale)
		}
		if want := max(align[name], 1); f.Align != want {
			t.Errorf("%s: tiles start at multiples of %d, want %d", name, f.Align, want)
		}
	}
}

// Its weights are real: none of its pixels sees farther than computed.
func TestReceptiveFieldOfARealSuperResolution(t *testing.T) {
	file := corpus(t, "models/super_resolution_10") + "/model.onnx"
	g := parse(t, file)
	f := field(t, file, g.Outputs()[0].Name)
	s := observe(t, file)[0]
	if farthest := max(s.Before[0], s.Before[1], s.After[0], s.After[1]); f.Overlap != 5 || farthest != 5 || f.Scale != 3 || f.Stride != 1 || f.Align != 1 {
		t.Errorf("%+v, pixels as far as %d away change the output", f, farthest)
	}
}

// net is a graph from x [n, 2, h, w] to y.
func net(t *testing.T, opset int64, nodes ...*onnxpb.Node) *graph.Graph {
	t.Helper()
	f32 := int32(1)
	dims := make([]*onnxpb.Shape_Dimension, 4)
	for i, name := range []string{"n", "c", "h", "w"} {
		dims[i] = &onnxpb.Shape_Dimension{Value: &onnxpb.Shape_Dimension_DimParam{DimParam: name}}
	}
	info := func(name string) *onnxpb.ValueInfo {
		return &onnxpb.ValueInfo{Name: &name, Type: &onnxpb.Type{Value: &onnxpb.Type_TensorType_{
			TensorType: &onnxpb.Type_TensorType{ElemType: &f32, Shape: &onnxpb.Shape{Dim: dims}},
		}}}
	}
	kind := int32(1)
	weights := func(name string, dims ...int64) *onnxpb.Tensor {
		n := int64(1)
		for _, d := range dims {
			n *= d
		}
		return &onnxpb.Tensor{Name: &name, Dims: dims, DataType: &kind, RawData: make([]byte, 4*n)}
	}
	scales := &onnxpb.Tensor{Name: proto.String("twice"), Dims: []int64{4}, DataType: &kind, FloatData: []float32{1, 1, 2, 2}}
	m := &onnxpb.Model{
		IrVersion: proto.Int64(8), OpsetImport: []*onnxpb.OperatorSet{{Version: &opset}},
		Graph: &onnxpb.Graph{
			Node: nodes, Input: []*onnxpb.ValueInfo{info("x")}, Output: []*onnxpb.ValueInfo{info("y")},
			Initializer: []*onnxpb.Tensor{weights("w3", 2, 2, 3, 3), weights("w2", 2, 2, 2, 2), weights("row", 1, 1, 1, 64), weights("bias", 2, 1, 1), weights("square", 64, 64), weights("scale"), scales},
		},
	}
	data, err := proto.Marshal(m)
	must(t, err)
	g, err := graph.Parse(data)
	must(t, err)
	return g
}

// op is a node; attributes come in pairs of name and value.
func op(kind, inputs, output string, attributes ...any) *onnxpb.Node {
	n := &onnxpb.Node{OpType: &kind, Input: strings.Fields(inputs), Output: []string{output}}
	for i := 0; i < len(attributes); i += 2 {
		name := attributes[i].(string)
		a := &onnxpb.Attribute{Name: &name}
		switch v := attributes[i+1].(type) {
		case int:
			a.I = proto.Int64(int64(v))
		case string:
			a.S = []byte(v)
		case []int64:
			a.Ints = v
		case []float32:
			a.Floats = v
		}
		n.Attribute = append(n.Attribute, a)
	}
	return n
}

func TestWhatSeesTheWholePictureIsNotLocal(t *testing.T) {
	for name, c := range map[string]struct {
		opset int64
		why   string
		nodes []*onnxpb.Node
	}{
		"attention over channels": {17, "GlobalAveragePool (that makes p)", []*onnxpb.Node{op("GlobalAveragePool", "x", "p"), op("Mul", "x p", "y")}},
		"instance normalisation":  {17, "InstanceNormalization", []*onnxpb.Node{op("InstanceNormalization", "x bias bias", "y")}},
		"softmax over rows":       {17, "Softmax", []*onnxpb.Node{op("Softmax", "x", "y", "axis", 3)}},
		"softmax of old":          {11, "Softmax", []*onnxpb.Node{op("Softmax", "x", "y", "axis", 1)}},
		"rows multiplied":         {17, "MatMul", []*onnxpb.Node{op("MatMul", "x square", "y")}},
		"mean over space":         {17, "ReduceMean", []*onnxpb.Node{op("ReduceMean", "x", "m", "axes", []int64{2, 3}), op("Sub", "x m", "y")}},
		"mean over all":           {17, "ReduceMean", []*onnxpb.Node{op("ReduceMean", "x", "m"), op("Sub", "x m", "y")}},
		"place by place":          {17, "differs from place to place", []*onnxpb.Node{op("Add", "x row", "y")}},
		"aligned corners":         {17, "align_corners", []*onnxpb.Node{op("Resize", "x twice twice", "y", "mode", "linear", "coordinate_transformation_mode", "align_corners")}},
		"enlarged by 3, linear":   {7, "not exactly the same in a tile", []*onnxpb.Node{op("Upsample", "x", "y", "scales", []float32{1, 1, 3, 3}, "mode", "linear")}},
		"enlarged by a half more": {7, "whole numbers", []*onnxpb.Node{op("Upsample", "x", "y", "scales", []float32{1, 1, 1.5, 1.5})}},
		"an edge that is cut":     {17, "cuts or adds an edge", []*onnxpb.Node{op("Conv", "x w3", "y")}},
		"one side only":           {17, "differently", []*onnxpb.Node{op("Conv", "x w2", "y", "strides", []int64{1, 2}, "pads", []int64{0, 0, 1, 0})}},
		"exchanged sides":         {17, "exchanges places", []*onnxpb.Node{op("Transpose", "x", "y", "perm", []int64{0, 1, 3, 2})}},
		"branches that differ":    {17, "different sizes", []*onnxpb.Node{op("Conv", "x w2", "t", "strides", []int64{2, 2}), op("Concat", "x t", "y", "axis", 1)}},
		"gaps":                    {17, "gaps", []*onnxpb.Node{op("ConvTranspose", "x w2", "y", "strides", []int64{3, 3})}},
		"unknown":                 {17, "Foo (that makes y) is not known", []*onnxpb.Node{op("Foo", "x", "y")}},
		"strides beyond reason":   {17, "no tile of a sensible size", []*onnxpb.Node{op("MaxPool", "x", "t", "kernel_shape", []int64{1, 1}, "strides", []int64{4096, 4096}), op("MaxPool", "t", "y", "kernel_shape", []int64{1, 1}, "strides", []int64{64, 64})}},
		"nothing of the picture":  {17, "does not depend", []*onnxpb.Node{op("Identity", "row", "y")}},
	} {
		f, err := net(t, c.opset, c.nodes...).ReceptiveField("y")
		if err != nil || f.Local || !strings.Contains(f.Why, c.why) {
			t.Errorf("%s: %+v %v, want %q", name, f, err, c.why)
		}
	}
	if _, err := net(t, 17, op("Relu", "x", "y")).ReceptiveField("z"); err == nil {
		t.Error("a tensor that is not there has a receptive field")
	}
}

// What quantisation and ONNX Runtime's optimiser make of networks.
func TestDerivedGraphsHaveTheirParentsField(t *testing.T) {
	fused := op("FusedConv", "x w3", "t", "pads", []int64{1, 1, 1, 1})
	fused.Domain = proto.String("com.microsoft")
	fused.Input = append(fused.Input, "", "x") // added before the activation
	blocked := op("Conv", "x w3", "t", "pads", []int64{1, 1, 1, 1})
	blocked.Domain = proto.String("com.microsoft.nchwc")
	for name, nodes := range map[string][]*onnxpb.Node{
		"int8": {
			op("QuantizeLinear", "x scale", "q"), op("DequantizeLinear", "q scale", "d"), op("DequantizeLinear", "w3 scale", "w"),
			op("Conv", "d w", "t", "pads", []int64{1, 1, 1, 1}), op("Mul", "t scale", "y"),
		},
		"fused":   {fused, op("Relu", "t", "y")},
		"blocked": {blocked, op("Relu", "t", "y")},
	} {
		f, err := net(t, 17, nodes...).ReceptiveField("y")
		if err != nil || !f.Local || f.Overlap != 1 || f.Align != 1 || f.Scale != 1 || f.Stride != 1 {
			t.Errorf("%s: %+v %v", name, f, err)
		}
	}
}

func TestOffsetIsTheMiddleOfWhatTheFirstPixelSees(t *testing.T) {
	for name, c := range map[string]struct {
		offset float64
		nodes  []*onnxpb.Node
	}{
		"symmetric padding":  {0, []*onnxpb.Node{op("Conv", "x w3", "y", "strides", []int64{2, 2}, "pads", []int64{1, 1, 1, 1})}},
		"windows of two":     {0.5, []*onnxpb.Node{op("Conv", "x w2", "y", "strides", []int64{2, 2})}},
		"two times, of both": {1.5, []*onnxpb.Node{op("Conv", "x w2", "t", "strides", []int64{2, 2}), op("MaxPool", "t", "y", "kernel_shape", []int64{2, 2}, "strides", []int64{2, 2}, "auto_pad", "VALID")}},
	} {
		f, err := net(t, 17, c.nodes...).ReceptiveField("y")
		if shift := (c.offset - float64(f.Stride-1)/2) / float64(f.Stride); f.Shift() != [2]float64{shift, shift} {
			t.Errorf("%s: shifted by %v, want %v", name, f.Shift(), shift)
		}
		if want := fmt.Sprint([2]float64{c.offset, c.offset}); err != nil || fmt.Sprint(f.Offset) != want {
			t.Errorf("%s: %+v %v, want %s", name, f, err, want)
		}
	}
}
