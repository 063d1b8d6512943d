package github_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub"
	"github.com/penstock-ml/penstock/internal/outside/github"
)

const trainFile = `name: train
run-name: train ${{ inputs.run_key || github.event.client_payload.run_key }}
on:
  workflow_dispatch:
    inputs:
      batch: {type: string}
      run_key: {type: string}
  repository_dispatch:
    types: [penstock-train]
jobs:
  train:
    runs-on: ubuntu-latest
    steps:
      - run: "true"
`

// site is acme/xray on a stand-in for GitHub, with train.yml on main and an
// executor that ends runs with success, those held aside.
type site struct {
	*hub.Hub
	clone string
	held  atomic.Bool
	now   atomic.Int64 // unix nanoseconds, 0: the system's clock
}

func newSite(t *testing.T, change ...func(*hub.Options)) *site {
	t.Helper()
	s := &site{clone: filepath.Join(t.TempDir(), "xray")}
	options := hub.Options{
		Dir: t.TempDir(), Login: "mona", Token: secret, NoCheckout: true, Parallel: 8,
		Execute: func(ctx context.Context, _ actrun.Spec, _ func(actrun.Event)) (actrun.Result, error) {
			if s.held.Load() {
				<-ctx.Done()
				return actrun.Result{Conclusion: actrun.Cancelled}, nil
			}
			return actrun.Result{Conclusion: actrun.Success}, nil
		},
		Now: func() time.Time {
			if at := s.now.Load(); at != 0 {
				return time.Unix(0, at)
			}
			return time.Now()
		},
	}
	for _, c := range change {
		c(&options)
	}
	h, err := hub.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Hub = h
	if err := h.CreateRepository("acme", "xray"); err != nil {
		t.Fatal(err)
	}
	s.git(t, ".", "clone", "-q", strings.Replace(h.GitURL("acme", "xray"), "://", "://x:"+secret+"@", 1), s.clone)
	s.git(t, s.clone, "checkout", "-q", "-B", "main")
	s.commit(t, ".github/workflows/train.yml", trainFile)
	s.git(t, s.clone, "push", "-q", "origin", "main")
	return s
}

func (s *site) git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Mona", "GIT_AUTHOR_EMAIL=mona@example.org", "GIT_COMMITTER_NAME=Mona", "GIT_COMMITTER_EMAIL=mona@example.org")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (s *site) commit(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.clone, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s.git(t, s.clone, "add", "-A")
	s.git(t, s.clone, "commit", "-q", "-m", "change "+name)
}

// client waits on a clock of its own, which runs ahead by all that was waited
// for.
func (s *site) client(t *testing.T) *github.Client {
	t.Helper()
	var ahead atomic.Int64
	c, err := github.New(github.Settings{
		API: s.API(), Repository: "acme/xray", Token: secret,
		Now:   func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Sleep: func(ctx context.Context, d time.Duration) error { ahead.Add(int64(d)); return ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ends waits for the end of a run.
func ends(t *testing.T, c *github.Client, id int64) github.Run {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		run, err := c.Run(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if run.Status == "completed" {
			return run
		}
		if time.Now().After(deadline) {
			t.Fatalf("run %+v does not end", run)
		}
	}
}

func TestTheStandInTakesADispatchAsGitHubDoes(t *testing.T) {
	s := newSite(t)
	c, ctx := s.client(t), t.Context()
	branch, err := c.DefaultBranch(ctx)
	same(t, "default branch", branch, err, "main")
	login, err := c.Viewer(ctx)
	same(t, "viewer", login, err, "mona")
	id, err := c.Dispatch(ctx, "train.yml", "main", "train k", inputs("k"))
	if err != nil || id == 0 {
		t.Fatalf("run %d, %v", id, err)
	}
	again, err := s.client(t).Dispatch(ctx, "train.yml", "main", "train k", inputs("k"))
	same(t, "the same again", again, err, id)
	run, found, err := c.FindRun(ctx, "train.yml", "train k")
	same(t, "found", fmt.Sprint(run.ID == id, found, run.Event), err, "true trueworkflow_dispatch")
	same(t, "conclusion", ends(t, c, id).Conclusion, nil, "success")
	if err := c.Cancel(ctx, id); !errors.Is(err, github.ErrEnded) {
		t.Errorf("cancel of an ended run: %v", err)
	}
	other, err := c.DispatchRepository(ctx, "train.yml", "penstock-train", "train r", map[string]any{"run_key": "r"})
	if err != nil || other == 0 || other == id {
		t.Errorf("repository_dispatch: run %d, %v", other, err)
	}
	s.held.Store(true)
	held, err := c.Dispatch(ctx, "train.yml", "main", "train h", inputs("h"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Cancel(ctx, held); err != nil {
		t.Error(err)
	}
	same(t, "conclusion", ends(t, c, held).Conclusion, nil, "cancelled")
	if err := c.Cancel(ctx, held); err != nil {
		t.Errorf("cancel of a cancelled run: %v", err)
	}
	for what, err := range map[string]error{
		"no such workflow": second(c.Dispatch(ctx, "none.yml", "main", "train x", nil)),
		"no such branch":   second(c.Dispatch(ctx, "train.yml", "none", "train x", nil)),
		"no such input":    second(c.Dispatch(ctx, "train.yml", "main", "train x", map[string]string{"nonsense": "1"})),
	} {
		if status := github.Status(err); status != 404 && status != 422 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestTheStandInsFaultsAreOvercome(t *testing.T) {
	s := newSite(t)
	const dispatch, list = "POST .*/dispatches$", "GET .*/runs$"
	for i, c := range []struct{ kind, match string }{
		{"too-many-requests", dispatch},
		{"secondary-limit", dispatch},
		{"primary-limit", dispatch},
		{"lost-answer", dispatch},
		{"no-content", dispatch},
		{"old-server", dispatch},
		{"too-many-requests", list},
		{"server-error", list},
		{"lost-answer", list},
	} {
		if err := s.Fault(c.kind, c.match, 1); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(c.kind, i)
		id, err := s.client(t).Dispatch(t.Context(), "train.yml", "main", "train "+name, inputs(name))
		if err != nil || id == 0 {
			t.Errorf("%s of %s: run %d, %v", c.kind, c.match, id, err)
		}
	}
	titles := runsOf(t, s)
	for title, n := range titles {
		if n != 1 {
			t.Errorf("%s: %d runs", title, n)
		}
	}
	if len(titles) != 9 {
		t.Errorf("%d runs", len(titles))
	}
}

// runsOf counts the stand-in's runs by title.
func runsOf(t *testing.T, s *site) map[string]int {
	t.Helper()
	if err := s.faults(http.MethodDelete, ""); err != nil {
		t.Fatal(err)
	}
	titles := map[string]int{}
	for number := 1; ; number++ {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/repos/acme/xray/actions/runs?per_page=100&page=%d", s.API(), number), nil)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Runs []struct {
				Title string `json:"display_title"`
			} `json:"workflow_runs"`
		}
		ask(t, req, &read)
		for _, r := range read.Runs {
			titles[r.Title]++
		}
		if len(read.Runs) < 100 {
			return titles
		}
	}
}

func TestTheStandInKeepsComments(t *testing.T) {
	s := newSite(t)
	c, ctx := s.client(t), t.Context()
	s.git(t, s.clone, "checkout", "-q", "-b", "slower")
	s.commit(t, "train.py", "rate = 1e-9\n")
	s.git(t, s.clone, "push", "-q", "origin", "slower")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.API()+"/repos/acme/xray/pulls", bytes.NewBufferString(`{"title":"slower","head":"slower","base":"main"}`))
	if err != nil {
		t.Fatal(err)
	}
	var pull struct{ Number int }
	ask(t, req, &pull)
	for i := range 103 {
		if _, err := c.CreateComment(ctx, pull.Number, fmt.Sprint("comment ", i)); err != nil {
			t.Fatal(err)
		}
	}
	comments, err := c.Comments(ctx, pull.Number)
	if err != nil || len(comments) != 103 || comments[102].Body != "comment 102" || comments[102].Author != "mona" || comments[102].Minimized {
		t.Fatalf("%d comments, %v", len(comments), err)
	}
	if err := s.Fault("lost-answer", "POST .*/comments$", 1); err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateComment(ctx, pull.Number, "the last")
	if err != nil || made.Body != "the last" || made.Author != "mona" {
		t.Errorf("comment %+v, %v", made, err)
	}
	if _, err := c.UpdateComment(ctx, made.ID, "changed"); err != nil {
		t.Error(err)
	}
	comments, err = c.Comments(ctx, pull.Number)
	if err != nil || len(comments) != 104 || comments[103].Body != "changed" || comments[103].ID != made.ID {
		t.Errorf("%d comments, %v", len(comments), err)
	}
}

// TestDispatchSchedulesOnTheStandIn plays schedules against the stand-in's own
// API and fault switches, over HTTP; its clock is the schedule's.
func TestDispatchSchedulesOnTheStandIn(t *testing.T) {
	s := newSite(t)
	faults, restarts := playAll(t, 24, func(p *schedule) {
		p.api = s.API()
		p.github = &wire{site: s, schedule: p, http: &http.Transport{DisableKeepAlives: true}}
		p.titles = func() map[string]int { return runsOf(t, s) }
	})
	for _, kind := range []string{"too-many-requests", "secondary-limit", "primary-limit", "server-error", "lost-answer", "no-content", "old-server"} {
		if faults[kind] < 3 {
			t.Errorf("only %d times %s", faults[kind], kind)
		}
	}
	if restarts < 24 {
		t.Errorf("only %d restarts", restarts)
	}
}

// faults switches the stand-in's faults over HTTP: its channels must not be
// made on a schedule's clock.
func (s *site) faults(method, body string) error {
	req, err := http.NewRequest(method, s.URL+"/_hub/faults", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s /_hub/faults: %s", method, resp.Status)
	}
	return nil
}

// wire carries a schedule's requests to the stand-in and switches its faults.
type wire struct {
	site     *site
	schedule *schedule
	http     http.RoundTripper
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if kind := w.schedule.kind(req); kind != "" {
		body := fmt.Sprintf(`{"kind":%q,"match":"^%s ","times":1}`, kind, req.Method)
		if err := w.site.faults(http.MethodPut, body); err != nil {
			return nil, err
		}
	}
	w.site.now.Store(time.Now().UnixNano())
	return w.http.RoundTrip(req)
}

// kind decides which of the stand-in's faults a request meets, if any.
func (s *schedule) kind(req *http.Request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.start) > calm || s.rng.Float64() > s.rate {
		return ""
	}
	kinds := []string{"too-many-requests", "secondary-limit", "primary-limit", "server-error", "lost-answer"}
	if req.Method == http.MethodPost {
		kinds = append(kinds, "lost-answer", "no-content", "no-content", "old-server", "old-server")
	}
	kind := kinds[s.rng.IntN(len(kinds))]
	s.faults[kind]++
	return kind
}

// ask sends a request of the test's own.
func ask(t *testing.T, req *http.Request, answer any) {
	t.Helper()
	req.Header.Set("Authorization", "Bearer "+secret)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", req.Method, req.URL, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}
