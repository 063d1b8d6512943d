package hub

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

// maxChain is how deep workflow_run may follow workflow_run.
const maxChain = 3

// m is a JSON object on its way out.
type m = map[string]any

// occurrence is an event with all that its runs need.
type occurrence struct {
	event      trigger.Event
	ref, sha   string // GITHUB_REF and GITHUB_SHA; the workflows are those of sha
	headBranch string // as the API tells it
	headSHA    string
	headRepo   string
	payload    m
	title      string // display title where the workflow has no run-name
	who        identity
	pull       int
	fork       bool
	chain      int
	inputs     map[string]string
}

// fire starts the workflows whose filters the event meets. Events that a run's
// own token makes start nothing; the two dispatches do not come through here.
func (h *Hub) fire(r *repository, o occurrence) error {
	if o.who.Run != 0 || !r.ActionsEnabled || o.chain > maxChain {
		return nil
	}
	files, err := h.workflows(r, o.sha)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.problem != nil {
			if o.event.Name == "push" {
				h.broken(r, f, o)
			}
			continue
		}
		starts, err := f.Starts(o.event)
		if err != nil {
			f.problem = err
			h.broken(r, f, o)
			continue
		}
		if starts {
			h.start(r, f, o)
		}
	}
	return nil
}

// broken is the red run that GitHub shows for a file that it cannot read.
func (h *Hub) broken(r *repository, f workflowFile, o occurrence) {
	run := h.newRun(r, f, o)
	run.Title, run.Problem = f.Path, f.problem.Error()
	h.finish(r, run, startupFailure)
}

// start makes a run and queues it. The caller holds the lock.
func (h *Hub) start(r *repository, f workflowFile, o occurrence) *run {
	w := h.record(r, f.Path, f.Name)
	if w.Disabled {
		return nil
	}
	run := h.newRun(r, f, o)
	if err := h.prepare(r, run, f, o); err != nil {
		run.Problem = err.Error()
		h.finish(r, run, startupFailure)
		return run
	}
	h.enterGroup(r, run, f)
	h.opt.Logf("hub: %s: %s run %d %s (%s)", r.full(), run.Name, run.ID, run.Status, run.Event)
	h.followRun(r, run, "requested")
	h.advance()
	return run
}

// newRun records a run.
func (h *Hub) newRun(r *repository, f workflowFile, o occurrence) *run {
	w := h.record(r, f.Path, f.Name)
	w.Runs++
	now := h.now()
	payload, err := json.Marshal(o.payload)
	if err != nil {
		payload = []byte("{}")
		h.opt.Logf("hub: payload of %s: %v", o.event.Name, err)
	}
	run := &run{
		ID: h.id(), Number: w.Runs, Attempt: 1, Workflow: w.ID, Path: f.Path, Name: f.Name, Title: o.title,
		Event: o.event.Name, Status: statusQueued, Ref: o.ref, SHA: o.sha, HeadBranch: o.headBranch, HeadSHA: o.headSHA,
		HeadRepository: o.headRepo, Actor: o.who.Login, Triggering: o.who.Login,
		Created: now, Started: now, Updated: now, Payload: payload, Pull: o.pull, Fork: o.fork, Chain: o.chain,
	}
	if run.Title == "" {
		run.Title = f.Name
	}
	if run.HeadRepository == "" {
		run.HeadRepository = r.full()
	}
	r.Runs = append(r.Runs, run)
	h.changed()
	return run
}

// prepare reads from the file what the run needs before it is queued.
func (h *Hub) prepare(r *repository, run *run, f workflowFile, o occurrence) error {
	if o.inputs != nil {
		run.Inputs = f.TypedInputs(o.inputs)
	}
	title, err := f.DisplayTitle(h.contexts(r, run))
	if err != nil {
		return err
	}
	if title != "" {
		run.Title = title
	}
	run.Permissions = f.Permissions()
	if run.Fork && run.Event != "pull_request_target" {
		for scope, level := range run.Permissions {
			if level == "write" {
				run.Permissions[scope] = "read"
			}
		}
	}
	plans, err := actrun.Jobs(f.data)
	if err != nil {
		return err
	}
	run.Jobs, err = h.plannedJobs(r, run, plans, "", 0)
	return err
}

// maxCalls is GitHub's limit on workflows that call workflows.
const maxCalls = 10

// plannedJobs are the jobs of a run before it starts, those of the repository's
// own called workflows included ("caller/job"). Others show themselves later.
func (h *Hub) plannedJobs(r *repository, run *run, plans []actrun.JobPlan, prefix string, depth int) ([]*job, error) {
	var jobs []*job
	for _, p := range plans {
		key := prefix + p.ID
		if p.Uses == "" {
			name := p.Name
			if prefix != "" {
				name = strings.ReplaceAll(prefix, "/", " / ") + p.Name
			}
			jobs = append(jobs, &job{
				ID: h.id(), Attempt: run.Attempt, Key: key, Name: name, Labels: h.labelsOf(r, run, p.RunsOn),
				Status: statusQueued, Created: h.now(),
			})
			continue
		}
		path, local := strings.CutPrefix(p.Uses, "./")
		if !local || depth >= maxCalls {
			continue
		}
		called, err := h.workflowAt(r, run.SHA, path)
		if err == nil {
			err = called.problem
		}
		if err != nil {
			return nil, fmt.Errorf("job %s calls %s: %w", key, path, err)
		}
		inner, err := actrun.Jobs(called.data)
		if err != nil {
			return nil, fmt.Errorf("job %s calls %s: %w", key, path, err)
		}
		more, err := h.plannedJobs(r, run, inner, key+"/", depth+1)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, more...)
	}
	return jobs, nil
}

// labelsOf evaluates expressions in runs-on where they can be evaluated before
// the run; others stay as they are.
func (h *Hub) labelsOf(r *repository, run *run, labels []string) []string {
	out := make([]string, 0, len(labels))
	for _, l := range labels {
		if v, err := trigger.Evaluate(l, h.contexts(r, run)); err == nil {
			l = v
		}
		out = append(out, l)
	}
	return out
}

// contexts are what expressions see before a run.
func (h *Hub) contexts(r *repository, run *run) map[string]any {
	var event any
	if err := json.Unmarshal(run.Payload, &event); err != nil {
		event = m{}
	}
	inputs := m{}
	for k, v := range run.Inputs {
		inputs[k] = v
	}
	vars := m{}
	for k, v := range h.opt.Vars {
		vars[k] = v
	}
	refName, refType := refParts(run.Ref)
	return m{"inputs": inputs, "vars": vars, "github": m{
		"event": event, "event_name": run.Event, "ref": run.Ref, "ref_name": refName, "ref_type": refType,
		"sha": run.SHA, "repository": r.full(), "repository_owner": r.Owner, "actor": run.Actor,
		"triggering_actor": run.Triggering, "workflow": run.Name, "run_id": float64(run.ID),
		"run_number": float64(run.Number), "run_attempt": float64(run.Attempt),
		"head_ref": h.headRef(run), "base_ref": h.baseRef(r, run), "server_url": h.URL, "api_url": h.API(),
		"workflow_ref": r.full() + "/" + run.Path + "@" + run.Ref,
	}}
}

func (h *Hub) headRef(run *run) string {
	if run.Pull != 0 && strings.HasPrefix(run.Event, "pull_request") {
		return run.HeadBranch
	}
	return ""
}

func (h *Hub) baseRef(r *repository, run *run) string {
	if i := r.issue(run.Pull); i != nil && i.Pull != nil && strings.HasPrefix(run.Event, "pull_request") {
		return i.Pull.Base
	}
	return ""
}

// refParts gives the short name of a ref, and branch or tag.
func refParts(ref string) (name, kind string) {
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return tag, "tag"
	}
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/"), "branch"
}

// followRun fires workflow_run for what happens to a run.
func (h *Hub) followRun(r *repository, run *run, action string) {
	sha, err := h.resolve(r, "refs/heads/"+r.DefaultBranch)
	if err != nil {
		return // the default branch is gone: nothing can listen there
	}
	w := h.record(r, run.Path, run.Name)
	err = h.fire(r, occurrence{
		event: trigger.Event{Name: "workflow_run", Type: action, Workflow: run.Name, Branch: run.HeadBranch},
		ref:   "refs/heads/" + r.DefaultBranch, sha: sha, headBranch: r.DefaultBranch, headSHA: sha,
		payload: h.payload(r, identity{Login: run.Actor}, m{
			"action": action, "workflow_run": h.runShape(r, run), "workflow": h.workflowShape(r, w),
		}),
		who: identity{Login: run.Actor}, chain: run.Chain + 1,
	})
	if err != nil {
		h.opt.Logf("hub: workflow_run of %d: %v", run.ID, err)
	}
}

// payload adds to an event's own part what every payload has.
func (h *Hub) payload(r *repository, who identity, own m) m {
	own["repository"] = h.payloadRepository(r)
	own["sender"] = h.user(who.Login)
	return own
}

// Tick starts the scheduled workflows of all repositories whose line was due
// after from, up to and including to. The clock is the caller's.
func (h *Hub) Tick(from, to timestamp) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.state.Repositories {
		if err := h.tick(r, from, to); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hub) tick(r *repository, from, to timestamp) error {
	sha, err := h.resolve(r, "refs/heads/"+r.DefaultBranch)
	if err != nil {
		return nil // nothing was pushed yet
	}
	files, err := h.workflows(r, sha)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.problem != nil {
			continue
		}
		for _, line := range f.Schedules() {
			schedule, err := trigger.Cron(line)
			if err != nil {
				return fmt.Errorf("hub: %s: %w", f.Path, err)
			}
			if !schedule.Next(from.UTC()).After(to.UTC()) {
				h.scheduled(r, f, sha, line)
			}
		}
	}
	return nil
}

// Schedule starts a workflow's schedule now, whatever the clock says.
func (h *Hub) Schedule(owner, name, file string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.state.repository(owner, name)
	if r == nil {
		return fmt.Errorf("hub: no repository %s/%s", owner, name)
	}
	sha, err := h.resolve(r, "refs/heads/"+r.DefaultBranch)
	if err != nil {
		return fmt.Errorf("hub: schedule: %w", err)
	}
	f, err := h.workflowAt(r, sha, workflowPath(file))
	if err != nil {
		return fmt.Errorf("hub: schedule: %w", err)
	}
	if f.problem != nil {
		return fmt.Errorf("hub: schedule: %w", f.problem)
	}
	lines := f.Schedules()
	if len(lines) == 0 {
		return fmt.Errorf("hub: %s has no schedule", f.Path)
	}
	h.scheduled(r, f, sha, lines[0])
	return nil
}

func (h *Hub) scheduled(r *repository, f workflowFile, sha, line string) {
	who := identity{Login: h.opt.Login}
	h.start(r, f, occurrence{
		event: trigger.Event{Name: "schedule", Cron: line}, ref: "refs/heads/" + r.DefaultBranch, sha: sha,
		headBranch: r.DefaultBranch, headSHA: sha, who: who,
		payload: h.payload(r, who, m{"schedule": line}),
	})
}

// workflowPath makes the path of a workflow's file name.
func workflowPath(file string) string {
	if strings.Contains(file, "/") {
		return file
	}
	return ".github/workflows/" + file
}
