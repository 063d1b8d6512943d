package scaffold_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	penstock "github.com/penstock-ml/penstock"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/scaffold"
)

func options() scaffold.Options {
	return scaffold.Options{
		Folder: ".", Config: "penstock.yaml", Branch: "main", Actions: "penstock-ml/penstock", Ref: "v1", Version: "v1",
		Project: scaffold.Project{Name: "lungs", Task: "multilabel", Bucket: "lungs", Labels: []scaffold.Label{{Name: "Mass", Urgency: "routine"}}},
	}
}

// Whatever a label is called, the project file says the same word.
func TestProjectFileIsValidAndSaysWhatItWasTold(t *testing.T) {
	p := options().Project
	for _, name := range []string{"Mass", "no", "1e3", "a: b", "Ödem", `"quoted"`, "# not a comment", "{brace", "a\tb", "trailing ", "~"} {
		p.Labels = append(p.Labels, scaffold.Label{Name: name + "!", Urgency: "urgent"}, scaffold.Label{Name: name, Urgency: "critical"})
	}
	p.Labels = p.Labels[2:] // Mass stood there already
	p.Bucket = "007"
	text, err := p.YAML()
	if err != nil {
		t.Fatal(err)
	}
	got, err := project.Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var want []string
	for _, l := range p.Labels {
		want = append(want, l.Name)
	}
	if diff := cmp.Diff(want, got.LabelNames()); diff != "" || got.Data.Bucket != "007" {
		t.Errorf("labels, bucket %q:\n%s", got.Data.Bucket, diff)
	}
}

func TestLabelsAreReadWithTheirUrgency(t *testing.T) {
	got, err := scaffold.ParseLabels("Mass, Pneumothorax:critical")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]scaffold.Label{{"Mass", "routine"}, {"Pneumothorax", "critical"}}, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"", "Mass,,Nodule", ":urgent", "Mass:"} {
		if got, err := scaffold.ParseLabels(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestOptionsThatWouldBreakAWorkflowAreRefused(t *testing.T) {
	for name, change := range map[string]func(*scaffold.Options){
		"ref with an expression": func(o *scaffold.Options) { o.Ref = "${{ x }}" },
		"ref with a line break":  func(o *scaffold.Options) { o.Ref = "v1\n- run: x" },
		"branch as YAML":         func(o *scaffold.Options) { o.Branch = "main], x: [y" },
		"folder outside":         func(o *scaffold.Options) { o.Folder = "../x" },
		"absolute folder":        func(o *scaffold.Options) { o.Folder = "/x" },
		"actions without owner":  func(o *scaffold.Options) { o.Actions = "penstock" },
		"config with a folder":   func(o *scaffold.Options) { o.Config = "a/b.yaml" },
	} {
		o := options()
		change(&o)
		if _, err := scaffold.Files(penstock.Templates, o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestAPlanTellsNewSameDifferentAndYoursApart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("same", "a\n")
	write("differs", "mine\n")
	write("yours", "mine\n")
	write("lines", "/data/\n*.pyc") // no newline at the end
	plan, err := scaffold.Plan(dir, []scaffold.File{
		{Path: "new", Data: []byte("a\n")},
		{Path: "same", Data: []byte("a\n")},
		{Path: "differs", Data: []byte("a\n")},
		{Path: "yours", Data: []byte("a\n"), Yours: true},
		{Path: "lines", Data: []byte("*.pyc\n/x/\n"), Lines: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		state  scaffold.State
		writes bool // with force
	}{
		"new": {scaffold.New, true}, "same": {scaffold.Same, false}, "differs": {scaffold.Differs, true},
		"yours": {scaffold.Yours, false}, "lines": {scaffold.Adds, true},
	}
	for _, c := range plan {
		if w := want[c.Path]; c.State != w.state || c.Writes(true) != w.writes {
			t.Errorf("%s is %s and is written: %v", c.Path, c.State, c.Writes(true))
		}
		if c.Path == "differs" && (c.Writes(false) || !strings.Contains(c.Diff(), "-mine\n+a\n")) {
			t.Errorf("differs is written without force: %v, or its difference is %s", c.Writes(false), c.Diff())
		}
		if c.Path != "lines" {
			continue
		}
		if err := c.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "lines"))
	if err != nil || string(data) != "/data/\n*.pyc\n/x/\n" {
		t.Errorf("lines holds %q, %v", data, err)
	}
}
