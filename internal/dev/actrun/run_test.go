package actrun_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/process"
)

// checkout makes a git checkout with the files, "path": "text".
func checkout(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "all")
	return dir
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// spec is a run of the only workflow in a new checkout.
func spec(t *testing.T, workflow string, more ...map[string]string) actrun.Spec {
	t.Helper()
	files := map[string]string{".github/workflows/w.yml": workflow}
	for _, m := range more {
		for name, text := range m {
			files[name] = text
		}
	}
	dir := checkout(t, files)
	return actrun.Spec{
		ID: 7, Attempt: 2, Dir: dir, Workflow: ".github/workflows/w.yml", Event: "push",
		Payload: []byte(`{"ref":"refs/heads/main"}`), Ref: "refs/heads/main", SHA: git(t, dir, "rev-parse", "HEAD"),
		Repository: "someone/chest", Actor: "someone", DefaultBranch: "main",
	}
}

// run runs it and fails the test where it cannot be run at all.
func run(t *testing.T, s actrun.Spec) (actrun.Result, []actrun.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var events []actrun.Event
	result, err := actrun.Run(ctx, s, func(e actrun.Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	noneLeft(t, s)
	return result, events
}

// noneLeft fails the test when a process of the run lives.
func noneLeft(t *testing.T, s actrun.Spec) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue // it ended meanwhile
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")) // empty of one that has ended
		marked := strings.Contains(string(env), "\x00PENSTOCK_TEST_DIR="+s.Dir+"\x00")
		if len(line) > 0 && (marked || strings.Contains(string(line), s.Dir)) {
			t.Errorf("process %s of the run is left: %q", e.Name(), line)
		}
	}
}

func job(t *testing.T, r actrun.Result, id string) actrun.Job {
	t.Helper()
	for _, j := range r.Jobs {
		if j.ID == id {
			return j
		}
	}
	t.Fatalf("no job %s in %+v", id, r)
	return actrun.Job{}
}

func conclusions(r actrun.Result) map[string]string {
	all := map[string]string{"": r.Conclusion}
	for _, j := range r.Jobs {
		all[j.ID] = j.Conclusion
	}
	return all
}

func logs(j actrun.Job) string {
	text := j.Log
	for _, s := range j.Steps {
		text += s.Log
	}
	return text
}

func TestRunTellsJobsStepsOutputsAndSummaries(t *testing.T) {
	t.Parallel()
	s := spec(t, `
name: All / of it
on: [push]
jobs:
  one:
    name: The first, by ${{ github.event_name }}
    runs-on: [self-hosted, penstock]
    environment: {name: staging}
    outputs:
      digest: ${{ steps.x.outputs.digest }}
      many: ${{ steps.x.outputs.many }}
      leak: ${{ steps.x.outputs.leak }}
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1
        with: {persist-credentials: false}
      - id: x
        name: Call x
        uses: ./actions/x
        with: {text: "it's \"quoted\" $HOME"}
      - if: failure()
        run: echo never
      - run: |
          echo "the token is $TOKEN, the variable is $PLACE"
          echo "::warning title=hm::careful"
          echo "run $GITHUB_RUN_ID attempt $GITHUB_RUN_ATTEMPT at $GITHUB_REPOSITORY $GITHUB_REF $GITHUB_SHA"
          echo "$GITHUB_WORKFLOW_REF $GITHUB_API_URL $GITHUB_EVENT_NAME $GITHUB_ACTIONS $GITHUB_JOB"
        env:
          TOKEN: ${{ secrets.GITHUB_TOKEN }}
          PLACE: ${{ vars.PLACE }}
  two:
    needs: one
    runs-on: ubuntu-latest
    steps:
      - run: echo "got $D"; echo last words; exit 3
        env:
          D: ${{ needs.one.outputs.digest }}
      - name: Always
        if: always()
        run: echo after
  three:
    needs: two
    runs-on: ubuntu-latest
    steps:
      - run: echo never
  four:
    needs: [two]
    if: ${{ !cancelled() }}
    runs-on: ubuntu-latest
    steps:
      - run: echo two was ${{ needs.two.result }}
`, map[string]string{"actions/x/action.yml": `
name: x
inputs: {text: {required: true}}
outputs:
  digest: {value: "${{ steps.run.outputs.digest }}"}
  many: {value: "${{ steps.run.outputs.many }}"}
  leak: {value: "${{ steps.run.outputs.leak }}"}
runs:
  using: composite
  steps:
    - id: run
      shell: bash
      env: {TEXT: "${{ inputs.text }}", SECRET: "${{ github.token }}"}
      run: |
        echo "digest=$TEXT" >>"$GITHUB_OUTPUT"
        printf 'many<<e\na\nb\ne\nleak=x%sx\n' "$SECRET" >>"$GITHUB_OUTPUT"
        echo "## one" >>"$GITHUB_STEP_SUMMARY"
    - shell: bash
      run: echo "## two" >>"$GITHUB_STEP_SUMMARY"
`})
	s.Labels = []string{"self-hosted", "penstock"}
	s.Secrets = map[string]string{"GITHUB_TOKEN": "very-secret"}
	s.Vars = map[string]string{"PLACE": "the: bucket"}
	s.Env = map[string]string{"GITHUB_API_URL": "http://127.0.0.1:1/api/v3"}
	s.LogDir = t.TempDir()
	result, events := run(t, s)

	want := map[string]string{"": "failure", "one": "success", "two": "failure", "three": "skipped", "four": "success"}
	if diff := cmp.Diff(want, conclusions(result)); diff != "" {
		t.Errorf("conclusions (-want +got):\n%s", diff)
	}
	one := job(t, result, "one")
	if one.Name != "The first, by push" || one.Environment != "staging" {
		t.Errorf("job one is %q in %q", one.Name, one.Environment)
	}
	if diff := cmp.Diff(map[string]string{"digest": `it's "quoted" $HOME`, "many": "a\nb"}, one.Outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if one.Summary != "## one\n## two\n" {
		t.Errorf("summary %q", one.Summary)
	}
	var steps []string
	for _, j := range []string{"one", "two"} {
		for _, s := range job(t, result, j).Steps {
			steps = append(steps, s.Name+": "+s.Conclusion)
		}
	}
	if diff := cmp.Diff([]string{
		"Run actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1: success", "Call x: success", "Run echo never: skipped",
		`Run echo "the token is $TOKEN, the variable is $PLACE": success`, `Run echo "got $D"; echo last words; exit 3: failure`, "Always: success",
	}, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	for _, text := range []string{
		"the token is ***, the variable is the: bucket\n", "::warning title=hm::careful\n",
		"run 7 attempt 2 at someone/chest refs/heads/main " + s.SHA + "\n",
		"someone/chest/.github/workflows/w.yml@refs/heads/main http://127.0.0.1:1/api/v3 push true one\n",
	} {
		if !strings.Contains(logs(one), text) {
			t.Errorf("the log of one lacks %q:\n%s", text, logs(one))
		}
	}
	if got, want := job(t, result, "two").Steps[0].Log, "got it's \"quoted\" $HOME\nlast words\n##[error]Process completed with exit code 3.\n"; got != want {
		t.Errorf("log of the failing step %q, want %q", got, want)
	}
	if got := logs(job(t, result, "four")); got != "two was failure\n" {
		t.Errorf("log of four %q", got)
	}
	var kinds []string
	for _, e := range events {
		if e.JobID == "two" {
			kinds = append(kinds, e.Kind)
		}
	}
	if diff := cmp.Diff([]string{"job-started", "step-started", "log", "log", "step-ended", "log", "step-started", "log", "step-ended", "job-ended"}, kinds); diff != "" {
		t.Errorf("events of two (-want +got):\n%s", diff)
	}
	kept, err := os.ReadFile(filepath.Join(s.LogDir, "act.jsonl"))
	if err != nil || len(kept) == 0 || strings.Contains(string(kept), "very-secret") {
		t.Errorf("kept log: %v, %d bytes, secret inside: %v", err, len(kept), strings.Contains(string(kept), "very-secret"))
	}
}

func TestRunNeverLosesTheLastLinesOfAFailingStep(t *testing.T) {
	t.Parallel()
	workflow := "on: push\njobs:\n  j:\n    runs-on: ubuntu-latest\n    steps:\n"
	for range 40 {
		workflow += "      - if: always()\n        run: for i in 1 2 3 4 5; do echo $i; done; printf 'the reason'; exit 3\n"
	}
	result, _ := run(t, spec(t, workflow))
	for i, s := range job(t, result, "j").Steps {
		if want := "1\n2\n3\n4\n5\nthe reason\n##[error]Process completed with exit code 3.\n"; s.Log != want {
			t.Errorf("step %d: log %q", i, s.Log)
		}
	}
}

func TestRunTellsCalledWorkflowsAndMatrices(t *testing.T) {
	t.Parallel()
	s := spec(t, `
on: push
jobs:
  build:
    strategy:
      matrix: {os: [linux, darwin], arch: [amd64]}
    runs-on: ubuntu-latest
    steps:
      - run: echo ${{ matrix.os }}
  call:
    uses: ./.github/workflows/called.yml
    with: {what: "a / b"}
    secrets: inherit
  after:
    needs: call
    runs-on: ubuntu-latest
    outputs: {r: "${{ needs.call.outputs.r }}"}
    steps:
      - run: echo ${{ needs.call.outputs.r }}
`, map[string]string{".github/workflows/called.yml": `
on:
  workflow_call:
    inputs: {what: {type: string}}
    outputs: {r: {value: "${{ jobs.inner.outputs.r }}"}}
jobs:
  inner:
    runs-on: ubuntu-latest
    outputs: {r: "${{ steps.s.outputs.r }}"}
    steps:
      - id: s
        run: echo "r=$WHAT" >>"$GITHUB_OUTPUT"
        env: {WHAT: "${{ inputs.what }}"}
  other:
    if: ${{ false }}
    runs-on: ubuntu-latest
    steps:
      - run: "true"
`})
	result, _ := run(t, s)
	var got []string
	for _, j := range result.Jobs {
		got = append(got, j.ID+" | "+j.Name+" | "+j.Conclusion)
	}
	if diff := cmp.Diff([]string{
		"build | build (amd64, linux) | success", "build | build (amd64, darwin) | success",
		"call/inner | call / inner | success", "call/other | call / other | skipped", "after | after | success",
	}, got); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if got := job(t, result, "after").Outputs["r"]; got != "a / b" {
		t.Errorf("output of the called workflow %q", got)
	}
}

func TestRunTellsAJobThatNobodyOffersAsQueued(t *testing.T) {
	t.Parallel()
	s := spec(t, `
on: push
jobs:
  train:
    runs-on: [self-hosted, gpu]
    steps:
      - run: echo never
  deploy:
    needs: train
    runs-on: [self-hosted, penstock]
    steps:
      - run: echo never
  lint:
    runs-on: ubuntu-latest
    steps:
      - run: echo fine
`)
	s.Labels = []string{"self-hosted", "penstock"} // one label of two is not enough, though act takes it
	result, _ := run(t, s)
	want := map[string]string{"": "cancelled", "train": "queued", "deploy": "skipped", "lint": "success"}
	if diff := cmp.Diff(want, conclusions(result)); diff != "" {
		t.Errorf("conclusions (-want +got):\n%s", diff)
	}
	if reason := job(t, result, "train").Reason; !strings.Contains(reason, "no runner offers self-hosted, gpu") {
		t.Errorf("reason %q", reason)
	}
}

func TestRunRefusesWhatItCannotRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ workflow, want string }{
		"an action from the network": {"on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{uses: actions/setup-go@v6}]}}", "actions/setup-go@v6 has no stand-in"},
		"another event":              {"on: release\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: ls}]}}", "no job for the event push"},
		"a workflow from elsewhere":  {"on: push\njobs: {a: {uses: o/r/.github/workflows/x.yml@v1}}", "only workflows of the same checkout"},
		"a broken condition":         {"on: push\njobs: {a: {if: '${{ nonsense( }}', runs-on: ubuntu-latest, steps: [{run: ls}]}}", "act could not make the run"},
		"no jobs":                    {"on: push\n", "it has no jobs"},
		"broken YAML":                {"on: [push\n", "workflow file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := actrun.Run(t.Context(), spec(t, c.workflow), func(actrun.Event) {})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestRunAsksTheHookBeforeSelfHostedJobsOnly(t *testing.T) {
	t.Parallel()
	s := spec(t, `
on: push
env: {GITHUB_WORKFLOW_REF: forged, PENSTOCK_TEST: forged}
jobs:
  hosted:
    runs-on: ubuntu-latest
    steps:
      - run: echo fine
  private:
    needs: hosted
    runs-on: [self-hosted, penstock]
    steps:
      - run: echo never
      - if: always()
        run: echo neither
  later:
    needs: private
    runs-on: ubuntu-latest
    steps:
      - run: echo never
`)
	s.Labels = []string{"self-hosted", "penstock"}
	asked := filepath.Join(t.TempDir(), "asked")
	s.Hook = filepath.Join(t.TempDir(), "hook.sh")
	script := "echo \"$GITHUB_JOB $GITHUB_WORKFLOW_REF $PENSTOCK_TEST\" >>" + asked + "\ncat \"$GITHUB_EVENT_PATH\" >>" + asked + "\necho 'not on the list'\nexit 1\n"
	if err := os.WriteFile(s.Hook, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	result, _ := run(t, s)
	want := map[string]string{"": "failure", "hosted": "success", "private": "failure", "later": "skipped"}
	if diff := cmp.Diff(want, conclusions(result)); diff != "" {
		t.Errorf("conclusions (-want +got):\n%s", diff)
	}
	private := job(t, result, "private")
	if first, _, _ := strings.Cut(logs(private), "\n"); first != "not on the list" || !strings.HasSuffix(private.Reason, "not on the list") {
		t.Errorf("first line %q, reason %q", first, private.Reason)
	}
	data, err := os.ReadFile(asked)
	if want := "private someone/chest/.github/workflows/w.yml@refs/heads/main \n" + string(s.Payload); err != nil || string(data) != want {
		t.Errorf("the hook saw %q, %v; want %q", data, err, want)
	}
}

// Of a matrix of runners the hosted ones are none of the hook's business.
func TestRunReadsTheLabelsOfAMatrix(t *testing.T) {
	t.Parallel()
	const workflow = `
on: push
jobs:
  build:
    strategy:
      matrix:
        include: [{runner: ubuntu-24.04}, {runner: %s}]
    runs-on: ${{ matrix.runner }}
    steps:
      - run: echo fine
`
	hook := filepath.Join(t.TempDir(), "hook.sh")
	if err := os.WriteFile(hook, []byte("echo no; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for runner, want := range map[string][]string{
		"ubuntu-24.04-arm": {"queued", "queued"}, // one of two is not on offer; act would run both
		"self-hosted":      {"failure", "failure"},
	} {
		s := spec(t, fmt.Sprintf(workflow, runner))
		s.Hook, s.Labels = hook, []string{"self-hosted"}
		result, _ := run(t, s)
		var got []string
		for _, j := range result.Jobs {
			got = append(got, j.Conclusion)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", runner, got, want)
		}
	}
}

func TestCancelSignalsTheEntryProcessAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := spec(t, `
on: push
jobs:
  train:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v7
      - uses: ./actions/train
      - run: echo never
  later:
    needs: train
    if: ${{ !cancelled() }}
    runs-on: ubuntu-latest
    steps:
      - run: echo never
`, map[string]string{
		"actions/train/action.yml": "name: t\nruns: {using: composite, steps: [{shell: bash, run: 'exec python3 train.py'}]}\n",
		// A command with a child in a group of its own, as penstock train has,
		// and one that has left everything behind.
		"train.py": `
import os, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
subprocess.Popen(["setsid", "env", "-i", "PATH=" + os.environ["PATH"], "python3", "-c", "import time; time.sleep(1000)", os.environ["PENSTOCK_TEST_DIR"]])
def stop(n, f):
    say(f"signal {n}")
    child.send_signal(n)
    say(f"checkpoint written {child.wait()}")
    sys.exit(1)
def say(text): os.write(1, (text + "\n").encode())
signal.signal(signal.SIGINT, stop)
say("training")
while True: time.sleep(1)
`,
	})
	s.Env = map[string]string{"PENSTOCK_TEST_DIR": s.Dir}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var once sync.Once
	began := time.Now()
	result, err := actrun.Run(ctx, s, func(e actrun.Event) {
		if e.Kind == actrun.Log && e.Text == "training" {
			once.Do(cancel)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	noneLeft(t, s)
	want := map[string]string{"": "cancelled", "train": "cancelled", "later": "cancelled"}
	if diff := cmp.Diff(want, conclusions(result)); diff != "" {
		t.Errorf("conclusions (-want +got):\n%s", diff)
	}
	if got, want := logs(job(t, result, "train")), "training\nsignal 2\ncheckpoint written -2\n"; !strings.HasPrefix(got, want) || strings.Contains(got, "never") {
		t.Errorf("log %q", got)
	}
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("the step ended at once, yet the cancel took %v", took)
	}
}

func TestCancelKillsAStepThatDoesNotHear(t *testing.T) {
	t.Parallel()
	s := spec(t, "on: push\njobs: {deaf: {runs-on: ubuntu-latest, steps: [{run: \"trap 'echo INT' INT; trap 'echo TERM' TERM; echo ready; while :; do sleep 0.1; done\"}]}}")
	s.Env = map[string]string{"PENSTOCK_TEST_DIR": s.Dir}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stopped time.Time
	result, err := actrun.Run(ctx, s, func(e actrun.Event) {
		if e.Text == "ready" {
			stopped = time.Now()
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(stopped)
	noneLeft(t, s)
	if got := logs(job(t, result, "deaf")); !strings.Contains(got, "INT\nTERM\n") {
		t.Errorf("log %q", got)
	}
	if took < 10*time.Second || took > 20*time.Second {
		t.Errorf("killed after %v, want about 10 s", took)
	}
}

func TestJobThatIsOutOfTimeIsEnded(t *testing.T) {
	t.Parallel()
	s := spec(t, `
on: push
jobs:
  slow:
    runs-on: ubuntu-latest
    timeout-minutes: 0.02
    steps:
      - run: echo begun; exec sleep 1000
      - run: echo never
  next:
    needs: slow
    if: ${{ !cancelled() }}
    runs-on: ubuntu-latest
    timeout-minutes: 1
    steps:
      - run: echo fine
`)
	result, _ := run(t, s)
	want := map[string]string{"": "cancelled", "slow": "cancelled", "next": "success"}
	if diff := cmp.Diff(want, conclusions(result)); diff != "" {
		t.Errorf("conclusions (-want +got):\n%s", diff)
	}
	if slow := job(t, result, "slow"); !strings.Contains(slow.Reason, "maximum execution time of 1.2s") || strings.Contains(logs(slow), "never") {
		t.Errorf("reason %q, log %q", slow.Reason, logs(slow))
	}
}

func TestStepsOfOtherShellsLoseNothingEither(t *testing.T) {
	t.Parallel()
	s := spec(t, `
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - if: always()
        shell: sh
        run: echo one; echo two; exit 4
      - if: always()
        shell: python
        run: |
          import sys
          print("one"); sys.exit("two")
`)
	result, _ := run(t, s)
	for i, code := range []string{"4", "1"} {
		if got, want := job(t, result, "a").Steps[i].Log, "one\ntwo\n##[error]Process completed with exit code "+code+".\n"; got != want {
			t.Errorf("log %q, want %q", got, want)
		}
	}
}

func TestProcessesThatAStepLeftBehindEndWithTheRun(t *testing.T) {
	t.Parallel()
	s := spec(t, "on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo left $!'}]}}")
	s.Env = map[string]string{"PENSTOCK_TEST_DIR": s.Dir}
	result, _ := run(t, s)
	if result.Conclusion != actrun.Success {
		t.Errorf("%+v", result)
	}
}

func TestMain(m *testing.M) {
	if _, err := process.Cached("bin/act"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
