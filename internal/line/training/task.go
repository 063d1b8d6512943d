package training

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Task is $PENSTOCK_DATASET/task.json: what a trainer must know about the data
// and cannot read off the manifest.
type Task struct {
	Task    string    `json:"task"`
	Labels  []string  `json:"labels"` // in the order of the scores
	Input   TaskInput `json:"input"`
	Goldens []string  `json:"goldens"` // N of golden/N.input.npy, "0" and up
}

// TaskInput says what an image file holds, and how its levels 0 to 255 become
// the network's input: x*scale, minus mean, over std, channel by channel.
type TaskInput struct {
	Width    int       `json:"width"`
	Height   int       `json:"height"`
	Channels int       `json:"channels"`
	Scale    float64   `json:"scale"`
	Mean     []float64 `json:"mean"`
	Std      []float64 `json:"std"`
	Layout   string    `json:"layout"` // nchw
}

// Golden is a picture whose scores the bundle will carry.
type Golden struct {
	Ext      string // .png or .jpg
	Original []byte // the file as it was uploaded
	Shape    []int  // height, width, channels
	Pixels   []uint8
}

// folders are the places of one training. They stand below one root that the
// training alone uses, so that the next start finds the checkpoints.
type folders struct{ root string }

func (f folders) dataset() string     { return filepath.Join(f.root, "dataset") }
func (f folders) checkpoints() string { return filepath.Join(f.root, "checkpoints") }
func (f folders) output() string      { return filepath.Join(f.root, "output") }
func (f folders) bundle() string      { return filepath.Join(f.root, "bundle") }
func (f folders) params() string      { return filepath.Join(f.root, "params.json") }
func (f folders) events() string      { return filepath.Join(f.root, "events.jsonl") }
func (f folders) log() string         { return filepath.Join(f.root, "trainer.log") }

func (f folders) golden(n int, suffix string) string {
	return filepath.Join(f.dataset(), bundle.GoldenDir, strconv.Itoa(n)+suffix)
}

// prepare lays everything out that the trainer reads. Only checkpoints are
// kept from an earlier start: output, events and log begin empty.
func (f folders) prepare(j Job) error {
	for _, old := range []string{f.dataset(), f.output(), f.bundle(), f.events(), f.log()} {
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("clear the training folder: %w", err)
		}
	}
	for _, dir := range []string{f.dataset(), f.checkpoints(), f.output(), filepath.Join(f.dataset(), bundle.GoldenDir)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("training folder: %w", err)
		}
	}
	for _, name := range []string{"manifest.jsonl", "images"} {
		source, err := filepath.Abs(filepath.Join(j.Data, name))
		if err != nil {
			return err
		}
		if err := os.Symlink(source, filepath.Join(f.dataset(), name)); err != nil {
			return fmt.Errorf("training folder: %w", err)
		}
	}
	if err := f.layGoldens(j.Goldens); err != nil {
		return err
	}
	task := j.Task
	task.Goldens = nil
	for n := range j.Goldens {
		task.Goldens = append(task.Goldens, strconv.Itoa(n))
	}
	if err := writeJSON(filepath.Join(f.dataset(), "task.json"), task); err != nil {
		return err
	}
	params := j.Config.Params
	if params == nil {
		params = map[string]any{}
	}
	if err := writeJSON(f.params(), params); err != nil {
		return err
	}
	return verdict.WriteFile(f.events(), nil)
}

func (f folders) layGoldens(goldens []Golden) error {
	for n, g := range goldens {
		if err := verdict.WriteFile(f.golden(n, g.Ext), g.Original); err != nil {
			return err
		}
		if err := bundle.WriteUint8(f.golden(n, ".input.npy"), g.Shape, g.Pixels); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return verdict.WriteFile(path, append(data, '\n'))
}
