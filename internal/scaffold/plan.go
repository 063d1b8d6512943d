package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// State is how a file in the repository stands to what it should be.
type State string

// States of a file.
const (
	New     State = "new"     // not there
	Same    State = "same"    // as it should be
	Differs State = "differs" // something else is there
	Yours   State = "yours"   // something else is there and belongs to the user
	Adds    State = "adds"    // lines are missing and will be added
)

// Change is one file of a plan.
type Change struct {
	Path    string
	State   State
	before  []byte
	after   []byte
	present bool
}

// Plan compares files with the repository in dir. It writes nothing. A path
// that leads through a symbolic link is refused.
func Plan(dir string, files []File) ([]Change, error) {
	var plan []Change
	for _, f := range files {
		if err := insideOf(dir, f.Path); err != nil {
			return nil, err
		}
		before, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		c := Change{Path: f.Path, before: before, after: f.Data, present: err == nil, State: Differs}
		if f.Lines {
			c.after = withLines(before, f.Data)
		}
		switch {
		case !c.present:
			c.State = New
		case bytes.Equal(c.before, c.after):
			c.State = Same
		case f.Lines:
			c.State = Adds
		case f.Yours:
			c.State = Yours
		}
		plan = append(plan, c)
	}
	return plan, nil
}

// insideOf refuses to write through a link, which could lead anywhere.
func insideOf(dir, path string) error {
	at := dir
	for part := range strings.SplitSeq(path, "/") {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a symbolic link: put a file or folder in its place", at)
		}
	}
	return nil
}

// withLines adds the lines that are missing.
func withLines(before, lines []byte) []byte {
	has := map[string]bool{}
	for line := range strings.Lines(string(before)) {
		has[strings.TrimSpace(line)] = true
	}
	after := bytes.Clone(before)
	for line := range strings.Lines(string(lines)) {
		if has[strings.TrimSpace(line)] {
			continue
		}
		if len(after) > 0 && after[len(after)-1] != '\n' {
			after = append(after, '\n')
		}
		after = append(after, line...)
	}
	return after
}

// Writes tells whether the change is written: what is new or only adds, and
// with force what differs. What is yours never is.
func (c Change) Writes(force bool) bool {
	return c.State == New || c.State == Adds || c.State == Differs && force
}

// Diff is the unified difference from what is there to what should be.
func (c Change) Diff() string {
	old := "a/" + c.Path
	if !c.present {
		old = "/dev/null"
	}
	return string(diff.Diff(old, c.before, "b/"+c.Path, c.after))
}

// Write puts the file in place, whole or not at all.
func (c Change) Write(dir string) error {
	return verdict.WriteFile(filepath.Join(dir, filepath.FromSlash(c.Path)), c.after)
}
