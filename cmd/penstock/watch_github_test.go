package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
)

const trainWorkflow = `name: train
run-name: train ${{ inputs.run_key }}
on:
  workflow_dispatch:
    inputs:
      batch: {type: string}
      run_key: {type: string}
jobs:
  train:
    runs-on: [self-hosted, penstock]
    steps:
      - run: "true"
`

// standIn is acme/xray on a stand-in for GitHub. Its runs end at once; specs
// holds what each was given.
type standIn struct {
	*hub.Hub
	specs chan actrun.Spec
}

const standInToken = "ghp_watcher"

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{specs: make(chan actrun.Spec, 100)}
	h, err := hub.Start(t.Context(), hub.Options{
		Dir: t.TempDir(), Login: "mona", Token: standInToken, NoCheckout: true, Labels: []string{"self-hosted", "penstock"},
		Execute: func(_ context.Context, spec actrun.Spec, _ func(actrun.Event)) (actrun.Result, error) {
			s.specs <- spec
			return actrun.Result{Conclusion: actrun.Success}, nil
		},
	})
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
	dir := t.TempDir()
	file := filepath.Join(dir, ".github", "workflows", "train.yml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(trainWorkflow), 0o644); err != nil {
		t.Fatal(err)
	}
	remote := strings.Replace(h.GitURL("acme", "xray"), "://", "://x:"+standInToken+"@", 1)
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"},
		{"add", "-A"},
		{"-c", "user.name=Mona", "-c", "user.email=mona@example.org", "commit", "-q", "-m", "first"},
		{"push", "-q", remote, "main"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return s
}

// env is how a program is told of it.
func (s *standIn) env() []string {
	return []string{"GITHUB_API_URL=" + s.API(), "GITHUB_REPOSITORY=acme/xray", "GITHUB_TOKEN=" + standInToken, "PENSTOCK_APP_ID=", "PENSTOCK_APP_PRIVATE_KEY="}
}

// given waits for the inputs of n runs.
func (s *standIn) given(t *testing.T, n int) []string {
	t.Helper()
	var batches []string
	for range n {
		select {
		case spec := <-s.specs:
			payload := string(spec.Payload)
			_, rest, found := strings.Cut(payload, `"run_key":`)
			if spec.Workflow != ".github/workflows/train.yml" || spec.Event != "workflow_dispatch" || !found {
				t.Fatalf("run of %s by %s: %s", spec.Workflow, spec.Event, payload)
			}
			batches = append(batches, strings.Trim(strings.TrimSpace(rest)[:66], `"`))
		case <-time.After(30 * time.Second):
			t.Fatalf("%d runs in 30 s, want %d", len(batches), n)
		}
	}
	return batches
}

func TestWatchDispatchesAWorkflowOnceForEachBatch(t *testing.T) {
	l, s := newLanding(t, servertest.MinIO(t)), newStandIn(t)
	watch := func(code int, args ...string) string {
		t.Helper()
		cmd, out := l.program(append([]string{"watch", "--workflow", "train.yml"}, args...)...)
		cmd.Env = append(cmd.Env, s.env()...)
		err := cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("exit code %d, want %d (%v):\n%s", got, code, err, out)
		}
		if strings.Contains(out.String(), standInToken) {
			t.Errorf("the token is told:\n%s", out)
		}
		return out.String()
	}
	l.batch("a")
	l.batch("b")
	if err := s.Fault("lost-answer", "POST .*/dispatches$", 1); err != nil {
		t.Fatal(err)
	}
	if out := watch(0, "--once"); !strings.Contains(out, "dispatched: 2") {
		t.Errorf("%s", out)
	}
	keys := s.given(t, 2)
	if out := watch(0, "--once", "--ref", "main"); !strings.Contains(out, "dispatched: 0") {
		t.Errorf("%s", out)
	}
	// A watcher that lost its records finds the runs.
	for _, key := range keys {
		if err := l.bucket.Remove(t.Context(), "state/batches/"+key+".json"); err != nil {
			t.Fatal(err)
		}
	}
	if out := watch(0, "--once"); strings.Count(out, "watch: recovered") != 2 {
		t.Errorf("%s", out)
	}
	l.batch("c")
	if out := watch(1, "--once", "--ref", "none"); !strings.Contains(out, "none") {
		t.Errorf("%s", out)
	}
	cmd, out := l.program("watch", "--workflow", "train.yml", "--interval", "50ms")
	cmd.Env = append(cmd.Env, s.env()...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	third := s.given(t, 1)
	eventually(t, "the record", out, func() bool { return strings.Contains(out.String(), "watch: dispatched raw/c/") })
	if code := stop(t, cmd, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if slices.Contains(keys, third[0]) || len(s.specs) != 0 {
		t.Errorf("runs %v, then %v, and %d more", keys, third, len(s.specs))
	}
}

func TestWatchWantsOnePlaceForBatches(t *testing.T) {
	for _, o := range []watchOptions{
		{},
		{workflow: "train.yml", webhook: "http://x"},
		{webhook: "http://x", ref: "main"},
		{workflow: "train"},
		{workflow: ".github/workflows/train.yml"},
		{workflow: "train.yml", lease: time.Minute},
		{webhook: "http://x", lease: time.Millisecond},
	} {
		o.interval = time.Second
		if err := o.complete(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	for _, c := range []struct {
		o    watchOptions
		want time.Duration
	}{
		{watchOptions{workflow: "train.yml"}, 5 * time.Minute},
		{watchOptions{webhook: "http://x"}, time.Minute},
		{watchOptions{webhook: "http://x", lease: 2 * time.Second}, 2 * time.Second},
	} {
		c.o.interval = time.Second
		if err := c.o.complete(); err != nil || c.o.lease != c.want {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
