package model

import (
	"fmt"
	"slices"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
)

// fit compares what the graph declares with what the manifest says, and learns
// how many pictures a run may take.
func (m *Model) fit() error {
	inputs, outputs, err := declare(m.bundle.Path(bundle.ModelFile))
	if err != nil {
		return err
	}
	switch task := m.bundle.Manifest.Task; task {
	case bundle.TaskTensor:
		return m.fitTensors(inputs, outputs)
	case bundle.TaskMultilabel, bundle.TaskSuperResolution:
	default:
		return fmt.Errorf("%s: task %q cannot be served by this version", bundle.ManifestFile, task)
	}
	if err := m.fitInput(inputs); err != nil {
		return fmt.Errorf("%s does not fit %s: %w", bundle.ModelFile, bundle.ManifestFile, err)
	}
	if err := m.fitOutputs(outputs); err != nil {
		return fmt.Errorf("%s does not fit %s: %w", bundle.ModelFile, bundle.ManifestFile, err)
	}
	return nil
}

// fitTensors takes the graph as it is.
func (m *Model) fitTensors(inputs, outputs []Declared) error {
	if len(inputs) == 0 || len(outputs) == 0 {
		return fmt.Errorf("the graph has %d inputs and %d outputs: want at least one of each", len(inputs), len(outputs))
	}
	m.inputs, m.outputs, m.free = inputs, outputs, true
	for _, d := range append(slices.Clone(inputs), outputs...) {
		m.free = m.free && d.free()
	}
	return nil
}

func (m *Model) fitInput(inputs []Declared) error {
	in := m.bundle.Manifest.Input
	if len(inputs) != 1 || inputs[0].Name != in.Name {
		return fmt.Errorf("the graph has the inputs %s, the manifest names %q alone", names(inputs), in.Name)
	}
	want := []int64{-1, int64(in.Channels), side(in.Height), side(in.Width)}
	if err := inputs[0].fits(want); err != nil {
		return fmt.Errorf("input %w", err)
	}
	if n := inputs[0].Shape[0]; n > 1 {
		return fmt.Errorf("input %q takes exactly %d pictures: export it with a free first dimension", in.Name, n)
	}
	m.free = inputs[0].free()
	m.inputs = []Declared{{in.Name, oip.FP32, append(inputs[0].Shape[:1:1], want[1:]...)}}
	for i, n := range inputs[0].Shape[1:] { // the graph may fix what the manifest leaves open
		m.inputs[0].Shape[i+1] = max(m.inputs[0].Shape[i+1], n)
	}
	return nil
}

// side is a height or width of the manifest, where 0 stands for any.
func side(n int) int64 {
	if n == 0 {
		return -1
	}
	return int64(n)
}

func (m *Model) fitOutputs(outputs []Declared) error {
	out, labels := m.bundle.Manifest.Outputs, int64(len(m.bundle.Manifest.Labels))
	in, scale := m.inputs[0].Shape, int64(m.bundle.Manifest.SuperResolution.Scale)
	for _, w := range []struct {
		name  string
		shape []int64
	}{
		{out.Scores, []int64{-1, labels}},
		{out.Heatmap, []int64{-1, labels, -1, -1}},
		{out.Features, []int64{-1, -1}},
		{out.Image, []int64{-1, in[1], max(-1, in[2]*scale), max(-1, in[3]*scale)}},
	} {
		if w.name == "" {
			continue
		}
		i := find(outputs, w.name)
		if i < 0 {
			return fmt.Errorf("the graph has the outputs %s, the manifest names %q", names(outputs), w.name)
		}
		if err := outputs[i].fits(w.shape); err != nil {
			return fmt.Errorf("output %w", err)
		}
		m.outputs = append(m.outputs, outputs[i])
	}
	return nil
}

// fits wants float32 and the shape; -1 fits everything on either side.
func (d Declared) fits(want []int64) error {
	if d.Datatype != oip.FP32 {
		return fmt.Errorf("%q is a tensor of %s, want %s", d.Name, d.Datatype, oip.FP32)
	}
	fits := len(d.Shape) == len(want)
	for i := 0; fits && i < len(want); i++ {
		fits = want[i] < 0 || d.Shape[i] < 0 || want[i] == d.Shape[i]
	}
	if !fits {
		return fmt.Errorf("%q has the shape %s, want %s", d.Name, shapeText(d.Shape), shapeText(want))
	}
	return nil
}
