package graph

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// CAM is a graph with the class activation map (Zhou et al., CVPR 2016) of a
// network that ends in global average pooling and a linear layer. As both are
// linear, the layer may be applied before the mean: the map is a convolution
// of the last feature map by the layer's weights, float32 [n, labels, h, w],
// and its mean plus the bias is the logit.
type CAM struct {
	Graph   *Graph
	Output  string    // name of the map
	Added   bool      // false: the graph gave that very map already
	Bias    []float32 // of each label
	Sigmoid bool      // the graph's scores are sigmoids of the logits
}

// AddCAM adds the map to a copy of the graph. scores names the output that has
// a score for each of so many labels. A graph that does not end that way is
// refused, with the node that is in the way.
func (g *Graph) AddCAM(scores string, labels int) (CAM, error) {
	end, err := g.classifier(scores)
	if err != nil {
		return CAM{}, fmt.Errorf("no class activation map: %w", err)
	}
	if len(end.bias) != labels {
		return CAM{}, fmt.Errorf("no class activation map: the linear layer before %q gives %d values, there are %d labels", scores, len(end.bias), labels)
	}
	cam := CAM{Graph: g, Bias: end.bias, Sigmoid: end.sigmoid}
	if cam.Output = g.mapOf(end); cam.Output != "" {
		return cam, nil
	}
	cam.Output, cam.Added = "heatmap", true
	if g.uses(cam.Output) {
		return CAM{}, fmt.Errorf("the graph has a tensor %q that is not the class activation map of %q: rename it and export again", cam.Output, scores)
	}
	cam.Graph, err = g.with(cam.Output, scores, end)
	return cam, err
}

// classifier is the end of a network.
type classifier struct {
	features string    // the last feature map, [n, channels, h, w]
	weights  []float32 // [labels, channels]
	bias     []float32
	sigmoid  bool
}

func (g *Graph) classifier(scores string) (c classifier, err error) {
	n, err := g.maker(scores)
	if err != nil {
		return c, err
	}
	if n.GetOpType() == "Sigmoid" {
		c.sigmoid = true
		if n, err = g.maker(input(n, 0)); err != nil {
			return c, err
		}
	}
	pooled := ""
	switch n.GetOpType() {
	case "Gemm":
		pooled, err = c.gemm(g, n)
	case "MatMul", "Add":
		pooled, err = c.matMul(g, n)
	default:
		err = fmt.Errorf("%s stands where a linear layer (Gemm or MatMul) was looked for", where(n))
	}
	if err != nil {
		return c, err
	}
	n, err = g.maker(pooled, "Flatten", "Reshape", "Squeeze", "Dropout")
	switch {
	case err != nil:
		return c, err
	case n.GetOpType() == "ReduceMean" && !g.overSpace(n):
		return c, fmt.Errorf("%s does not go over height and width", where(n))
	case n.GetOpType() != "ReduceMean" && n.GetOpType() != "GlobalAveragePool":
		return c, fmt.Errorf("%s stands where global average pooling (GlobalAveragePool or ReduceMean) was looked for", where(n))
	}
	for _, v := range slices.Concat(c.weights, c.bias) {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return c, errors.New("the linear layer has a weight that is no finite number")
		}
	}
	c.features = input(n, 0)
	return c, nil
}

// maker is the node behind a tensor. Identity, and operators that are given,
// are seen through. A graph that goes in a circle, which no runtime takes, is
// told by the number of nodes.
func (g *Graph) maker(tensor string, through ...string) (*onnxpb.Node, error) {
	for range len(g.made) + 1 {
		n := g.made[tensor]
		if n == nil {
			return nil, fmt.Errorf("no node makes the tensor %q", tensor)
		}
		if !standard(n.GetDomain()) {
			return nil, fmt.Errorf("%s of %s is not known", where(n), n.GetDomain())
		}
		if n.GetOpType() != "Identity" && !slices.Contains(through, n.GetOpType()) {
			return n, nil
		}
		tensor = input(n, 0)
	}
	return nil, errors.New("the graph goes in a circle")
}

// overSpace tells whether ReduceMean goes over exactly height and width.
func (g *Graph) overSpace(n *onnxpb.Node) bool {
	axes := attribute(n, "axes").GetInts()
	if c := g.constants[input(n, 1)]; c != nil {
		axes, _ = whole(c) // not a list of integers: no axes
	}
	axes = slices.Clone(axes)
	for i, a := range axes {
		if a < 0 {
			axes[i] = a + 4
		}
	}
	slices.Sort(axes)
	return slices.Equal(axes, []int64{2, 3})
}

// gemm reads alpha A B + beta C.
func (c *classifier) gemm(g *Graph, n *onnxpb.Node) (pooled string, err error) {
	if attribute(n, "transA").GetI() != 0 {
		return "", fmt.Errorf("%s transposes its input", where(n))
	}
	if err := c.matrix(g, n, input(n, 1), attribute(n, "transB").GetI() != 0); err != nil {
		return "", err
	}
	if a := attribute(n, "alpha"); a != nil {
		for i := range c.weights {
			c.weights[i] *= a.GetF()
		}
	}
	if name := input(n, 2); name != "" {
		if err := c.addBias(g, n, name); err != nil {
			return "", err
		}
	}
	if b := attribute(n, "beta"); b != nil {
		for i := range c.bias {
			c.bias[i] *= b.GetF()
		}
	}
	return input(n, 0), nil
}

// matMul reads A B, or the sum of that and a bias.
func (c *classifier) matMul(g *Graph, n *onnxpb.Node) (pooled string, err error) {
	bias, sum := "", n
	if n.GetOpType() == "Add" {
		product := input(n, 0)
		bias = input(n, 1)
		if g.constants[bias] == nil {
			product, bias = bias, product
		}
		if n, err = g.maker(product); err != nil {
			return "", err
		}
		if n.GetOpType() != "MatMul" {
			return "", fmt.Errorf("%s stands where a linear layer (Gemm or MatMul) was looked for", where(n))
		}
	}
	if err := c.matrix(g, n, input(n, 1), false); err != nil {
		return "", err
	}
	if bias != "" {
		if err := c.addBias(g, sum, bias); err != nil {
			return "", err
		}
	}
	return input(n, 0), nil
}

// matrix keeps the layer's weights as [labels, channels].
func (c *classifier) matrix(g *Graph, n *onnxpb.Node, name string, byLabel bool) error {
	t := g.constants[name]
	if t == nil || len(t.GetDims()) != 2 {
		return fmt.Errorf("%s has no constant matrix of weights", where(n))
	}
	values, err := floats(t)
	if err != nil {
		return fmt.Errorf("%s: %w", where(n), err)
	}
	rows, columns := int(t.GetDims()[0]), int(t.GetDims()[1])
	c.weights = values
	if !byLabel {
		rows, columns = columns, rows
		c.weights = make([]float32, len(values))
		for i := range values {
			c.weights[i%rows*columns+i/rows] = values[i]
		}
	}
	if rows == 0 || columns == 0 {
		return fmt.Errorf("%s has no weights", where(n))
	}
	c.bias = make([]float32, rows)
	return nil
}

// addBias reads a bias of one value, or of one for each label.
func (c *classifier) addBias(g *Graph, n *onnxpb.Node, name string) error {
	t := g.constants[name]
	if t == nil {
		return fmt.Errorf("%s has no constant bias", where(n))
	}
	values, err := floats(t)
	if err != nil {
		return fmt.Errorf("%s: %w", where(n), err)
	}
	if len(values) == 1 {
		values = slices.Repeat(values, len(c.bias))
	}
	if len(values) != len(c.bias) {
		return fmt.Errorf("%s has a bias of %d values for %d labels", where(n), len(values), len(c.bias))
	}
	copy(c.bias, values)
	return nil
}

// mapOf finds an output that is the map already.
func (g *Graph) mapOf(end classifier) string {
	for _, o := range g.model.GetGraph().GetOutput() {
		n := g.made[o.GetName()]
		if n.GetOpType() != "Conv" || !standard(n.GetDomain()) || input(n, 0) != end.features || input(n, 2) != "" {
			continue
		}
		t := g.constants[input(n, 1)]
		if dims := t.GetDims(); len(dims) != 4 || dims[2] != 1 || dims[3] != 1 || int(dims[0]) != len(end.bias) {
			continue
		}
		if values, err := floats(t); err == nil && slices.Equal(values, end.weights) {
			return o.GetName()
		}
	}
	return ""
}

// uses tells whether a tensor has the name.
func (g *Graph) uses(name string) bool {
	return g.made[name] != nil || g.constants[name] != nil || g.shapeOf(name) != nil
}

// with is a copy of the graph with the map as one more output.
func (g *Graph) with(name, scores string, end classifier) (*Graph, error) {
	labels := int64(len(end.bias))
	kernel := name + "_weights"
	if g.uses(kernel) {
		return nil, fmt.Errorf("the graph has a tensor %q already", kernel)
	}
	model := proto.CloneOf(g.model)
	in := model.GetGraph()
	in.Node = append(
		in.Node,
		// A node, as files before IR version 4 list initializers as inputs too.
		node("Constant", kernel, nil, &onnxpb.Attribute{
			Name: proto.String("value"), Type: proto.Int32(attrTensor),
			T: floatTensor(kernel, []int64{labels, int64(len(end.weights)) / labels, 1, 1}, end.weights),
		}),
		node("Conv", name, []string{end.features, kernel}, &onnxpb.Attribute{
			Name: proto.String("kernel_shape"), Type: proto.Int32(attrInts), Ints: []int64{1, 1},
		}),
	)
	free := func(name string) *onnxpb.Shape_Dimension {
		return &onnxpb.Shape_Dimension{Value: &onnxpb.Shape_Dimension_DimParam{DimParam: name}}
	}
	shape := &onnxpb.Shape{Dim: []*onnxpb.Shape_Dimension{
		g.batch(scores), {Value: &onnxpb.Shape_Dimension_DimValue{DimValue: labels}}, free(name + "_height"), free(name + "_width"),
	}}
	in.Output = append(in.Output, &onnxpb.ValueInfo{Name: &name, Type: &onnxpb.Type{Value: &onnxpb.Type_TensorType_{
		TensorType: &onnxpb.Type_TensorType{ElemType: proto.Int32(typeFloat), Shape: shape},
	}}})
	return index(model)
}

// batch is the first dimension of an output; an empty one is unknown.
func (g *Graph) batch(output string) *onnxpb.Shape_Dimension {
	for _, o := range g.model.GetGraph().GetOutput() {
		if dims := o.GetType().GetTensorType().GetShape().GetDim(); o.GetName() == output && len(dims) > 0 {
			return proto.CloneOf(dims[0])
		}
	}
	return &onnxpb.Shape_Dimension{}
}

func node(op, output string, inputs []string, attributes ...*onnxpb.Attribute) *onnxpb.Node {
	return &onnxpb.Node{OpType: &op, Name: &output, Input: inputs, Output: []string{output}, Attribute: attributes}
}
