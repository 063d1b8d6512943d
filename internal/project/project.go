// Package project reads penstock.yaml: one strict root struct whose sections
// belong to the stages. An unknown key fails and names its line; a section
// whose stage is not built yet is refused by name.
package project

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/line/loadtest"
	"github.com/penstock-ml/penstock/internal/line/rollout"
	"github.com/penstock-ml/penstock/internal/line/training"
)

// Tasks that penstock.yaml may name.
const (
	Multilabel      = "multilabel"
	Multiclass      = "multiclass"
	Binary          = "binary"
	SuperResolution = "super-resolution"
)

// Project is penstock.yaml.
type Project struct {
	Name         string                            `yaml:"project"`
	Task         string                            `yaml:"task"`
	Data         dataset.Config                    `yaml:"data"`
	Train        training.Config                   `yaml:"train"`
	Labels       []Label                           `yaml:"labels"`
	Gate         gate.Policy                       `yaml:"gate"`
	SLO          loadtest.SLO                      `yaml:"slo"`
	Environments map[string]deployment.Environment `yaml:"environments"`
	Rollout      rollout.Plan                      `yaml:"rollout"`
	Monitor      any                               `yaml:"monitor"`   // refused until its stage is built
	Approvers    any                               `yaml:"approvers"` // refused until its stage is built

	// Dir is the folder of the file: the trainer runs there.
	Dir string `yaml:"-"`
}

// Label is a finding the model scores.
type Label struct {
	Name    string `yaml:"name"`
	Urgency string `yaml:"urgency"`
}

// LabelNames are the labels in the order of the model's scores.
func (p Project) LabelNames() []string {
	names := make([]string, 0, len(p.Labels))
	for _, l := range p.Labels {
		names = append(names, l.Name)
	}
	return names
}

// Read reads and validates a penstock.yaml.
func Read(path string) (Project, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Project{}, fmt.Errorf("no project file %s: run the command in the project's folder or name the file with --config", path)
	}
	if err != nil {
		return Project{}, err
	}
	p, err := Parse(data)
	if err != nil {
		return Project{}, fmt.Errorf("%s: %w", path, err)
	}
	p.Dir, err = filepath.Abs(filepath.Dir(path))
	return p, err
}

// Parse decodes and validates the text of a penstock.yaml.
func Parse(data []byte) (Project, error) {
	var p Project
	err := yaml.UnmarshalWithOptions(data, &p, yaml.Strict(), yaml.DisallowUnknownField(), yaml.CustomUnmarshaler(decodeTime))
	var wrong notATime
	if errors.As(err, &wrong) {
		return Project{}, fmt.Errorf("%s%w", wrong.place(data), wrong)
	}
	if err != nil {
		return Project{}, errors.New(yaml.FormatError(err, false, true))
	}
	return p, p.Validate()
}

// notATime is a value that stands where a length of time belongs. The library
// names neither its line nor what it should be.
type notATime string

func (text notATime) Error() string {
	return fmt.Sprintf("%q is no length of time: write a number with its unit, such as 30s or 5m", string(text))
}

// place is the value's [line:column], as other errors of the file have it.
func (text notATime) place(data []byte) string {
	for _, t := range lexer.Tokenize(string(data)) {
		if t.Value == string(text) {
			return fmt.Sprintf("[%d:%d] ", t.Position.Line, t.Position.Column)
		}
	}
	return ""
}

func decodeTime(into *time.Duration, data []byte) (err error) {
	var text string
	if err := yaml.Unmarshal(data, &text); err != nil {
		text = strings.TrimSpace(string(data))
	}
	if *into, err = time.ParseDuration(text); err != nil {
		return notATime(text)
	}
	return nil
}

// nameForm keeps names safe in object keys, URLs, tags and metric labels.
var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate checks the root's own keys, then each section.
func (p Project) Validate() error {
	if !nameForm.MatchString(p.Name) {
		return fmt.Errorf("project: %q is not a name: 1 to 63 lower-case letters, digits and dashes", p.Name)
	}
	if err := p.refuseUnbuilt(); err != nil {
		return err
	}
	if err := p.validateLabels(); err != nil {
		return err
	}
	sections := []struct {
		name     string
		validate func() error
	}{
		{"data", p.Data.Validate},
		{"train", p.Train.Validate},
		{"gate", p.Gate.Validate},
		{"slo", p.SLO.Validate},
		{"rollout", p.Rollout.Validate},
	}
	for _, s := range sections {
		if err := s.validate(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for name, environment := range p.Environments {
		if err := environment.Validate(); err != nil {
			return fmt.Errorf("environments.%s: %w", name, err)
		}
	}
	return nil
}

// refuseUnbuilt names what this version does not do, instead of ignoring it.
func (p Project) refuseUnbuilt() error {
	switch p.Task {
	case Multilabel:
	case Multiclass, Binary, SuperResolution:
		return fmt.Errorf("task: %s is not built yet; this version does %s", p.Task, Multilabel)
	default:
		return fmt.Errorf("task: unknown task %q; known are %s, %s, %s, %s", p.Task, Multilabel, Multiclass, Binary, SuperResolution)
	}
	if p.Monitor != nil {
		return errors.New("monitor: this section's stage is not built yet; remove the section")
	}
	if p.Approvers != nil {
		return errors.New("approvers: this section's stage is not built yet; remove the section")
	}
	return nil
}

func (p Project) validateLabels() error {
	if len(p.Labels) == 0 {
		return errors.New("labels: name at least one label")
	}
	seen := map[string]bool{}
	for i, l := range p.Labels {
		switch {
		case l.Name == "":
			return fmt.Errorf("labels[%d]: a label without a name", i)
		case seen[l.Name]:
			return fmt.Errorf("labels[%d]: %q stands twice", i, l.Name)
		case !bundle.KnownUrgency(l.Urgency):
			return fmt.Errorf("labels[%d] %s: unknown urgency %q; known are %q", i, l.Name, l.Urgency, bundle.Urgencies)
		}
		seen[l.Name] = true
	}
	return nil
}

// Environment finds an environment by name.
func (p Project) Environment(name string) (deployment.Environment, error) {
	e, ok := p.Environments[name]
	if !ok {
		return deployment.Environment{}, fmt.Errorf("environments: no environment %q in the project file", name)
	}
	return e, nil
}

// EnvironmentNames are the environments' names in order.
func (p Project) EnvironmentNames() []string {
	return slices.Sorted(maps.Keys(p.Environments))
}
