package training

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config is the section `train` of penstock.yaml.
type Config struct {
	Command   []string       `yaml:"command"`   // the trainer, started in the project's folder
	Params    map[string]any `yaml:"params"`    // handed to the trainer as a JSON file, logged to MLflow
	Env       []string       `yaml:"env"`       // further names of the environment to let through
	Seed      int64          `yaml:"seed"`      // 1 where absent
	Timeout   time.Duration  `yaml:"timeout"`   // of one training; 24h where absent
	Tolerance float64        `yaml:"tolerance"` // of the goldens, absolute; 0.0001 where absent
	Goldens   int            `yaml:"goldens"`   // how many pictures with known scores a bundle carries; 4 where absent
	Graph     Graph          `yaml:"graph"`
}

// Graph names the tensors of the model.onnx that the trainer writes, and what
// a reader of the scores still has to apply. Absent names are input `image`,
// scores `scores`, no heatmap, no features, activation none.
type Graph struct {
	Input      string `yaml:"input"`
	Scores     string `yaml:"scores"`
	Heatmap    string `yaml:"heatmap"`
	Features   string `yaml:"features"`
	Activation string `yaml:"activation"` // none, sigmoid or softmax
}

const (
	defaultTimeout   = 24 * time.Hour
	defaultTolerance = 1e-4
	defaultGoldens   = 4
	maxGoldens       = 64
)

// WithDefaults fills what the file left out.
func (c Config) WithDefaults() Config {
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Tolerance == 0 {
		c.Tolerance = defaultTolerance
	}
	if c.Goldens == 0 {
		c.Goldens = defaultGoldens
	}
	for _, f := range []struct {
		name     *string
		fallback string
	}{{&c.Graph.Input, "image"}, {&c.Graph.Scores, "scores"}, {&c.Graph.Activation, "none"}} {
		if *f.name == "" {
			*f.name = f.fallback
		}
	}
	return c
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Validate names the key that is wrong and what it should be.
func (c Config) Validate() error {
	c = c.WithDefaults()
	if len(c.Command) == 0 || c.Command[0] == "" {
		return fmt.Errorf("command is missing: the trainer and its arguments, like [/usr/bin/python3, train.py]")
	}
	if _, err := json.Marshal(c.Params); err != nil {
		return fmt.Errorf("params cannot be written as JSON: %w", err)
	}
	for _, name := range c.Env {
		if !envName.MatchString(name) {
			return fmt.Errorf("env: %q is not the name of an environment variable", name)
		}
		if forbidden(name) {
			return fmt.Errorf("env: %s never reaches a trainer (%s hold credentials or the caller's own inputs); give the trainer what it needs under another name", name, strings.Join(forbiddenPrefixes, "*, ")+"*")
		}
	}
	switch {
	case c.Timeout < 0:
		return fmt.Errorf("timeout is %s: it is a time above zero, like 30m", c.Timeout)
	case !(c.Tolerance > 0 && c.Tolerance <= 1) || math.IsNaN(c.Tolerance):
		return fmt.Errorf("tolerance is %v: it is an absolute difference of scores above 0, like 0.0001", c.Tolerance)
	case c.Goldens < 1 || c.Goldens > maxGoldens:
		return fmt.Errorf("goldens is %d: a bundle carries 1 to %d", c.Goldens, maxGoldens)
	case !slices.Contains([]string{"none", "sigmoid", "softmax"}, c.Graph.Activation):
		return fmt.Errorf("graph.activation is %q: it is none, sigmoid or softmax", c.Graph.Activation)
	}
	return nil
}
