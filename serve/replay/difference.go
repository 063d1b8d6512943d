package replay

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/penstock-ml/penstock/internal/oip"
)

// tally gathers the absolute differences between elements.
type tally struct {
	max, sum float64
	n        int
}

func (t *tally) mean() float64 {
	if t.n == 0 {
		return 0
	}
	return t.sum / float64(t.n)
}

// add compares two answers, and tells whether they can be compared: the same
// outputs of the same datatypes and shapes, whose elements are finite numbers on
// both sides or on neither.
func (t *tally) add(got, want []oip.Tensor) bool {
	if len(got) != len(want) {
		return false
	}
	for i, g := range got {
		w := want[i]
		if g.Name != w.Name || g.Datatype != w.Datatype || !slices.Equal(g.Shape, w.Shape) || len(g.Data) != len(w.Data) || element(g.Datatype) == nil {
			return false
		}
	}
	sum := *t
	for i, g := range got {
		if !sum.tensor(g, want[i]) {
			return false
		}
	}
	*t = sum
	return true
}

func (t *tally) tensor(got, want oip.Tensor) bool {
	at, size := element(got.Datatype), got.Datatype.Size()
	for i := 0; i+size <= len(got.Data); i += size {
		g, w := at(got.Data[i:]), at(want.Data[i:])
		difference := math.Abs(g - w)
		if g == w || math.IsNaN(g) && math.IsNaN(w) {
			difference = 0
		}
		if math.IsNaN(difference) || math.IsInf(difference, 0) {
			return false
		}
		t.n++
		t.sum += difference
		t.max = max(t.max, difference)
	}
	return true
}

// element reads one element; nil for datatypes that are not compared.
func element(d oip.Datatype) func([]byte) float64 {
	little := binary.LittleEndian
	switch d {
	case oip.FP32:
		return func(b []byte) float64 { return float64(math.Float32frombits(little.Uint32(b))) }
	case oip.FP64:
		return func(b []byte) float64 { return math.Float64frombits(little.Uint64(b)) }
	case oip.UINT8, oip.BOOL:
		return func(b []byte) float64 { return float64(b[0]) }
	case oip.INT8:
		return func(b []byte) float64 { return float64(int8(b[0])) }
	case oip.INT32:
		return func(b []byte) float64 { return float64(int32(little.Uint32(b))) }
	case oip.INT64:
		return func(b []byte) float64 { return float64(int64(little.Uint64(b))) }
	}
	return nil
}
