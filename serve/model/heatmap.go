package model

import (
	"fmt"
	"slices"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/graph"
)

// MethodCAM is the heat map method that is known: a class activation map.
const MethodCAM = "cam"

// Heatmap says what the bundle's heat map is, as it was found at load: the
// manifest may say nothing of it, and is refused where what it says is wrong.
type Heatmap struct {
	// Method is cam where the map's mean and one bias for each label give the
	// scores to graph.Exact, "" where nothing is known of the map, or there is none.
	Method     string
	Difference float64      // how far the goldens' scores and those of the map are apart; 0 where they could not tell
	Shift      bundle.Shift // how far what a cell sees lies off the cell, in cells; 0 where nobody can tell
}

// Heatmap says what the output of that name is.
func (m *Model) Heatmap() Heatmap { return m.heatmap }

// heatmaps are the goldens' scores, from 0 to 1, and their heat maps.
type heatmaps struct{ scores, heats [][]float32 }

func (s *heatmaps) add(m *Model, r *Result) error {
	values, err := m.scoresOf(r, 1)
	if err != nil {
		return err
	}
	t := r.Outputs[find(m.outputs, m.bundle.Manifest.Outputs.Heatmap)]
	if labels := int64(len(values[0])); len(t.Shape) != 4 || t.Shape[0] != 1 || t.Shape[1] != labels || len(t.Data) == 0 {
		return fmt.Errorf("the heat map %q has the shape %s, want [1, %d, height, width]", t.Name, shapeText(t.Shape), labels)
	}
	s.scores, s.heats = append(s.scores, values[0]), append(s.heats, slices.Clone(oip.Float32s(t.Data)))
	return nil
}

// checkHeatmap finds out what the heat map is. Goldens that are all alike tell
// nothing: the manifest's word stands then, which `penstock-serve inspect
// --add-cam` gave on other pictures too.
func (m *Model) checkHeatmap(seen heatmaps) (err error) {
	said := m.bundle.Manifest.Outputs
	if said.Heatmap == "" {
		return nil
	}
	difference, told := graph.FitCAM(seen.scores, seen.heats)
	switch {
	case said.HeatmapMethod == "" && !(told && difference <= graph.Exact):
		return nil
	case told && difference > graph.Exact:
		return fmt.Errorf("%s says that the output %q is a class activation map, but on the goldens its mean and one bias for each label give the scores to %.2g only, the tolerance is %.2g: remove outputs.heatmap_method, or make the map anew with `penstock-serve inspect --add-cam`; the bundle is refused",
			bundle.ManifestFile, said.Heatmap, difference, graph.Exact)
	}
	m.heatmap = Heatmap{MethodCAM, difference, said.HeatmapShift}
	if m.heatmap.Shift == (bundle.Shift{}) {
		m.heatmap.Shift, err = ShiftOf(m.bundle.Path(bundle.ModelFile), said.Heatmap)
	}
	return err
}

// ShiftOf follows an output of the graph in the file back to the picture; 0
// where it is not tied to places in a way that is known.
func ShiftOf(path, output string) (bundle.Shift, error) {
	g, err := graph.Read(path)
	if err != nil {
		return bundle.Shift{}, err
	}
	field, err := g.ReceptiveField(output)
	if err != nil || !field.Local {
		return bundle.Shift{}, err
	}
	return bundle.Shift{Down: field.Shift()[0], Right: field.Shift()[1]}, nil
}
