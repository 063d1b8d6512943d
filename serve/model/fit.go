package model

import (
	"fmt"
	"slices"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/penstock-ml/penstock/internal/bundle"
)

// Declared is an input or output of the graph that the manifest names. A
// dimension of -1 is free.
type Declared struct {
	Name  string
	Shape []int64
}

// fit compares what the graph declares with what the manifest says, and learns
// how many pictures a run may take.
func (m *Model) fit() error {
	inputs, outputs, err := ort.GetInputOutputInfo(m.bundle.Path(bundle.ModelFile))
	if err != nil {
		return fmt.Errorf("ONNX Runtime cannot open %s: %w", bundle.ModelFile, err)
	}
	if err := m.fitInput(inputs); err != nil {
		return fmt.Errorf("%s does not fit %s: %w", bundle.ModelFile, bundle.ManifestFile, err)
	}
	if err := m.fitOutputs(outputs); err != nil {
		return fmt.Errorf("%s does not fit %s: %w", bundle.ModelFile, bundle.ManifestFile, err)
	}
	return nil
}

func (m *Model) fitInput(inputs []ort.InputOutputInfo) error {
	in := m.bundle.Manifest.Input
	if len(inputs) != 1 || inputs[0].Name != in.Name {
		return fmt.Errorf("the graph has the inputs %s, the manifest names %q alone", names(inputs), in.Name)
	}
	want := []int64{-1, int64(in.Channels), int64(in.Height), int64(in.Width)}
	if err := fitTensor(inputs[0], want); err != nil {
		return fmt.Errorf("input %w", err)
	}
	switch n := inputs[0].Dimensions[0]; {
	case n == 1:
		m.batch = 1
	case n > 1:
		return fmt.Errorf("input %q takes exactly %d pictures: export it with a free first dimension", in.Name, n)
	}
	return nil
}

func (m *Model) fitOutputs(outputs []ort.InputOutputInfo) error {
	out, labels := m.bundle.Manifest.Outputs, int64(len(m.bundle.Manifest.Labels))
	wanted := []Declared{
		{out.Scores, []int64{-1, labels}},
		{out.Heatmap, []int64{-1, labels, -1, -1}},
		{out.Features, []int64{-1, -1}},
	}
	for _, w := range wanted {
		if w.Name == "" {
			continue
		}
		i := slices.IndexFunc(outputs, func(o ort.InputOutputInfo) bool { return o.Name == w.Name })
		if i < 0 {
			return fmt.Errorf("the graph has the outputs %s, the manifest names %q", names(outputs), w.Name)
		}
		if err := fitTensor(outputs[i], w.Shape); err != nil {
			return fmt.Errorf("output %w", err)
		}
		m.outputs = append(m.outputs, Declared{w.Name, outputs[i].Dimensions})
	}
	return nil
}

// fitTensor wants float32 and the shape; -1 fits everything on either side.
func fitTensor(info ort.InputOutputInfo, want []int64) error {
	if info.OrtValueType != ort.ONNXTypeTensor || info.DataType != ort.TensorElementDataTypeFloat {
		return fmt.Errorf("%q is %s of %s, want a float32 tensor", info.Name, info.OrtValueType, info.DataType)
	}
	fits := len(info.Dimensions) == len(want)
	for i := 0; fits && i < len(want); i++ {
		fits = want[i] < 0 || info.Dimensions[i] < 0 || want[i] == info.Dimensions[i]
	}
	if !fits {
		return fmt.Errorf("%q has the shape %s, want %s", info.Name, shapeText(info.Dimensions), shapeText(want))
	}
	return nil
}

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

func names(infos []ort.InputOutputInfo) string {
	all := make([]string, len(infos))
	for i, info := range infos {
		all[i] = fmt.Sprintf("%q", info.Name)
	}
	return strings.Join(all, ", ")
}
