// Package variants owns what is derived from a model to run faster: how a
// variant is made, as a bundle of its own, and whether it is worth having.
//
// A variant keeps its parent's goldens, so that it is held to what the training
// framework computed, with a tolerance that the policy caps; it names its
// parent, and has a digest of its own. It is made by ONNX Runtime's own
// optimiser (fp32-optimised) or by a command of the project (int8, fp16), which
// uses ONNX Runtime's own tools. It is worth having where it is faster on this
// machine and no worse than the policy allows on labelled data; both are
// decided by intervals, and what is not shown is not taken.
//
// Refused: kinds that are not listed here. Dynamic int8 is none of them: on
// convolutional networks it is slower than fp32 and less exact.
package variants

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/serve/model"
)

// Kinds of variants.
const (
	Optimised = "fp32-optimised" // the graph as ONNX Runtime's optimiser leaves it
	Int8      = "int8"           // static, QDQ
	FP16      = "fp16"           // half precision inside, float32 outside
)

// Kinds lists them.
var Kinds = []string{Optimised, Int8, FP16}

// Write has the graph of one kind written to path.
type Write func(ctx context.Context, kind, path string) error

// Refusal is a variant that cannot be: it cannot be run, or is too far from its
// parent's goldens. That is a finding about the variant, not a failure.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Maker makes variants of one bundle.
type Maker struct {
	Runtime    *model.Runtime
	Parent     *bundle.Bundle
	Tolerance  float64           // the policy's cap on a variant's difference from the goldens
	Frameworks map[string]string // what made it, for the provenance
	Write      Write
}

// Make writes the bundle of a variant into dir, which must not exist, and
// loads it: goldens included, as a server would. The caller closes the model.
// A *Refusal says that there can be no such variant of this parent.
func (m Maker) Make(ctx context.Context, kind, dir string) (*model.Model, error) {
	if err := copyBundle(m.Parent, dir); err != nil {
		return nil, err
	}
	if err := m.Write(ctx, kind, filepath.Join(dir, bundle.ModelFile)); err != nil {
		return nil, err
	}
	// Twice: with the cap, to learn how far off it is, and then with what it
	// needs of it.
	loaded, err := m.load(ctx, kind, dir, m.Tolerance)
	if err != nil {
		return nil, err
	}
	needed := Tolerance(loaded.GoldenDifference(), m.Parent.Manifest.Tolerance, m.Tolerance)
	if err := loaded.Close(); err != nil {
		return nil, err
	}
	return m.load(ctx, kind, dir, needed)
}

// Tolerance is what a variant that is off by so much asks for: twice that,
// because another processor rounds differently, but no less than its parent's
// and no more than the cap.
func Tolerance(difference, parent, most float64) float64 {
	return min(most, max(parent, roundUp(2*difference)))
}

// roundUp keeps two digits.
func roundUp(x float64) float64 {
	if x <= 0 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-1)
	return math.Ceil(x/unit) * unit
}

func (m Maker) load(ctx context.Context, kind, dir string, tolerance float64) (*model.Model, error) {
	manifest := m.Parent.Manifest
	manifest.Tolerance = tolerance
	manifest.Variant = bundle.Variant{Kind: kind, ToleranceParent: m.Parent.Manifest.Tolerance}
	manifest.Provenance.Parent = m.Parent.Digest
	if kind != Optimised {
		// The map is computed in less precision too: nothing is known of how
		// exact it still is.
		manifest.Outputs.HeatmapMethod, manifest.Outputs.HeatmapDifference, manifest.Outputs.HeatmapShift = "", 0, bundle.Shift{}
	}
	manifest.Provenance.Frameworks = map[string]string{}
	for _, from := range []map[string]string{m.Parent.Manifest.Provenance.Frameworks, m.Frameworks} {
		for name, version := range from {
			manifest.Provenance.Frameworks[name] = version
		}
	}
	if err := bundle.WriteManifest(dir, manifest); err != nil {
		return nil, err
	}
	b, err := bundle.Read(dir)
	if err != nil {
		return nil, &Refusal{err}
	}
	loaded, err := model.Open(ctx, m.Runtime, b)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, &Refusal{err}
	}
	return loaded, nil
}

// copyBundle copies everything but the graph and the tensors beside it: those
// are the variant's own.
func copyBundle(from *bundle.Bundle, dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: a variant is written into a new folder (%v)", dir, err)
	}
	return filepath.WalkDir(from.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from.Dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(dir, rel), 0o755)
		}
		if strings.HasPrefix(rel, bundle.ModelFile) || rel == bundle.ManifestFile || rel == bundle.SumsFile {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), data, 0o644)
	})
}
