package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	gh "github.com/google/go-github/v60/github"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub"
	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Where the project lies on the stand-in for GitHub.
const (
	owner      = "clinic"
	repository = "xray"
	branch     = "main"
)

// Times of runs: until one that was asked for is in the list, and until it has
// ended.
const (
	runAppears = time.Minute
	runEnds    = 8 * time.Minute
	runPoll    = 300 * time.Millisecond
)

// workflows drives the line as an adopter's repository does: by pushes, tags
// and dispatches to the stand-in for GitHub, whose runs are executed by act.
type workflows struct {
	*demo
	hub    *hub.Hub
	client *gh.Client
	seen   map[int64]bool // runs that were waited for
}

// begin starts the hub, makes the repository there and pushes the project. The
// push starts a training, which finds no data yet.
func (w *workflows) begin(ctx context.Context) (err error) {
	hook, err := w.installHook()
	if err != nil {
		return err
	}
	mermaid, err := process.Cached("mermaid/mermaid.min.js")
	if err != nil {
		return err
	}
	// Only the actions: act copies the folder of an action before each step.
	actions := filepath.Join(w.Dir, "penstock")
	if err := os.CopyFS(filepath.Join(actions, "actions"), os.DirFS(filepath.Join(w.Root, "actions"))); err != nil {
		return err
	}
	w.hub, err = hub.Start(ctx, hub.Options{
		Dir: filepath.Join(w.Dir, "hub"), Execute: actrun.Run, Hook: hook,
		Labels: []string{"self-hosted", "penstock", "gpu"}, Parallel: 1,
		LocalActions: map[string]string{"penstock-ml/penstock": actions},
		Env:          w.runnerEnv(), Secrets: w.secrets(), Vars: w.vars(),
		Mermaid: mermaid, Logf: func(string, ...any) {},
	})
	if err != nil {
		return err
	}
	w.seen = map[int64]bool{}
	w.report.Endpoints["hub"] = w.hub.URL
	w.say("    %-14s %s", "hub", w.hub.URL)
	if err := w.hub.CreateRepository(owner, repository); err != nil {
		return err
	}
	w.client, err = gh.NewClient(nil).WithAuthToken(w.hub.Token).WithEnterpriseURLs(w.hub.API()+"/", w.hub.API()+"/")
	if err != nil {
		return err
	}
	remote, err := url.Parse(w.hub.GitURL(owner, repository))
	if err != nil {
		return err
	}
	remote.User = url.UserPassword("x-access-token", w.hub.Token)
	if _, err := w.git(ctx, "remote", "add", "origin", remote.String()); err != nil {
		return err
	}
	if _, err := w.git(ctx, "push", "--quiet", "origin", branch); err != nil {
		return err
	}
	run, err := w.await(ctx, "train.yml")
	if err != nil {
		return err
	}
	return expect(run.GetConclusion() == actrun.Success, "the training that the first push starts to find no data and say so; it ended with %s (%s)", run.GetConclusion(), run.GetHTMLURL())
}

func (w *workflows) end() error {
	if w.hub == nil {
		return nil
	}
	return w.hub.Close()
}

func (w *workflows) run(ctx context.Context, what task) (outcome, error) {
	switch what.kind {
	case landBatch:
		return w.landBatch(ctx, what.batch)
	case goBack:
		if err := w.dispatch(ctx, "rollback.yml", nil); err != nil {
			return outcome{}, err
		}
		return w.outcome(ctx, "rollback.yml", "rollback", func(r *gh.WorkflowRun) string { return fmt.Sprintf("rollback-%d", r.GetID()) })
	case goForward:
		tag := fmt.Sprintf("deploy/%s/v%s", w.project.Name, w.second.results["rollout"].Outputs["version"])
		if _, err := w.git(ctx, "tag", tag); err != nil {
			return outcome{}, err
		}
		if _, err := w.git(ctx, "push", "--quiet", "origin", tag); err != nil {
			return outcome{}, err
		}
		return w.outcome(ctx, "deploy.yml", "rollout", func(*gh.WorkflowRun) string { return w.second.runKey })
	}
	return outcome{}, fmt.Errorf("unknown task %d", what.kind)
}

// landBatch uploads a batch and has the schedule of watch look at once.
func (w *workflows) landBatch(ctx context.Context, n int) (outcome, error) {
	dir, err := w.batch(ctx, n)
	if err != nil {
		return outcome{}, err
	}
	if err := w.upload(ctx, dir); err != nil {
		return outcome{}, err
	}
	if err := w.hub.Schedule(owner, repository, "watch.yml"); err != nil {
		return outcome{}, err
	}
	run, err := w.await(ctx, "watch.yml")
	if err != nil {
		return outcome{}, err
	}
	if err := expect(run.GetConclusion() == actrun.Success, "watch to succeed, it ended with %s (%s)", run.GetConclusion(), run.GetHTMLURL()); err != nil {
		return outcome{}, err
	}
	return w.outcome(ctx, "train.yml", "rollout", func(r *gh.WorkflowRun) string { return strings.TrimPrefix(r.GetDisplayTitle(), "train ") })
}

func (w *workflows) dispatch(ctx context.Context, file string, inputs map[string]any) error {
	_, err := w.client.Actions.CreateWorkflowDispatchEventByFileName(ctx, owner, repository, file, gh.CreateWorkflowDispatchEventRequest{Ref: branch, Inputs: inputs})
	return err
}

// await waits for the newest run of a workflow that was not waited for yet, and
// for its end.
func (w *workflows) await(ctx context.Context, file string) (*gh.WorkflowRun, error) {
	appears := time.Now().Add(runAppears)
	ends := time.Now().Add(runEnds)
	var last *gh.WorkflowRun
	for {
		runs, _, err := w.client.Actions.ListWorkflowRunsByFileName(ctx, owner, repository, file, nil)
		if err != nil {
			return nil, fmt.Errorf("runs of %s: %w", file, err)
		}
		for _, r := range runs.WorkflowRuns {
			if w.seen[r.GetID()] {
				continue
			}
			last = r
			if r.GetStatus() == "completed" {
				w.seen[r.GetID()] = true
				return r, nil
			}
		}
		switch {
		case last == nil && time.Now().After(appears):
			return nil, fmt.Errorf("no run of %s within %s", file, runAppears)
		case time.Now().After(ends):
			return nil, fmt.Errorf("run %s did not end within %s", last.GetHTMLURL(), runEnds)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(runPoll):
		}
	}
}

// outcome waits for a run and reads how its steps ended from where the jobs
// left their results: the bucket. A green run must have passed with its last
// step, a red one must not.
func (w *workflows) outcome(ctx context.Context, file, lastStep string, keyOf func(*gh.WorkflowRun) string) (outcome, error) {
	run, err := w.await(ctx, file)
	if err != nil {
		return outcome{}, err
	}
	key := keyOf(run)
	o, err := w.results(ctx, key, run.GetCreatedAt().Time)
	if err != nil {
		return o, err
	}
	for _, c := range o.commands {
		w.say("    %-13s %-12s %5.1f s  %s", c.Name, c.Verdict, c.Seconds, c.Reason)
	}
	green := run.GetConclusion() == actrun.Success
	w.say("    %-13s %-12s          %s", file, run.GetConclusion(), run.GetHTMLURL())
	return o, errors.Join(
		expect(o.step != "", "run %s to leave results below runs/%s/", run.GetHTMLURL(), key),
		expect(green == (o.passed() && o.step == lastStep), "run %s to be green only when %s passed; it is %s after %s said %s (%s)",
			run.GetHTMLURL(), lastStep, run.GetConclusion(), o.step, o.result.Verdict, o.result.Reason.Text),
	)
}

// results reads what the steps of a run left since a moment, errors included,
// in the order of their beginning.
func (w *workflows) results(ctx context.Context, key string, since time.Time) (outcome, error) {
	o := outcome{runKey: key, results: map[string]verdict.Result{}}
	objects, err := w.bucket.List(ctx, "runs/"+key+"/")
	if err != nil {
		return o, err
	}
	type named struct {
		name   string
		result verdict.Result
	}
	var all []named
	for _, object := range objects {
		step, isResult := strings.CutSuffix(filepath.Base(object.Key), ".json")
		if !isResult || step == "evaluation" {
			continue
		}
		data, _, err := w.bucket.Get(ctx, object.Key)
		if err != nil {
			return o, err
		}
		r, err := verdict.Decode(data)
		if err != nil {
			return o, fmt.Errorf("%s: %w", object.Key, err)
		}
		if r.Started.Before(since.Truncate(time.Second)) {
			continue // of an earlier run with this key
		}
		all = append(all, named{strings.TrimSuffix(step, ".error"), r})
	}
	slices.SortFunc(all, func(a, b named) int { return a.result.Started.Compare(b.result.Started) })
	for _, n := range all {
		o.step, o.result, o.results[n.name] = n.name, n.result, n.result
		o.commands = append(o.commands, commandOf(n.name, n.result, n.result.Finished.Sub(n.result.Started).Seconds()))
	}
	return o, nil
}

// installHook lays the runner's job-started hook, its list and the program that
// decides into a folder, as runners/README.md says.
func (w *workflows) installHook() (string, error) {
	dir := filepath.Join(w.Dir, "runner")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	files := map[string]string{
		"job-started.sh": filepath.Join(w.Root, "runners", "hooks", "job-started.sh"),
		"penstock":       filepath.Join(w.Bin, "penstock"),
	}
	for name, source := range files {
		data, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			return "", err
		}
	}
	var list bytes.Buffer
	for _, line := range []string{
		"watch.yml refs/heads/main", "train.yml refs/heads/main", "rollback.yml refs/heads/main",
		"deploy.yml refs/tags/deploy/**", "pull-request.yml refs/pull/*/merge",
	} {
		fmt.Fprintf(&list, "%s/%s .github/workflows/%s\n", owner, repository, line)
	}
	return filepath.Join(dir, "job-started.sh"), verdict.WriteFile(filepath.Join(dir, "jobs.list"), list.Bytes())
}

// runnerEnv is what the runner's machine has: the programs, and a cache.
func (w *workflows) runnerEnv() map[string]string {
	return map[string]string{
		"PATH":                 w.Bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"PENSTOCK_CACHE":       filepath.Join(w.Dir, "cache"),
		"PENSTOCK_ONNXRUNTIME": w.onnxruntime,
	}
}

// secrets and vars are what an adopter enters in the repository's settings.
func (w *workflows) secrets() map[string]string {
	c := w.stack.Credentials
	return map[string]string{
		"AWS_ACCESS_KEY_ID": c.AccessKey, "AWS_SECRET_ACCESS_KEY": c.SecretKey,
		"PENSTOCK_PR_AWS_ACCESS_KEY_ID": c.AccessKey, "PENSTOCK_PR_AWS_SECRET_ACCESS_KEY": c.SecretKey,
		"PENSTOCK_ADMIN_TOKEN": c.AdminToken, "PENSTOCK_ROUTER_TOKEN": c.RouterToken,
	}
}

func (w *workflows) vars() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL_S3": w.stack.Endpoints.S3, "AWS_REGION": "us-east-1",
		"MLFLOW_TRACKING_URI": w.stack.Endpoints.MLflow,
	}
}

var learningRate = regexp.MustCompile(`learning_rate: [0-9.]+`)

// pullRequest lowers the learning rate on a branch, asks for its merge and
// reads the comment that the pull request gets.
func (w *workflows) pullRequest(ctx context.Context) (body, conclusion string, err error) {
	const head = "lower-learning-rate"
	config := filepath.Join(w.Dir, "project", "penstock.yaml")
	data, err := os.ReadFile(config)
	if err != nil {
		return "", "", err
	}
	changed := learningRate.ReplaceAll(data, []byte("learning_rate: 0.0005"))
	if err := expect(!bytes.Equal(data, changed), "penstock.yaml to hold a learning rate"); err != nil {
		return "", "", err
	}
	if _, err := w.git(ctx, "switch", "--quiet", "--create", head); err != nil {
		return "", "", err
	}
	if err := verdict.WriteFile(config, changed); err != nil {
		return "", "", err
	}
	for _, args := range [][]string{
		commit("train: a lower learning rate"), {"push", "--quiet", "origin", head}, {"switch", "--quiet", branch},
	} {
		if _, err := w.git(ctx, args...); err != nil {
			return "", "", err
		}
	}
	pr, _, err := w.client.PullRequests.Create(ctx, owner, repository, &gh.NewPullRequest{
		Title: gh.String("A lower learning rate"), Head: gh.String(head), Base: gh.String(branch), Body: gh.String("Does it hold?"),
	})
	if err != nil {
		return "", "", err
	}
	run, err := w.await(ctx, "pull-request.yml")
	if err != nil {
		return "", "", err
	}
	comments, _, err := w.client.Issues.ListComments(ctx, owner, repository, pr.GetNumber(), nil)
	if err != nil {
		return "", run.GetConclusion(), err
	}
	if err := expect(len(comments) == 1, "one comment on pull request %d, there are %d (%s)", pr.GetNumber(), len(comments), run.GetHTMLURL()); err != nil {
		return "", run.GetConclusion(), err
	}
	return comments[0].GetBody(), run.GetConclusion(), nil
}
