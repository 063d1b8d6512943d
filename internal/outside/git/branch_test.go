package git_test

import (
	"testing"

	"github.com/penstock-ml/penstock/internal/outside/git"
)

func TestDefaultBranchIsTheRemotesThenTheCurrentOne(t *testing.T) {
	r := newRepository(t)
	run(t, r.Dir, "checkout", "-q", "-b", "trunk")
	if got := r.Branch(t.Context()); got != "trunk" {
		t.Errorf("without a remote: %q", got)
	}
	clone := git.Repository{Dir: t.TempDir()}
	run(t, clone.Dir, "clone", "-q", r.Dir, ".")
	run(t, clone.Dir, "checkout", "-q", "-b", "feature")
	if got := clone.Branch(t.Context()); got != "trunk" {
		t.Errorf("on a feature branch of a clone: %q", got)
	}
	if got := (git.Repository{Dir: "/proc"}).Branch(t.Context()); got != "" {
		t.Errorf("outside of any repository: %q", got)
	}
}
