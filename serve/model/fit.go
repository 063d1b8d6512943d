package model

import (
	"fmt"

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
	if err := m.fitInput(inputs); err != nil {
		return fmt.Errorf("%s does not fit %s: %w", bundle.ModelFile, bundle.ManifestFile, err)
	}
	if err := m.fitOutputs(outputs); err != nil {
		return fmt.Errorf("%s does not fit %s: %w", bundle.ModelFile, bundle.ManifestFile, err)
	}
	return nil
}

func (m *Model) fitInput(inputs []Declared) error {
	in := m.bundle.Manifest.Input
	if len(inputs) != 1 || inputs[0].Name != in.Name {
		return fmt.Errorf("the graph has the inputs %s, the manifest names %q alone", names(inputs), in.Name)
	}
	want := []int64{-1, int64(in.Channels), int64(in.Height), int64(in.Width)}
	if err := inputs[0].fits(want); err != nil {
		return fmt.Errorf("input %w", err)
	}
	if n := inputs[0].Shape[0]; n > 1 {
		return fmt.Errorf("input %q takes exactly %d pictures: export it with a free first dimension", in.Name, n)
	}
	m.free = inputs[0].free()
	m.inputs = []Declared{{in.Name, oip.FP32, append(inputs[0].Shape[:1:1], want[1:]...)}}
	return nil
}

func (m *Model) fitOutputs(outputs []Declared) error {
	out, labels := m.bundle.Manifest.Outputs, int64(len(m.bundle.Manifest.Labels))
	for _, w := range []struct {
		name  string
		shape []int64
	}{
		{out.Scores, []int64{-1, labels}},
		{out.Heatmap, []int64{-1, labels, -1, -1}},
		{out.Features, []int64{-1, -1}},
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
