package rpc

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
)

// pack is the contents as bytes of the datatype, n elements. Where the message
// has them in the very form, they are not copied.
func (c *call) pack(datatype oip.Datatype, from *inferencepb.InferTensorContents, n int) ([]byte, error) {
	if datatype == oip.FP16 || datatype == oip.BF16 {
		return nil, fmt.Errorf("%s has no field in contents: send it as raw_input_contents", datatype)
	}
	lengths := []struct {
		field     string
		n         int
		datatypes []oip.Datatype
	}{
		{"bool_contents", len(from.GetBoolContents()), []oip.Datatype{oip.BOOL}},
		{"int_contents", len(from.GetIntContents()), []oip.Datatype{oip.INT8, oip.INT16, oip.INT32}},
		{"int64_contents", len(from.GetInt64Contents()), []oip.Datatype{oip.INT64}},
		{"uint_contents", len(from.GetUintContents()), []oip.Datatype{oip.UINT8, oip.UINT16, oip.UINT32}},
		{"uint64_contents", len(from.GetUint64Contents()), []oip.Datatype{oip.UINT64}},
		{"fp32_contents", len(from.GetFp32Contents()), []oip.Datatype{oip.FP32}},
		{"fp64_contents", len(from.GetFp64Contents()), []oip.Datatype{oip.FP64}},
		{"bytes_contents", len(from.GetBytesContents()), []oip.Datatype{oip.BYTES}},
	}
	for _, l := range lengths {
		want := 0
		if slices.Contains(l.datatypes, datatype) {
			want = n
		}
		if l.n != want {
			return nil, fmt.Errorf("%s has %d elements, want %d for the datatype %s and the shape", l.field, l.n, want, datatype)
		}
	}
	switch datatype {
	case oip.BOOL:
		return bytesOf(from.GetBoolContents()), nil
	case oip.INT32:
		return bytesOf(from.GetIntContents()), nil
	case oip.INT64:
		return bytesOf(from.GetInt64Contents()), nil
	case oip.UINT32:
		return bytesOf(from.GetUintContents()), nil
	case oip.UINT64:
		return bytesOf(from.GetUint64Contents()), nil
	case oip.FP32:
		return bytesOf(from.GetFp32Contents()), nil
	case oip.FP64:
		return bytesOf(from.GetFp64Contents()), nil
	case oip.INT8:
		return narrow[int8](c, from.GetIntContents())
	case oip.INT16:
		return narrow[int16](c, from.GetIntContents())
	case oip.UINT8:
		return narrow[uint8](c, from.GetUintContents())
	case oip.UINT16:
		return narrow[uint16](c, from.GetUintContents())
	}
	return texts(from.GetBytesContents()), nil // BYTES: Known is asked before
}

type number interface {
	~bool | ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// bytesOf is a view of elements as their bytes, on a little-endian machine. A
// bool of Go is a byte of 0 or 1.
func bytesOf[T number](elements []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(elements))), len(elements)*int(unsafe.Sizeof(*new(T))))
}

// elementsOf is the view the other way round.
func elementsOf[T number](data []byte) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/int(unsafe.Sizeof(*new(T))))
}

// narrow writes elements in a smaller type, and refuses what is out of its
// range.
func narrow[T int8 | int16 | uint8 | uint16, W int32 | uint32](c *call, wide []W) ([]byte, error) {
	data := c.loan.Get(len(wide)*int(unsafe.Sizeof(*new(T))), nil)
	to := elementsOf[T](data)
	for i, v := range wide {
		to[i] = T(v)
		if W(to[i]) != v {
			return nil, fmt.Errorf("element %d is %d, which is out of range", i, v)
		}
	}
	return data, nil
}

func texts(elements [][]byte) []byte {
	n := 0
	for _, e := range elements {
		n += 4 + len(e)
	}
	data := make([]byte, 0, n)
	for _, e := range elements {
		data = binary.LittleEndian.AppendUint32(data, uint32(len(e)))
		data = append(data, e...)
	}
	return data
}

// unpack is a tensor as contents: views of its data where the form is the same.
func unpack(t oip.Tensor) *inferencepb.InferTensorContents {
	to := &inferencepb.InferTensorContents{}
	switch t.Datatype {
	case oip.BOOL:
		to.BoolContents = elementsOf[bool](t.Data)
	case oip.INT8:
		to.IntContents = widen[int8, int32](t.Data)
	case oip.INT16:
		to.IntContents = widen[int16, int32](t.Data)
	case oip.INT32:
		to.IntContents = elementsOf[int32](t.Data)
	case oip.INT64:
		to.Int64Contents = elementsOf[int64](t.Data)
	case oip.UINT8:
		to.UintContents = widen[uint8, uint32](t.Data)
	case oip.UINT16:
		to.UintContents = widen[uint16, uint32](t.Data)
	case oip.UINT32:
		to.UintContents = elementsOf[uint32](t.Data)
	case oip.UINT64:
		to.Uint64Contents = elementsOf[uint64](t.Data)
	case oip.FP32:
		to.Fp32Contents = elementsOf[float32](t.Data)
	case oip.FP64:
		to.Fp64Contents = elementsOf[float64](t.Data)
	case oip.BYTES:
		for data := t.Data; len(data) >= 4; {
			end := min(len(data), 4+int(binary.LittleEndian.Uint32(data)))
			to.BytesContents = append(to.BytesContents, data[4:end])
			data = data[end:]
		}
	}
	return to
}

func widen[T int8 | int16 | uint8 | uint16, W int32 | uint32](data []byte) []W {
	narrow := elementsOf[T](data)
	wide := make([]W, len(narrow))
	for i, v := range narrow {
		wide[i] = W(v)
	}
	return wide
}
