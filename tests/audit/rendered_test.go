package audit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	penstock "github.com/penstock-ml/penstock"
	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/scaffold"
)

// The templates are the project's own workflows: what init writes differs from
// them in a few known places, and in nothing else.
func TestWhatInitWritesIsWhatRunsHere(t *testing.T) {
	home := strings.NewReplacer(
		"penstock-ml/penstock/actions/", "./actions/", "@v0.1.0", "",
		"PENSTOCK_CONFIG: penstock.yaml", "PENSTOCK_CONFIG: examples/xray/penstock.yaml",
		`"**", "!.github/**"`, `"examples/xray/**"`, "bash check", "bash examples/xray/check",
		"branches: [trunk]", "branches: [main]",
	)
	here := own(t)
	written := rendered(t, adopter)
	if len(written) != 6 {
		t.Errorf("init writes %q", sorted(written))
	}
	for _, file := range sorted(written) {
		head, body, _ := strings.Cut(written[file], "\n#\n")
		if !strings.HasPrefix(head, "# Written by penstock init v0.1.0") {
			t.Errorf("%s begins with %q", file, head)
		}
		if diff := cmp.Diff(here[file], home.Replace(body)); diff != "" {
			t.Errorf("%s differs from what runs here:\n%s", file, diff)
		}
	}
}

func TestEmbeddedFilesAreThoseOfTheTree(t *testing.T) {
	for _, name := range []string{".github/workflows/train.yml", ".github/actionlint.yaml", "examples/xray/train.py", "examples/xray/check"} {
		embedded, err := penstock.Templates.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(embedded) != read(t, filepath.Join("../..", name)) {
			t.Errorf("%s was embedded from elsewhere", name)
		}
	}
}

// Whatever an adopter says, the result is valid; actionlint reads it as GitHub
// would, and finds the local workflow that is called.
func TestActionlintPassesOverWhatInitWrites(t *testing.T) {
	program, err := process.Cached("bin/actionlint")
	if err != nil {
		t.Fatal(err)
	}
	folder := adopter
	folder.Folder, folder.Config, folder.Branch = "ml/lungs", "project.yaml", "release/1.x"
	folder.Ref = "0123456789abcdef0123456789abcdef01234567"
	for _, o := range []scaffold.Options{adopter, folder} {
		dir := t.TempDir()
		files, err := scaffold.Files(penstock.Templates, o)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := scaffold.Plan(dir, files)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range plan {
			if err := c.Write(dir); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Join(dir, ".git"), 0o755); err != nil { // actionlint looks for the root
			t.Fatal(err)
		}
		cmd := exec.Command(program, "-no-color")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", o.Folder, err, out)
		}
	}
}
