package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/admission"
	"github.com/penstock-ml/penstock/internal/verdict"
)

type admitOptions struct{ list string }

func admitCommand() action.Command {
	var o admitOptions
	return action.Command{
		Name: "admit", Program: "penstock",
		Summary: "decide whether this runner takes a job: its job-started hook asks",
		Description: `Compares a job with the runner's list of repository, workflow file and ref,
and looks into the event's payload. Pull requests from forks, head repositories
that are gone, events that are not known, whatever is not on the list and
whatever cannot be read are refused. runners/README.md tells how the hook that
calls this is installed.`,
		Example: "penstock admit --list /opt/penstock/hooks/jobs.list",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "list", Usage: "the runner's `FILE`: repository, workflow file and ref, an entry a line", Required: true, Destination: &o.list},
		},
		Environment: []action.Variable{
			{Name: "GITHUB_REPOSITORY", Description: "owner/name, as the runner sets it"},
			{Name: "GITHUB_WORKFLOW_REF", Description: "the workflow file and its ref"},
			{Name: "GITHUB_REF", Description: "the ref of the run"},
			{Name: "GITHUB_EVENT_NAME", Description: "the event behind the run"},
			{Name: "GITHUB_EVENT_PATH", Description: "the file with its payload"},
		},
		Local: true,
		Run:   func(_ context.Context, env *action.Env) (verdict.Result, error) { return runAdmit(env, o) },
	}
}

func runAdmit(env *action.Env, o admitOptions) (verdict.Result, error) {
	list, err := readList(o.list)
	if err != nil {
		return verdict.Result{}, fmt.Errorf("the runner's list %s: %w", o.list, err)
	}
	job := admission.Job{
		Repository: env.Getenv("GITHUB_REPOSITORY"), WorkflowRef: env.Getenv("GITHUB_WORKFLOW_REF"),
		Ref: env.Getenv("GITHUB_REF"), Event: env.Getenv("GITHUB_EVENT_NAME"),
	}
	if job.Payload, err = readLimited(env.Getenv("GITHUB_EVENT_PATH"), maxPayload); err != nil {
		return verdict.Result{}, fmt.Errorf("the event's payload: %w", err)
	}
	entry, err := admission.Decide(list, job)
	var refusal admission.Refusal
	switch {
	case errors.As(err, &refusal):
		return verdict.Rejected(refusal.Code, "%s", refusal.Text), nil
	case err != nil:
		return verdict.Result{}, err
	}
	return verdict.Passed("%s %s on %s is on this runner's list", entry.Repository, entry.Workflow, entry.Ref), nil
}

const (
	maxPayload = 32 << 20 // GitHub sends 25 MiB at most
	maxList    = 1 << 20
)

// readList refuses a list that others may write: a job could admit the next.
func readList(path string) (admission.List, error) {
	for _, p := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s may be written by others (mode %v): chmod go-w it, and let root own it", p, info.Mode().Perm())
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return admission.Read(io.LimitReader(f, maxList))
}

func readLimited(path string, limit int64) ([]byte, error) {
	if path == "" {
		return nil, errors.New("GITHUB_EVENT_PATH is not set: this is a runner's hook")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}
