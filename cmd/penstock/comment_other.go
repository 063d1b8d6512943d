package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/report"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// forOther comments for a run that may not: the artifact is data, and what can
// be known otherwise (project, commit, the run, how it ended, which pull
// request it was of) is not taken from it.
func (o commentOptions) forOther(ctx context.Context, env *action.Env, projectName string, happened event) (verdict.Result, error) {
	if o.artifact != "" || len(o.from.Value()) > 0 || len(o.job.Value()) > 0 || o.pullRequest != 0 || o.commit != "" {
		return verdict.Result{}, verdict.Usage(errors.New("--from-artifact takes everything from the artifact and the event: leave out --artifact, --from, --job, --pull-request and --commit"))
	}
	run := happened.WorkflowRun
	if run == nil || run.Event != "pull_request" {
		return verdict.Result{}, verdict.Usage(errors.New("--from-artifact belongs into a workflow that workflow_run starts after one of pull_request: the event is another"))
	}
	a, err := report.ReadArtifact(o.fromArtifact)
	if err != nil {
		return verdict.Result{}, verdict.Coded("bad-artifact", err)
	}
	number, err := a.Number()
	if err != nil {
		return verdict.Result{}, verdict.Coded("bad-artifact", err)
	}
	client, err := openGitHub(env)
	if err != nil {
		return verdict.Result{}, err
	}
	pull, err := client.PullRequest(ctx, number)
	if err != nil {
		return verdict.Result{}, err
	}
	repository := ""
	if run.HeadRepository != nil {
		repository = run.HeadRepository.Name
	}
	if pull.HeadSHA == "" || pull.HeadSHA != run.HeadSHA || repository == "" || !strings.EqualFold(pull.HeadRepository, repository) {
		return verdict.Result{}, verdict.Coded("other-pull-request", fmt.Errorf("the artifact names pull request %d, whose head is %s of %s; the run was of %s of %s: either there is a newer push, whose own run will comment, or the number is forged", number, pull.HeadSHA, pull.HeadRepository, run.HeadSHA, repository))
	}
	facts := a.Facts
	facts.Project, facts.Commit = projectName, run.HeadSHA
	facts.Links = []report.Link{{Name: "run", Text: run.Name, URL: run.URL}}
	facts.Unverified = "the run of " + repository + " ended with " + run.Conclusion
	facts.Jobs = append([]report.Job{{Name: "the whole run", Result: run.Conclusion}}, facts.Jobs...)
	return keepComment(ctx, env, facts, number)
}
