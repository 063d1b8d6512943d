package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const jobsList = "acme/chest .github/workflows/train.yml refs/heads/main\nacme/chest .github/workflows/pull-request.yml refs/pull/*/merge\n"

// hookFolder lays a runner's hook as runners/README.md says: the script, the
// program and the list in one folder.
func hookFolder(t *testing.T, list string) string {
	t.Helper()
	dir := t.TempDir()
	script, err := os.ReadFile("../../runners/hooks/job-started.sh")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable() // this test's, which is penstock under that name
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"job-started.sh": string(script), "jobs.list": list} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(program, filepath.Join(dir, "penstock")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// hookEnv are a runner's variables for a job of train.yml on main.
func hookEnv(t *testing.T, event string, payload string, more ...string) []string {
	t.Helper()
	path := payload
	if strings.HasPrefix(payload, "{") {
		path = filepath.Join(t.TempDir(), "event.json")
		if err := os.WriteFile(path, []byte(payload), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "GITHUB_ACTIONS=true", "GITHUB_REPOSITORY=acme/chest",
		"GITHUB_REF=refs/heads/main", "GITHUB_WORKFLOW_REF=acme/chest/.github/workflows/train.yml@refs/heads/main",
		"GITHUB_EVENT_NAME=" + event, "GITHUB_EVENT_PATH=" + path,
	}, more...)
}

// askHook runs the script as a runner does, and answers its output and exit code.
func askHook(t *testing.T, dir string, env []string) (string, int) {
	t.Helper()
	cmd := exec.Command("bash", "-e", filepath.Join(dir, "job-started.sh"))
	cmd.Env, cmd.Dir = env, t.TempDir()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

const payloads = "../../internal/admission/testdata/"

func payloadPath(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(payloads + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHookAdmitsWhatIsOnTheList(t *testing.T) {
	out, code := askHook(t, hookFolder(t, jobsList), hookEnv(t, "push", payloadPath(t, "push")))
	if code != 0 || !strings.Contains(out, "admit: pass") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestHookRefusesAndSaysWhyInItsFirstLine(t *testing.T) {
	dir := hookFolder(t, jobsList)
	fork, err := os.ReadFile(payloads + "pull_request.json")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(fork, []byte(`"head"`))
	fork = append(bytes.Clone(fork[:at]), bytes.Replace(fork[at:], []byte("acme/chest"), []byte("evil/chest"), 1)...)
	pull := []string{"GITHUB_REF=refs/pull/12/merge", "GITHUB_WORKFLOW_REF=acme/chest/.github/workflows/pull-request.yml@refs/pull/12/merge"}
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"a fork":             {hookEnv(t, "pull_request", string(fork), pull...), "::error title=admit%3A reject::the pull request comes from the fork evil/chest"},
		"an unknown event":   {hookEnv(t, "issue_comment", payloadPath(t, "issue_comment")), "::error title=admit%3A reject::the event \"issue_comment\""},
		"another workflow":   {hookEnv(t, "push", payloadPath(t, "push"), "GITHUB_WORKFLOW_REF=acme/chest/.github/workflows/evil.yml@refs/heads/main"), "is not on this runner's list"},
		"no payload":         {hookEnv(t, "push", "/nowhere.json"), "::error title=admit%3A error::the event's payload"},
		"a broken payload":   {hookEnv(t, "push", "{"), "cannot be read"},
		"no variables":       {[]string{"PATH=" + os.Getenv("PATH")}, "GITHUB_EVENT_PATH is not set"},
		"inputs of a forger": {hookEnv(t, "push", payloadPath(t, "push"), "GITHUB_REF=refs/heads/evil", "INPUT_LIST=/dev/null"), "::error title=admit%3A reject::"},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := askHook(t, dir, c.env)
			if first, _, _ := strings.Cut(out, "\n"); code != 1 || !strings.Contains(first, c.want) {
				t.Errorf("exit code %d: %s", code, out)
			}
		})
	}
}

func TestHookRefusesWhenItIsNotWhole(t *testing.T) {
	for name, breakIt := range map[string]func(t *testing.T, dir string) error{
		"no program":                 func(_ *testing.T, dir string) error { return os.Remove(dir + "/penstock") },
		"no list":                    func(_ *testing.T, dir string) error { return os.Remove(dir + "/jobs.list") },
		"an empty list":              func(_ *testing.T, dir string) error { return os.WriteFile(dir+"/jobs.list", nil, 0o644) },
		"a list that others write":   func(_ *testing.T, dir string) error { return os.Chmod(dir+"/jobs.list", 0o666) },
		"a folder that others write": func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := hookFolder(t, jobsList)
			if err := breakIt(t, dir); err != nil {
				t.Fatal(err)
			}
			if out, code := askHook(t, dir, hookEnv(t, "push", payloadPath(t, "push"))); code == 0 {
				t.Errorf("admitted: %s", out)
			}
		})
	}
}

// A failed hook alone lets steps under always() run.
func TestHookEndsTheWorkerOfAJobThatItRefuses(t *testing.T) {
	dir := hookFolder(t, jobsList)
	worker := filepath.Join(t.TempDir(), "Runner.Worker")
	script := "#!/bin/bash\nbash -e " + dir + "/job-started.sh\necho the step under always has run\n"
	if err := os.WriteFile(worker, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(worker)
	cmd.Env = hookEnv(t, "issue_comment", payloadPath(t, "issue_comment"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || status.Signal() != syscall.SIGKILL {
		t.Errorf("the worker ended with %v", err)
	}
	if text := out.String(); !strings.Contains(text, "issue_comment") || strings.Contains(text, "has run") {
		t.Errorf("output %q", text)
	}
}
