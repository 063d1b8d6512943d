package training

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/bundle"
)

// assemble makes a bundle of the trainer's output, the goldens and the
// manifest, and reads it back: what passes here, a server loads.
func assemble(j Job, at folders) (*bundle.Bundle, error) {
	m := j.Manifest
	m.Labels = slices.Clone(m.Labels)
	if err := at.thresholds(m.Labels); err != nil {
		return nil, err
	}
	frameworks, err := at.frameworks()
	if err != nil {
		return nil, err
	}
	m.Provenance.Frameworks = frameworks
	if err := os.MkdirAll(filepath.Join(at.bundle(), bundle.GoldenDir), 0o755); err != nil {
		return nil, err
	}
	if err := at.copyModel(); err != nil {
		return nil, err
	}
	m.Goldens = nil
	for n, g := range j.Goldens {
		name, err := at.copyGolden(n, g.Ext)
		if err != nil {
			return nil, err
		}
		m.Goldens = append(m.Goldens, name)
	}
	if err := bundle.WriteManifest(at.bundle(), m); err != nil {
		return nil, err
	}
	return bundle.Read(at.bundle())
}

// copyModel takes model.onnx and the files beside it that carry its name, such
// as model.onnx.data.
func (f folders) copyModel() error {
	files, err := filepath.Glob(filepath.Join(f.output(), bundle.ModelFile+"*"))
	if err != nil {
		return err
	}
	found := false
	for _, from := range files {
		name := filepath.Base(from)
		if name != bundle.ModelFile && !strings.HasPrefix(name, bundle.ModelFile+".") || strings.HasSuffix(name, ".part") {
			continue
		}
		found = found || name == bundle.ModelFile
		if err := copyFile(from, filepath.Join(f.bundle(), name)); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no %s in $%s", bundle.ModelFile, EnvOutput)
	}
	return nil
}

func (f folders) copyGolden(n int, ext string) (name string, err error) {
	name = fmt.Sprintf("%s/%d%s", bundle.GoldenDir, n, ext)
	output := bundle.OutputFile(name)
	for to, from := range map[string]string{
		name:                   f.golden(n, ext),
		bundle.InputFile(name): f.golden(n, ".input.npy"),
		output:                 filepath.Join(f.output(), filepath.FromSlash(output)),
	} {
		err := copyFile(from, filepath.Join(f.bundle(), filepath.FromSlash(to)))
		if errors.Is(err, os.ErrNotExist) && to == output {
			return "", fmt.Errorf("no %s in $%s: the trainer's own scores of %s", output, EnvOutput, bundle.InputFile(name))
		}
		if err != nil {
			return "", err
		}
	}
	return name, nil
}

// thresholds fills in the operating points that the trainer chose.
func (f folders) thresholds(labels []bundle.Label) error {
	const name = "thresholds.json"
	var given map[string]*float64
	if err := f.readOutput(name, &given); err != nil {
		return err
	}
	for i := range labels {
		t := given[labels[i].Name]
		if t == nil || math.IsNaN(*t) || *t < 0 || *t > 1 {
			return fmt.Errorf("%s has no number from 0 to 1 for label %s", name, labels[i].Name)
		}
		labels[i].Threshold = *t
		delete(given, labels[i].Name)
	}
	for unknown := range given {
		return fmt.Errorf("%s has the label %q, which task.json does not name", name, unknown)
	}
	return nil
}

// frameworks are optional: a trainer in a language of its own need not know.
func (f folders) frameworks() (map[string]string, error) {
	given := map[string]string{}
	err := f.readOutput("frameworks.json", &given)
	if errors.Is(err, os.ErrNotExist) {
		return map[string]string{}, nil
	}
	return given, err
}

func (f folders) readOutput(name string, value any) error {
	data, err := os.ReadFile(filepath.Join(f.output(), name))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no %s in $%s: %w", name, EnvOutput, os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("%s cannot be understood: %w", name, err)
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return out.Close()
}
