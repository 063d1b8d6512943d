// Package admission decides whether a runner takes a job, before the job's
// first step: by the runner's own list of repository, workflow and ref, and by
// the payload of the event behind the job. It exists because a fork can write
// `runs-on: self-hosted` into its workflow: what stands in YAML protects
// nothing, what stands on the runner's host does.
//
// Refused are pull requests from forks, pull requests whose head repository is
// gone, events that are not known here, whatever is not on the list, and
// everything that cannot be read: nothing is admitted by default.
package admission

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Entry admits one workflow of one repository on some refs.
type Entry struct {
	Repository string // owner/name
	Workflow   string // .github/workflows/train.yml
	Ref        string // refs/heads/main, refs/tags/deploy/**, refs/pull/*/merge

	ref *regexp.Regexp
}

// List is what a runner takes.
type List []Entry

var (
	repositoryForm = regexp.MustCompile(`^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$`)
	workflowForm   = regexp.MustCompile(`^\.github/workflows/[A-Za-z0-9_.-]+\.ya?ml$`)
	refForm        = regexp.MustCompile(`^refs/(heads|tags|pull)/[^\s\\?\[\]]+$`)
)

// Read reads a list: a line an entry, three words each, # begins a comment.
// `*` in a ref stands for anything but a slash, `**` for anything. A list with
// a line that cannot be read, or with none, is no list.
func Read(r io.Reader) (List, error) {
	var list List
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		entry, err := read(words)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		list = append(list, entry)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it admits nothing: write a line for each workflow, such as %q",
			"owner/name .github/workflows/train.yml refs/heads/main")
	}
	return list, nil
}

func read(words []string) (Entry, error) {
	if len(words) != 3 {
		return Entry{}, fmt.Errorf("it has %d words, but an entry is: repository, workflow file, ref", len(words))
	}
	e := Entry{Repository: words[0], Workflow: words[1], Ref: words[2]}
	switch {
	case !repositoryForm.MatchString(e.Repository):
		return e, fmt.Errorf("%q is no repository: owner/name", e.Repository)
	case !workflowForm.MatchString(e.Workflow):
		return e, fmt.Errorf("%q is no workflow file: .github/workflows/NAME.yml", e.Workflow)
	case !refForm.MatchString(e.Ref):
		return e, fmt.Errorf("%q is no ref: refs/heads/…, refs/tags/… or refs/pull/*/merge", e.Ref)
	}
	pattern := regexp.QuoteMeta(e.Ref)
	pattern = strings.ReplaceAll(pattern, `\*\*`, `.+`)
	pattern = strings.ReplaceAll(pattern, `\*`, `[^/]+`)
	var err error
	e.ref, err = regexp.Compile("^" + pattern + "$")
	return e, err
}

// admits says whether the entry takes the workflow on the ref. GitHub does not
// tell upper from lower case in a repository's name.
func (e Entry) admits(repository, workflow, ref string) bool {
	return strings.EqualFold(e.Repository, repository) && e.Workflow == workflow && e.ref.MatchString(ref)
}
