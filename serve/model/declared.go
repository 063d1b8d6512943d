package model

import (
	"fmt"
	"slices"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
)

// Declared is an input or output of the graph. A dimension of -1 is free.
type Declared struct {
	Name     string
	Datatype oip.Datatype
	Shape    []int64
}

// declare reads the graph's inputs and outputs. The session that the binding
// opens for it is thrown away, so it is opened without any optimisation.
func declare(path string) (inputs, outputs []Declared, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, nil, err
	}
	defer options.Destroy()
	if err := firstOf(
		options.SetIntraOpNumThreads(1), options.SetInterOpNumThreads(1),
		options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll),
	); err != nil {
		return nil, nil, err
	}
	ins, outs, err := ort.GetInputOutputInfoWithOptions(path, options)
	if err != nil {
		return nil, nil, openError(err)
	}
	if inputs, err = declaredOf("input", ins); err != nil {
		return nil, nil, err
	}
	outputs, err = declaredOf("output", outs)
	return inputs, outputs, err
}

// openError says what to do about a graph that ONNX Runtime does not take.
func openError(err error) error {
	remedy := ""
	if strings.Contains(err.Error(), "Could not find an implementation") || strings.Contains(err.Error(), "is not a registered function/op") {
		remedy = ": export it again with operators of ONNX alone, in operator set 7 or later"
	}
	return fmt.Errorf("ONNX Runtime cannot open %s: %w%s", bundle.ModelFile, err, remedy)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// declaredOf refuses what no tensor of the protocol can hold.
func declaredOf(kind string, infos []ort.InputOutputInfo) ([]Declared, error) {
	all := make([]Declared, len(infos))
	for i, info := range infos {
		if info.OrtValueType != ort.ONNXTypeTensor {
			return nil, fmt.Errorf("%s %q of the graph is %s: only tensors can be served; export the model without it (for scikit-learn: zipmap=False)", kind, info.Name, valueKind(info.OrtValueType))
		}
		datatype, ok := datatypeOf(info.DataType)
		if !ok {
			return nil, fmt.Errorf("%s %q of the graph is a tensor of %s: want booleans, integers or floating-point numbers of a fixed size", kind, info.Name, elementKind(info.DataType))
		}
		if len(info.Dimensions) == 0 && elements[datatype].scalar == nil {
			return nil, fmt.Errorf("%s %q of the graph is %s without dimensions, which cannot be handed over: export it as float32, or with a dimension", kind, info.Name, datatype)
		}
		all[i] = Declared{info.Name, datatype, append([]int64{}, info.Dimensions...)}
	}
	return all, nil
}

// valueKind is ONNX_TYPE_SEQUENCE as people say it.
func valueKind(t ort.ONNXType) string {
	return "a " + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.String(), "ONNX_TYPE_"), "_", " "))
}

func elementKind(t ort.TensorElementDataType) string {
	return strings.ToLower(strings.TrimPrefix(t.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_"))
}

// find gives the place of a name.
func find(all []Declared, name string) int {
	return slices.IndexFunc(all, func(d Declared) bool { return d.Name == name })
}

func names(all []Declared) string {
	quoted := make([]string, len(all))
	for i, d := range all {
		quoted[i] = fmt.Sprintf("%q", d.Name)
	}
	return strings.Join(quoted, ", ")
}

// admits tells whether a shape fits what is declared.
func (d Declared) admits(shape []int64) bool {
	fits := len(shape) == len(d.Shape)
	for i := 0; fits && i < len(shape); i++ {
		fits = d.Shape[i] < 0 || d.Shape[i] == shape[i]
	}
	return fits
}

// free tells whether the first dimension is free.
func (d Declared) free() bool { return len(d.Shape) > 0 && d.Shape[0] < 0 }

func shapeText(shape []int64) string {
	dims := make([]string, len(shape))
	for i, d := range shape {
		dims[i] = "?"
		if d >= 0 {
			dims[i] = fmt.Sprint(d)
		}
	}
	return "[" + strings.Join(dims, ", ") + "]"
}
