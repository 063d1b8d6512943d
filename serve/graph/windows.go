package graph

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// window is what Conv, ConvTranspose and the pools move over one side.
type window struct {
	kernel, stride, dilation, begin, end int64
	roundUp                              bool
}

// span is how far the window reaches.
func (w window) span() int64 { return (w.kernel - 1) * w.dilation }

// windows reads the attributes that Conv and the pools share, for height and
// width. kernel is used where kernel_shape is not given.
func windows(n *onnxpb.Node, kernel []int64) (w [2]window, err error) {
	read := func(name string, count int, missing int64) []int64 {
		if a := attribute(n, name); a != nil {
			return a.GetInts()
		}
		return slices.Repeat([]int64{missing}, count)
	}
	if a := attribute(n, "kernel_shape"); a != nil {
		kernel = a.GetInts()
	}
	strides, dilations, pads := read("strides", 2, 1), read("dilations", 2, 1), read("pads", 4, 0)
	if len(kernel) != 2 || len(strides) != 2 || len(dilations) != 2 || len(pads) != 4 {
		return w, fmt.Errorf("%s does not go over height and width: kernel %v, strides %v, pads %v", where(n), kernel, strides, pads)
	}
	for k := range w {
		w[k] = window{kernel[k], strides[k], dilations[k], pads[k], pads[2+k], attribute(n, "ceil_mode").GetI() == 1}
		if err := w[k].auto(n); err != nil {
			return w, err
		}
		least := min(w[k].kernel, w[k].stride, w[k].dilation, w[k].begin+1, w[k].end+1)
		if least < 1 || max(w[k].kernel, w[k].stride, w[k].dilation, w[k].begin, w[k].end) > farthest {
			return w, fmt.Errorf("%s has kernel %v, strides %v, dilations %v, pads %v", where(n), kernel, strides, dilations, pads)
		}
	}
	return w, nil
}

// auto resolves auto_pad. SAME pads by the picture's size, to the same amount
// for all sizes that the stride divides.
func (w *window) auto(n *onnxpb.Node) error {
	pad := max(w.span()+1-w.stride, 0)
	switch mode := string(attribute(n, "auto_pad").GetS()); mode {
	case "", "NOTSET":
	case "VALID":
		w.begin, w.end = 0, 0
	case "SAME_UPPER":
		w.begin, w.end = pad/2, pad-pad/2
	case "SAME_LOWER":
		w.begin, w.end = pad-pad/2, pad/2
	default:
		return fmt.Errorf("%s pads by %q", where(n), mode)
	}
	return nil
}

// kernelOf is the height and width of a convolution's weights.
func (t *tracer) kernelOf(n *onnxpb.Node) []int64 {
	if shape := t.constant(input(n, 1)).GetDims(); len(shape) == 4 {
		return shape[2:]
	}
	return nil
}

func conv(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	w, err := windows(n, t.kernelOf(n))
	if err != nil {
		return nil, err
	}
	v, err := moved(n, in[0], w)
	if err != nil {
		return nil, err
	}
	if err := onlyFirst(n, in[:min(3, len(in))]); err != nil {
		return nil, err
	}
	// A fused convolution adds its fourth input before the activation.
	switch {
	case input(n, 3) == "":
		return v, nil
	case in[3] == nil:
		return v, t.uniform(n, n.GetInput()[3])
	}
	return join(n, v, in[3])
}

func pool(_ *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	w, err := windows(n, nil)
	if err != nil {
		return nil, err
	}
	return moved(n, in[0], w)
}

// moved is what a window sees at each of its places.
func moved(n *onnxpb.Node, v *view, w [2]window) (*view, error) {
	out := new(view)
	same := strings.HasPrefix(string(attribute(n, "auto_pad").GetS()), "SAME")
	for k, w := range w {
		a := v.axes[k]
		if same && a.size%w.stride != 0 {
			return nil, fmt.Errorf("%s pads by the size of the picture", where(n))
		}
		room := a.size + w.begin + w.end - w.span() - 1
		if w.roundUp {
			room += w.stride - 1
		}
		if room < 0 {
			return nil, fmt.Errorf("%s moves a window of %d over %d pixels", where(n), w.span()+1, a.size)
		}
		out.axes[k] = a.through(big.NewRat(w.stride, 1), big.NewRat(-w.begin, 1), big.NewRat(w.span()-w.begin, 1), room/w.stride+1)
	}
	return out, nil
}

// convTranspose: output o gets input i where o = i*stride - begin + t*dilation.
func convTranspose(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	kernel := t.kernelOf(n)
	w, err := windows(n, kernel)
	if err != nil {
		return nil, err
	}
	extra := []int64{0, 0}
	if a := attribute(n, "output_padding"); a != nil {
		extra = a.GetInts()
	}
	mode := string(attribute(n, "auto_pad").GetS())
	if attribute(n, "output_shape") != nil || len(extra) != 2 || mode != "" && mode != "NOTSET" {
		return nil, fmt.Errorf("%s pads by the size of the picture", where(n))
	}
	out := new(view)
	for k, w := range w {
		a := in[0].axes[k]
		// Where windows leave gaps, edges of a tile cannot be told from gaps.
		if w.span()+1 < w.stride || extra[k] < 0 || extra[k] > w.begin || w.dilation != 1 {
			return nil, fmt.Errorf("%s leaves gaps between its windows", where(n))
		}
		size, err := sized(n, (a.size-1)*w.stride-w.begin-w.end+w.span()+1+extra[k])
		if err != nil {
			return nil, err
		}
		out.axes[k] = a.through(big.NewRat(1, w.stride), big.NewRat(w.begin-w.span(), w.stride), big.NewRat(w.begin, w.stride), size)
	}
	return out, nil
}

// pad shifts: output o is input o - begin.
func pad(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	pads := attribute(n, "pads").GetInts() // before operator set 11
	if len(n.GetInput()) > 1 {
		pads = t.ints(n.GetInput()[1])
	}
	mode := string(attribute(n, "mode").GetS())
	if len(pads) != 8 || input(n, 3) != "" || mode == "wrap" || slices.ContainsFunc(pads, func(p int64) bool { return p < 0 || p > farthest }) {
		return nil, fmt.Errorf("%s pads by %v (%s), which is not known to be local", where(n), pads, mode)
	}
	if pads[0]+pads[1]+pads[4]+pads[5] != 0 {
		return nil, fmt.Errorf("%s pads batch or channels", where(n))
	}
	out := new(view)
	for k := range out.axes {
		a, shift := in[0].axes[k], big.NewRat(-pads[2+k], 1)
		out.axes[k] = a.through(big.NewRat(1, 1), shift, shift, a.size+pads[2+k]+pads[6+k])
	}
	return out, nil
}
