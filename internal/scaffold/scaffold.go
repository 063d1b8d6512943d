// Package scaffold makes the files that a repository needs to adopt Penstock of
// the files that Penstock itself runs: workflows, project file, trainer. It
// plans before it writes: a plan tells what is new, what differs and what is
// kept.
//
// What is ours (the workflows) can be renewed; what is yours from the first
// day on (project file, trainer, check) is never touched again: the trainer is
// laid with the project file, and check where there is none, since a workflow
// calls it.
package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// Options say for whom the files are made.
type Options struct {
	Folder  string // of the project file and the trainer, from the repository's root; "." for the root
	Config  string // name of the project file in it
	Branch  string // the default branch
	Actions string // owner/name of the repository with the actions
	Ref     string // tag, branch or commit of the actions
	Version string // of the program that writes, for the head line
	Project Project
}

// File is a file as it should be. Path is from the repository's root, with
// slashes.
type File struct {
	Path  string
	Data  []byte
	Yours bool // laid once, then the user's
	Lines bool // its lines are added to what is there
}

// The places in this repository of what is laid elsewhere.
const (
	workflows = ".github/workflows/"
	linter    = ".github/actionlint.yaml"
	example   = "examples/xray/"
)

// Workflows that an adopter gets; ci and release are Penstock's own.
var adopted = []string{
	"watch.yml", "train.yml", "deploy.yml", "rollback.yml", "pull-request.yml", "pull-request-comment.yml",
}

// ignored are the lines for .gitignore.
const ignored = "/.penstock/\n__pycache__/\n*.pyc\n"

var (
	refForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	actionsForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$`)
	folderForm  = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._/-]*$`)
)

// Validate refuses what would not be one word in a workflow.
func (o Options) Validate() error {
	switch {
	case !refForm.MatchString(o.Ref):
		return fmt.Errorf("ref %q: a tag, branch or commit of %s is wanted", o.Ref, o.Actions)
	case !actionsForm.MatchString(o.Actions):
		return fmt.Errorf("actions %q: wanted is owner/name", o.Actions)
	case !refForm.MatchString(o.Branch):
		return fmt.Errorf("branch %q: the name of the default branch is wanted", o.Branch)
	case o.Folder != "." && (!folderForm.MatchString(o.Folder) || !fs.ValidPath(o.Folder)):
		return fmt.Errorf("folder %q: wanted is a folder of the repository, without spaces", o.Folder)
	case !folderForm.MatchString(o.Config) || path.Base(o.Config) != o.Config:
		return fmt.Errorf("project file %q: wanted is a plain file name", o.Config)
	}
	return nil
}

// Files renders all files. With no project (its name is empty) the project file
// is there already, and only what is ours is made, and check. from holds this
// repository's own files.
func Files(from fs.FS, o Options) ([]File, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	var files []File
	for _, name := range adopted {
		data, err := fs.ReadFile(from, workflows+name)
		if err != nil {
			return nil, err
		}
		text, err := o.workflow(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, File{Path: workflows + name, Data: []byte(text)})
	}
	data, err := fs.ReadFile(from, linter)
	if err != nil {
		return nil, err
	}
	files = append(files, File{Path: linter, Data: data})
	if o.Project.Name != "" {
		text, err := o.Project.YAML()
		if err != nil {
			return nil, err
		}
		trainer, err := o.trainer(from)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: path.Join(o.Folder, o.Config), Data: text, Yours: true})
		files = append(files, trainer...)
	}
	check, err := o.example(from, example+"check") // pull-request.yml calls it
	if err != nil {
		return nil, err
	}
	return append(files, check, File{Path: ".gitignore", Data: []byte(ignored), Lines: true}), nil
}

// trainer is the example's trainer.
func (o Options) trainer(from fs.FS) ([]File, error) {
	names, err := fs.Glob(from, example+"*.py")
	if err != nil {
		return nil, err
	}
	var files []File
	for _, name := range names {
		file, err := o.example(from, name)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// example is a file of the example, laid beside the project file.
func (o Options) example(from fs.FS, name string) (File, error) {
	data, err := fs.ReadFile(from, name)
	return File{Path: path.Join(o.Folder, path.Base(name)), Data: data, Yours: true}, err
}

var localAction = regexp.MustCompile(`(uses: )\./(actions/[a-z-]+)`)

// workflow turns a workflow of this repository into one of another repository:
// actions by reference, the project file where it lies there.
func (o Options) workflow(text string) (string, error) {
	folder := o.Folder + "/"
	everything := `"` + folder + `**"`
	if o.Folder == "." {
		folder, everything = "", `"**", "!.github/**"`
	}
	text = localAction.ReplaceAllString(text, "${1}"+o.Actions+"/${2}@"+o.Ref)
	text = strings.NewReplacer(
		`"`+example+`**"`, everything,
		example+"penstock.yaml", folder+o.Config,
		example, folder,
		"branches: [main]", "branches: ["+o.Branch+"]",
	).Replace(text)
	if left := leftover.FindString(text); left != "" {
		return "", fmt.Errorf("%q still names this repository", left)
	}
	if !strings.HasPrefix(text, "# ") {
		return "", errors.New("a workflow begins with a comment that says what it does")
	}
	return "# Written by penstock init " + o.Version + "; `penstock init --diff` shows what an update would change.\n#\n" + text, nil
}

// leftover is what must not stand in a rendered workflow.
var leftover = regexp.MustCompile(`\./actions/\S*|examples/\S*|run: make \S+`)
