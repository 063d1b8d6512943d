package graph_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/penstock-ml/penstock/serve/graph"
)

// FuzzParse: whatever the bytes, nothing panics, and what was read once is
// written and read again as the same.
func FuzzParse(f *testing.F) {
	for _, file := range glob(f, "testdata/*.onnx", "testdata/heads/*.onnx", bundled+"*.onnx") {
		data, err := os.ReadFile(file)
		must(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = graph.TensorFromPB(data) // an error is an answer
		g, err := graph.Parse(data)
		if err != nil {
			return
		}
		once, err := g.Marshal()
		must(t, err)
		again, err := graph.Parse(once)
		must(t, err)
		twice, err := again.Marshal()
		must(t, err)
		if !bytes.Equal(once, twice) {
			t.Error("a second round changed the model")
		}
		for _, o := range g.Outputs() {
			if field, err := g.ReceptiveField(o.Name); err == nil && field.Local && (field.Align < 1 || field.Scale < 1 || field.Stride < 1 || field.Overlap < 0) {
				t.Errorf("%s: %+v", o.Name, field)
			}
			if bytes, err := g.Memory(o.Name); err == nil && !(bytes > 0) {
				t.Errorf("%s: %v bytes a pixel", o.Name, bytes)
			}
			cam, err := g.AddCAM(o.Name, 3)
			if err != nil || !cam.Added {
				continue
			}
			if found, err := cam.Graph.AddCAM(o.Name, 3); err != nil || found.Added {
				t.Errorf("%s: the map that was added is not found: %v", o.Name, err)
			}
		}
	})
}
