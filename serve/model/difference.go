package model

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/penstock-ml/penstock/internal/oip"
)

// difference is the greatest absolute one between two tensors' elements, and
// where it is.
type difference struct {
	size      float64
	at        int
	got, want float64
}

// differ compares element by element. Two NaN are the same, so are two
// infinities of one sign. Integers of 64 bits are compared as they are.
func differ(got, want oip.Tensor) (difference, error) {
	if got.Datatype != want.Datatype || !slices.Equal(got.Shape, want.Shape) || len(got.Data) != len(want.Data) {
		return difference{}, fmt.Errorf("is %s of the shape %s, want %s of %s", got.Datatype, shapeText(got.Shape), want.Datatype, shapeText(want.Shape))
	}
	size := got.Datatype.Size()
	var worst difference
	for i := range len(got.Data) / size {
		a, b := got.Data[i*size:(i+1)*size], want.Data[i*size:(i+1)*size]
		if string(a) == string(b) {
			continue
		}
		x, y := number(got.Datatype, a), number(got.Datatype, b)
		d := math.Abs(x - y)
		switch {
		case math.IsNaN(x) && math.IsNaN(y):
			continue
		case math.IsNaN(d): // one of them, or infinities of two signs
			d = math.Inf(1)
		case d == 0 && (got.Datatype == oip.INT64 || got.Datatype == oip.UINT64):
			d = 1 // too large to be told apart as float64
		}
		if d > worst.size {
			worst = difference{d, i, x, y}
		}
	}
	return worst, nil
}

// number reads one element.
func number(t oip.Datatype, b []byte) float64 {
	le := binary.LittleEndian
	switch t {
	case oip.BOOL, oip.UINT8:
		return float64(b[0])
	case oip.INT8:
		return float64(int8(b[0]))
	case oip.UINT16:
		return float64(le.Uint16(b))
	case oip.INT16:
		return float64(int16(le.Uint16(b)))
	case oip.UINT32:
		return float64(le.Uint32(b))
	case oip.INT32:
		return float64(int32(le.Uint32(b)))
	case oip.UINT64:
		return float64(le.Uint64(b))
	case oip.INT64:
		return float64(int64(le.Uint64(b)))
	case oip.FP16:
		return half(le.Uint16(b))
	case oip.BF16:
		return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
	case oip.FP32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case oip.FP64:
		return math.Float64frombits(le.Uint64(b))
	}
	return math.NaN()
}

// half is the value of an IEEE 754 binary16.
func half(bits uint16) float64 {
	sign, exponent, fraction := 1.0, int(bits>>10&0x1f), float64(bits&0x3ff)
	if bits>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 0x1f:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}
