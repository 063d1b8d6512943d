package graph

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// resize is Resize and its forerunner Upsample, where they enlarge by whole
// numbers. Output o lies at the input's coordinate o/r + shift.
func resize(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	scales, err := t.scales(n, in[0])
	if err != nil {
		return nil, err
	}
	transform := "half_pixel"
	if a := attribute(n, "coordinate_transformation_mode"); a != nil {
		transform = string(a.GetS())
	}
	if n.GetOpType() == "Upsample" || t.g.opset == 10 {
		transform = "asymmetric"
	}
	mode := "nearest"
	if a := attribute(n, "mode"); a != nil {
		mode = string(a.GetS())
	}
	out := new(view)
	for k, r := range scales {
		a := in[0].axes[k]
		size, err := sized(n, a.size*r)
		if err != nil {
			return nil, err
		}
		shift, err := shiftOf(n, transform, r)
		if err != nil {
			return nil, err
		}
		low, high, err := taps(n, mode, r)
		if err != nil {
			return nil, err
		}
		out.axes[k] = a.through(big.NewRat(1, r), low.Add(low, shift), high.Add(high, shift), size)
	}
	return out, nil
}

// shiftOf is what a coordinate transformation adds to o/r.
func shiftOf(n *onnxpb.Node, transform string, r int64) (*big.Rat, error) {
	switch transform {
	case "asymmetric":
		return new(big.Rat), nil
	case "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric":
		return big.NewRat(1-r, 2*r), nil
	case "tf_half_pixel_for_nn":
		return big.NewRat(1, 2*r), nil
	}
	return nil, fmt.Errorf("%s places pixels by %q, which goes by the size of the picture", where(n), transform)
}

// taps is how far the inputs that count lie from a coordinate, which is a
// multiple of 1/(2r): those nearer than one or two pixels, or the nearest.
func taps(n *onnxpb.Node, mode string, r int64) (low, high *big.Rat, err error) {
	fine := big.NewRat(1, 2*r)
	reach := int64(1)
	switch mode {
	case "nearest":
		switch rounding := string(attribute(n, "nearest_mode").GetS()); {
		case n.GetOpType() == "Upsample" || rounding == "floor":
			return fine.Sub(fine, big.NewRat(1, 1)), new(big.Rat), nil
		case rounding == "ceil":
			return new(big.Rat), fine.Sub(big.NewRat(1, 1), fine), nil
		}
		return big.NewRat(-1, 2), big.NewRat(1, 2), nil
	case "linear", "bilinear":
	case "cubic":
		reach = 2
	default:
		return nil, nil, fmt.Errorf("%s enlarges by the mode %q", where(n), mode)
	}
	if r&(r-1) != 0 {
		// Weights come from the place in the picture, in float32: a third is
		// rounded differently in a tile that starts elsewhere.
		return nil, nil, fmt.Errorf("%s enlarges by %d (%s), whose weights are not exactly the same in a tile", where(n), r, mode)
	}
	high = new(big.Rat).Sub(big.NewRat(reach, 1), fine)
	return new(big.Rat).Neg(high), high, nil
}

// scales are the whole numbers by which height and width are enlarged.
func (t *tracer) scales(n *onnxpb.Node, v *view) (r [2]int64, err error) {
	refused := fmt.Errorf("%s does not enlarge height and width by known whole numbers", where(n))
	at := [2]int{2, 3}
	if a := attribute(n, "axes"); a != nil {
		if len(a.GetInts()) != 2 || a.GetInts()[0] != 2 || a.GetInts()[1] != 3 {
			return r, refused
		}
		at = [2]int{0, 1}
	}
	factors := t.factors(n)
	if sizes := t.ints(input(n, 3)); factors == nil && sizes != nil {
		for k := range r {
			if at[k] >= len(sizes) || sizes[at[k]] < 1 || sizes[at[k]]%v.axes[k].size != 0 {
				return r, refused
			}
			r[k] = sizes[at[k]] / v.axes[k].size
		}
		return r, nil
	}
	if len(factors) != at[1]+1 || at[0] == 2 && (factors[0] != 1 || factors[1] != 1) {
		return r, refused
	}
	for k := range r {
		f := factors[at[k]]
		if f != math.Trunc(f) || !(f >= 1 && f <= 64) {
			return r, refused
		}
		r[k] = int64(f)
	}
	return r, nil
}

// factors are the node's scales, wherever its operator set has them; nil where
// there are none.
func (t *tracer) factors(n *onnxpb.Node) []float64 {
	if a := attribute(n, "scales"); a != nil { // Upsample before operator set 9
		var factors []float64
		for _, f := range a.GetFloats() {
			factors = append(factors, float64(f))
		}
		return factors
	}
	name := input(n, 1)
	if n.GetOpType() == "Resize" && t.g.opset >= 11 {
		name = input(n, 2)
	}
	c := t.g.constants[name]
	if c == nil {
		return nil
	}
	u, err := unpack(c)
	if err != nil || u.Datatype != oip.FP32 {
		return nil
	}
	var factors []float64
	for i := 0; i < len(u.Data); i += 4 {
		factors = append(factors, float64(math.Float32frombits(binary.LittleEndian.Uint32(u.Data[i:]))))
	}
	return factors
}
