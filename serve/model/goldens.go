package model

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
)

// checkGoldens wants the pixels of every golden picture exactly, and its
// scores within the tolerance: alone, and, where the graph can, all in one
// run. It is the warm-up too.
func (m *Model) checkGoldens(ctx context.Context) error {
	manifest := m.bundle.Manifest
	var pictures []imaging.Pixels
	var wanted [][]float32
	for _, golden := range manifest.Goldens {
		pixels, err := m.goldenPixels(golden)
		if err != nil {
			return fmt.Errorf("golden %s: %w", golden, err)
		}
		_, want, err := bundle.ReadFloat32(m.bundle.Path(bundle.OutputFile(golden)))
		if err != nil {
			return fmt.Errorf("golden %s: %w", golden, err)
		}
		pictures, wanted = append(pictures, pixels), append(wanted, want)
		if err := m.compare(ctx, pictures[len(pictures)-1:], wanted[len(wanted)-1:], golden); err != nil {
			return err
		}
	}
	if m.free {
		return m.compare(ctx, pictures, wanted, "all in one run")
	}
	return nil
}

func (m *Model) goldenPixels(golden string) (imaging.Pixels, error) {
	data, err := os.ReadFile(m.bundle.Path(golden))
	if err != nil {
		return imaging.Pixels{}, err
	}
	pixels, err := imaging.Preprocess(data, m.spec, m.limits)
	if err != nil {
		return imaging.Pixels{}, err
	}
	_, want, err := bundle.ReadUint8(m.bundle.Path(bundle.InputFile(golden)))
	if err != nil {
		return imaging.Pixels{}, err
	}
	if !bytes.Equal(pixels.Pix, want) {
		return imaging.Pixels{}, fmt.Errorf("its pixels are not those of %s: the model was trained on pictures that were decoded or resized in another way", bundle.InputFile(golden))
	}
	return pixels, nil
}

// compare runs pictures and remembers the greatest difference.
func (m *Model) compare(ctx context.Context, pictures []imaging.Pixels, wanted [][]float32, what string) error {
	r, err := m.runPictures(ctx, pictures)
	if err != nil {
		return fmt.Errorf("golden %s: %w", what, err)
	}
	defer r.Release()
	got, err := m.rawScores(r, len(pictures))
	if err != nil {
		return fmt.Errorf("golden %s: %w", what, err)
	}
	for i := range wanted {
		for j := range wanted[i] {
			difference := math.Abs(float64(got[i][j]) - float64(wanted[i][j]))
			if !(difference <= m.bundle.Manifest.Tolerance) { // NaN too
				return fmt.Errorf("golden %s: the score of %s is %v, the training framework gave %v: %.3g apart, the tolerance is %.3g; the bundle is refused",
					what, m.bundle.Manifest.Labels[j].Name, got[i][j], wanted[i][j], difference, m.bundle.Manifest.Tolerance)
			}
			m.worst = max(m.worst, difference)
		}
	}
	return nil
}
