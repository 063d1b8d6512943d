package graph

import (
	"fmt"
	"math/big"
	"slices"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// rule gives what a node's outputs see; in holds the views of its inputs, nil
// for those that have none. The first input has one.
type rule func(t *tracer, n *onnxpb.Node, in []*view) (*view, error)

// rules are the operators that are known to be local, at least sometimes.
var rules = map[string]rule{
	"Conv": conv, "ConvTranspose": convTranspose,
	"MaxPool": pool, "AveragePool": pool, "LpPool": pool,
	"Resize": resize, "Upsample": resize,
	"DepthToSpace": depthToSpace, "SpaceToDepth": spaceToDepth,
	"Pad": pad, "Slice": slice, "Concat": concat, "Reshape": reshape, "Transpose": transpose,
	"Softmax": overChannels, "LogSoftmax": overChannels, "LpNormalization": overChannels, "ArgMax": overChannels,
	"ReduceMean": reduce, "ReduceSum": reduce, "ReduceMax": reduce, "ReduceMin": reduce, "ReduceL2": reduce, "ReduceProd": reduce,
	"BatchNormalization": normalise, "QuantizeLinear": quantise, "DequantizeLinear": quantise, "Split": split,
	"LRN": same, "Identity": same, "Dropout": same, "Cast": same,
}

// foreign are the operators that ONNX Runtime writes into a graph that it has
// optimised, by domain.
var foreign = map[string]map[string]rule{
	"com.microsoft":       {"FusedConv": conv},
	"com.microsoft.nchwc": {"Conv": conv, "MaxPool": pool, "AveragePool": pool, "ReorderInput": same, "ReorderOutput": same},
}

// pointwise operators take their inputs place by place.
var pointwise = []string{
	"Abs", "Add", "And", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
	"HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul",
	"Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt",
	"Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where", "Xor",
}

// wholes are the operators that are known to see the whole picture.
var wholes = map[string]string{
	"GlobalAveragePool": "averages over the whole picture", "GlobalMaxPool": "looks for the greatest value of the whole picture",
	"GlobalLpPool": "averages over the whole picture", "InstanceNormalization": "normalises by the whole picture",
	"GroupNormalization": "normalises by the whole picture", "LayerNormalization": "normalises by the whole picture",
	"MeanVarianceNormalization": "normalises by the whole picture",
	"MatMul":                    "multiplies whole rows", "Gemm": "multiplies whole rows", "Flatten": "gives up places",
	"Attention": "attends to the whole picture", "MultiHeadAttention": "attends to the whole picture",
}

// node notes what a node's outputs are.
func (t *tracer) node(n *onnxpb.Node) error {
	in, seen := make([]*view, len(n.GetInput())), false
	for i, name := range n.GetInput() {
		in[i] = t.views[name]
		if _, taken := t.apart[name]; in[i] != nil || taken {
			seen = true
		}
	}
	if len(n.GetOutput()) == 0 {
		return fmt.Errorf("%s makes nothing", where(n))
	}
	if !seen || n.GetOpType() == "Shape" {
		t.compute(n)
		return nil
	}
	apply, err := ruleOf(n)
	if err != nil {
		return err
	}
	v, err := apply(t, n, in)
	if err != nil || v == nil {
		return err
	}
	if v.absurd() {
		return fmt.Errorf("%s, and those before it, leave no tile of a sensible size", where(n))
	}
	outputs := n.GetOutput()
	if n.GetOpType() != "Split" { // the other outputs of other operators are no pictures
		outputs = outputs[:1]
	}
	for _, name := range outputs {
		t.views[name] = v
	}
	return nil
}

func ruleOf(n *onnxpb.Node) (rule, error) {
	op := n.GetOpType()
	switch {
	case !standard(n.GetDomain()):
		if r := foreign[n.GetDomain()][op]; r != nil {
			return first(r), nil
		}
		return nil, fmt.Errorf("%s of %s is not known to be local", where(n), n.GetDomain())
	case slices.Contains(pointwise, op):
		return joined, nil
	case wholes[op] != "":
		return nil, fmt.Errorf("%s %s", where(n), wholes[op])
	case rules[op] == nil:
		return nil, fmt.Errorf("%s is not known to be local", where(n))
	}
	return first(rules[op]), nil
}

// first wants the node's first input to have a view.
func first(r rule) rule {
	return func(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
		a, taken := t.apart[n.GetInput()[0]]
		switch op := n.GetOpType(); {
		case in[0] == nil && !taken:
			return nil, fmt.Errorf("the first input of %s does not depend on places of the picture", where(n))
		case !taken || op == "Reshape" || op == "Transpose":
			return r(t, n, in)
		case op == "QuantizeLinear" || op == "DequantizeLinear": // one scale for all
			if t.scalar(input(n, 1)) {
				t.apart[n.GetOutput()[0]] = a
				return nil, nil
			}
		}
		return nil, fmt.Errorf("%s takes a tensor whose places were rearranged", where(n))
	}
}

// same sees what its first input sees.
func same(_ *tracer, _ *onnxpb.Node, in []*view) (*view, error) { return in[0], nil }

// joined sees all its inputs place by place. Constants join where they are the
// same at all places.
func joined(t *tracer, n *onnxpb.Node, in []*view) (v *view, err error) {
	for i, name := range n.GetInput() {
		if name == "" {
			continue
		}
		if in[i] == nil {
			if err := t.uniform(n, name); err != nil {
				return nil, err
			}
			continue
		}
		if v == nil {
			v = in[i]
		} else if v, err = join(n, v, in[i]); err != nil {
			return nil, err
		}
	}
	if v == nil {
		return nil, fmt.Errorf("%s takes a tensor whose places were rearranged", where(n))
	}
	return v, nil
}

// uniform wants a constant that is the same for all rows and columns.
func (t *tracer) uniform(n *onnxpb.Node, name string) error {
	c := t.constant(name)
	if c == nil {
		return fmt.Errorf("%s takes %q, which is computed and is not known to be the same at all places", where(n), name)
	}
	dims := c.GetDims()
	for k := 1; k <= 2 && k <= len(dims); k++ {
		if dims[len(dims)-k] != 1 {
			return fmt.Errorf("%s takes the constant %q of the shape %v, which differs from place to place", where(n), name, dims)
		}
	}
	if len(dims) > 4 {
		return fmt.Errorf("%s takes the constant %q of the shape %v", where(n), name, dims)
	}
	return nil
}

func concat(_ *tracer, n *onnxpb.Node, in []*view) (v *view, err error) {
	if axis := attribute(n, "axis").GetI(); axis != 1 && axis != -3 {
		return nil, fmt.Errorf("%s joins along axis %d, not along channels", where(n), axis)
	}
	for i, other := range in {
		if other == nil {
			return nil, fmt.Errorf("%s takes %q, which does not depend on places of the picture", where(n), n.GetInput()[i])
		}
		if v == nil {
			v = other
		} else if v, err = join(n, v, other); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// overChannels are operators along one axis. Before operator set 13 Softmax
// took all axes from the one it names.
func overChannels(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	axis, op := int64(-1), n.GetOpType()
	if op == "ArgMax" {
		axis = 0
	}
	if a := attribute(n, "axis"); a != nil {
		axis = a.GetI()
	}
	flat := t.g.opset < 13 && (op == "Softmax" || op == "LogSoftmax")
	kept := attribute(n, "keepdims") == nil || attribute(n, "keepdims").GetI() == 1
	if axis != 1 && axis != -3 || flat || !kept {
		return nil, fmt.Errorf("%s goes over the whole picture, or over rows", where(n))
	}
	return in[0], nil
}

func reduce(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	axes := attribute(n, "axes").GetInts()
	if len(n.GetInput()) > 1 {
		axes = t.ints(n.GetInput()[1])
	}
	kept := attribute(n, "keepdims") == nil || attribute(n, "keepdims").GetI() == 1
	if len(axes) != 1 || axes[0] != 1 && axes[0] != -3 || !kept {
		return nil, fmt.Errorf("%s goes over the whole picture, or over rows", where(n))
	}
	return in[0], nil
}

func normalise(_ *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	if attribute(n, "training_mode").GetI() != 0 {
		return nil, fmt.Errorf("%s is in training mode and normalises by the whole picture", where(n))
	}
	return in[0], onlyFirst(n, in)
}

// onlyFirst wants parameters that are no pictures.
func onlyFirst(n *onnxpb.Node, in []*view) error {
	for i, v := range in[1:] {
		if v != nil {
			return fmt.Errorf("%s has a parameter, %q, that depends on the picture", where(n), n.GetInput()[1+i])
		}
	}
	return nil
}

func quantise(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	axis := int64(1)
	if a := attribute(n, "axis"); a != nil {
		axis = a.GetI()
	}
	scale := t.g.constants[input(n, 1)]
	if !t.scalar(input(n, 1)) && (len(scale.GetDims()) != 1 || axis != 1 && axis != -3) {
		return nil, fmt.Errorf("%s has a scale that is not known to be the same at all places", where(n))
	}
	return in[0], onlyFirst(n, in)
}

// scalar tells whether a tensor is a constant of one value.
func (t *tracer) scalar(name string) bool {
	c := t.g.constants[name]
	return c != nil && !slices.ContainsFunc(c.GetDims(), func(d int64) bool { return d != 1 })
}

// constant finds weights, also where they are kept quantised; their shape is
// that of what comes out.
func (t *tracer) constant(name string) *onnxpb.Tensor {
	if n := t.g.made[name]; n != nil && n.GetOpType() == "DequantizeLinear" && standard(n.GetDomain()) {
		name = input(n, 0)
	}
	return t.g.constants[name]
}

func split(_ *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	if axis := attribute(n, "axis").GetI(); axis != 1 && axis != -3 {
		return nil, fmt.Errorf("%s divides axis %d, not channels", where(n), axis)
	}
	return in[0], nil
}

func slice(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	axes := attribute(n, "axes").GetInts() // before operator set 10
	if len(n.GetInput()) > 3 {
		axes = t.ints(n.GetInput()[3])
	}
	if len(axes) == 0 || slices.ContainsFunc(axes, func(a int64) bool { return a != 1 && a != -3 }) {
		return nil, fmt.Errorf("%s cuts rows or columns", where(n))
	}
	return in[0], nil
}

func depthToSpace(_ *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	b := attribute(n, "blocksize").GetI()
	return enlarge(n, in[0], b, b)
}

func spaceToDepth(_ *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	b := attribute(n, "blocksize").GetI()
	return shrink(n, in[0], b, b)
}

// enlarge is a view in which each place becomes a block of places.
func enlarge(n *onnxpb.Node, v *view, high, wide int64) (*view, error) {
	out := new(view)
	for k, b := range [2]int64{high, wide} {
		if b < 1 || b > farthest {
			return nil, fmt.Errorf("%s enlarges by %d", where(n), b)
		}
		a := v.axes[k]
		size, err := sized(n, a.size*b)
		if err != nil {
			return nil, err
		}
		out.axes[k] = a.through(big.NewRat(1, b), big.NewRat(1-b, b), new(big.Rat), size)
	}
	return out, nil
}

// shrink is a view in which a block of places becomes one.
func shrink(n *onnxpb.Node, v *view, high, wide int64) (*view, error) {
	out := new(view)
	for k, b := range [2]int64{high, wide} {
		a := v.axes[k]
		if b < 1 || b > farthest || a.size%b != 0 {
			return nil, fmt.Errorf("%s makes one of %d places of %d", where(n), b, a.size)
		}
		out.axes[k] = a.through(big.NewRat(b, 1), new(big.Rat), big.NewRat(b-1, 1), a.size/b)
	}
	return out, nil
}

// sized bounds the sizes that are computed with.
func sized(n *onnxpb.Node, size int64) (int64, error) {
	if size < 1 || size > 1<<40 {
		return 0, fmt.Errorf("%s leaves a side of %d pixels", where(n), size)
	}
	return size, nil
}

// attribute finds an attribute by its name; nil where there is none.
func attribute(n *onnxpb.Node, name string) *onnxpb.Attribute {
	for _, a := range n.GetAttribute() {
		if a.GetName() == name {
			return a
		}
	}
	return nil
}

// input is the name of the node's input i, empty where it has none.
func input(n *onnxpb.Node, i int) string {
	if i < len(n.GetInput()) {
		return n.GetInput()[i]
	}
	return ""
}
