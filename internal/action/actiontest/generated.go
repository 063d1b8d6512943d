// Package actiontest holds the test that generated files are what the
// commands' definitions say, for the programs that have commands.
package actiontest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Generated compares the generated files below root, the program's table in
// the README among them, with the definitions; where update is set it writes
// them.
func Generated(t *testing.T, root, program string, commands []action.Command, update bool) {
	t.Helper()
	files := action.Files(commands)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if files["README.md"], err = withTable(string(readme), program, action.Table(commands)); err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		path = filepath.Join(root, path)
		if update {
			if err := verdict.WriteFile(path, []byte(want)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v: run `make generate`", err)
			continue
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is stale, run `make generate`:\n%s", path, diff)
		}
	}
}

// withTable replaces what stands between a program's marks.
func withTable(text, program, table string) (string, error) {
	begin, end := "<!-- commands of "+program+" -->\n", "<!-- end -->"
	before, rest, found := strings.Cut(text, begin)
	if !found {
		return "", fmt.Errorf("README.md has no line %q", begin)
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("README.md has no %q after %q", end, begin)
	}
	return before + begin + table + end + after, nil
}
