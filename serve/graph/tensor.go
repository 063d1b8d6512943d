package graph

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// datatypes are the protocol's names of TensorProto.DataType.
var datatypes = map[int32]oip.Datatype{
	1: oip.FP32, 2: oip.UINT8, 3: oip.INT8, 4: oip.UINT16, 5: oip.INT16, 6: oip.INT32, 7: oip.INT64, 8: oip.BYTES,
	9: oip.BOOL, 10: oip.FP16, 11: oip.FP64, 12: oip.UINT32, 13: oip.UINT64, 16: oip.BF16,
}

// Numbers of TensorProto.DataType and AttributeProto.AttributeType that are
// written.
const (
	typeFloat   = 1
	typeInt64   = 7
	attrTensor  = 4
	attrInts    = 7
	outsideFile = 1 // TensorProto.DataLocation EXTERNAL
)

// maxElements bounds a tensor that is unpacked.
const maxElements = 1 << 28

// TensorFromPB reads an ONNX TensorProto, the form of the format's own test
// vectors (input_0.pb), of any datatype but BYTES.
func TensorFromPB(data []byte) (oip.Tensor, error) {
	t := new(onnxpb.Tensor)
	if err := decode(data, t); err != nil {
		return oip.Tensor{}, err
	}
	return unpack(t)
}

// unpack gives a tensor's elements whatever field they stand in.
func unpack(t *onnxpb.Tensor) (oip.Tensor, error) {
	out := oip.Tensor{Name: t.GetName(), Datatype: datatypes[t.GetDataType()], Shape: append([]int64{}, t.GetDims()...)}
	if out.Datatype.Size() == 0 {
		return oip.Tensor{}, fmt.Errorf("tensor %q: elements of ONNX type %d are not read", t.GetName(), t.GetDataType())
	}
	if t.GetDataLocation() == outsideFile {
		return oip.Tensor{}, fmt.Errorf("tensor %q: its elements lie outside the file: export the model with its tensors inside", t.GetName())
	}
	out.Data = t.GetRawData()
	if t.RawData == nil {
		out.Data = typed(t, out.Datatype)
	}
	if err := out.Check(maxElements); err != nil {
		return oip.Tensor{}, err
	}
	return out, nil
}

// typed packs the field in which elements of the datatype stand where there is
// no raw_data. Types of up to 32 bits share int32_data.
func typed(t *onnxpb.Tensor, d oip.Datatype) []byte {
	data := []byte{}
	switch d {
	case oip.FP32:
		for _, v := range t.GetFloatData() {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	case oip.FP64:
		for _, v := range t.GetDoubleData() {
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
		}
	case oip.INT64:
		for _, v := range t.GetInt64Data() {
			data = binary.LittleEndian.AppendUint64(data, uint64(v))
		}
	case oip.UINT32, oip.UINT64:
		for _, v := range t.GetUint64Data() {
			data = append(data, binary.LittleEndian.AppendUint64(nil, v)[:d.Size()]...)
		}
	default: // little-endian: the low bytes come first
		for _, v := range t.GetInt32Data() {
			data = append(data, binary.LittleEndian.AppendUint32(nil, uint32(v))[:d.Size()]...)
		}
	}
	return data
}

// floats are the elements of a float32 tensor.
func floats(t *onnxpb.Tensor) ([]float32, error) {
	u, err := unpack(t)
	if err != nil {
		return nil, err
	}
	if u.Datatype != oip.FP32 {
		return nil, fmt.Errorf("tensor %q is %s, want FP32", u.Name, u.Datatype)
	}
	values := make([]float32, len(u.Data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(u.Data[4*i:]))
	}
	return values, nil
}

var errNotWhole = errors.New("not a list of whole numbers")

// whole are the elements of a tensor of integers.
func whole(t *onnxpb.Tensor) ([]int64, error) {
	u, err := unpack(t)
	if err != nil {
		return nil, err
	}
	var values []int64
	switch u.Datatype {
	case oip.INT64:
		for i := 0; i < len(u.Data); i += 8 {
			values = append(values, int64(binary.LittleEndian.Uint64(u.Data[i:])))
		}
	case oip.INT32:
		for i := 0; i < len(u.Data); i += 4 {
			values = append(values, int64(int32(binary.LittleEndian.Uint32(u.Data[i:]))))
		}
	default:
		return nil, fmt.Errorf("tensor %q is %s: %w", u.Name, u.Datatype, errNotWhole)
	}
	return values, nil
}

// constantOf is the tensor of a Constant node, however its value is written;
// nil for texts and sparse tensors.
func constantOf(n *onnxpb.Node) *onnxpb.Tensor {
	for _, a := range n.GetAttribute() {
		switch a.GetName() {
		case "value":
			return a.GetT()
		case "value_float":
			return floatTensor("", []int64{}, []float32{a.GetF()})
		case "value_floats":
			return floatTensor("", []int64{int64(len(a.GetFloats()))}, a.GetFloats())
		case "value_int":
			return intTensor([]int64{}, []int64{a.GetI()})
		case "value_ints":
			return intTensor([]int64{int64(len(a.GetInts()))}, a.GetInts())
		}
	}
	return nil
}

func floatTensor(name string, shape []int64, values []float32) *onnxpb.Tensor {
	kind, raw := int32(typeFloat), make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return &onnxpb.Tensor{Name: &name, Dims: shape, DataType: &kind, RawData: raw}
}

func intTensor(shape, values []int64) *onnxpb.Tensor {
	kind := int32(typeInt64)
	return &onnxpb.Tensor{Dims: shape, DataType: &kind, Int64Data: values}
}
