package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/graph"
	"github.com/penstock-ml/penstock/serve/model"
)

// camPictures is on how many random pictures the map is compared, besides the
// goldens.
const camPictures = 8

// camAdder makes a bundle whose graph gives a class activation map.
type camAdder struct {
	runtime *model.Runtime
	parent  *bundle.Bundle
	cam     graph.CAM
}

// addCAM writes the bundle to out. A bundle that has such a map, and says so, is
// given back as it is, its map checked again, and out stays unwritten.
func addCAM(ctx context.Context, runtime *model.Runtime, parent *bundle.Bundle, out string) (b *bundle.Bundle, text string, err error) {
	outputs := parent.Manifest.Outputs
	if parent.Manifest.Task != bundle.TaskMultilabel {
		return nil, "", fmt.Errorf("a class activation map for the task %s: it is one for each label, so for %s only", parent.Manifest.Task, bundle.TaskMultilabel)
	}
	g, err := graph.Read(parent.Path(bundle.ModelFile))
	if err != nil {
		return nil, "", err
	}
	a := camAdder{runtime: runtime, parent: parent}
	if a.cam, err = g.AddCAM(outputs.Scores, len(parent.Manifest.Labels)); err != nil {
		return nil, "", err
	}
	a.cam.Sigmoid = a.cam.Sigmoid || outputs.Activation == "sigmoid" // then the server applies it
	switch {
	case outputs.Heatmap != "" && outputs.Heatmap != a.cam.Output:
		return nil, "", fmt.Errorf("the bundle has a heat map of another kind, its output %q: remove outputs.heatmap from its %s first", outputs.Heatmap, bundle.ManifestFile)
	case outputs.HeatmapMethod == model.MethodCAM:
		difference, err := a.difference(ctx, parent)
		return parent, fmt.Sprintf("has its class activation map already: the output %s, which gives the scores to %.2g; nothing was written", outputs.Heatmap, difference), err
	}
	if b, err = a.write(ctx, out); err != nil {
		return nil, "", err
	}
	what := "got the class activation map " + a.cam.Output
	if !a.cam.Added {
		what = "had the class activation map " + a.cam.Output + " without saying so"
	}
	return b, fmt.Sprintf("%s, which gives the scores to %.2g: written to %s", what, b.Manifest.Outputs.HeatmapDifference, out), nil
}

// write makes the bundle beside out and renames it when it is proven.
func (a camAdder) write(ctx context.Context, out string) (_ *bundle.Bundle, err error) {
	if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
		return nil, verdict.Usage(fmt.Errorf("--out %s is there already: name a new folder", out))
	}
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".cam-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if err := a.fill(dir); err != nil {
		return nil, err
	}
	m := a.parent.Manifest
	if m.Outputs.HeatmapShift, err = model.ShiftOf(filepath.Join(dir, bundle.ModelFile), a.cam.Output); err != nil {
		return nil, err
	}
	m.Outputs.Heatmap, m.Outputs.HeatmapMethod = a.cam.Output, model.MethodCAM
	m.Provenance.Parent = a.parent.Digest
	if err := bundle.WriteManifest(dir, m); err != nil {
		return nil, err
	}
	b, err := bundle.Read(dir)
	if err != nil {
		return nil, err
	}
	if m.Outputs.HeatmapDifference, err = a.difference(ctx, b); err != nil {
		return nil, err
	}
	if err := bundle.WriteManifest(dir, m); err != nil {
		return nil, err
	}
	if err := os.Rename(dir, out); err != nil {
		return nil, err
	}
	return bundle.Read(out)
}

// fill copies the parent's files, goldens and all, and puts the new graph in
// their midst.
func (a camAdder) fill(dir string) error {
	if err := os.CopyFS(dir, os.DirFS(a.parent.Dir)); err != nil {
		return err
	}
	// Sums that lie in a cache are the parent's.
	if err := os.Remove(filepath.Join(dir, bundle.SumsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !a.cam.Added {
		return nil
	}
	data, err := a.cam.Graph.Marshal()
	if err != nil {
		return err
	}
	return verdict.WriteFile(filepath.Join(dir, bundle.ModelFile), data)
}

// difference runs the goldens and random pictures through a bundle, and tells
// how far the scores are from those of the map. Beyond graph.Exact it is an
// error. Opening the bundle compares the goldens' scores too.
func (a camAdder) difference(ctx context.Context, b *bundle.Bundle) (worst float64, err error) {
	m, err := model.Open(ctx, a.runtime, b)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	spec := m.Spec()
	picture := imaging.Pixels{Width: spec.Width, Height: spec.Height, Channels: spec.Channels}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range len(b.Manifest.Goldens) + camPictures {
		what := fmt.Sprintf("random picture %d", i-len(b.Manifest.Goldens))
		if i < len(b.Manifest.Goldens) {
			what = b.Manifest.Goldens[i]
			if _, picture.Pix, err = bundle.ReadUint8(b.Path(bundle.InputFile(what))); err != nil {
				return 0, err
			}
		} else {
			picture.Pix = randomPixels(random, spec.Size())
		}
		scores, err := m.Score(ctx, &model.Picture{Pixels: picture})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
		d := a.cam.Difference(scores.Values, scores.Heatmap)
		if !(d <= graph.Exact) { // NaN too
			return 0, fmt.Errorf("%s: the class activation map and the scores are %.2g apart, the tolerance is %.2g: the map is not exact and is refused", what, d, graph.Exact)
		}
		worst = max(worst, d)
	}
	return worst, nil
}

func randomPixels(random *rand.Rand, n int) []uint8 {
	pix := make([]uint8, n)
	for i := range pix {
		pix[i] = uint8(random.Uint32())
	}
	return pix
}
