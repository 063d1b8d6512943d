// Package audit looks at what runs on runners before any runner does: the
// workflows, the composite actions they call, and the workflows that
// `penstock init` writes. Each rule stands beside a text that breaks it, so that
// a rule which sees nothing is seen.
//
// The list follows what zizmor audits, as far as a file can show it.
package audit

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	penstock "github.com/penstock-ml/penstock"
	"github.com/penstock-ml/penstock/internal/scaffold"
)

// workflow is a workflow file as the rules read it.
type workflow struct {
	Name        string         `yaml:"name"`
	RunName     string         `yaml:"run-name"`
	On          any            `yaml:"on"`
	Permissions any            `yaml:"permissions"`
	Concurrency any            `yaml:"concurrency"`
	Env         any            `yaml:"env"`
	Jobs        map[string]job `yaml:"jobs"`
}

type job struct {
	Name        string         `yaml:"name"`
	Needs       any            `yaml:"needs"`
	If          string         `yaml:"if"`
	RunsOn      any            `yaml:"runs-on"`
	Environment any            `yaml:"environment"`
	Timeout     int            `yaml:"timeout-minutes"`
	Permissions any            `yaml:"permissions"`
	Concurrency any            `yaml:"concurrency"`
	Outputs     map[string]any `yaml:"outputs"`
	Strategy    any            `yaml:"strategy"`
	Uses        string         `yaml:"uses"`
	With        map[string]any `yaml:"with"`
	Secrets     any            `yaml:"secrets"`
	Steps       []step         `yaml:"steps"`
}

type step struct {
	ID    string         `yaml:"id"`
	Name  string         `yaml:"name"`
	If    string         `yaml:"if"`
	Uses  string         `yaml:"uses"`
	Run   string         `yaml:"run"`
	Shell string         `yaml:"shell"`
	Env   map[string]any `yaml:"env"`
	With  map[string]any `yaml:"with"`
}

// composite is a composite action.
type composite struct {
	Inputs  map[string]struct{ Required bool } `yaml:"inputs"`
	Outputs map[string]struct{ Value string }  `yaml:"outputs"`
	Runs    struct {
		Using string `yaml:"using"`
		Steps []step `yaml:"steps"`
	} `yaml:"runs"`
}

func parse(t *testing.T, text string) workflow {
	t.Helper()
	var w workflow
	if err := yaml.UnmarshalWithOptions([]byte(text), &w, yaml.Strict()); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	return w
}

// needs are the jobs that a job waits for.
func (j job) needs() []string {
	switch n := j.Needs.(type) {
	case string:
		return []string{n}
	case []any:
		var names []string
		for _, name := range n {
			names = append(names, fmt.Sprint(name))
		}
		return names
	}
	return nil
}

// labels are those of the runner.
func (j job) labels() []string {
	if list, ok := j.RunsOn.([]any); ok {
		var labels []string
		for _, l := range list {
			labels = append(labels, fmt.Sprint(l))
		}
		return labels
	}
	return []string{fmt.Sprint(j.RunsOn)}
}

func (j job) selfHosted() bool { return slices.Contains(j.labels(), "self-hosted") }

// texts are all strings in a value, for rules about expressions.
func texts(v any) []string {
	data, err := yaml.Marshal(v)
	if err != nil {
		return []string{err.Error()}
	}
	return []string{string(data)}
}

// own are the workflows of this repository by file name.
func own(t *testing.T) map[string]string {
	t.Helper()
	return readAll(t, os.DirFS("../../.github/workflows"), "*.yml")
}

// rendered are the workflows that init writes.
func rendered(t *testing.T, o scaffold.Options) map[string]string {
	t.Helper()
	files, err := scaffold.Files(penstock.Templates, o)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		if path.Dir(f.Path) == ".github/workflows" {
			all[path.Base(f.Path)] = string(f.Data)
		}
	}
	return all
}

// adopter is somebody's repository.
var adopter = scaffold.Options{
	Folder: ".", Config: "penstock.yaml", Branch: "trunk", Actions: "penstock-ml/penstock", Ref: "v0.1.0", Version: "v0.1.0",
	Project: scaffold.Project{Name: "lungs", Task: "multilabel", Bucket: "lungs", Labels: []scaffold.Label{{Name: "Mass", Urgency: "urgent"}}},
}

func readAll(t *testing.T, from fs.FS, pattern string) map[string]string {
	t.Helper()
	names, err := fs.Glob(from, pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	all := map[string]string{}
	for _, name := range names {
		data, err := fs.ReadFile(from, name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(data)
	}
	return all
}

// actions are the composite actions by name.
func actions(t *testing.T) map[string]composite {
	t.Helper()
	all := map[string]composite{}
	for name, text := range readAll(t, os.DirFS("../../actions"), "*/action.yml") {
		var c composite
		if err := yaml.Unmarshal([]byte(text), &c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[path.Dir(name)] = c
	}
	return all
}

// sorted gives a map's keys in order, so that findings come in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func hasExpression(s string) bool { return strings.Contains(s, "${{") }
