package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/report"
	"github.com/penstock-ml/penstock/internal/outside/github"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type commentOptions struct {
	pullRequest  int
	commit       string
	from, job    cli.StringSlice
	artifact     string
	fromArtifact string
}

func commentCommand() action.Command {
	var o commentOptions
	return action.Command{
		Name: "comment", Program: "penstock",
		Summary: "keep one comment on a pull request that tells how the candidate does",
		Description: `Writes the results of earlier steps as the project's one comment on a pull
request: verdict and reason in the first line, candidate against champion with
intervals, the slices that moved, the load test, how the data differs, links.
The comment is found again by its marker and its author and updated in place; a
body that did not change makes no request. It has at most 60,000 bytes; sections
that find no room go whole to the step summary.

A run whose commit is no longer the pull request's head changes nothing.

A step without a result is told as such, and nothing passes without a gate. The
results of jobs (--job) count where a job left no result of its own.

A fork's run may not comment. There, --artifact writes what is known as data
into a folder; the workflow that workflow_run starts afterwards gives that
folder to --from-artifact. It checks that the pull request's head is the very
commit and repository of the run that is reported on, takes nothing but numbers
and names from the data, and says that they are not verified.

Verdicts: pass, the comment stands (whatever it says).`,
		Example: `penstock comment --pull-request 12 --from step:dataset --from step:train --from step:evaluate --from step:gate-offline --run-key "$RUN_KEY"
penstock comment --artifact comment --job lint=success --job test=failure   # in a fork's run
penstock comment --from-artifact comment                                    # in the workflow after it`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "pull-request", Usage: "`NUMBER` of the pull request (default: the event's)", Destination: &o.pullRequest},
			&cli.StringFlag{Name: "commit", Usage: "`SHA` that was judged (default: the pull request's head in the event)", Destination: &o.commit},
			&cli.StringSliceFlag{Name: "job", Usage: "`NAME=RESULT` of a job in GitHub's words: success, failure, cancelled, skipped; may be given several times", Destination: &o.job},
			&cli.StringFlag{Name: "artifact", Usage: "write what the comment would tell into this `DIR`, and do not comment", Destination: &o.artifact},
			&cli.StringFlag{Name: "from-artifact", Usage: "comment on what another run wrote into this `DIR`", Destination: &o.fromArtifact},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: "url", Description: "address of the comment"},
			{Name: "comment", Description: "its number"},
			{Name: "outcome", Description: "created, updated, unchanged, or outdated where the pull request has a newer head; written where an artifact was asked for"},
			{Name: "says", Description: "the verdict that the comment tells"},
		},
		Environment: append(append(githubVariables(), workspace.StoreVariables()...), trackingVariables()[0]),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runComment(ctx, env, o)
		},
	}
}

func runComment(ctx context.Context, env *action.Env, o commentOptions) (verdict.Result, error) {
	p, err := project.Read(env.Common.Config)
	if err != nil {
		return verdict.Result{}, verdict.Coded("config", err)
	}
	happened, err := readEvent(env)
	if err != nil {
		return verdict.Result{}, err
	}
	if o.fromArtifact != "" {
		return o.forOther(ctx, env, p.Name, happened)
	}
	if o.pullRequest == 0 && happened.PullRequest != nil {
		o.pullRequest = happened.PullRequest.Number
	}
	if o.pullRequest < 1 {
		return verdict.Result{}, verdict.Usage(errors.New("name the pull request: --pull-request NUMBER; only events of pull requests bring it themselves"))
	}
	facts, warnings, err := o.gather(ctx, env, p, happened)
	if err != nil {
		return verdict.Result{}, err
	}
	var r verdict.Result
	if o.artifact != "" {
		r, err = o.leaveArtifact(facts)
	} else {
		r, err = keepComment(ctx, env, facts, o.pullRequest)
	}
	r.Warnings = append(r.Warnings, warnings...)
	return r, err
}

// keepComment renders the facts, keeps the comment, and puts what found no
// room into the step summary.
func keepComment(ctx context.Context, env *action.Env, facts report.Facts, pullRequest int) (verdict.Result, error) {
	client, err := openGitHub(env)
	if err != nil {
		return verdict.Result{}, err
	}
	if newer, err := overtaken(ctx, client, facts, pullRequest); err != nil || newer != "" {
		r := verdict.Passed("pull request %d has a newer head, %s: what is known of %s is no longer told, the newer commit's own run comments", pullRequest, newer, facts.Commit)
		r.Outputs["outcome"] = "outdated"
		return r, err
	}
	login, err := client.Viewer(ctx)
	if err != nil {
		return verdict.Result{}, err
	}
	kept, outcome, others, err := report.Keep(ctx, comments{client}, login, facts.Project, pullRequest, report.Render(facts))
	if github.Status(err) == 403 {
		err = verdict.Coded("permission", fmt.Errorf("%w. In the workflow, give the job `permissions: pull-requests: write`; on a fork's pull request no token may write: use --artifact there, and --from-artifact in a workflow that workflow_run starts", err))
	}
	if err != nil {
		return verdict.Result{}, err
	}
	r := verdict.Passed("the comment on pull request %d is %s", pullRequest, outcome)
	for _, other := range others {
		r.Warnings = append(r.Warnings, fmt.Sprintf("comment %d is a second one of this project, of two calls at the same moment: only the oldest is updated, delete the other", other.ID))
	}
	says, _, _ := facts.Overall()
	r.Outputs["url"], r.Outputs["comment"] = kept.URL, strconv.FormatInt(kept.ID, 10)
	r.Outputs["outcome"], r.Outputs["says"] = outcome, string(says)
	return r, leaveOverflow(env, &r, facts)
}

// overtaken gives the pull request's head where that is another commit than
// was judged: a slow run must not write over what a newer one said.
func overtaken(ctx context.Context, client *github.Client, facts report.Facts, pullRequest int) (newer string, err error) {
	if facts.Commit == "" {
		return "", nil
	}
	pull, err := client.PullRequest(ctx, pullRequest)
	if err != nil || strings.HasPrefix(pull.HeadSHA, facts.Commit) {
		return "", err
	}
	return pull.HeadSHA, nil
}

// leaveOverflow puts the sections that found no room into the step summary.
func leaveOverflow(env *action.Env, r *verdict.Result, facts report.Facts) error {
	overflow := report.Overflow(facts)
	if overflow == "" {
		return nil
	}
	r.Warnings = append(r.Warnings, "cut from the comment for its length: "+strings.Join(report.Cut(facts), ", "))
	path := env.Getenv("GITHUB_STEP_SUMMARY")
	if path == "" {
		env.Logf("%s", overflow)
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("step summary: %w", err)
	}
	if _, err := f.WriteString(overflow + "\n"); err != nil {
		f.Close()
		return fmt.Errorf("step summary: %w", err)
	}
	return f.Close()
}

// leaveArtifact writes the facts as data.
func (o commentOptions) leaveArtifact(facts report.Facts) (verdict.Result, error) {
	data, err := report.NewArtifact(o.pullRequest, facts).Encode()
	if err != nil {
		return verdict.Result{}, err
	}
	path := filepath.Join(o.artifact, report.ArtifactFile)
	if err := verdict.WriteFile(path, data); err != nil {
		return verdict.Result{}, fmt.Errorf("--artifact: %w", err)
	}
	r := verdict.Passed("%s holds what the comment on pull request %d will tell", path, o.pullRequest)
	says, _, _ := facts.Overall()
	r.Outputs["outcome"], r.Outputs["says"] = "written", string(says)
	return r, nil
}

// comments are GitHub's, in the words of package report.
type comments struct{ client *github.Client }

func (c comments) List(ctx context.Context, pullRequest int) ([]report.Comment, error) {
	read, err := c.client.Comments(ctx, pullRequest)
	all := make([]report.Comment, 0, len(read))
	for _, one := range read {
		all = append(all, plain(one))
	}
	return all, err
}

func (c comments) Create(ctx context.Context, pullRequest int, body string) (report.Comment, error) {
	made, err := c.client.CreateComment(ctx, pullRequest, body)
	return plain(made), err
}

func (c comments) Update(ctx context.Context, id int64, body string) (report.Comment, error) {
	changed, err := c.client.UpdateComment(ctx, id, body)
	if status := github.Status(err); status == 404 || status == 410 {
		err = fmt.Errorf("%w: %w", report.ErrGone, err)
	}
	return plain(changed), err
}

func plain(c github.Comment) report.Comment {
	return report.Comment{ID: c.ID, Body: c.Body, Author: c.Author, URL: c.URL, Minimized: c.Minimized}
}
