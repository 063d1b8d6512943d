package graph

import (
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// Memory tells how many bytes the tensors that a run needs at the same time
// take for each pixel of the input, when the nodes run one after another in
// their order and all numbers are float32. Weights are not among them. What the
// runtime does in place makes it less, what its allocator holds in reserve more.
//
// The error names the node whose result's size does not follow from the graph.
func (g *Graph) Memory(output string) (perPixel float64, err error) {
	inputs := g.Inputs()
	if len(inputs) != 1 || len(inputs[0].Shape) != 4 || g.made[output] == nil {
		return 0, fmt.Errorf("memory is told of graphs that make %q of one picture", output)
	}
	// Sizes that are computed in the graph are known where places are followed.
	t := &tracer{g, inputs[0].Name, map[string]*view{}, map[string][]int64{}, map[string]apart{}}
	_, _ = t.trace(output, inputs[0].Shape) // what it refuses is sized by what it got to
	channels := inputs[0].Shape[1]
	if channels < 1 {
		channels = 3 // free, and a picture
	}
	s := sizer{t, map[string]float64{t.input: float64(channels)}}
	needed := t.ancestors(output)
	var nodes []*onnxpb.Node
	last := map[string]int{output: len(g.model.GetGraph().GetNode())}
	for _, n := range g.model.GetGraph().GetNode() {
		if !needed[n] {
			continue
		}
		for _, name := range n.GetInput() {
			last[name] = max(last[name], len(nodes))
		}
		nodes = append(nodes, n)
	}
	return s.peak(nodes, last)
}

// sizer holds the elements of each tensor for each pixel of the input; none for
// what does not grow with the picture.
type sizer struct {
	t        *tracer
	elements map[string]float64
}

// peak is the most that lives at a time; last is where each tensor is needed
// last.
func (s sizer) peak(nodes []*onnxpb.Node, last map[string]int) (float64, error) {
	live, most := s.elements[s.t.input], 0.0
	for i, n := range nodes {
		size, err := s.size(n)
		if err != nil {
			return 0, err
		}
		for _, name := range n.GetOutput() {
			if name != "" {
				s.elements[name] = size
				live += size
			}
		}
		most = max(most, live)
		for name := range s.ending(n, last, i) {
			live -= s.elements[name]
		}
	}
	if !(most >= 0 && most < farthest*farthest) {
		return 0, fmt.Errorf("%g numbers for each pixel are no network's", most)
	}
	return 4 * most, nil
}

// ending are the tensors that nobody needs after node i.
func (s sizer) ending(n *onnxpb.Node, last map[string]int, i int) map[string]bool {
	gone := map[string]bool{}
	for _, name := range n.GetInput() {
		if last[name] == i && name != s.t.input { // the caller keeps the input
			gone[name] = true
		}
	}
	for _, name := range n.GetOutput() {
		if _, used := last[name]; !used {
			gone[name] = true
		}
	}
	return gone
}

// size is how many elements each output of the node has.
func (s sizer) size(n *onnxpb.Node) (float64, error) {
	in, most := s.elements[input(n, 0)], 0.0
	for _, name := range n.GetInput() {
		most = max(most, s.elements[name])
	}
	unknown := fmt.Errorf("how much memory %s takes does not follow from the graph", where(n))
	op := n.GetOpType()
	switch {
	case most == 0 || op == "Shape" || strings.HasPrefix(op, "Global"):
		return 0, nil
	case strings.HasPrefix(op, "Conv") || op == "FusedConv" || op == "QLinearConv":
		return s.conv(n, in, unknown)
	case op == "Concat":
		sum := 0.0
		for _, name := range n.GetInput() {
			sum += s.elements[name]
		}
		return sum, nil
	case op == "Resize" || op == "Upsample":
		return s.resized(n, in, unknown)
	case op == "MaxPool" || op == "AveragePool" || op == "LpPool":
		return in / area(n), nil
	case op == "MatMul" || op == "Gemm":
		w := s.t.g.weights(input(n, 1))
		if len(w) != 2 || w[0] < 1 || w[1] < 1 {
			return 0, unknown
		}
		return in * float64(max(w[0], w[1])) / float64(min(w[0], w[1])), nil
	}
	if _, err := ruleOf(n); err != nil && wholes[op] == "" && !rearranging[op] {
		return 0, unknown
	}
	return most, nil
}

// rearranging operators give no more elements than they take.
var rearranging = map[string]bool{
	"Reshape": true, "Transpose": true, "Squeeze": true, "Unsqueeze": true, "Flatten": true, "Slice": true, "Gather": true, "Split": true,
}

// conv follows from the weights: [out, in/group, …], of ConvTranspose [in,
// out/group, …].
func (s sizer) conv(n *onnxpb.Node, in float64, unknown error) (float64, error) {
	at := 1
	if n.GetOpType() == "QLinearConv" {
		at = 3
	}
	w := s.t.g.weights(input(n, at))
	if len(w) != 4 || w[0] < 1 || w[1] < 1 {
		return 0, unknown
	}
	group := float64(max(attribute(n, "group").GetI(), 1))
	if n.GetOpType() == "ConvTranspose" {
		return in / float64(w[0]) * float64(w[1]) * group * area(n), nil
	}
	return in / (float64(w[1]) * group) * float64(w[0]) / area(n), nil
}

func (s sizer) resized(n *onnxpb.Node, in float64, unknown error) (float64, error) {
	from, to := s.t.views[input(n, 0)], s.t.views[n.GetOutput()[0]]
	if from != nil && to != nil {
		for k := range from.axes {
			in *= float64(to.axes[k].size) / float64(from.axes[k].size)
		}
		return in, nil
	}
	factors := s.t.factors(n)
	if len(factors) == 0 {
		return 0, unknown
	}
	for _, f := range factors {
		in *= f
	}
	return in, nil
}

// area is by how much a node's strides thin the picture out.
func area(n *onnxpb.Node) float64 {
	product := 1.0
	for _, s := range attribute(n, "strides").GetInts() {
		product *= float64(max(s, 1))
	}
	return product
}

// weights is the shape of weights, those that are stored in fewer bits too.
func (g *Graph) weights(name string) []int64 {
	for range 4 { // a chain of as many
		if c := g.constants[name]; c != nil {
			return c.GetDims()
		}
		n := g.made[name]
		if n == nil || n.GetOpType() != "DequantizeLinear" && n.GetOpType() != "Identity" && n.GetOpType() != "Cast" {
			return nil
		}
		name = input(n, 0)
	}
	return nil
}
