package hub

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

// execute runs a run to its end and records how it went.
func (h *Hub) execute(ctx context.Context, r *repository, run *run, l *liveRun) {
	h.mu.Lock()
	spec, err := h.spec(r, run, l)
	h.mu.Unlock()
	var result actrun.Result
	if err == nil {
		err = h.checkout(r, run, spec)
	}
	if err == nil {
		result, err = h.opt.Execute(ctx, spec, func(e actrun.Event) { h.told(r, run, e) })
	}
	if spec.Dir != "" {
		if gone := os.RemoveAll(spec.Dir); gone != nil {
			h.opt.Logf("hub: checkout of run %d: %v", run.ID, gone)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, j := range result.Jobs {
		h.jobResult(r, run, j)
	}
	conclusion := result.Conclusion
	switch {
	case ctx.Err() != nil:
		conclusion = actrun.Cancelled
	case err != nil:
		conclusion, run.Problem = actrun.Failure, err.Error()
	case conclusion == "":
		conclusion, run.Problem = actrun.Failure, "the executor gave no conclusion"
	}
	h.finish(r, run, conclusion)
	h.advance()
}

// spec is what the executor needs. The caller holds the lock.
func (h *Hub) spec(r *repository, run *run, l *liveRun) (actrun.Spec, error) {
	id := strconv.FormatInt(run.ID, 10)
	s := actrun.Spec{
		ID: run.ID, Attempt: run.Attempt, Workflow: run.Path, Event: run.Event, Payload: run.Payload,
		Ref: run.Ref, SHA: run.SHA, Repository: r.full(), Actor: run.Actor, DefaultBranch: r.DefaultBranch,
		Hook: h.opt.Hook, Act: h.opt.Act, LogDir: filepath.Join(h.opt.Dir, "logs", id),
		Secrets: map[string]string{}, Vars: maps.Clone(h.opt.Vars), Env: map[string]string{},
	}
	if h.runnerOnline() {
		s.Labels = h.runnerLabels()
	}
	maps.Copy(s.Env, h.opt.Env)
	maps.Copy(s.Env, h.environment(r, run))
	if !run.Fork || run.Event == "pull_request_target" {
		maps.Copy(s.Secrets, h.opt.Secrets)
	}
	s.Secrets["GITHUB_TOKEN"] = l.token
	if h.opt.NoCheckout {
		return s, nil
	}
	s.Dir = filepath.Join(h.opt.Dir, "runs", id+"-"+strconv.Itoa(run.Attempt), r.Name)
	var err error
	s.LocalActions, err = h.localActions(r, run.SHA)
	return s, err
}

// environment is what the run's steps see of GitHub's own variables.
func (h *Hub) environment(r *repository, run *run) map[string]string {
	refName, refType := refParts(run.Ref)
	return map[string]string{
		"GITHUB_SERVER_URL": h.URL, "GITHUB_API_URL": h.API(), "GITHUB_GRAPHQL_URL": h.URL + "/api/graphql",
		"GITHUB_REPOSITORY": r.full(), "GITHUB_REPOSITORY_OWNER": r.Owner, "GITHUB_REPOSITORY_ID": strconv.FormatInt(r.ID, 10),
		"GITHUB_RUN_ID": strconv.FormatInt(run.ID, 10), "GITHUB_RUN_NUMBER": strconv.Itoa(run.Number),
		"GITHUB_RUN_ATTEMPT": strconv.Itoa(run.Attempt), "GITHUB_WORKFLOW": run.Name,
		"GITHUB_WORKFLOW_REF": r.full() + "/" + run.Path + "@" + run.Ref, "GITHUB_WORKFLOW_SHA": run.SHA,
		"GITHUB_REF": run.Ref, "GITHUB_REF_NAME": refName, "GITHUB_REF_TYPE": refType, "GITHUB_REF_PROTECTED": "false",
		"GITHUB_SHA": run.SHA, "GITHUB_EVENT_NAME": run.Event, "GITHUB_ACTOR": run.Actor,
		"GITHUB_TRIGGERING_ACTOR": run.Triggering, "GITHUB_HEAD_REF": h.headRef(run), "GITHUB_BASE_REF": h.baseRef(r, run),
		"PENSTOCK_HUB_ARTIFACTS": h.URL + "/_hub/artifacts/" + r.full() + "/" + strconv.FormatInt(run.ID, 10),
	}
}

// checkout clones the commit into the run's folder, with the hub as its remote.
func (h *Hub) checkout(r *repository, run *run, s actrun.Spec) error {
	if s.Dir == "" {
		return nil
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("checkout: %w", err)
	}
	if _, err := h.gitIn(h.opt.Dir, nil, "clone", "--quiet", "--no-checkout", "--shared", h.gitDir(r), s.Dir); err != nil {
		return fmt.Errorf("checkout: %w", err)
	}
	where := []string{"checkout", "--quiet", "--detach", run.SHA}
	if branch, ok := strings.CutPrefix(run.Ref, "refs/heads/"); ok {
		where = []string{"checkout", "--quiet", "-B", branch, run.SHA}
	}
	for _, args := range [][]string{{"remote", "set-url", "origin", h.GitURL(r.Owner, r.Name)}, where} {
		if _, err := h.gitIn(s.Dir, nil, args...); err != nil {
			return fmt.Errorf("checkout: %w", err)
		}
	}
	return nil
}

// localActions maps every action of another repository that the commit's
// workflows and composite actions use to the folder that stands in for it.
func (h *Hub) localActions(r *repository, sha string) (map[string]string, error) {
	files, err := h.workflows(r, sha)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, f := range files {
		if f.problem == nil {
			h.standIns(found, f.Uses())
		}
	}
	out, err := h.git(r, nil, "grep", "-h", "--only-matching", "-E", `uses: *[^./ ][^ #]*@[^ #]+`, sha, "--", "*.yml", "*.yaml")
	if err != nil && len(out) > 0 {
		return nil, err // no output is git's way to say that nothing matched
	}
	var uses []string
	for line := range strings.Lines(string(out)) {
		uses = append(uses, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "uses:")))
	}
	h.standIns(found, uses)
	return found, nil
}

func (h *Hub) standIns(found map[string]string, uses []string) {
	for _, u := range uses {
		u = strings.Trim(u, `"'`)
		name, ref, ok := strings.Cut(u, "@")
		parts := strings.SplitN(name, "/", 3)
		if !ok || len(parts) < 2 {
			continue
		}
		short := parts[0] + "/" + parts[1]
		if dir, ok := h.opt.LocalActions[short]; ok {
			found[short+"@"+ref] = dir
		}
	}
}

// environmentOf is the environment that a job deploys to, evaluated. Of a job
// of a called workflow ("caller/job") it is that workflow's.
func (h *Hub) environmentOf(r *repository, run *run, key string) (name, url string) {
	f, err := h.workflowAt(r, run.SHA, run.Path)
	if err != nil || f.problem != nil {
		return "", ""
	}
	contexts := h.contexts(r, run)
	for {
		caller, rest, nested := strings.Cut(key, "/")
		if !nested {
			break
		}
		uses, with := f.Call(caller)
		path, local := strings.CutPrefix(uses, "./")
		if !local {
			return "", ""
		}
		inputs := m{}
		for k, v := range with {
			if value, err := trigger.Value(v, contexts); err == nil {
				inputs[k] = value
			}
		}
		contexts["inputs"] = inputs
		if f, err = h.workflowAt(r, run.SHA, path); err != nil || f.problem != nil {
			return "", ""
		}
		key = rest
	}
	name, url = f.EnvironmentOf(key)
	if name, err = trigger.Evaluate(name, contexts); err != nil {
		return "", ""
	}
	if url, err = trigger.Evaluate(url, contexts); err != nil {
		url = "" // it speaks of the job's own outputs
	}
	return name, url
}
