package project

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExamplesAreProjects(t *testing.T) {
	for _, name := range []string{"penstock.yaml", "nih64.yaml"} {
		p, err := Read(filepath.Join("../../examples/xray", name))
		if err != nil {
			t.Fatal(err)
		}
		if p.Name != "xray" || len(p.Labels) != 14 || p.Data.Settle <= 0 {
			t.Errorf("%s: project %q, %d labels, settle %s", name, p.Name, len(p.Labels), p.Data.Settle)
		}
	}
}

// Each case changes the example in one place, and the error must say where
// that is and what is wrong with it.
func TestAMistakeIsNamedWithItsPlace(t *testing.T) {
	data, err := os.ReadFile("../../examples/xray/penstock.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new string
		wants          []string
	}{
		{"an unknown key", "task:", "tusk:", []string{"[4:1]", `unknown field "tusk"`}},
		{"an unknown key of a section", "  settle:", "  setle:", []string{"[9:3]", `unknown field "setle"`}},
		{"a key given twice", "task: multilabel", "task: multilabel\ntask: multilabel", []string{"[5:1]", "task"}},
		{"a word for a number", "confidence: 0.95", "confidence: high", []string{"confidence: high", "float64"}},
		{"a word for a time", "settle: 30s", "settle: soon", []string{"[9:11]", `"soon"`, "such as 30s"}},
		{"a time without a unit", "settle: 30s", "settle: 30", []string{"[9:11]", `"30"`, "such as 30s"}},
		{"a list for a time", "settle: 30s", "settle: [30s]", []string{"[30s]", "such as 30s"}},
		{"a negative time", "settle: 30s", "settle: -30s", []string{"data: settle is -30s"}},
		{"an unknown task", "task: multilabel", "task: guess", []string{`task: unknown task "guess"`, "multilabel"}},
		{"a task to come", "task: multilabel", "task: binary", []string{"task: binary is not built yet"}},
		{"a section to come", "task: multilabel", "task: multilabel\nmonitor: {}", []string{"monitor", "not built yet"}},
		{"another section to come", "task: multilabel", "task: multilabel\napprovers: [a]", []string{"approvers", "not built yet"}},
		{"a name that no URL takes", "project: xray", "project: X ray", []string{`project: "X ray" is not a name`}},
		{"a label twice", "name: Atelectasis", "name: Cardiomegaly", []string{"labels[1]", "twice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(string(data), c.old, c.new, 1)
			if text == string(data) {
				t.Fatalf("the example has no %q to change", c.old)
			}
			_, err := Parse([]byte(text))
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range c.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no word of %q in: %v", want, err)
				}
			}
		})
	}
}

func TestAMissingFileSaysWhereToRun(t *testing.T) {
	_, err := Read(filepath.Join(t.TempDir(), "penstock.yaml"))
	if err == nil || !strings.Contains(err.Error(), "--config") {
		t.Error(err)
	}
}
