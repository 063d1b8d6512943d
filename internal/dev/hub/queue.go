package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

// hosted are the labels of GitHub's own runners that are always on offer.
var hosted = []string{"ubuntu-latest", "ubuntu-24.04", "ubuntu-22.04", "ubuntu-24.04-arm", "ubuntu-22.04-arm"}

// enterGroup holds a run back while its concurrency group is taken: one runs,
// one is pending, and the newest pending one wins.
func (h *Hub) enterGroup(r *repository, run *run, f workflowFile) {
	group, cancelInProgress, err := f.Concurrency(h.contexts(r, run))
	if err != nil {
		run.Problem = err.Error()
		h.finish(r, run, startupFailure)
		return
	}
	run.Group = strings.ToLower(group)
	if run.Group == "" {
		return
	}
	for _, other := range r.Runs {
		if other == run || other.Group != run.Group || other.Status == statusCompleted {
			continue
		}
		run.Status, run.Waiting = statusPending, fmt.Sprintf("waits for run %d of concurrency group %q", other.ID, group)
		if other.Status == statusPending || cancelInProgress {
			other.Problem = fmt.Sprintf("Canceling since a higher priority waiting request for '%s' exists", group)
			h.cancel(r, other)
		}
	}
}

// advance starts every run that can start, the oldest first. It is called after
// whatever may let a run start; the caller holds the lock.
func (h *Hub) advance() {
	if h.ctx == nil || h.ctx.Err() != nil {
		return
	}
	for _, w := range h.waiting() {
		r, run := w.repository, w.run
		if run.Status != statusQueued && run.Status != statusPending {
			continue // what another start has led to
		}
		if run.Group != "" && taken(r, run) {
			continue
		}
		if run.Status == statusPending {
			run.Status = statusQueued
			h.changed()
		}
		why := h.withoutRunner(run)
		if why == "" && len(h.live) >= h.opt.Parallel {
			why = fmt.Sprintf("waits for one of %d runs to end", len(h.live))
		}
		if why != run.Waiting {
			run.Waiting = why
			h.changed()
		}
		if why == "" {
			h.begin(r, run)
		}
	}
}

// taken says whether another run has the concurrency group that w wants.
func taken(r *repository, w *run) bool {
	return slices.ContainsFunc(r.Runs, func(o *run) bool {
		return o != w && o.Group == w.Group && (o.Status == statusInProgress || o.Status == statusQueued)
	})
}

type waitingRun struct {
	repository *repository
	run        *run
}

// waiting are the runs that have not started, by age.
func (h *Hub) waiting() []waitingRun {
	var all []waitingRun
	for _, r := range h.state.Repositories {
		for _, run := range r.Runs {
			if run.Status == statusQueued || run.Status == statusPending {
				all = append(all, waitingRun{r, run})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b waitingRun) int { return int(a.run.ID - b.run.ID) })
	return all
}

// withoutRunner says which label nobody offers; "" is none.
func (h *Hub) withoutRunner(run *run) string {
	for _, j := range run.Jobs {
		if slices.ContainsFunc(j.Labels, func(l string) bool { return strings.Contains(l, "${{") }) {
			continue // known only while the run runs; the executor looks
		}
		if !h.offered(j.Labels) {
			return "Waiting for a runner to pick up this job: " + j.Name + " asks for [" + strings.Join(j.Labels, ", ") + "]"
		}
	}
	return ""
}

// offered says whether one runner has all labels.
func (h *Hub) offered(labels []string) bool {
	all := func(have []string) bool {
		for _, l := range labels {
			if !slices.ContainsFunc(have, func(x string) bool { return strings.EqualFold(x, l) }) {
				return false
			}
		}
		return true
	}
	if len(labels) == 1 && all(hosted) {
		return true
	}
	return h.runnerOnline() && all(h.runnerLabels())
}

// runnerLabels are those of the self-hosted runner: GitHub's own three, and the
// given ones.
func (h *Hub) runnerLabels() []string {
	labels := []string{"self-hosted", "Linux", "X64"}
	for _, l := range h.opt.Labels {
		if !slices.ContainsFunc(labels, func(x string) bool { return strings.EqualFold(x, l) }) {
			labels = append(labels, l)
		}
	}
	return labels
}

// runnerOnline is false without labels on offer, and on demand.
func (h *Hub) runnerOnline() bool {
	return len(h.opt.Labels) > 0 && !slices.ContainsFunc(h.faults, func(f *fault) bool { return f.Kind == faultRunnerOffline })
}

// cancel ends a run: at once where it waits, by its executor where it runs.
func (h *Hub) cancel(r *repository, run *run) {
	if l := h.live[run.ID]; l != nil {
		l.told = true
		l.cancel()
		return
	}
	h.finish(r, run, actrun.Cancelled)
}

// finish completes a run. The caller holds the lock and calls advance.
func (h *Hub) finish(r *repository, run *run, conclusion string) {
	now := h.now()
	run.Status, run.Conclusion, run.Updated, run.Waiting = statusCompleted, conclusion, now, ""
	for _, j := range run.Jobs {
		if j.Status == statusCompleted {
			continue
		}
		j.Status, j.Conclusion, j.Completed = statusCompleted, actrun.Cancelled, now
		if conclusion != actrun.Cancelled {
			j.Conclusion = actrun.Skipped
		}
		if j.Started.IsZero() {
			j.Started = now
		}
		h.deploymentEnded(r, run, j)
	}
	delete(h.live, run.ID)
	h.changed()
	h.opt.Logf("hub: %s: %s run %d %s", r.full(), run.Name, run.ID, conclusion)
	if h.ctx != nil { // not while the snapshot is read
		h.followRun(r, run, "completed")
	}
}

// rerun starts another attempt of a run that has ended.
func (h *Hub) rerun(r *repository, run *run, who identity) error {
	f, err := h.workflowAt(r, run.SHA, run.Path)
	if err == nil {
		err = f.problem
	}
	if err != nil {
		return err
	}
	plans, err := actrun.Jobs(f.data)
	if err != nil {
		return err
	}
	run.Earlier = append(run.Earlier, &attempt{
		Number: run.Attempt, Conclusion: run.Conclusion, Started: run.Started, Updated: run.Updated,
		Triggering: run.Triggering, Jobs: run.Jobs,
	})
	run.Attempt++
	now := h.now()
	run.Status, run.Conclusion, run.Problem, run.Started, run.Updated = statusQueued, "", "", now, now
	run.Triggering = who.Login
	if run.Jobs, err = h.plannedJobs(r, run, plans, "", 0); err != nil {
		return err
	}
	h.enterGroup(r, run, f)
	h.changed()
	h.advance()
	return nil
}

// begin hands a run to the executor.
func (h *Hub) begin(r *repository, run *run) {
	ctx, cancel := context.WithCancel(h.ctx)
	l := &liveRun{token: newToken("ghs_"), cancel: cancel}
	h.live[run.ID] = l
	run.Status, run.Waiting, run.Started, run.Updated = statusInProgress, "", h.now(), h.now()
	h.changed()
	h.followRun(r, run, "in_progress")
	h.running.Add(1)
	go func() {
		defer h.running.Done()
		defer cancel()
		h.execute(ctx, r, run, l)
	}()
}
