package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/training"
	"github.com/penstock-ml/penstock/internal/project"
)

func TestACommitTellsChangesThatAreNotCommitted(t *testing.T) {
	dir := t.TempDir()
	environ := map[string]string{}
	env := &action.Env{Getenv: func(name string) string { return environ[name] }}
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.invalid"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	ask := func() (string, string) {
		t.Helper()
		commit, changes, err := gitCommit(t.Context(), env, dir)
		must(t, err)
		return commit, string(changes)
	}
	if commit, _ := ask(); commit != "" {
		t.Errorf("outside a repository: %q", commit)
	}
	git("init", "--quiet")
	if commit, _ := ask(); commit != "" {
		t.Errorf("before the first commit: %q", commit)
	}
	file := filepath.Join(dir, "train.py")
	must(t, os.WriteFile(file, []byte("one\n"), 0o600))
	git("add", "train.py")
	git("commit", "--quiet", "--message", "one")
	head := git("rev-parse", "HEAD")
	if commit, changes := ask(); commit != head || changes != "" {
		t.Errorf("clean: %q, %q, want %s", commit, changes, head)
	}
	must(t, os.WriteFile(file, []byte("two\n"), 0o600))
	if commit, changes := ask(); commit != head+"-dirty" || !strings.Contains(changes, "+two") {
		t.Errorf("changed: %q, %q", commit, changes)
	}
	t.Run("of another owner", func(t *testing.T) {
		t.Setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
		if commit, _, err := gitCommit(t.Context(), env, dir); err == nil || !strings.Contains(err.Error(), "safe.directory") {
			t.Errorf("%q, %v: git refused to read the repository, and that is said to be no commit", commit, err)
		}
	})
	environ["GITHUB_SHA"] = "abc"
	if commit, _ := ask(); commit != "abc" {
		t.Errorf("on GitHub: %q", commit)
	}
}

// A training goes on only from checkpoints of the same data, parameters and
// code.
func TestATrainingsIdentityTellsWhatMatters(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "train.py"), []byte("one"), 0o600))
	p := project.Project{Name: "xray", Dir: dir, Train: training.Config{Command: []string{"python3", "train.py", "--fast"}}}
	identity := func(p project.Project, digest, commit, changes string) string {
		t.Helper()
		id, err := trainingIdentity(p, digest, commit, []byte(changes))
		must(t, err)
		return id
	}
	first := identity(p, "d", "c", "")
	if again := identity(p, "d", "c", ""); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	seen := map[string]string{first: "nothing"}
	try := func(what, id string) {
		t.Helper()
		if before, known := seen[id]; known {
			t.Errorf("changing %s gives the identity of changing %s", what, before)
		}
		seen[id] = what
	}
	try("the data set", identity(p, "e", "c", ""))
	try("the commit", identity(p, "d", "b", ""))
	try("uncommitted code", identity(p, "d", "c", "+x"))
	other := p
	other.Train.Params = map[string]any{"epochs": 2}
	try("the parameters", identity(other, "d", "c", ""))
	other = p
	other.Train.Seed = 7
	try("the seed", identity(other, "d", "c", ""))
	must(t, os.WriteFile(filepath.Join(dir, "train.py"), []byte("two"), 0o600))
	try("the trainer", identity(p, "d", "c", ""))
}
