package graph_test

import (
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// TestMemoryIsThatOfTheTensorsThatLiveAtATime counts by hand: elements for each
// pixel of the input times four bytes. The input's channels are free, which
// counts as three; the weights w2 and w3 keep their number.
func TestMemoryIsThatOfTheTensorsThatLiveAtATime(t *testing.T) {
	same := []int64{1, 1, 1, 1}
	for name, c := range map[string]struct {
		want  float64
		nodes []*onnxpb.Node
	}{
		"one after another": {12 * (1 + 1 + 1), []*onnxpb.Node{op("Conv", "x w3", "a", "pads", same), op("Conv", "a w3", "b", "pads", same), op("Conv", "b w3", "y", "pads", same)}},
		"kept for later":    {12 * (1 + 1 + 1 + 1), []*onnxpb.Node{op("Conv", "x w3", "a", "pads", same), op("Conv", "a w3", "b", "pads", same), op("Conv", "b w3", "c", "pads", same), op("Add", "a c", "y")}},
		"thinned out":       {12 * (1 + 0.25), []*onnxpb.Node{op("Conv", "x w2", "y", "strides", []int64{2, 2})}},
		"enlarged":          {12 * (1 + 4), []*onnxpb.Node{op("ConvTranspose", "x w2", "y", "strides", []int64{2, 2})}},
		"resized":           {12 * (1 + 4), []*onnxpb.Node{op("Upsample", "x", "y", "scales", []float32{1, 1, 2, 2})}},
		"put together":      {12 * (1 + 1 + 2), []*onnxpb.Node{op("Relu", "x", "a"), op("Concat", "x a", "y", "axis", 1)}},
		"a mean over all":   {12 * (1 + 1), []*onnxpb.Node{op("GlobalAveragePool", "x", "p"), op("Mul", "x p", "y")}},
		"nobody needs it":   {12 * (1 + 1), []*onnxpb.Node{op("Relu", "x", "a"), op("Relu", "x", "y")}},
	} {
		got, err := net(t, 7, c.nodes...).Memory("y")
		if err != nil || got != c.want {
			t.Errorf("%s: %v bytes a pixel, want %v (%v)", name, got, c.want, err)
		}
	}
	for _, n := range []*onnxpb.Node{op("Foo", "x", "y"), op("MatMul", "x x", "y"), op("Conv", "x x", "y")} {
		if got, err := net(t, 17, n).Memory("y"); err == nil || !strings.Contains(err.Error(), n.GetOpType()) {
			t.Errorf("%s: %v %v", n.GetOpType(), got, err)
		}
	}
}

// TestMemoryOfARealSuperResolution: measured with ONNX Runtime 1.30 without its
// arena, 590 bytes a pixel; its widest layers have 64 channels on both sides.
func TestMemoryOfARealSuperResolution(t *testing.T) {
	g := parse(t, corpus(t, "models/super_resolution_10")+"/model.onnx")
	got, err := g.Memory(g.Outputs()[0].Name)
	if err != nil || got < 4*(1+64+64) || got > 590 {
		t.Errorf("%v bytes a pixel, %v", got, err)
	}
}
