package process_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

func shell(t *testing.T, script string, env ...string) process.Spec {
	t.Helper()
	return process.Spec{
		Name: "the shell", Path: "/bin/sh", Args: []string{"-c", script},
		Log: filepath.Join(t.TempDir(), "log"), Env: env, DieWithParent: true,
	}
}

func start(t *testing.T, spec process.Spec) *process.Process {
	t.Helper()
	p, err := process.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(time.Second) })
	return p
}

// eventually polls a condition that somebody else brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within 10 s: %s", what)
		}
	}
}

func TestWaitHealthyReportsDeathWithTheLogsEnd(t *testing.T) {
	p := start(t, shell(t, "echo the disk is on fire; exit 7"))
	err := p.WaitHealthy(t.Context(), "http://127.0.0.1:1/")
	if err == nil {
		t.Fatal("a process that exits is healthy")
	}
	for _, want := range []string{"the shell", "exit status 7", "the disk is on fire"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestWaitHealthyIsNotFooledByAnotherServerOnThePort(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer other.Close()
	p := start(t, shell(t, "exit 1"))
	<-p.Done()
	if err := p.WaitHealthy(t.Context(), other.URL); err == nil {
		t.Fatal("a dead process is healthy because another one answers")
	}
}

func TestWaitHealthyEndsAtTheDeadlineAndSaysWhatItSaw(t *testing.T) {
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "still loading", http.StatusServiceUnavailable)
	}))
	defer ill.Close()
	p := start(t, shell(t, "sleep 60"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := p.WaitHealthy(ctx, ill.URL)
	if err == nil || !strings.Contains(err.Error(), "still loading") {
		t.Fatalf("error %v; want one that quotes the answer", err)
	}
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	mark := fmt.Sprintf("PENSTOCK_TEST_MARK=%s/%d", t.Name(), os.Getpid())
	p := start(t, shell(t, "trap '' TERM; sleep 60 & sleep 60; sleep 60", mark))
	eventually(t, "the shell has a child", func() bool { return len(marked(t, mark)) >= 2 })
	p.Stop(50 * time.Millisecond)
	eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
}

func TestMarkedFindsAChildThatLeftItsGroup(t *testing.T) {
	mark := fmt.Sprintf("PENSTOCK_TEST_MARK=%s/%d", t.Name(), os.Getpid())
	p := start(t, shell(t, "setsid sleep 60 & wait", mark))
	eventually(t, "shell and child are found", func() bool { return len(marked(t, mark)) >= 2 })
	for _, id := range marked(t, mark) {
		if err := id.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	<-p.Done()
	eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
}

func marked(t *testing.T, mark string) []process.Identity {
	t.Helper()
	ids, err := process.Marked(mark)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestAStrangerWithAKnownPidIsNotSignalled(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })

	id, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	stranger := process.Identity{PID: id.PID, Started: id.Started - 1}
	if stranger.Alive() || stranger.Exists() {
		t.Error("another start time, but the same process")
	}
	if err := stranger.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if !id.Alive() {
		t.Error("the stranger was killed")
	}
}

func TestAProcessIsNotAliveOnceItWasKilled(t *testing.T) {
	p := start(t, shell(t, "sleep 60"))
	if !p.ID.Alive() {
		t.Fatal("a running process is not alive")
	}
	if err := syscall.Kill(p.ID.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if p.ID.Alive() {
		t.Error("alive right after SIGKILL was sent")
	}
	<-p.Done()
	if p.ID.Exists() {
		t.Error("still there after it was reaped")
	}
}

func TestProgramsInheritNoCredentials(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-for-others")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	spec := shell(t, "env", "OWN=1")
	p := start(t, spec)
	<-p.Done()
	text := process.Tail(spec.Log, 100)
	if !strings.Contains(text, "OWN=1") || !strings.Contains(text, "PATH=") {
		t.Errorf("environment lacks what was given: %s", text)
	}
	if strings.Contains(text, "not-for-others") || strings.Contains(text, "HTTP_PROXY") {
		t.Errorf("environment leaks: %s", text)
	}
}

func TestTailGivesTheLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := process.Tail(path, 2); got != "line 4998\nline 4999" {
		t.Errorf("got %q", got)
	}
	if got := process.Tail(path+".missing", 2); !strings.Contains(got, "no log") {
		t.Errorf("missing log: %q", got)
	}
}

func TestCachedNamesTheRemedy(t *testing.T) {
	t.Setenv("PENSTOCK_CACHE", t.TempDir())
	_, err := process.Cached("bin/minio")
	if err == nil || !strings.Contains(err.Error(), "make setup") || !strings.Contains(err.Error(), "minio") {
		t.Fatalf("error %v; want the program and the remedy", err)
	}
	if _, err := process.Installed("no-such-program"); err == nil || !strings.Contains(err.Error(), "make setup") {
		t.Fatalf("error %v; want the remedy", err)
	}
}
