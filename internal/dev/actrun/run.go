package actrun

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// Run runs the workflow and tells what happens; tell is called from one
// goroutine at a time. Jobs run one after another. The error is about a run
// that could not be made or understood; a job that failed is a Result. When ctx
// is cancelled the run is cancelled as GitHub does it and told as Cancelled,
// except that steps under always() are not run after the cancel. No process of
// the run is left when Run returns.
func Run(ctx context.Context, s Spec, tell func(Event)) (result Result, err error) {
	r, err := prepare(s, tell)
	if err != nil {
		return Result{}, fmt.Errorf("run %d of %s: %w", s.ID, s.Workflow, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	result, err = r.run(ctx)
	if err != nil {
		err = fmt.Errorf("run %d of %s: %w", s.ID, s.Workflow, err)
	}
	return result, err
}

// run is one call of Run.
type run struct {
	spec   Spec
	dir    string // scratch: act's home, files, caches
	shells string // folder of the wrappers of the steps' shells
	mark   string // value of PENSTOCK_RUN, unique on the machine
	env    map[string]string
	top    *flow
	writer *writer
	book   *book
	act    string
}

// markName is the variable that marks a run's processes. Its prefix is one
// that the trainer's environment keeps.
const markName = "PENSTOCK_RUN"

func prepare(s Spec, tell func(Event)) (_ *run, err error) {
	r := &run{spec: s, act: s.Act}
	if r.act == "" {
		if r.act, err = process.Cached("bin/act"); err != nil {
			return nil, err
		}
	}
	if r.spec.Dir, err = filepath.Abs(s.Dir); err != nil {
		return nil, err
	}
	if r.top, err = load(r.spec.Dir, s.Workflow, "", 1); err != nil {
		return nil, err
	}
	if err := r.knowActions(); err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp("", "penstock-run-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(r.dir)
		}
	}()
	r.mark = fmt.Sprintf("%d.%d.%s", s.ID, max(s.Attempt, 1), rand.Text())
	r.shells = filepath.Join(r.dir, "shell")
	for _, name := range []string{"shell", "home", "flows", "outputs", "cache"} {
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	if err := r.wrapShells(); err != nil {
		return nil, err
	}
	r.env = r.environment()
	r.writer = &writer{checkout: r.spec.Dir, dir: filepath.Join(r.dir, "flows"), outputs: filepath.Join(r.dir, "outputs")}
	r.book = r.newBook(tell)
	return r, os.WriteFile(r.env["GITHUB_EVENT_PATH"], r.payload(), 0o600)
}

func (r *run) payload() []byte {
	if len(r.spec.Payload) == 0 {
		return []byte("{}")
	}
	return r.spec.Payload
}

func (r *run) newBook(tell func(Event)) *book {
	b := &book{
		nodes: map[string]*node{}, jobs: map[string]*open{}, tell: tell, now: time.Now,
		mask: masker(r.spec.Secrets), outputs: r.writer.readOutputs, shells: r.shells, mark: r.drainMark(),
	}
	for _, n := range r.top.leaves() {
		n.results = map[string]string{}
		b.nodes[n.path] = n
	}
	return b
}

// masker replaces secrets, the longest first, so that one that is part of
// another leaves nothing of it.
func masker(secrets map[string]string) func(string) string {
	values := slices.DeleteFunc(slices.Collect(maps.Values(secrets)), func(v string) bool { return strings.TrimSpace(v) == "" })
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, v := range values {
		pairs = append(pairs, v, "***")
	}
	return strings.NewReplacer(pairs...).Replace
}

// run starts act, reads its log to the end and judges.
func (r *run) run(ctx context.Context) (Result, error) {
	if err := r.admit(ctx, r.top); err != nil {
		return Result{}, err
	}
	top, err := r.writer.write(r.top)
	if err != nil {
		return Result{}, err
	}
	args, err := r.arguments(top)
	if err != nil {
		return Result{}, err
	}
	cmd := exec.Command(r.act, args...)
	cmd.Dir = filepath.Join(r.dir, "home")
	cmd.Env = append(inherited(), "HOME="+cmd.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stderr := &tail{}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("start act: %w", err)
	}
	w := newWatch(r, cmd.Process.Pid)
	stopped := w.watch(ctx)
	readErr := r.read(stdout)
	waitErr := cmd.Wait()
	cancelled, watchErr := stopped()
	killErr := w.family.kill()
	if err := errors.Join(readErr, watchErr, killErr, r.book.err); err != nil {
		return Result{}, err
	}
	if cancelled {
		return r.cancelled(), nil
	}
	return r.judge(waitErr, stderr.String())
}

// read reads act's log, and keeps a masked copy where one is wanted.
func (r *run) read(stdout io.Reader) (err error) {
	keep := io.Discard
	if r.spec.LogDir != "" {
		if err := os.MkdirAll(r.spec.LogDir, 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(r.spec.LogDir, "act.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		keep = f
	}
	lines := bufio.NewReader(stdout)
	for first := true; ; first = false {
		data, end := lines.ReadBytes('\n')
		if first { // act has read its files: one that is killed leaves no secrets behind
			err = os.Remove(filepath.Join(r.dir, "secret.yaml"))
		}
		if len(data) > 0 {
			if _, e := io.WriteString(keep, r.book.mask(string(data))); e != nil && err == nil {
				err = fmt.Errorf("keep act's log: %w", e) // read on: act must not block
			}
			r.book.read(data)
		}
		if errors.Is(end, io.EOF) || errors.Is(end, os.ErrClosed) {
			return err
		} else if end != nil {
			return errors.Join(err, fmt.Errorf("read act's log: %w", end))
		}
	}
}

// jobFailed is what act says of a run whose job failed; anything else that it
// says is about the run itself.
var jobFailed = regexp.MustCompile(`(?m)^Error: Job '.*' failed$`)

// judge joins what act told with what was planned. Jobs that act never spoke
// of were skipped by their condition, if act itself ended well.
func (r *run) judge(ended error, stderr string) (Result, error) {
	var exit *exec.ExitError
	if ended != nil && !errors.As(ended, &exit) {
		return Result{}, fmt.Errorf("act: %w", ended)
	}
	if len(r.book.order) == 0 && strings.Contains(stderr, "Could not find any stages to run") {
		return Result{}, fmt.Errorf("the workflow has no job for the event %s", r.spec.Event)
	}
	if ended != nil && !jobFailed.MatchString(stderr) {
		return Result{}, fmt.Errorf("act could not make the run (%w): %s", ended, r.book.mask(strings.TrimSpace(stderr)))
	}
	for _, j := range r.book.order {
		if !j.done {
			return Result{}, fmt.Errorf("act told no result of job %s: %s", j.ID, r.book.mask(strings.TrimSpace(stderr)))
		}
	}
	result := Result{Jobs: r.collect(Skipped, "its condition was not met")}
	result.Conclusion = conclude(result.Jobs)
	return result, nil
}

// cancelled is the result of a run that was cancelled: what had ended stands,
// all else is cancelled.
func (r *run) cancelled() Result {
	for _, j := range r.book.order {
		if j.done {
			continue
		}
		j.Conclusion, j.Reason, j.Ended, j.done = Cancelled, "the run was cancelled", r.book.now(), true
		if j.running != nil && j.running.Ended.IsZero() {
			j.running.Conclusion, j.running.Ended = Cancelled, j.Ended
			r.book.event(j, Event{Kind: StepEnded, Step: j.running.Name, Conclusion: Cancelled})
		}
		j.skipRest()
		r.book.event(j, Event{Kind: JobEnded, Conclusion: Cancelled, Text: j.Reason})
	}
	return Result{Conclusion: Cancelled, Jobs: r.collect(Cancelled, "the run was cancelled before it")}
}

// collect lists the jobs in the files' order; those that act never spoke of
// get the conclusion and the reason.
func (r *run) collect(conclusion, reason string) []Job {
	var jobs []Job
	for _, n := range r.top.leaves() {
		spoken := false
		for _, j := range r.book.order {
			if j.node == n {
				jobs, spoken = append(jobs, j.close()), true
			}
		}
		if !spoken {
			jobs = append(jobs, Job{ID: n.path, Name: displayed(n.path, n.plan.Name), Conclusion: conclusion, Reason: reason, Labels: n.plan.RunsOn, Environment: n.plan.Environment})
		}
	}
	return jobs
}

// conclude is the run's conclusion. What waits for ever is not a success.
func conclude(jobs []Job) string {
	has := func(conclusions ...string) bool {
		return slices.ContainsFunc(jobs, func(j Job) bool { return slices.Contains(conclusions, j.Conclusion) })
	}
	switch {
	case has(Failure):
		return Failure
	case has(Cancelled, Queued):
		return Cancelled
	case has(Success):
		return Success
	}
	return Skipped
}

// tail keeps the end of what act says of itself.
type tail struct{ data []byte }

const tailBytes = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - tailBytes; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.data) }
