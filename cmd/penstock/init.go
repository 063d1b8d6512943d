package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	penstock "github.com/penstock-ml/penstock"
	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/outside/git"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/scaffold"
	"github.com/penstock-ml/penstock/internal/verdict"
)

type initOptions struct {
	dir                       string
	name, task, bucket, label string
	branch, actions, ref      string
	dryRun, diff, force       bool
}

func initCommand() action.Command {
	var o initOptions
	return action.Command{
		Name: "init", Program: "penstock", Local: true,
		Summary: "lay project file, workflows and a trainer into a repository",
		Description: `Run it at the root of your repository. It writes penstock.yaml, the workflows
watch, train, deploy, rollback and pull-request, a trainer to start from, and
lines for .gitignore, and lists what it writes. A file that is there and differs
is kept; --force renews workflows. The project file, the trainer and check are
yours: once there, they are never written again. --config ml/penstock.yaml puts
project file and trainer into the folder ml.

What it must know it takes from the flags, or asks on a terminal. --diff shows
what an update would change, and writes nothing.`,
		Example: "penstock init --name xray --bucket xray --labels Pneumonia:urgent,Mass,Nodule\npenstock init --diff",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "root `FOLDER` of the repository", Value: ".", Destination: &o.dir},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the project and its model", Destination: &o.name},
			&cli.StringFlag{Name: "task", Usage: "`TASK` of the model (default: " + project.Multilabel + ")", Destination: &o.task},
			&cli.StringFlag{Name: "bucket", Usage: "`BUCKET` of the project (default: its name)", Destination: &o.bucket},
			&cli.StringFlag{Name: "labels", Usage: "`LABELS` that the model scores, NAME or NAME:URGENCY, separated by commas", Destination: &o.label},
			&cli.StringFlag{Name: "branch", Usage: "default `BRANCH` of the repository (default: the current one)", Destination: &o.branch},
			&cli.StringFlag{Name: "ref", Usage: "`REF` of the actions: a tag, or a commit to pin them (default: this program's release)", Destination: &o.ref},
			&cli.StringFlag{Name: "actions", Usage: "`REPOSITORY` with the actions, owner/name, where it is a copy", Value: "penstock-ml/penstock", Destination: &o.actions},
			&cli.BoolFlag{Name: "dry-run", Usage: "list only", Destination: &o.dryRun},
			&cli.BoolFlag{Name: "diff", Usage: "show the differences, write nothing", Destination: &o.diff},
			&cli.BoolFlag{Name: "force", Usage: "renew workflows that differ", Destination: &o.force},
		},
		Outputs: []action.Output{
			{Name: "written", Description: "files written"},
			{Name: "kept", Description: "files that differ and were kept"},
		},
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runInit(ctx, env, o)
		},
	}
}

func runInit(ctx context.Context, env *action.Env, o initOptions) (verdict.Result, error) {
	options, err := o.scaffold(ctx, env)
	if err != nil {
		return verdict.Result{}, err
	}
	files, err := scaffold.Files(penstock.Templates, options)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	if err := validProject(files, options); err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	plan, err := scaffold.Plan(o.dir, files)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	return o.carryOut(env, plan)
}

// scaffold joins flags, answers and what the repository says.
func (o initOptions) scaffold(ctx context.Context, env *action.Env) (scaffold.Options, error) {
	config := filepath.ToSlash(filepath.Clean(env.Common.Config))
	s := scaffold.Options{
		Folder: path.Dir(config), Config: path.Base(config), Branch: o.branch,
		Actions: o.actions, Ref: o.ref, Version: program().Version,
	}
	if err := atRoot(o.dir); err != nil {
		return s, verdict.Usage(err)
	}
	if s.Branch == "" {
		s.Branch = cmp.Or((git.Repository{Dir: o.dir}).Branch(ctx), "main")
	}
	if s.Ref == "" {
		if s.Ref = s.Version; strings.HasPrefix(s.Version, "devel") {
			s.Ref = "main"
			env.Logf("this program is no release: the workflows use the actions of the branch main; pin them with --ref")
		}
	}
	there, err := exists(filepath.Join(o.dir, filepath.FromSlash(config)))
	if err != nil || there {
		return s, err
	}
	s.Project, err = o.project(env)
	return s, err
}

// atRoot refuses a folder inside of a repository: GitHub reads workflows at its
// root only.
func atRoot(dir string) error {
	at, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for start := at; ; at = filepath.Dir(at) {
		there, err := exists(filepath.Join(at, ".git"))
		switch {
		case err != nil:
			return err
		case there && at != start:
			return fmt.Errorf("%s lies inside the repository %s: run penstock init there, with --config for a project in a folder", start, at)
		case there || at == filepath.Dir(at):
			return nil
		}
	}
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// project is what a new project file is told, by flags or by answers.
func (o initOptions) project(env *action.Env) (scaffold.Project, error) {
	ask := questions{env: env, in: bufio.NewReader(env.Stdin)}
	p := scaffold.Project{
		Name:   ask.about("--name", "name of the project", o.name, nameFrom(o.dir)),
		Task:   ask.about("--task", "task of the model", o.task, project.Multilabel),
		Bucket: o.bucket,
	}
	p.Bucket = ask.about("--bucket", "bucket", o.bucket, p.Name)
	text := ask.about("--labels", "labels, NAME or NAME:URGENCY, separated by commas", o.label, "")
	if ask.err != nil {
		return p, ask.err
	}
	var err error
	if p.Labels, err = scaffold.ParseLabels(text); err != nil {
		return p, verdict.Usage(err)
	}
	return p, nil
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// nameFrom proposes the folder's name.
func nameFrom(dir string) string {
	at, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	return strings.Trim(notName.ReplaceAllString(strings.ToLower(filepath.Base(at)), "-"), "-")
}

// questions are asked on a terminal only; elsewhere a proposal counts, and what
// has none is missed by its flag's name.
type questions struct {
	env *action.Env
	in  *bufio.Reader
	err error
}

func (q *questions) about(flag, what, given, proposal string) string {
	if given != "" || q.err != nil {
		return given
	}
	if !q.env.Terminal || q.env.InActions() {
		if proposal == "" {
			q.err = verdict.Usage(fmt.Errorf("%s is missing: %s", flag, what))
		}
		return proposal
	}
	fmt.Fprintf(q.env.Stderr, "%s%s: ", what, bracketed(proposal))
	line, err := q.in.ReadString('\n')
	answer := cmp.Or(strings.TrimSpace(line), proposal)
	if err != nil && line == "" || answer == "" {
		q.err = verdict.Usage(fmt.Errorf("no answer: give %s", flag))
	}
	return answer
}

func bracketed(proposal string) string {
	if proposal == "" {
		return ""
	}
	return " [" + proposal + "]"
}

// validProject asks the stages about the project file that is to be written.
func validProject(files []scaffold.File, o scaffold.Options) error {
	if o.Project.Name == "" {
		return nil
	}
	for _, f := range files {
		if f.Path == path.Join(o.Folder, o.Config) {
			if _, err := project.Parse(f.Data); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
			return nil
		}
	}
	return errors.New("no project file was made")
}

// carryOut lists the plan, and writes what may be written.
func (o initOptions) carryOut(env *action.Env, plan []scaffold.Change) (verdict.Result, error) {
	var written, kept []string
	for _, c := range plan {
		writes := c.Writes(o.force)
		if o.diff {
			if c.State != scaffold.Yours {
				fmt.Fprint(env.Stdout, c.Diff())
			}
		} else {
			env.Logf("%-8s %s", stateWord(c.State, writes), c.Path)
		}
		switch {
		case writes:
			written = append(written, c.Path)
		case c.State == scaffold.Differs:
			kept = append(kept, c.Path)
		}
		if writes && !o.diff && !o.dryRun {
			if err := c.Write(o.dir); err != nil {
				return verdict.Result{}, err
			}
		}
	}
	return o.said(written, kept), nil
}

// stateWord is the state, and for what differs what becomes of it.
func stateWord(s scaffold.State, writes bool) string {
	switch {
	case s == scaffold.Differs && writes:
		return "renewed"
	case s == scaffold.Differs, s == scaffold.Yours:
		return "kept"
	}
	return string(s)
}

func (o initOptions) said(written, kept []string) verdict.Result {
	text := strconv.Itoa(len(written)) + " files written"
	switch {
	case o.diff || o.dryRun:
		text = strconv.Itoa(len(written)) + " files would be written"
	case len(written) > 0:
		text += "; next: variables, secrets and runners, https://github.com/penstock-ml/penstock/blob/main/docs/github.md"
	}
	r := verdict.Passed("%s", text)
	if len(kept) > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d files differ and are kept: look with --diff, renew with --force", len(kept)))
	}
	for output, paths := range map[string][]string{"written": written, "kept": kept} {
		if len(paths) > 0 {
			r.Outputs[output] = strings.Join(paths, " ")
		}
	}
	return r
}
