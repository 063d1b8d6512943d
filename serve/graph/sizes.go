package graph

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// unknown stands for an integer that depends on what is not known here: the
// batch, the number of channels.
const unknown = math.MinInt64

// maxInts bounds the lists of integers that are followed.
const maxInts = 64

// ints are the integers of a tensor; nil where it holds none that are known.
func (t *tracer) ints(name string) []int64 {
	if values, ok := t.values[name]; ok {
		return values
	}
	if c := t.g.constants[name]; c != nil {
		if values, err := whole(c); err == nil && len(values) <= maxInts {
			return values
		}
	}
	return nil
}

// compute follows the integers with which exporters compute sizes: Shape, and
// what is done to its result. Whatever else it is, is not known.
func (t *tracer) compute(n *onnxpb.Node) {
	var values []int64
	a := t.ints(input(n, 0))
	switch n.GetOpType() {
	case "Shape":
		values = t.shape(n)
	case "Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape":
		values = a
	case "Concat":
		for _, name := range n.GetInput() {
			part := t.ints(name)
			if part == nil || len(values)+len(part) > maxInts {
				return
			}
			values = append(values, part...)
		}
	case "Gather":
		for _, i := range t.ints(input(n, 1)) {
			if i < 0 {
				i += int64(len(a))
			}
			if i < 0 || i >= int64(len(a)) {
				return
			}
			values = append(values, a[i])
		}
	case "Slice":
		values = t.part(n, a)
	case "Add", "Sub", "Mul", "Div":
		values = arithmetic(n.GetOpType(), a, t.ints(input(n, 1)))
	}
	if values != nil && len(n.GetOutput()) > 0 {
		t.values[n.GetOutput()[0]] = values
	}
}

func (t *tracer) shape(n *onnxpb.Node) []int64 {
	v := t.views[input(n, 0)]
	if v == nil || attribute(n, "start") != nil || attribute(n, "end") != nil {
		return nil
	}
	return []int64{unknown, unknown, v.axes[0].size, v.axes[1].size}
}

// part is Slice of a list, by steps of 1.
func (t *tracer) part(n *onnxpb.Node, a []int64) []int64 {
	starts, ends := attribute(n, "starts").GetInts(), attribute(n, "ends").GetInts()
	if len(n.GetInput()) > 2 {
		starts, ends = t.ints(n.GetInput()[1]), t.ints(n.GetInput()[2])
	}
	if steps := t.ints(input(n, 4)); len(starts) != 1 || len(ends) != 1 || input(n, 4) != "" && !slices.Equal(steps, []int64{1}) {
		return nil
	}
	clamp := func(i int64) int64 {
		if i < 0 {
			i += int64(len(a))
		}
		return min(max(i, 0), int64(len(a)))
	}
	from, to := clamp(starts[0]), clamp(ends[0])
	if from >= to {
		return nil
	}
	return a[from:to]
}

func arithmetic(op string, a, b []int64) []int64 {
	if len(a) == 1 {
		a = slices.Repeat(a, max(len(b), 1))
	}
	if len(b) == 1 {
		b = slices.Repeat(b, max(len(a), 1))
	}
	if len(a) != len(b) || len(a) == 0 {
		return nil
	}
	values := make([]int64, len(a))
	for i, x := range a {
		y := b[i]
		switch {
		case outside(x) || outside(y):
			values[i] = unknown
		case op == "Add":
			values[i] = x + y
		case op == "Sub":
			values[i] = x - y
		case op == "Mul":
			values[i] = x * y
		case y == 0:
			values[i] = unknown
		default:
			values[i] = x / y
		}
	}
	return values
}

// outside tells what cannot be computed with: what is unknown, and what could
// overflow.
func outside(x int64) bool { return x < -1<<31 || x > 1<<31 }

// sizesText shows a list of sizes.
func sizesText(dims []int64) string {
	texts := make([]string, len(dims))
	for i, d := range dims {
		texts[i] = fmt.Sprint(d)
		if d == unknown {
			texts[i] = "?"
		}
	}
	return "[" + strings.Join(texts, ", ") + "]"
}
