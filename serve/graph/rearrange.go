package graph

import (
	"fmt"

	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// apart is a tensor whose places were taken apart by a Reshape to five or six
// dimensions and perhaps moved by a Transpose. A second Reshape puts it
// together: that is how channels become pixels (Shi et al., CVPR 2016) where
// the exporter does not write DepthToSpace.
type apart struct {
	from *view
	dims []int64 // after the first Reshape; unknown where they are computed of the batch
	perm []int64 // of the Transpose; nil before it
}

// orders are the permutations that are known: where the block's height and
// width stand in dims, where the picture's, and which way it goes.
var orders = map[string]struct {
	block, side [2]int
	enlarges    bool
}{
	"[0 1 4 2 5 3]": {[2]int{2, 3}, [2]int{4, 5}, true},
	"[0 3 4 1 5 2]": {[2]int{1, 2}, [2]int{4, 5}, true},
	"[0 1 3 5 2 4]": {[2]int{3, 5}, [2]int{2, 4}, false},
	"[0 3 5 1 2 4]": {[2]int{3, 5}, [2]int{2, 4}, false},
}

// shuffled is the permutation that mixes groups of channels (Zhang et al.,
// ShuffleNet, CVPR 2018); places stay.
const shuffled = "[0 2 1 3 4]"

func reshape(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	dims := attribute(n, "shape").GetInts() // operator set 1
	if len(n.GetInput()) > 1 {
		dims = t.ints(n.GetInput()[1])
	}
	if a, taken := t.apart[n.GetInput()[0]]; taken {
		return a.together(n, dims)
	}
	v := in[0]
	switch len(dims) {
	case 5, 6:
		t.apart[n.GetOutput()[0]] = apart{from: v, dims: dims}
		return nil, nil
	case 4:
		if is(dims[2], v.axes[0].size) && is(dims[3], v.axes[1].size) {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%s to %s is not known to keep places", where(n), sizesText(dims))
}

func transpose(t *tracer, n *onnxpb.Node, in []*view) (*view, error) {
	perm := attribute(n, "perm").GetInts()
	a, taken := t.apart[n.GetInput()[0]]
	if !taken || a.perm != nil || len(perm) != len(a.dims) {
		return nil, fmt.Errorf("%s by %v exchanges places", where(n), perm)
	}
	a.perm = perm
	t.apart[n.GetOutput()[0]] = a
	return nil, nil
}

// together is the view after the second Reshape.
func (a apart) together(n *onnxpb.Node, dims []int64) (*view, error) {
	refused := fmt.Errorf("%s puts %s, ordered %v, together to %s, which is not known to keep places", where(n), sizesText(a.dims), a.perm, sizesText(dims))
	if len(dims) != 4 {
		return nil, refused
	}
	key := fmt.Sprint(a.perm)
	v := a.from
	if o, known := orders[key]; known && len(a.dims) == 6 {
		high, wide := a.dims[o.block[0]], a.dims[o.block[1]]
		if high < 1 || wide < 1 {
			return nil, refused
		}
		var err error
		if o.enlarges {
			if !is(a.dims[o.side[0]], v.axes[0].size) || !is(a.dims[o.side[1]], v.axes[1].size) {
				return nil, refused
			}
			v, err = enlarge(n, v, high, wide)
		} else {
			v, err = shrink(n, v, high, wide)
			if err == nil && (!is(a.dims[o.side[0]], v.axes[0].size) || !is(a.dims[o.side[1]], v.axes[1].size)) {
				return nil, refused
			}
		}
		if err != nil {
			return nil, err
		}
	} else if key != shuffled || len(a.dims) != 5 || !is(a.dims[3], v.axes[0].size) || !is(a.dims[4], v.axes[1].size) {
		return nil, refused
	}
	if !is(dims[2], v.axes[0].size) || !is(dims[3], v.axes[1].size) {
		return nil, refused
	}
	return v, nil
}

// is tells whether a dimension may be so many pixels: -1 is what is left over.
func is(dim, size int64) bool { return dim == size || dim == -1 }
