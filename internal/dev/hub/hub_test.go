package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub/openapi"
	"github.com/penstock-ml/penstock/internal/dev/process"
)

// world is a hub with one repository, a clone of it, and an executor that the
// test holds in its hand.
type world struct {
	*Hub
	t     *testing.T
	clone string
	runs  *executor
}

// executor records what it was given and ends runs when it is told to.
type executor struct {
	mu    sync.Mutex
	specs []actrun.Spec
	// do decides what a run does; nil ends it with success at once.
	do Execute
}

func (e *executor) run(ctx context.Context, s actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
	e.mu.Lock()
	e.specs = append(e.specs, s)
	do := e.do
	e.mu.Unlock()
	if do != nil {
		return do(ctx, s, tell)
	}
	return actrun.Result{Conclusion: actrun.Success}, nil
}

func (e *executor) given() []actrun.Spec {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.specs)
}

// held makes an executor that waits until the test closes the channel, or the
// run is cancelled.
func held(release <-chan struct{}) Execute {
	return func(ctx context.Context, _ actrun.Spec, _ func(actrun.Event)) (actrun.Result, error) {
		select {
		case <-release:
			return actrun.Result{Conclusion: actrun.Success}, nil
		case <-ctx.Done():
			return actrun.Result{Conclusion: actrun.Cancelled}, nil
		}
	}
}

const (
	testOwner = "acme"
	testRepo  = "line"
	testToken = "ghp_administrator"
)

// newWorld starts a hub whose repository holds the given files on main.
func newWorld(t *testing.T, files map[string]string, change ...func(*Options)) *world {
	t.Helper()
	e := &executor{}
	opt := Options{Dir: t.TempDir(), Token: testToken, Login: "mona", Execute: e.run, NoCheckout: true, Logf: t.Logf}
	for _, c := range change {
		c(&opt)
	}
	var quiet sync.Mutex // t.Logf may not be called after the test
	over := false
	opt.Logf = func(format string, args ...any) {
		quiet.Lock()
		defer quiet.Unlock()
		if !over {
			t.Logf(format, args...)
		}
	}
	opt.Answered = func(method, path string, status int, body []byte) {
		if err := conforms(method, path, status, body); err != nil {
			t.Errorf("not GitHub's answer: %v", err)
		}
	}
	h, err := Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		quiet.Lock()
		over = true
		quiet.Unlock()
	})
	w := &world{Hub: h, t: t, runs: e}
	if err := h.CreateRepository(testOwner, testRepo); err != nil {
		t.Fatal(err)
	}
	w.clone = w.cloneOf(testOwner, testRepo, testToken)
	if files != nil {
		w.commit(w.clone, "first", files)
		w.git(w.clone, "push", "-q", "origin", "main")
	}
	return w
}

var description = sync.OnceValues(func() (*openapi.Description, error) {
	path, err := process.Cached("openapi/api.github.com.json")
	if err != nil {
		return nil, err
	}
	return openapi.Load(path)
})

// conforms holds an answer of the hub to GitHub's description. Refusals that
// GitHub gives everywhere (401, 403, …) stand in no operation.
func conforms(method, path string, status int, body []byte) error {
	d, err := description()
	if err != nil {
		return err
	}
	if status >= 400 {
		var refusal struct{ Message, Status string }
		if err := json.Unmarshal(body, &refusal); err != nil || refusal.Message == "" || refusal.Status != strconv.Itoa(status) {
			return fmt.Errorf("%s %s: %d: %s is no refusal of GitHub's", method, path, status, body)
		}
		return nil
	}
	return d.Check(method, path, status, body)
}

func (w *world) cloneOf(owner, repo, token string) string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), repo)
	url := strings.Replace(w.GitURL(owner, repo), "http://", "http://x-access-token:"+token+"@", 1)
	w.git(".", "clone", "-q", url, dir)
	return dir
}

func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	out, err := gitCommand(dir, args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func gitCommand(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	return cmd
}

// commit writes files and commits them; an empty text removes the file.
func (w *world) commit(dir, message string, files map[string]string) string {
	w.t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if text == "" {
			w.git(dir, "rm", "-q", name)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	w.git(dir, "checkout", "-q", "-B", w.branch(dir))
	w.git(dir, "add", "-A")
	w.git(dir, "commit", "-q", "--allow-empty", "-m", message)
	return w.git(dir, "rev-parse", "HEAD")
}

func (w *world) branch(dir string) string {
	w.t.Helper()
	out, err := gitCommand(dir, "symbolic-ref", "--short", "HEAD").Output()
	if err != nil {
		return "main"
	}
	return strings.TrimSpace(string(out))
}

// ask sends one request to the API and decodes its answer.
func (w *world) ask(token, method, path, body string, into any) (status int) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.API()+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			w.t.Fatalf("%s %s: %d: %v\n%s", method, path, res.StatusCode, err, data)
		}
	}
	return res.StatusCode
}

// want asks and holds the status.
func (w *world) want(status int, method, path, body string, into any) {
	w.t.Helper()
	var raw json.RawMessage
	got := w.ask(testToken, method, "/repos/"+testOwner+"/"+testRepo+path, body, nilable(status, &raw))
	if got != status {
		w.t.Fatalf("%s %s: %d, want %d\n%s", method, path, got, status, raw)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			w.t.Fatal(err)
		}
	}
}

// nilable: an answer without content is not decoded.
func nilable(status int, raw *json.RawMessage) any {
	if status == http.StatusNoContent {
		return nil
	}
	return raw
}

// seen is what tests ask of a run.
type seen struct {
	ID           int64
	Name         string
	DisplayTitle string `json:"display_title"`
	Event        string
	Status       string
	Conclusion   string
	HeadBranch   string `json:"head_branch"`
	HeadSHA      string `json:"head_sha"`
	RunAttempt   int    `json:"run_attempt"`
}

// list are the runs, newest first.
func (w *world) list() []seen {
	w.t.Helper()
	var body struct {
		Runs []seen `json:"workflow_runs"`
	}
	w.want(200, "GET", "/actions/runs?per_page=100", "", &body)
	return body.Runs
}

// until waits for the run to reach a status.
func (w *world) until(id int64, fits func(seen) bool) seen {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		w.mu.Lock()
		changed := w.watch
		w.mu.Unlock()
		for _, r := range w.list() {
			if r.ID == id && fits(r) {
				return r
			}
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			w.t.Fatalf("run %d did not get there in 20 s: %+v", id, w.list())
		}
	}
}

func (w *world) ended(id int64) seen {
	w.t.Helper()
	return w.until(id, func(r seen) bool { return r.Status == "completed" })
}

const oneJob = "\njobs:\n  work:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hello\n"

func workflow(name, on string) map[string]string {
	return map[string]string{".github/workflows/" + name + ".yml": "name: " + name + "\n" + on + oneJob}
}

func TestPushRunsTheWorkflowOfItsCommit(t *testing.T) {
	w := newWorld(t, workflow("ci", "on:\n  push:\n    branches: [main]"))
	runs := w.list()
	if len(runs) != 1 || runs[0].Event != "push" || runs[0].DisplayTitle != "first" {
		t.Fatalf("runs %+v", runs)
	}
	w.ended(runs[0].ID)
	spec := w.runs.given()[0]
	if spec.Workflow != ".github/workflows/ci.yml" || spec.Ref != "refs/heads/main" || spec.SHA != runs[0].HeadSHA {
		t.Errorf("spec %+v", spec)
	}
	if spec.Env["GITHUB_API_URL"] != w.URL+"/api/v3" || spec.Secrets["GITHUB_TOKEN"] == "" {
		t.Errorf("environment %v", spec.Env)
	}
}
