package actrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// hosted are the labels of GitHub's own runners that this machine stands in
// for.
var hosted = []string{"ubuntu-latest", "ubuntu-24.04", "ubuntu-22.04"}

// offered says whether one runner has all the labels, as GitHub asks. Of a
// matrix all values must be on offer: act would run all its jobs by the first
// one's label. Labels that are other expressions are left to act.
func (n *node) offered(offer []string) bool {
	for _, label := range n.labels() {
		if strings.Contains(label, "${{") {
			continue
		}
		same := func(other string) bool { return strings.EqualFold(label, other) }
		if !slices.ContainsFunc(offer, same) {
			return false
		}
	}
	return true
}

// maybeSelfHosted is true also where an expression decides that cannot be read
// here: the hook of a runner does not know what it may be spared.
func (n *node) maybeSelfHosted() bool {
	return slices.ContainsFunc(n.labels(), func(label string) bool {
		return strings.EqualFold(label, "self-hosted") || strings.Contains(label, "${{")
	})
}

// labels are those of runs-on, with a matrix's values in its place.
func (n *node) labels() []string {
	var all []string
	for _, label := range n.plan.RunsOn {
		if m := ofMatrix.FindStringSubmatch(label); m != nil {
			if values := n.matrix(m[1]); len(values) > 0 {
				all = append(all, values...)
				continue
			}
		}
		all = append(all, label)
	}
	return all
}

var ofMatrix = regexp.MustCompile(`^\$\{\{\s*matrix\.([A-Za-z0-9_-]+)\s*\}\}$`)

// matrix lists what the job's matrix may give a name; nothing where that is not
// plain text.
func (n *node) matrix(name string) []string {
	strategy, _ := n.raw["strategy"].(map[string]any)
	matrix, _ := strategy["matrix"].(map[string]any)
	all, _ := matrix[name].([]any)
	include, _ := matrix["include"].([]any)
	for _, item := range include {
		if row, _ := item.(map[string]any); row[name] != nil {
			all = append(slices.Clone(all), row[name])
		}
	}
	var values []string
	for _, v := range all {
		text, ok := v.(string)
		if !ok {
			return nil
		}
		values = append(values, text)
	}
	return values
}

// admit decides for every job whether it may run here: whether its labels are
// on offer, and what the runner's hook says. The hook is asked before act
// starts, for act starts all jobs by itself; a job that is refused gets one
// step, which fails with what the hook printed, and starts none of its own. On
// a real runner the hook ends the runner's worker to the same effect.
func (r *run) admit(ctx context.Context, f *flow) error {
	offer := slices.Concat(hosted, r.spec.Labels)
	for _, n := range f.leaves() {
		if !n.offered(offer) {
			n.verdict = refusal{conclusion: Queued, reason: fmt.Sprintf("no runner offers %s (on offer: %s)",
				strings.Join(n.labels(), ", "), strings.Join(offer, ", "))}
			continue
		}
		if r.spec.Hook == "" || !n.maybeSelfHosted() {
			continue
		}
		var err error
		if n.verdict, err = r.askHook(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

const hookLimit = 30 * time.Second

// askHook runs the hook with the environment that a runner gives it: its own,
// and the job's GITHUB_ and RUNNER_ variables; nothing of the workflow's.
func (r *run) askHook(ctx context.Context, n *node) (refusal, error) {
	ctx, cancel := context.WithTimeout(ctx, hookLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", r.spec.Hook)
	cmd.Dir = r.dir
	cmd.Env = append(inherited(), "GITHUB_JOB="+n.plan.ID)
	for _, name := range keysOf(r.env) {
		if strings.HasPrefix(name, "GITHUB_") || strings.HasPrefix(name, "RUNNER_") {
			cmd.Env = append(cmd.Env, name+"="+r.env[name])
		}
	}
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil {
		return refusal{}, nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return refusal{}, fmt.Errorf("job-started hook %s: %w", r.spec.Hook, err)
	}
	text := strings.TrimSpace(printed.String())
	if text == "" {
		text = fmt.Sprintf("the job-started hook %s ended with %v", r.spec.Hook, err)
	}
	log := filepath.Join(r.dir, "hook-"+strings.ReplaceAll(n.path, "/", "%"))
	return refusal{conclusion: Failure, reason: "the runner's job-started hook refused the job: " + text, log: log},
		os.WriteFile(log, []byte(text+"\n"), 0o600)
}
