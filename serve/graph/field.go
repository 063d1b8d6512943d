package graph

import (
	"fmt"
	"math"
	"math/big"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// Field says how an output is tied to places of the input, the same way along
// height and width; the greater figure stands where they differ.
//
// Where it is Local, the picture may be cut into tiles that are run alone: a
// tile that starts at a multiple of Align, with Overlap more pixels on each
// side of what is wanted (or up to the picture's edge), gives the very outputs
// of the whole picture.
type Field struct {
	Local   bool
	Why     string // where it is not: what sees more than its neighbourhood, and where
	Overlap int    // input pixels, on each side
	Align   int    // input pixels: the least shift that the network does not notice
	// An output has Scale pixels for every Stride pixels of the input, without
	// common factor: 3 and 1 for a threefold enlargement, 1 and 8 for a map of
	// a classifier. Offset is how far the middle of what output pixel 0 sees lies
	// from the middle of input pixel 0, in input pixels: [y, x].
	Scale, Stride int
	Offset        [2]float64
}

// Shift is how far the middle of what an output pixel sees lies off the pixel's
// own place, as part of the picture's height and width, in output pixels: [y, x].
func (f Field) Shift() [2]float64 {
	step := float64(f.Stride) / float64(f.Scale)
	return [2]float64{(f.Offset[0] - (step-1)/2) / step, (f.Offset[1] - (step-1)/2) / step}
}

// The sides of an input that takes any are computed with numbers that every
// stride divides; they differ, so that exchanged sides are noticed.
const (
	wideHeight = 1 << 10 * 3 * 3 * 5 * 7
	wideWidth  = 2 * wideHeight
	// farthest bounds overlap and stride, in pixels.
	farthest = 1 << 16
)

// view is what a tensor [n, channels, height, width] sees of the input.
type view struct{ axes [2]axis } // y, x

// axis is a view along one side. Position i of the tensor sees the positions
// from step*i+low to step*i+high of the input, among rationals as enlarging
// makes steps below 1. Dumoulin and Visin, A guide to convolution arithmetic
// for deep learning, 2016; Araujo, Norris and Sim, Computing Receptive Fields
// of Convolutional Neural Networks, Distill 2019.
type axis struct {
	step, low, high *big.Rat
	align           *big.Int // least common multiple of the steps so far, in input pixels
	size            int64    // of the tensor, for an input of its fixed or the wide size
}

// tracer goes through the graph and notes what it learns of each tensor: its
// view, or its integers where sizes are computed, or how it was taken apart.
type tracer struct {
	g      *Graph
	input  string
	views  map[string]*view
	values map[string][]int64
	apart  map[string]apart
}

// ReceptiveField follows an output back to the input. An output that no known
// operator ties to places is not Local, and Why says what hinders; the error
// says that the question cannot be asked.
func (g *Graph) ReceptiveField(output string) (Field, error) {
	inputs := g.Inputs()
	if len(inputs) != 1 {
		return Field{Why: fmt.Sprintf("the graph has %d inputs: only one picture can be tiled", len(inputs))}, nil
	}
	if g.made[output] == nil {
		return Field{}, fmt.Errorf("the graph makes no tensor %q", output)
	}
	t := tracer{g, inputs[0].Name, map[string]*view{}, map[string][]int64{}, map[string]apart{}}
	v, err := t.trace(output, inputs[0].Shape)
	if err != nil {
		return Field{Why: err.Error()}, nil
	}
	return v.field(t.views[t.input]), nil
}

// trace goes through the nodes in their order, which ONNX wants to be one in
// which every tensor is made before it is used.
func (t *tracer) trace(output string, shape []int64) (*view, error) {
	if len(shape) != 4 {
		return nil, fmt.Errorf("the input %q has the shape %v, not [n, channels, height, width]", t.input, shape)
	}
	t.views[t.input] = start(shape)
	needed := t.ancestors(output)
	for _, n := range t.g.model.GetGraph().GetNode() {
		if !needed[n] {
			continue
		}
		if err := t.node(n); err != nil {
			return nil, err
		}
	}
	if t.views[output] == nil {
		return nil, fmt.Errorf("the output %q does not depend on places of the input", output)
	}
	return t.views[output], nil
}

// ancestors are the nodes that the tensor is made by.
func (t *tracer) ancestors(tensor string) map[*onnxpb.Node]bool {
	needed := map[*onnxpb.Node]bool{}
	for names := []string{tensor}; len(names) > 0; {
		n := t.g.made[names[len(names)-1]]
		names = names[:len(names)-1]
		if n != nil && !needed[n] {
			needed[n] = true
			names = append(names, n.GetInput()...)
		}
	}
	return needed
}

func start(shape []int64) *view {
	v := new(view)
	for k := range v.axes {
		size := shape[2+k]
		if size < 1 {
			size = [2]int64{wideHeight, wideWidth}[k]
		}
		v.axes[k] = axis{step: big.NewRat(1, 1), low: new(big.Rat), high: new(big.Rat), align: big.NewInt(1), size: size}
	}
	return v
}

// absurd tells of numbers with which no network was made. It also bounds what
// computing with them costs.
func (v *view) absurd() bool {
	for _, a := range v.axes {
		for _, n := range []*big.Int{a.align, a.low.Num(), a.low.Denom(), a.high.Num(), a.high.Denom()} {
			if n.BitLen() > 64 {
				return true
			}
		}
		if a.align.Cmp(big.NewInt(farthest)) > 0 {
			return true
		}
	}
	return false
}

// field joins both sides.
func (v *view) field(input *view) Field {
	f := Field{Local: true, Align: 1}
	for k, a := range v.axes {
		scale, stride := int(a.step.Denom().Int64()), int(a.step.Num().Int64()) // stride divides align
		if k == 1 && (scale != f.Scale || stride != f.Stride) {
			return Field{Why: "it scales height and width differently"}
		}
		f.Scale, f.Stride = scale, stride
		side := input.axes[k].size
		if side%int64(stride) == 0 && a.size != side/int64(stride)*int64(scale) {
			return Field{Why: fmt.Sprintf("it gives %d pixels for %d, not %d times %d over %d: it cuts or adds an edge", a.size, side, side, scale, stride)}
		}
		// What the outputs over the pixels that are wanted see beyond them: the
		// first of them on one side, the last on the other.
		before := new(big.Rat).Neg(a.low)
		after := new(big.Rat).Add(a.high, new(big.Rat).Sub(big.NewRat(1, 1), a.step))
		f.Overlap = max(f.Overlap, floor(before), floor(after))
		f.Align = lcm(f.Align, int(a.align.Int64()))
		f.Offset[k], _ = new(big.Rat).Mul(new(big.Rat).Add(a.low, a.high), big.NewRat(1, 2)).Float64()
	}
	if f.Overlap > farthest {
		return Field{Why: "it sees more than any picture holds"}
	}
	return f
}

// floor is math.MaxInt where no int holds it.
func floor(r *big.Rat) int {
	q := new(big.Int).Div(r.Num(), r.Denom()) // Euclidean, for a positive divisor the floor
	if !q.IsInt64() {
		return math.MaxInt
	}
	return int(q.Int64())
}

func lcm(a, b int) int {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// through is the axis after an operator whose output i sees the inputs from
// ratio*i+low to ratio*i+high.
func (a axis) through(ratio, low, high *big.Rat, size int64) axis {
	at := func(r *big.Rat) *big.Rat { return new(big.Rat).Mul(a.step, r) }
	step := at(ratio)
	// lcm of align and the new step's numerator
	num := step.Num()
	gcd := new(big.Int).GCD(nil, nil, a.align, num)
	align := new(big.Int).Mul(new(big.Int).Div(a.align, gcd), num)
	return axis{step, new(big.Rat).Add(a.low, at(low)), new(big.Rat).Add(a.high, at(high)), align, size}
}

// join is what a node sees that takes several tensors place by place.
func join(n *onnxpb.Node, a, b *view) (*view, error) {
	if a == nil || b == nil {
		if a == nil {
			return b, nil
		}
		return a, nil
	}
	out := new(view)
	for k := range out.axes {
		x, y := a.axes[k], b.axes[k]
		if x.step.Cmp(y.step) != 0 || x.size != y.size {
			return nil, fmt.Errorf("%s joins tensors of different sizes", where(n))
		}
		gcd := new(big.Int).GCD(nil, nil, x.align, y.align)
		j := axis{x.step, x.low, x.high, new(big.Int).Mul(new(big.Int).Div(x.align, gcd), y.align), x.size}
		if y.low.Cmp(j.low) < 0 {
			j.low = y.low
		}
		if y.high.Cmp(j.high) > 0 {
			j.high = y.high
		}
		out.axes[k] = j
	}
	return out, nil
}

// where names a node to somebody who looks for it.
func where(n *onnxpb.Node) string {
	name := n.GetName()
	if name == "" && len(n.GetOutput()) > 0 {
		name = "that makes " + n.GetOutput()[0]
	}
	return fmt.Sprintf("%s (%s)", n.GetOpType(), name)
}
