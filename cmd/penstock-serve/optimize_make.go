package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/variants"
)

// scriptTerm bounds the making of one variant.
const scriptTerm = 30 * time.Minute

// writer gives the way to the graph of a kind: by ONNX Runtime itself, or by
// the project's command. Pictures to calibrate on are laid out where a kind
// needs the command.
func (p *optimization) writer(ctx context.Context, parent *model.Model, kinds []string) (variants.Write, error) {
	calibration := filepath.Join(p.dir, "calibration.npy")
	for _, kind := range kinds {
		if kind != variants.Optimised {
			if err := p.calibrate(ctx, parent, calibration); err != nil {
				return nil, err
			}
			break
		}
	}
	return func(ctx context.Context, kind, path string) error {
		if kind == variants.Optimised {
			return model.Optimise(p.runtime, p.parent, path, p.options.level)
		}
		return p.runScript(ctx, kind, calibration, path)
	}, nil
}

// calibrate writes pixels of training pictures, drawn by the seed, as uint8
// [n, height, width, channels].
func (p *optimization) calibrate(ctx context.Context, parent *model.Model, path string) error {
	pictures, err := p.evidence.calibration(ctx, parent)
	if err != nil {
		return err
	}
	if len(pictures) == 0 {
		return errors.New("there are no training pictures to calibrate on")
	}
	first, pixels := pictures[0], []uint8{}
	for _, picture := range pictures {
		pixels = append(pixels, picture.Pix...)
	}
	return bundle.WriteUint8(path, []int{len(pictures), first.Height, first.Width, first.Channels}, pixels)
}

// drawn are at most so many of a list, in an order of the seed.
func drawn[T any](all []T, most int, seed uint64) []T {
	random := rand.New(rand.NewPCG(seed, 2))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(len(all), most)]
}

// readPixels reads the preprocessed picture of a row.
func readPixels(dir string, r dataset.Row) (imaging.Pixels, error) {
	data, err := os.ReadFile(dataset.LocalImage(dir, r))
	if err != nil {
		return imaging.Pixels{}, err
	}
	pixels, err := imaging.FromPNG(data)
	if err != nil {
		return pixels, fmt.Errorf("preprocessed image of %s: %w", r.File, err)
	}
	return pixels, nil
}

// runScript has the project's command write a graph. It runs in the project's
// folder and sees no credentials, as a trainer does.
func (p *optimization) runScript(ctx context.Context, kind, calibration, path string) error {
	words := strings.Fields(p.options.script)
	folder, err := filepath.Abs(filepath.Dir(p.env.Common.Config))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, scriptTerm)
	defer cancel()
	args := append(words[1:], "--kind", kind, "--bundle", p.parent.Dir, "--calibration", calibration, "--out", path)
	cmd := exec.CommandContext(ctx, words[0], args...)
	cmd.Dir = folder
	cmd.Stdout, cmd.Stderr = p.env.Stderr, p.env.Stderr
	cmd.Env = []string{"ORT_DISABLE_TELEMETRY=1"}
	for _, name := range []string{"PATH", "HOME", "LANG", "CUDA_VISIBLE_DEVICES"} {
		if value := p.env.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%q, in %s: %w", p.options.script, folder, err)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%q ended well and left no graph: %w", p.options.script, err)
	}
	return nil
}

// frameworks are what a variant's provenance adds: where its speed was
// measured, and by which ONNX Runtime.
func (p *optimization) frameworks() map[string]string {
	return map[string]string{
		"optimize_onnxruntime": p.runtime.Version(), "optimize_level": p.options.level,
		"optimize_machine": machine(), "optimize_provider": p.runtime.Provider(),
	}
}

// machine names the processor.
func machine() string {
	name := runtime.GOOS + "/" + runtime.GOARCH
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d CPUs", name, runtime.NumCPU())
}
