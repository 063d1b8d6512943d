package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/line/report"
	"github.com/penstock-ml/penstock/internal/verdict"
)

const (
	headSHA = "8ce1afc2f3ab4e1c8ce1afc2f3ab4e1c8ce1afc2"
	bot     = "github-actions[bot]"
)

// forge is the part of GitHub's API that a comment uses, spoken over HTTP.
type forge struct {
	t        *testing.T
	url      string
	bodies   []string // of the comments, in order; ids count from 1
	authors  []string
	writes   []string
	readOnly bool // the token may not write
}

func newForge(t *testing.T) *forge {
	f := &forge{t: t}
	mux := http.NewServeMux()
	const repo = "/api/v3/repos/acme/vision/"
	mux.HandleFunc("GET /api/v3/user", func(w http.ResponseWriter, _ *http.Request) {
		f.answer(w, http.StatusForbidden, map[string]any{"message": "Resource not accessible by integration"})
	})
	mux.HandleFunc("POST /api/graphql", func(w http.ResponseWriter, _ *http.Request) {
		f.answer(w, http.StatusOK, map[string]any{"data": map[string]any{"viewer": map[string]any{"login": bot}}})
	})
	mux.HandleFunc("GET "+repo+"issues/12/comments", f.list)
	mux.HandleFunc("POST "+repo+"issues/12/comments", func(w http.ResponseWriter, r *http.Request) {
		if f.refuses(w) {
			return
		}
		f.bodies, f.authors = append(f.bodies, f.body(r)), append(f.authors, bot)
		f.writes = append(f.writes, "create")
		f.answer(w, http.StatusCreated, f.comment(len(f.bodies)))
	})
	mux.HandleFunc("PATCH "+repo+"issues/comments/{id}", func(w http.ResponseWriter, r *http.Request) {
		if f.refuses(w) {
			return
		}
		var id int
		fmt.Sscan(r.PathValue("id"), &id)
		f.bodies[id-1] = f.body(r)
		f.writes = append(f.writes, "update "+r.PathValue("id"))
		f.answer(w, http.StatusOK, f.comment(id))
	})
	mux.HandleFunc("GET "+repo+"pulls/12", func(w http.ResponseWriter, _ *http.Request) {
		f.answer(w, http.StatusOK, map[string]any{"number": 12, "head": map[string]any{"sha": headSHA, "repo": map[string]any{"full_name": "Stranger/vision"}}})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *forge) refuses(w http.ResponseWriter) bool {
	if f.readOnly {
		f.answer(w, http.StatusForbidden, map[string]any{"message": "Resource not accessible by integration"})
	}
	return f.readOnly
}

func (f *forge) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.t.Error(err)
	}
}

func (f *forge) body(r *http.Request) string {
	var sent struct{ Body string }
	if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
		f.t.Error(err)
	}
	return sent.Body
}

func (f *forge) comment(id int) map[string]any {
	return map[string]any{
		"id": id, "body": f.bodies[id-1], "user": map[string]any{"login": f.authors[id-1]},
		"html_url": fmt.Sprintf("%s/acme/vision/pull/12#issuecomment-%d", f.url, id),
	}
}

func (f *forge) list(w http.ResponseWriter, r *http.Request) {
	page, size := 1, 30
	fmt.Sscan(r.URL.Query().Get("page"), &page)
	fmt.Sscan(r.URL.Query().Get("per_page"), &size)
	all := []any{}
	for id := (page-1)*size + 1; id <= min(page*size, len(f.bodies)); id++ {
		all = append(all, f.comment(id))
	}
	if page*size < len(f.bodies) {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?page=%d&per_page=%d>; rel="next"`, f.url, r.URL.Path, page+1, size))
	}
	f.answer(w, http.StatusOK, all)
}

// open lets env speak to the forge, with an event of GitHub.
func (f *forge) open(env *action.Env, event string) {
	file := filepath.Join(f.t.TempDir(), "event.json")
	if err := os.WriteFile(file, []byte(event), 0o644); err != nil {
		f.t.Fatal(err)
	}
	set := map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_API_URL": f.url + "/api/v3", "GITHUB_REPOSITORY": "acme/vision", "GITHUB_TOKEN": "t",
		"GITHUB_EVENT_PATH": file, "GITHUB_RUN_ID": "4711", "GITHUB_SERVER_URL": "https://github.example",
		"GITHUB_STEP_SUMMARY": filepath.Join(f.t.TempDir(), "summary.md"), "MLFLOW_TRACKING_URI": "http://mlflow.example:5000",
	}
	before := env.Getenv
	env.Getenv = func(name string) string {
		if value, ok := set[name]; ok {
			return value
		}
		return before(name)
	}
}

const pullRequestEvent = `{"pull_request": {"number": 12, "head": {"sha": "` + headSHA + `"}}}`

// stranger is a terminal in a folder with penstock.yaml and without a bucket.
func stranger(t *testing.T) *action.Env {
	t.Helper()
	config := filepath.Join(t.TempDir(), "penstock.yaml")
	if err := os.WriteFile(config, []byte(judgeProject), 0o644); err != nil {
		t.Fatal(err)
	}
	return &action.Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Now: time.Now,
		Getenv: func(string) string { return "" }, Common: action.Common{Config: config, Attempt: 1},
	}
}

func lastLine(body string) string {
	body = strings.TrimSpace(body)
	return body[strings.LastIndex(body, "\n")+1:]
}

func testComment(t *testing.T, b *judgeBench) {
	f := newForge(t)
	f.open(b.env, pullRequestEvent)
	for i := range 130 { // the project's own comment is on the second page
		f.bodies, f.authors = append(f.bodies, fmt.Sprint("talk ", i)), append(f.authors, "octocat")
	}
	f.bodies[7] = "mine!\n" + report.Marker("judged")
	keep := func(step string, r verdict.Result) {
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b.put(b.env.Common.Key(step), data)
	}
	o := commentOptions{from: *cli.NewStringSlice("step:train", "step:evaluate", "step:gate-offline"), job: *cli.NewStringSlice("judge=failure")}
	comment := func(outcome, first string) verdict.Result {
		t.Helper()
		r, err := runComment(context.Background(), b.env, o)
		if err != nil {
			t.Fatal(err)
		}
		body := f.bodies[len(f.bodies)-1]
		if r.Outputs["outcome"] != outcome || !strings.HasPrefix(body, first) || lastLine(body) != "<!-- penstock:judged -->" {
			t.Errorf("outcome %s, wanted %s; the comment:\n%s", r.Outputs["outcome"], outcome, body)
		}
		return r
	}

	trained := verdict.FromError(verdict.Coded("trainer-failed", fmt.Errorf("no such layer")))
	trained.Command = "train"
	keep("train.error", trained)
	comment(report.Created, "💥 **judged: error** (`train`, `trainer-failed`): no such layer")

	trained = verdict.Passed("trained")
	trained.Command, trained.Subjects["model"], trained.Subjects["dataset"], trained.Outputs["mlflow_run"] = "train", newModel, b.new, "r1"
	keep("train", trained)
	if err := dataset.Accept(context.Background(), b.w.Bucket, b.old, "run-1"); err != nil {
		t.Fatal(err)
	}
	evaluated := b.second(both(3), both(1.5))
	keep("evaluate", evaluated)
	decided, err := b.gate(gate.Offline, evaluated)
	if err != nil {
		t.Fatal(err)
	}
	keep("gate-offline", decided)
	o.job = cli.StringSlice{}
	r := comment(report.Updated, "✅ **judged: pass** (`gate-offline`, `non-inferior`): macro AUROC 0.9")
	body := f.bodies[130]
	for _, want := range []string{
		"Commit `8ce1afc2f3ab`, candidate `bbbbbbbbbbbb`", "### Candidate against champion", "| `Effusion` | 0.9", "### Slices that moved", "| `sex = F` | 0.9",
		"champion's data set `" + b.old[:12] + "`", "run: [`4711`](https://github.example/acme/vision/actions/runs/4711)",
		"MLflow run: [`r1`](http://mlflow.example:5000/#/runs/r1)", "report: `s3://" + b.w.Bucket.Name() + "/runs/run/1/evaluation.json`",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in the comment:\n%s", want, body)
		}
	}
	if r.Outputs["comment"] != "131" || !strings.HasSuffix(r.Outputs["url"], "#issuecomment-131") || r.Outputs["says"] != "pass" {
		t.Errorf("outputs %v", r.Outputs)
	}
	comment(report.Unchanged, "✅")
	if got := strings.Join(f.writes, ", "); got != "create, update 131" || f.bodies[7] != "mine!\n"+report.Marker("judged") {
		t.Errorf("writes %s", got)
	}

	trained.Subjects["model"] = oldModel
	keep("train", trained)
	if _, err := runComment(context.Background(), b.env, o); verdict.FromError(err).Reason.Code != "digest-mismatch" {
		t.Errorf("results of two models: %v", err)
	}
}

func TestCommentWithoutPermissionNamesTheRemedy(t *testing.T) {
	f, env := newForge(t), stranger(t)
	f.open(env, pullRequestEvent)
	f.readOnly = true
	_, err := runComment(t.Context(), env, commentOptions{job: *cli.NewStringSlice("test=success")})
	r := verdict.FromError(err)
	for _, want := range []string{"pull-requests: write", "--from-artifact", "acme/vision#12"} {
		if err == nil || r.Reason.Code != "permission" || !strings.Contains(r.Reason.Text, want) {
			t.Errorf("(%s) %s: %q is missing", r.Reason.Code, r.Reason.Text, want)
		}
	}
}

func TestASlowRunDoesNotWriteOverANewerOne(t *testing.T) {
	f, env := newForge(t), stranger(t)
	f.open(env, strings.Replace(pullRequestEvent, headSHA, "1111111111111111111111111111111111111111", 1))
	r, err := runComment(t.Context(), env, commentOptions{job: *cli.NewStringSlice("test=success")})
	if err != nil || r.Verdict != verdict.Pass || r.Outputs["outcome"] != "outdated" || len(f.writes) != 0 {
		t.Errorf("%s, %v, outputs %v, writes %v", r.Verdict, err, r.Outputs, f.writes)
	}
}

func TestWhatTheCommentCannotHoldGoesToTheStepSummary(t *testing.T) {
	f, env := newForge(t), stranger(t)
	f.open(env, pullRequestEvent)
	var o commentOptions
	var jobs []string
	for i := range 3000 {
		jobs = append(jobs, fmt.Sprintf("shard-%04d=success", i))
	}
	o.job = *cli.NewStringSlice(jobs...)
	r, err := runComment(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := os.ReadFile(env.Getenv("GITHUB_STEP_SUMMARY"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(f.bodies[0], "*Cut for length: Steps.") || len(f.bodies[0]) > report.Limit || !strings.Contains(string(summary), "| `shard-2999` | `success` |") || len(r.Warnings) != 1 {
		t.Errorf("comment of %d bytes, summary of %d, warnings %q", len(f.bodies[0]), len(summary), r.Warnings)
	}
}

// A fork's pull request: its run writes data, a trusted run comments.
func TestAForksArtifactIsShownAsItsWordOnItsOwnPullRequest(t *testing.T) {
	f, fork, trusted, dir := newForge(t), stranger(t), stranger(t), t.TempDir()
	f.open(fork, pullRequestEvent)
	o := commentOptions{artifact: dir, job: *cli.NewStringSlice("lint=success", "test=success")}
	if r, err := runComment(t.Context(), fork, o); err != nil || r.Outputs["outcome"] != "written" || len(f.writes) != 0 {
		t.Fatalf("%v, %v, writes %v", r.Outputs, err, f.writes)
	}
	run := func(sha, repository, event, conclusion string) string {
		return fmt.Sprintf(`{"workflow_run": {"id": 99, "name": "pull-request", "event": %q, "conclusion": %q, "head_sha": %q, "html_url": "https://github.example/acme/vision/actions/runs/99", "head_repository": {"full_name": %q}}}`, event, conclusion, sha, repository)
	}
	comment := func(event string) error {
		env := *trusted
		f.open(&env, event)
		_, err := runComment(t.Context(), &env, commentOptions{fromArtifact: dir})
		return err
	}
	for name, event := range map[string]string{
		"another commit":     run("1111111111111111111111111111111111111111", "stranger/vision", "pull_request", "success"),
		"another repository": run(headSHA, "somebody/vision", "pull_request", "success"),
		"no repository":      run(headSHA, "", "pull_request", "success"),
		"a push":             run(headSHA, "stranger/vision", "push", "success"),
		"no run":             pullRequestEvent,
	} {
		if err := comment(event); err == nil || len(f.writes) != 0 {
			t.Errorf("%s: %v, writes %v", name, err, f.writes)
		}
	}
	if err := comment(run(headSHA, "stranger/vision", "pull_request", "success")); err != nil {
		t.Fatal(err)
	}
	if want := "❔ **judged: not verified, says pass** (`jobs`): the jobs succeeded: the whole run, lint, test; nothing was trained\n"; !strings.HasPrefix(f.bodies[0], want) {
		t.Errorf("the comment:\n%s", f.bodies[0])
	}
	// What it says of a run that failed is not believed.
	if err := comment(run(headSHA, "stranger/vision", "pull_request", "failure")); err != nil || !strings.HasPrefix(f.bodies[0], "❔ **judged: not verified, says error** (`job-failed`)") {
		t.Errorf("%v; the comment:\n%s", err, f.bodies[0])
	}
	// Nor are a project, links or words of trust in the artifact.
	forged := report.Facts{Project: "other", Commit: "x", Links: []report.Link{{Name: "click", Text: "here", URL: "https://evil.example"}}, Jobs: []report.Job{{Name: "lint", Result: "success"}}}
	data, err := report.NewArtifact(12, forged).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, report.ArtifactFile), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := comment(run(headSHA, "stranger/vision", "pull_request", "success")); err != nil || strings.Contains(f.bodies[0], "evil.example") || lastLine(f.bodies[0]) != report.Marker("judged") || !strings.Contains(f.bodies[0], headSHA[:12]) {
		t.Errorf("%v; the comment:\n%s", err, f.bodies[0])
	}
	if strings.Join(f.writes, ", ") != "create, update 1, update 1" {
		t.Errorf("writes %v", f.writes)
	}
}

func TestCommentRefusesWhatItCannotPlace(t *testing.T) {
	for name, c := range map[string]struct {
		event string
		o     commentOptions
		code  string
	}{
		"no pull request":         {`{}`, commentOptions{}, verdict.BadUsage},
		"a job without a result":  {pullRequestEvent, commentOptions{job: *cli.NewStringSlice("test")}, verdict.BadUsage},
		"two modes":               {`{"workflow_run": {"event": "pull_request"}}`, commentOptions{fromArtifact: "x", artifact: "y"}, verdict.BadUsage},
		"an event that is no one": {`{`, commentOptions{}, verdict.Failed},
		"an artifact that is not there": {
			`{"workflow_run": {"event": "pull_request"}}`, commentOptions{fromArtifact: "nowhere"}, "bad-artifact",
		},
		"a result that is not there": {pullRequestEvent, commentOptions{from: *cli.NewStringSlice("nowhere.json")}, verdict.Failed},
	} {
		f, env := newForge(t), stranger(t)
		f.open(env, c.event)
		if _, err := runComment(t.Context(), env, c.o); err == nil || verdict.FromError(err).Reason.Code != c.code || len(f.writes) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
