package model

import (
	"fmt"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/penstock-ml/penstock/internal/oip"
)

// element is an element type: its name in ONNX Runtime, and how a tensor
// without dimensions is made, which the binding does for its own types only.
type element struct {
	ort    ort.TensorElementDataType
	scalar func(data []byte) (ort.Value, func() []byte, error)
}

var elements = map[oip.Datatype]element{
	oip.BOOL:   {ort.TensorElementDataTypeBool, scalar[bool]},
	oip.UINT8:  {ort.TensorElementDataTypeUint8, scalar[uint8]},
	oip.UINT16: {ort.TensorElementDataTypeUint16, scalar[uint16]},
	oip.UINT32: {ort.TensorElementDataTypeUint32, scalar[uint32]},
	oip.UINT64: {ort.TensorElementDataTypeUint64, scalar[uint64]},
	oip.INT8:   {ort.TensorElementDataTypeInt8, scalar[int8]},
	oip.INT16:  {ort.TensorElementDataTypeInt16, scalar[int16]},
	oip.INT32:  {ort.TensorElementDataTypeInt32, scalar[int32]},
	oip.INT64:  {ort.TensorElementDataTypeInt64, scalar[int64]},
	oip.FP16:   {ort.TensorElementDataTypeFloat16, nil},
	oip.BF16:   {ort.TensorElementDataTypeBFloat16, nil},
	oip.FP32:   {ort.TensorElementDataTypeFloat, scalar[float32]},
	oip.FP64:   {ort.TensorElementDataTypeDouble, scalar[float64]},
}

// datatypeOf is the protocol's name of a type of ONNX Runtime, if it has one of
// a fixed size.
func datatypeOf(t ort.TensorElementDataType) (oip.Datatype, bool) {
	for name, e := range elements {
		if e.ort == t {
			return name, true
		}
	}
	return "", false
}

// scalar makes a tensor without dimensions that holds data, or nothing yet; the
// function gives its bytes.
func scalar[T ort.TensorData](data []byte) (ort.Value, func() []byte, error) {
	var v T
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), data)
	s, err := ort.NewScalar(v)
	if err != nil {
		return nil, nil, err
	}
	read := func() []byte {
		v := s.GetData()
		return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))...)
	}
	return s, read, nil
}

// contents are the bytes of a tensor that ONNX Runtime allocated and the
// binding copied: a view.
func contents(v ort.Value) ([]byte, error) {
	switch v := v.(type) {
	case *ort.Tensor[bool]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[uint8]:
		return v.GetData(), nil
	case *ort.Tensor[uint16]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[uint32]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[uint64]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[int8]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[int16]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[int32]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[int64]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[float32]:
		return viewOf(v.GetData()), nil
	case *ort.Tensor[float64]:
		return viewOf(v.GetData()), nil
	}
	return nil, fmt.Errorf("a value of the type %T", v)
}

func viewOf[T ort.TensorData](data []T) []byte {
	var one T
	if len(data) == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*int(unsafe.Sizeof(one)))
}
