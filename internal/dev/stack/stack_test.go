package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/dev/stack"
)

// binaries is the folder of the programs, removed when all tests are done.
var binaries string

func TestMain(m *testing.M) {
	var err error
	if binaries, err = os.MkdirTemp("", "penstock-programs-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binaries)
	os.Exit(code)
}

// build builds the programs once for all tests.
var build = sync.OnceValue(func() error {
	for _, name := range []string{"penstock", "penstock-serve", "penstock-dev"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(binaries, name), "github.com/penstock-ml/penstock/cmd/"+name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
})

// options are those of a stack in the test's own folder, which is taken down at
// the end whatever happened.
func options(t *testing.T) stack.Options {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	o := stack.Options{
		Dir: t.TempDir(), Programs: binaries, Bucket: "xray", Model: "xray",
		SLO: 500 * time.Millisecond, Logf: t.Logf,
	}
	t.Cleanup(func() {
		// t's context has ended by now; the programs have not.
		if _, err := stack.Down(context.Background(), o.Dir, nil); err != nil {
			t.Error(err)
		}
		if left := processes(t, o.Dir); len(left) != 0 {
			t.Errorf("down left processes %v behind", left)
		}
	})
	return o
}

func up(t *testing.T, o stack.Options) *stack.Stack {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s, err := stack.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// status gives the servers by name.
func status(t *testing.T, dir string) map[string]stack.ServerStatus {
	t.Helper()
	all, err := stack.Status(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]stack.ServerStatus{}
	for _, st := range all {
		byName[st.Name] = st
	}
	return byName
}

// processes finds what was started in a folder, whatever the stack itself
// believes: every process whose command line or working folder lies there.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // no process, or gone meanwhile
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil && len(line) == 0 {
			continue
		}
		if strings.Contains(string(line), dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, e.Name()+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func TestUpTwiceKillOneStatusUpDown(t *testing.T) {
	o := options(t)
	s := up(t, o)
	first := status(t, o.Dir)
	if len(first) != 8 {
		t.Fatalf("%d servers: %v", len(first), first)
	}
	for name, st := range first {
		if st.Condition != stack.Running {
			t.Errorf("%s is %s after up: %s", name, st.Condition, st.Detail)
		}
	}
	checkPrivate(t, o.Dir)
	checkTargets(t, s)

	again := up(t, o)
	if again.Endpoints.Production != s.Endpoints.Production {
		t.Errorf("the second up moved production from %s to %s", s.Endpoints.Production, again.Endpoints.Production)
	}
	for name, st := range status(t, o.Dir) {
		if st.PID != first[name].PID {
			t.Errorf("the second up replaced %s, which ran", name)
		}
	}

	for _, victim := range []string{"serve-stable", "mlflow"} {
		if err := syscall.Kill(first[victim].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		st := status(t, o.Dir)
		if st[victim].Condition != stack.Dead || !strings.Contains(st[victim].Detail, "last lines") {
			t.Errorf("after kill -9 of %s: %+v", victim, st[victim])
		}
	}
	healed := up(t, o)
	if healed.Endpoints.MLflow != s.Endpoints.MLflow {
		t.Errorf("MLflow came back at %s, not at %s", healed.Endpoints.MLflow, s.Endpoints.MLflow)
	}
	for name, st := range status(t, o.Dir) {
		if st.Condition != stack.Running {
			t.Errorf("%s is %s after the third up", name, st.Condition)
		}
	}
	if err := syscall.Kill(status(t, o.Dir)["serve-canary"].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.Down(t.Context(), o.Dir, t.Logf); err != nil {
		t.Fatal(err)
	}
	if left := processes(t, o.Dir); len(left) != 0 {
		t.Errorf("down left processes %v behind", left)
	}
	if n, err := stack.Down(t.Context(), o.Dir, t.Logf); n != 0 || err != nil {
		t.Errorf("the second down ended %d processes, %v", n, err)
	}
}

// checkPrivate checks that secrets are readable by their owner only.
func checkPrivate(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"env", "stack.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

// checkTargets waits until Prometheus has scraped all it should.
func checkTargets(t *testing.T, s *stack.Stack) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(s.Endpoints.Prometheus + "/api/v1/targets")
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Data struct {
				ActiveTargets []struct {
					ScrapeURL, Health, LastError string
				}
			}
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		healthy := 0
		for _, target := range answer.Data.ActiveTargets {
			if target.Health == "up" {
				healthy++
			}
		}
		if healthy == 5 { // three servers, HAProxy, MinIO
			return
		}
		last = fmt.Sprintf("%+v", answer.Data.ActiveTargets)
	}
	t.Errorf("Prometheus does not scrape all targets: %s", last)
}

func TestUpNamesTheBusyPortAndTheFlag(t *testing.T) {
	o := options(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	o.Ports = map[string]int{"mlflow": port}
	_, err = stack.Up(t.Context(), o)
	if err == nil {
		t.Fatal("up beside a busy port succeeded")
	}
	for _, want := range []string{"mlflow", fmt.Sprint(port), "busy", "--mlflow-port"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if left := processes(t, o.Dir); len(left) != 0 {
		t.Errorf("a failed up left %v behind", left)
	}
}

func TestUpNamesTheMissingProgramBeforeItStartsAny(t *testing.T) {
	o := options(t)
	o.Programs = t.TempDir()
	_, err := stack.Up(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "penstock") || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error %v; want the program and the remedy", err)
	}
	t.Setenv("PENSTOCK_CACHE", t.TempDir())
	o = options(t)
	_, err = stack.Up(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("error %v; want the remedy `make setup`", err)
	}
	if left := processes(t, o.Dir); len(left) != 0 {
		t.Errorf("processes %v were started", left)
	}
}

func TestUpQuotesTheLogOfAServerThatDies(t *testing.T) {
	o := options(t)
	if err := os.WriteFile(filepath.Join(o.Dir, "mlflow.db"), []byte("this is no database, at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := stack.Up(t.Context(), o)
	if err == nil {
		t.Fatal("up with a broken MLflow succeeded")
	}
	for _, want := range []string{"mlflow", "last lines", "not a database"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if left := processes(t, o.Dir); len(left) != 0 {
		t.Errorf("a failed up left %v behind", left)
	}
}

func TestUnknownPortNameIsRefused(t *testing.T) {
	o := options(t)
	o.Ports = map[string]int{"minoi": 9000}
	if _, err := stack.Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), "minoi") {
		t.Errorf("error %v; want the unknown name", err)
	}
}

func TestDownEndsWhatAKilledUpHadStarted(t *testing.T) {
	o := options(t)
	cmd := exec.Command(filepath.Join(o.Programs, "penstock-dev"), "up", "--dir", o.Dir)
	var said strings.Builder // read once it has ended
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(processes(t, o.Dir)) < 4; time.Sleep(5 * time.Millisecond) { // up and three servers
		if time.Now().After(deadline) {
			started := processes(t, o.Dir)
			t.Fatalf("up started only %v (%v, %v); it said:\n%s", started, cmd.Process.Kill(), cmd.Wait(), &said)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("up was done before it could be killed")
	}
	if len(processes(t, o.Dir)) == 0 {
		t.Fatal("nothing was left to end: the test is empty")
	}
	if _, err := stack.Down(t.Context(), o.Dir, t.Logf); err != nil {
		t.Fatal(err)
	}
	if left := processes(t, o.Dir); len(left) != 0 {
		t.Errorf("down left processes %v behind", left)
	}
}

func TestDownSparesAStrangerWhoGotOurPid(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	id, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"schema": 1, "id": "X", "processes": {"minio": {"process": {"pid": %d, "started": %d}}}}`, id.PID, id.Started-5)
	if err := os.WriteFile(filepath.Join(dir, "stack.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if st := status(t, dir)["minio"]; st.Condition != stack.Dead {
		t.Errorf("a stranger counts as our MinIO: %+v", st)
	}
	if n, err := stack.Down(t.Context(), dir, t.Logf); n != 0 || err != nil {
		t.Errorf("down ended %d processes, %v", n, err)
	}
	if !id.Alive() {
		t.Error("down killed a stranger")
	}
}

func TestAStateOfAnotherSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stack.json"), []byte(`{"schema": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.Down(t.Context(), dir, t.Logf); err == nil || !strings.Contains(err.Error(), "schema 99") {
		t.Errorf("error %v; want the schema", err)
	}
}
