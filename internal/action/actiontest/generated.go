// Package actiontest holds the test that generated files are what the
// commands' definitions say, for the programs that have commands.
package actiontest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Generated compares the generated files below root with the definitions, or
// writes them where update is set.
func Generated(t *testing.T, root string, commands []action.Command, update bool) {
	t.Helper()
	for path, want := range action.Files(commands) {
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
