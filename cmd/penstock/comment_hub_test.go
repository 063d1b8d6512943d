package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// pairOfWorkflows are a pull request's workflow and the one that comments for
// forks, with the permissions that decide here; the commands run in the test.
var pairOfWorkflows = map[string]string{
	"pull-request": "on: pull_request\npermissions: {}\njobs:\n  comment:\n    runs-on: ubuntu-latest\n" +
		"    permissions: {contents: read, pull-requests: write}\n    steps: [{run: 'true'}]\n",
	"pull-request-comment": "on:\n  workflow_run: {workflows: [pull-request], types: [completed]}\npermissions: {}\njobs:\n  comment:\n    runs-on: ubuntu-latest\n" +
		"    permissions: {contents: read, pull-requests: write}\n    steps: [{run: 'true'}]\n",
}

// said is what one run's command said.
type said struct {
	workflow string
	result   verdict.Result
	err      error
}

// hubWorld is the stand-in for GitHub, whose runs call runComment with what a
// step of theirs would see: event, token, address.
type hubWorld struct {
	*hub.Hub
	t    *testing.T
	ran  chan said
	data string // the folder that is the artifact
}

const strangerToken = "ghp_stranger"

func newHubWorld(t *testing.T) *hubWorld {
	w := &hubWorld{t: t, ran: make(chan said, 20), data: t.TempDir()}
	h, err := hub.Start(t.Context(), hub.Options{
		Dir: t.TempDir(), Token: "ghp_owner", Login: "mona", Users: map[string]string{strangerToken: "stranger"}, Execute: w.execute, NoCheckout: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Hub = h
	if err := h.CreateRepository("acme", "vision"); err != nil {
		t.Fatal(err)
	}
	clone := w.clone("acme", h.Token)
	for name, text := range pairOfWorkflows {
		w.write(clone, ".github/workflows/"+name+".yml", "name: "+name+"\n"+text)
	}
	w.git(clone, "add", "-A")
	w.git(clone, "commit", "-q", "-m", "first")
	w.git(clone, "push", "-q", "origin", "HEAD:main")
	return w
}

func (w *hubWorld) execute(ctx context.Context, s actrun.Spec, _ func(actrun.Event)) (actrun.Result, error) {
	env := stranger(w.t)
	file := filepath.Join(filepath.Dir(env.Common.Config), "event.json")
	if err := os.WriteFile(file, s.Payload, 0o644); err != nil {
		return actrun.Result{}, err
	}
	env.Getenv = func(name string) string {
		switch name {
		case "GITHUB_ACTIONS":
			return "true"
		case "GITHUB_EVENT_PATH":
			return file
		case "GITHUB_REPOSITORY":
			return s.Repository
		case "GITHUB_TOKEN":
			return s.Secrets[name]
		}
		return s.Env[name]
	}
	o := commentOptions{job: *cli.NewStringSlice("check=success")}
	workflow := path.Base(s.Workflow)
	switch {
	case workflow == "pull-request-comment.yml":
		o = commentOptions{fromArtifact: w.data}
	case strings.Contains(string(s.Payload), `"stranger/vision"`):
		r, err := runComment(ctx, env, o)
		w.ran <- said{"a fork's own attempt", r, err}
		o.artifact = w.data
	}
	r, err := runComment(ctx, env, o)
	w.ran <- said{workflow, r, err}
	if err != nil {
		return actrun.Result{Conclusion: actrun.Failure}, nil
	}
	return actrun.Result{Conclusion: actrun.Success}, nil
}

// next waits for the next command of a run.
func (w *hubWorld) next(workflow string) said {
	w.t.Helper()
	select {
	case s := <-w.ran:
		if s.workflow != workflow {
			w.t.Fatalf("%s spoke, wanted %s: %v", s.workflow, workflow, s.err)
		}
		return s
	case <-time.After(30 * time.Second):
		w.t.Fatalf("%s did not run in 30 s", workflow)
		return said{}
	}
}

func (w *hubWorld) git(dir string, args ...string) {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (w *hubWorld) clone(owner, token string) string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "vision")
	w.git(".", "clone", "-q", strings.Replace(w.GitURL(owner, "vision"), "http://", "http://x-access-token:"+token+"@", 1), dir)
	return dir
}

func (w *hubWorld) write(dir, name, text string) {
	w.t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// push commits a change on a branch of a clone and pushes it.
func (w *hubWorld) push(clone, branch, text string) {
	w.t.Helper()
	w.git(clone, "checkout", "-q", "-B", branch)
	w.write(clone, "train.py", text)
	w.git(clone, "add", "-A")
	w.git(clone, "commit", "-q", "-m", text)
	w.git(clone, "push", "-q", "-f", "origin", branch)
}

func (w *hubWorld) ask(token, method, path, body string, into any) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.API()+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		w.t.Fatalf("%s %s: %d %v\n%s", method, path, res.StatusCode, err, data)
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			w.t.Fatal(err)
		}
	}
}

// comments gives the bodies on a pull request and who wrote them.
func (w *hubWorld) comments(number int) (bodies, authors []string) {
	w.t.Helper()
	var all []struct {
		Body string
		User struct{ Login string }
	}
	w.ask(w.Token, "GET", fmt.Sprintf("/repos/acme/vision/issues/%d/comments", number), "", &all)
	for _, c := range all {
		bodies, authors = append(bodies, c.Body), append(authors, c.User.Login)
	}
	return bodies, authors
}

func TestPullRequestsGetOneCommentOnTheStandInForGitHub(t *testing.T) {
	w := newHubWorld(t)
	clone := w.clone("acme", w.Token)
	w.push(clone, "slower", "learning_rate: 0.001")
	var opened struct{ Number int }
	w.ask(w.Token, "POST", "/repos/acme/vision/pulls", `{"title": "slower", "head": "slower", "base": "main"}`, &opened)
	for _, outcome := range []string{"created", "updated"} {
		own := w.next("pull-request.yml")
		if own.err != nil || own.result.Outputs["outcome"] != outcome {
			t.Fatalf("%s, %v, wanted %s", own.result.Outputs["outcome"], own.err, outcome)
		}
		// The second workflow is for forks; here it has no artifact.
		if other := w.next("pull-request-comment.yml"); other.err == nil {
			t.Error("a comment was made from no artifact")
		}
		if outcome == "created" {
			w.push(clone, "slower", "learning_rate: 0.0005")
		}
	}
	bodies, authors := w.comments(opened.Number)
	if len(bodies) != 1 || authors[0] != bot || !strings.HasPrefix(bodies[0], "✅ **judged: pass** (`jobs`): the jobs succeeded: check; nothing was trained") {
		t.Errorf("comments %q by %q", bodies, authors)
	}
}

func TestAForksPullRequestGetsItsCommentFromTheSecondWorkflow(t *testing.T) {
	w := newHubWorld(t)
	w.ask(strangerToken, "POST", "/repos/acme/vision/forks", "{}", nil)
	clone := w.clone("stranger", strangerToken)
	w.push(clone, "patch", "x")
	var opened struct{ Number int }
	w.ask(strangerToken, "POST", "/repos/acme/vision/pulls", `{"title": "patch", "head": "stranger:patch", "base": "main"}`, &opened)
	if own := w.next("a fork's own attempt"); own.err == nil || verdict.FromError(own.err).Reason.Code != "permission" || !strings.Contains(own.err.Error(), "--from-artifact") {
		t.Errorf("a fork's run commented, or was not told how: %v", own.err)
	}
	if left := w.next("pull-request.yml"); left.err != nil || left.result.Outputs["outcome"] != "written" {
		t.Fatal(left.err)
	}
	if other := w.next("pull-request-comment.yml"); other.err != nil || other.result.Outputs["outcome"] != "created" {
		t.Fatal(other.err)
	}
	bodies, authors := w.comments(opened.Number)
	if len(bodies) != 1 || authors[0] != bot || !strings.HasPrefix(bodies[0], "❔ **judged: not verified, says pass** (`jobs`)") || !strings.Contains(bodies[0], "the run of stranger/vision ended with success") {
		t.Errorf("comments %q by %q", bodies, authors)
	}
}
