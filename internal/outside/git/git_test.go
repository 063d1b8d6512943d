package git_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/outside/git"
)

// newRepository makes one with a commit, where git's configuration names nobody.
func newRepository(t *testing.T) git.Repository {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("EMAIL", "")
	run(t, dir, "init", "-q")
	run(t, dir, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "--allow-empty", "-m", "first")
	return git.Repository{Dir: dir}
}

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestTagIsAnnotatedMadeOnceAndNeverMoved(t *testing.T) {
	r := newRepository(t)
	for range 2 {
		if err := r.Tag(t.Context(), "model/xray/v1", "xray version 1\n\nmodel: abc", "abc"); err != nil {
			t.Fatal(err)
		}
	}
	if got := run(t, r.Dir, "cat-file", "tag", "model/xray/v1"); !strings.Contains(got, "model: abc") {
		t.Errorf("tag %s", got)
	}
	err := r.Tag(t.Context(), "model/xray/v1", "model: def", "def")
	if !errors.Is(err, git.ErrTagTaken) {
		t.Errorf("another record under the same name: %v", err)
	}
}

func TestLightweightTagOfTheSameNameIsNotTaken(t *testing.T) {
	r := newRepository(t)
	run(t, r.Dir, "tag", "model/xray/v1")
	if err := r.Tag(t.Context(), "model/xray/v1", "model: abc", "abc"); !errors.Is(err, git.ErrTagTaken) {
		t.Errorf("error %v", err)
	}
}

func TestFolderWithoutARepositoryIsRefusedBeforehand(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
	if err := (git.Repository{Dir: dir}).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "--repository") {
		t.Errorf("error %v", err)
	}
	if err := newRepository(t).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}
