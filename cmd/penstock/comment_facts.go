package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/report"
	"github.com/penstock-ml/penstock/internal/outside/github"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// event is what a comment takes from the event that started the workflow.
type event struct {
	PullRequest *struct {
		Number int `json:"number"`
		Head   struct {
			SHA string `json:"sha"`
		} `json:"head"`
	} `json:"pull_request"`
	WorkflowRun *struct {
		Event          string `json:"event"`
		Conclusion     string `json:"conclusion"`
		HeadSHA        string `json:"head_sha"`
		URL            string `json:"html_url"`
		Name           string `json:"name"`
		HeadRepository *struct {
			Name string `json:"full_name"`
		} `json:"head_repository"`
	} `json:"workflow_run"`
}

// readEvent reads GITHUB_EVENT_PATH; without one nothing happened.
func readEvent(env *action.Env) (event, error) {
	var e event
	file := env.Getenv("GITHUB_EVENT_PATH")
	if file == "" {
		return e, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return e, fmt.Errorf("GITHUB_EVENT_PATH: %w", err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("GITHUB_EVENT_PATH %s: %w", file, err)
	}
	return e, nil
}

// gather collects what the comment tells.
func (o commentOptions) gather(ctx context.Context, env *action.Env, p project.Project, happened event) (facts report.Facts, warnings []string, err error) {
	facts = report.Facts{Project: p.Name, Commit: o.commit}
	if facts.Commit == "" && happened.PullRequest != nil {
		facts.Commit = happened.PullRequest.Head.SHA
	}
	if facts.Jobs, err = jobsOf(o.job.Value()); err != nil {
		return facts, nil, err
	}
	s := sources{env: env}
	var results []verdict.Result
	for _, source := range o.from.Value() {
		r, step, err := s.read(ctx, source)
		if err != nil {
			return facts, nil, fmt.Errorf("--from %s: %w", source, err)
		}
		facts.Steps = append(facts.Steps, step)
		if r != nil {
			results = append(results, *r)
		}
	}
	facts.Links = runLink(env)
	if len(results) == 0 {
		return facts, nil, nil
	}
	if err := consistent(results); err != nil {
		return facts, nil, err
	}
	if err := s.addReport(ctx, &facts, results); err != nil {
		return facts, nil, err
	}
	warning, err := s.addData(ctx, &facts, results)
	if warning != "" {
		warnings = append(warnings, warning)
	}
	facts.Links = append(facts.Links, resultLinks(env, results)...)
	return facts, warnings, err
}

func jobsOf(given []string) ([]report.Job, error) {
	var jobs []report.Job
	for _, text := range given {
		name, result, ok := strings.Cut(text, "=")
		if !ok || name == "" || result == "" {
			return nil, verdict.Usage(fmt.Errorf("--job %q: the form is NAME=RESULT, as in test=success", text))
		}
		jobs = append(jobs, report.Job{Name: name, Result: result})
	}
	return jobs, nil
}

// consistent wants results of one run: one model, one data set. A load test
// may have used the images of any data set.
func consistent(results []verdict.Result) error {
	for _, role := range []string{"model", "dataset", "champion", "champion_dataset", "batch", "report"} {
		from := results
		if role != "model" {
			from = judged(results)
		}
		if _, err := workspace.Subject(role, "", from); err != nil {
			return err
		}
	}
	return nil
}

// judged leaves the load test out.
func judged(results []verdict.Result) []verdict.Result {
	var kept []verdict.Result
	for _, r := range results {
		if r.Command != "loadtest" {
			kept = append(kept, r)
		}
	}
	return kept
}

// sources reads results; the bucket is opened when one of them lies there.
type sources struct {
	env *action.Env
	w   *workspace.Workspace
}

func (s *sources) open() (*workspace.Workspace, error) {
	if s.w == nil {
		w, err := workspace.Open(s.env)
		if err != nil {
			return nil, err
		}
		s.w = w
	}
	return s.w, nil
}

// read reads one result. A step of the run that left none is told, not refused,
// because a comment is wanted most where something broke.
func (s *sources) read(ctx context.Context, source string) (*verdict.Result, report.Step, error) {
	step := strings.TrimSuffix(path.Base(strings.TrimPrefix(source, "step:")), ".json")
	data, err := s.content(ctx, source)
	if strings.HasPrefix(source, "step:") && errors.Is(err, journal.ErrNotFound) {
		data, err = s.content(ctx, source+".error") // as the ledger keeps errors
		if errors.Is(err, journal.ErrNotFound) {
			return nil, report.Step{Name: step}, nil
		}
	}
	if err != nil {
		return nil, report.Step{}, err
	}
	r, err := verdict.Decode(data)
	if err != nil {
		return nil, report.Step{}, err
	}
	told, err := report.StepOf(r)
	return &r, told, verdict.Usage(err)
}

func (s *sources) content(ctx context.Context, source string) ([]byte, error) {
	if !strings.HasPrefix(source, "step:") && !strings.HasPrefix(source, "s3://") {
		return os.ReadFile(source)
	}
	w, err := s.open()
	if err != nil {
		return nil, err
	}
	return w.Read(ctx, source)
}

// addReport reads the evaluation's report where evaluate passed.
func (s *sources) addReport(ctx context.Context, facts *report.Facts, results []verdict.Result) error {
	for _, r := range results {
		if r.Command != "evaluate" || r.Verdict != verdict.Pass {
			continue
		}
		w, err := s.open()
		if err != nil {
			return fmt.Errorf("evaluate's report: %w", err)
		}
		read, _, err := readReport(ctx, w, gateOptions{}, judged(results))
		if err != nil {
			return err
		}
		facts.Report = &read
		return nil
	}
	return nil
}

// addData compares the data set with the champion's, or else with its parent.
// A pull request's run may not have got as far as a data set.
func (s *sources) addData(ctx context.Context, facts *report.Facts, results []verdict.Result) (warning string, err error) {
	subject := func(role string) string {
		value, _ := workspace.Subject(role, "", judged(results)) // consistent asked already
		return value
	}
	digest := subject("dataset")
	if digest == "" {
		return "", nil
	}
	w, err := s.open()
	if err != nil {
		return "the data is not told: " + err.Error(), nil
	}
	now, err := dataset.Describe(ctx, w.Bucket, digest)
	if err != nil {
		return "", err
	}
	base, is := subject("champion_dataset"), report.Champions
	if base == "" {
		base, is = now.Parent, report.Parent
	}
	var before *dataset.Dataset
	if base != "" {
		described, err := dataset.Describe(ctx, w.Bucket, base)
		if err != nil {
			return "", fmt.Errorf("the %s data set: %w", is, err)
		}
		before = &described
	}
	data := report.Compare(now, before, is)
	facts.Data = &data
	return "", nil
}

// runLink links the workflow's run.
func runLink(env *action.Env) []report.Link {
	id := env.Getenv("GITHUB_RUN_ID")
	if id == "" {
		return nil
	}
	address := strings.TrimSuffix(env.Getenv("GITHUB_SERVER_URL"), "/") + "/" + env.Getenv(github.RepositoryVariable) + "/actions/runs/" + id
	return []report.Link{{Name: "run", Text: id, URL: address}}
}

// resultLinks name what the results left elsewhere.
func resultLinks(env *action.Env, results []verdict.Result) []report.Link {
	var links []report.Link
	for _, r := range results {
		if id := r.Outputs["mlflow_run"]; r.Command == "train" && id != "" {
			link := report.Link{Name: "MLflow run", Text: id}
			if uri := env.Getenv("MLFLOW_TRACKING_URI"); uri != "" {
				link.URL = strings.TrimSuffix(uri, "/") + "/#/runs/" + id
			}
			links = append(links, link)
		}
		if digest := r.Subjects["dataset"]; r.Command == "dataset" && digest != "" {
			links = append(links, report.Link{Name: "data set", Text: "datasets/" + digest})
		}
		if at := r.Outputs[reportAt]; r.Command == "evaluate" && at != "" {
			links = append(links, report.Link{Name: "report", Text: at})
		}
	}
	return links
}
