package github_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/outside/github"
)

// examples serves the answers that GitHub's own description gives as examples,
// over HTTP, and keeps the bodies it was sent.
type examples struct {
	*httptest.Server
	mu   sync.Mutex
	sent map[string]map[string]any // by method and path
}

func newExamples(t *testing.T) (*examples, *github.Client) {
	t.Helper()
	data, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers map[string]json.RawMessage
	if err := json.Unmarshal(data, &answers); err != nil {
		t.Fatal(err)
	}
	delete(answers, "//")
	e, mux := &examples{sent: map[string]map[string]any{}}, http.NewServeMux()
	for pattern, raw := range answers {
		var answer struct {
			Status int
			Body   json.RawMessage
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			t.Fatal(err)
		}
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/v3"+path, func(w http.ResponseWriter, r *http.Request) {
			e.keep(t, r)
			reply(w, answer.Status, answer.Body)
		})
	}
	e.Server = httptest.NewServer(mux)
	t.Cleanup(e.Close)
	c, err := github.New(github.Settings{API: e.URL + "/api/v3", Repository: "octo-org/octo-repo", Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	return e, c
}

func (e *examples) keep(t *testing.T, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil || len(data) == 0 {
		return
	}
	var body map[string]any
	if err := json.Unmarshal(data, &body); err != nil {
		t.Errorf("%s %s was sent %q", r.Method, r.URL.Path, data)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api/v3/repos/octo-org/octo-repo/")] = body
}

func same(t *testing.T, what string, got any, err error, want any) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	} else if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

func TestGitHubsOwnExamplesAreUnderstood(t *testing.T) {
	_, c := newExamples(t)
	ctx := t.Context()

	repository, err := c.ReadRepository(ctx)
	same(t, "repository", repository, err, github.Repository{DefaultBranch: "master", Public: true, URL: "https://github.com/octocat/Hello-World"})
	run, found, err := c.FindRun(ctx, "build.yml", "Update README.md")
	same(t, "run by name", fmt.Sprintf("%d %t %s %.7s %d", run.ID, found, run.Status, run.HeadSHA, run.Created.Year()), err, "30433642 true queued acb5820 2020")
	_, found, err = c.FindRun(ctx, "build.yml", "Update README")
	same(t, "no run by a part of a name", found, err, false)
	run, err = c.Run(ctx, 30433642)
	same(t, "run", run.Name+" "+run.Event, err, "Update README.md push")
	id, err := c.Dispatch(ctx, "build.yml", "main", "train k", nil)
	same(t, "dispatch", id, err, int64(1))
	comments, err := c.Comments(ctx, 1347)
	same(t, "comments", comments, err, []github.Comment{{ID: 1, Body: "Me too", Author: "octocat", URL: "https://github.com/octocat/Hello-World/issues/1347#issuecomment-1"}})
	compared, err := c.Compare(ctx, "master", "topic")
	same(t, "compare", compared, err, github.Comparison{Status: "behind", Ahead: 1, Behind: 2})
	permissions, err := c.ReadPermissions(ctx)
	same(t, "permissions", permissions, err, github.Permissions{Enabled: true, Actions: "selected", Pinned: true, Token: "read", Approve: true})
	workflow, err := c.ReadWorkflow(ctx, "blank.yaml")
	same(t, "workflow", workflow.State+" "+workflow.Text, err, "active on: workflow_dispatch\nrun-name: train ${{ inputs.run_key }}\njobs: {}\n")
	login, err := c.Viewer(ctx)
	same(t, "viewer", login, err, "octocat")
	runners, err := c.Runners(ctx)
	same(t, "runners", runners, err, 2)
	groups, err := c.RunnerGroups(ctx, "octo-org")
	same(t, "groups", groups, err, []github.RunnerGroup{
		{Name: "Default", Visibility: "all", Public: true, Workflows: []string{}, Runners: 2},
		{Name: "octo-runner-group", Visibility: "selected", Public: true, Restricted: true, Workflows: []string{"octo-org/octo-repo/.github/workflows/deploy.yaml@refs/heads/main"}, Runners: 2},
		{Name: "expensive-hardware", Visibility: "private", Public: true, Workflows: []string{"octo-org/octo-repo/.github/workflows/deploy.yaml@refs/heads/main"}, Runners: 2},
	})
}

func TestWritesSendWhatGitHubWants(t *testing.T) {
	e, c := newExamples(t)
	ctx := t.Context()
	if _, err := c.Dispatch(ctx, "train.yml", "main", "train k", map[string]string{"batch": "k", "run_key": "k"}); err != nil {
		t.Error(err)
	}
	if _, err := c.CreateComment(ctx, 12, "hello"); err != nil {
		t.Error(err)
	}
	id, err := c.CreateDeployment(ctx, github.Deployment{Ref: "deploy/xray/v3", Environment: "staging", Description: "v3", Payload: map[string]string{"run_key": "k"}})
	if err != nil || id != 1 {
		t.Errorf("deployment %d: %v", id, err)
	}
	if err := c.SetDeploymentStatus(ctx, 1, "success", "serves v3", "https://github.com/x/y/actions/runs/1"); err != nil {
		t.Error(err)
	}
	want := map[string]map[string]any{
		"POST actions/workflows/train.yml/dispatches": {"ref": "main", "inputs": map[string]any{"batch": "k", "run_key": "k"}, "return_run_details": true},
		"POST issues/12/comments":                     {"body": "hello"},
		"POST deployments": {
			"ref": "deploy/xray/v3", "environment": "staging", "description": "v3", "payload": map[string]any{"run_key": "k"},
			"auto_merge": false, "required_contexts": []any{}, "production_environment": false, "transient_environment": false,
		},
		"POST deployments/1/statuses": {"state": "success", "description": "serves v3", "log_url": "https://github.com/x/y/actions/runs/1", "auto_inactive": true},
	}
	if d := cmp.Diff(want, e.sent); d != "" {
		t.Error(d)
	}
}
