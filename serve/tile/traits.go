package tile

import (
	"fmt"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/serve/graph"
)

// Look reads the traits off a bundle's graph. The error is a graph that does
// not do what its manifest says.
func Look(b *bundle.Bundle) (Traits, error) {
	g, err := graph.Read(b.Path(bundle.ModelFile))
	if err != nil {
		return Traits{}, err
	}
	manifest := b.Manifest
	field, err := g.ReceptiveField(manifest.Outputs.Image)
	if err != nil {
		return Traits{}, err
	}
	t := Traits{
		Local: field.Local, Why: field.Why, Overlap: field.Overlap, Align: max(field.Align, 1),
		Scale: manifest.SuperResolution.Scale, Height: manifest.Input.Height, Width: manifest.Input.Width,
	}
	if field.Local && (field.Scale != t.Scale || field.Stride != 1) {
		return Traits{}, fmt.Errorf("%s gives %d pixels for %d, %s says a scale of %d", bundle.ModelFile, field.Scale, field.Stride, bundle.ManifestFile, t.Scale)
	}
	for _, in := range g.Inputs() {
		if in.Name == manifest.Input.Name && len(in.Shape) == 4 { // the graph may fix what the manifest leaves open
			t.Height, t.Width = max(t.Height, int(in.Shape[2])), max(t.Width, int(in.Shape[3]))
		}
	}
	if t.Height%t.Align != 0 || t.Width%t.Align != 0 {
		t.Local, t.Why, t.Align = false, fmt.Sprintf("its %d x %d pixels are no multiple of the %d by which tiles would be laid", t.Width, t.Height, t.Align), 1
	}
	if t.PerPixel, err = g.Memory(manifest.Outputs.Image); err != nil {
		t.Unknown = err.Error()
	}
	return t, nil
}

// String says in a line how pictures will be run.
func (t Traits) String() string {
	size := ""
	if t.Height > 0 || t.Width > 0 {
		size = fmt.Sprintf(" of %d x %d pixels", t.Width, t.Height)
	}
	memory := fmt.Sprintf("%.0f bytes a pixel", t.PerPixel)
	if t.PerPixel == 0 {
		memory = "memory not known: " + t.Unknown
	}
	if !t.Local {
		return fmt.Sprintf("global, run whole%s (%s); %s", size, t.Why, memory)
	}
	return fmt.Sprintf("local, in tiles%s that overlap by %d pixels, at multiples of %d; %s", size, t.Overlap, t.Align, memory)
}
