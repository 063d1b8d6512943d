package oip

import (
	"encoding/binary"
	"unsafe"
)

// Datatype is the protocol's name of an element type.
type Datatype string

// The datatypes of the protocol. FP16 and BF16 travel as raw bytes only.
const (
	BOOL   Datatype = "BOOL"
	UINT8  Datatype = "UINT8"
	UINT16 Datatype = "UINT16"
	UINT32 Datatype = "UINT32"
	UINT64 Datatype = "UINT64"
	INT8   Datatype = "INT8"
	INT16  Datatype = "INT16"
	INT32  Datatype = "INT32"
	INT64  Datatype = "INT64"
	FP16   Datatype = "FP16"
	BF16   Datatype = "BF16"
	FP32   Datatype = "FP32"
	FP64   Datatype = "FP64"
	BYTES  Datatype = "BYTES"
)

var sizes = map[Datatype]int{
	BOOL: 1, UINT8: 1, UINT16: 2, UINT32: 4, UINT64: 8, INT8: 1, INT16: 2, INT32: 4, INT64: 8,
	FP16: 2, BF16: 2, FP32: 4, FP64: 8,
}

// Size is the size of an element in bytes; 0 for BYTES, whose elements differ,
// and for names that the protocol does not know.
func (d Datatype) Size() int { return sizes[d] }

// Known tells whether the protocol knows the name.
func (d Datatype) Known() bool { return d == BYTES || d.Size() > 0 }

// Tensor is a tensor in the form in which it travels and in which the runtime
// takes it: Data holds the elements in C order, little-endian, without padding.
// (Elements of BYTES have their length, 4 bytes, before each.)
type Tensor struct {
	Name     string
	Datatype Datatype
	Shape    []int64
	Data     []byte
}

// Check compares Data with datatype and shape, of at most limit elements: its
// length, the lengths in BYTES, and that every BOOL is 0 or 1.
func (t Tensor) Check(limit int) error {
	n, err := Elements(t.Shape, limit)
	if err != nil {
		return bad("tensor %q: %v", t.Name, err)
	}
	size := t.Datatype.Size()
	switch {
	case t.Datatype == BYTES:
		return t.checkTexts(n)
	case size == 0:
		return bad("tensor %q: the datatype %q is none of the protocol's", t.Name, t.Datatype)
	case len(t.Data) != n*size:
		return bad("tensor %q: %d bytes, the shape %v of %s has %d", t.Name, len(t.Data), t.Shape, t.Datatype, n*size)
	case t.Datatype == BOOL:
		return t.checkBools()
	}
	return nil
}

// checkTexts walks the elements of BYTES by their lengths.
func (t Tensor) checkTexts(n int) error {
	rest := t.Data
	for i := range n {
		if len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.LittleEndian.Uint32(rest)) {
			return bad("tensor %q: element %d of %d goes beyond its %d bytes", t.Name, i, n, len(t.Data))
		}
		rest = rest[4+binary.LittleEndian.Uint32(rest):]
	}
	if len(rest) > 0 {
		return bad("tensor %q: %d bytes follow its %d elements", t.Name, len(rest), n)
	}
	return nil
}

func (t Tensor) checkBools() error {
	for i, b := range t.Data {
		if b > 1 {
			return bad("tensor %q: element %d is %d, a BOOL is 0 or 1", t.Name, i, b)
		}
	}
	return nil
}

// Float32s is a view of little-endian bytes as float32: no copy. The bytes
// must be aligned to 4 and stay as long as the view is used. Penstock runs on
// little-endian machines only.
func Float32s(data []byte) []float32 {
	if len(data) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/4)
}

// Bytes is a view of float32 as little-endian bytes: no copy.
func Bytes(data []float32) []byte {
	if len(data) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), 4*len(data))
}
