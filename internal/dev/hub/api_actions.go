package hub

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const runsPath = "/repos/{owner}/{repo}/actions/runs"

// actionsRoutes are workflows, dispatches, runs and jobs.
func (h *Hub) actionsRoutes(mux *router) {
	const workflows = "/repos/{owner}/{repo}/actions/workflows"
	h.api(mux, "GET "+workflows, "actions:read", h.listWorkflows)
	h.api(mux, "GET "+workflows+"/{workflow}", "actions:read", h.getWorkflow)
	h.api(mux, "GET "+workflows+"/{workflow}/runs", "actions:read", h.listRuns)
	h.api(mux, "POST "+workflows+"/{workflow}/dispatches", "actions:write", h.dispatchWorkflow)
	h.api(mux, "PUT "+workflows+"/{workflow}/enable", "actions:write", h.enableWorkflow)
	h.api(mux, "PUT "+workflows+"/{workflow}/disable", "actions:write", h.disableWorkflow)
	h.api(mux, "POST /repos/{owner}/{repo}/dispatches", "contents:write", h.dispatchRepository)
	h.api(mux, "GET "+runsPath, "actions:read", h.listRuns)
	h.api(mux, "GET "+runsPath+"/{run}", "actions:read", h.getRun)
	h.api(mux, "DELETE "+runsPath+"/{run}", "actions:write", h.deleteRun)
	h.api(mux, "GET "+runsPath+"/{run}/jobs", "actions:read", h.listJobs)
	h.api(mux, "GET "+runsPath+"/{run}/attempts/{attempt}/jobs", "actions:read", h.listAttemptJobs)
	h.api(mux, "GET "+runsPath+"/{run}/attempts/{attempt}", "actions:read", h.getAttempt)
	h.api(mux, "POST "+runsPath+"/{run}/cancel", "actions:write", h.cancelRun)
	h.api(mux, "POST "+runsPath+"/{run}/force-cancel", "actions:write", h.cancelRun)
	h.api(mux, "POST "+runsPath+"/{run}/rerun", "actions:write", h.rerunRun)
	h.api(mux, "POST "+runsPath+"/{run}/rerun-failed-jobs", "actions:write", h.rerunRun)
	h.api(mux, "GET "+runsPath+"/{run}/logs", "actions:read", h.runLogs)
	h.api(mux, "GET /repos/{owner}/{repo}/actions/jobs/{job}", "actions:read", h.getJob)
	h.api(mux, "GET /repos/{owner}/{repo}/actions/jobs/{job}/logs", "actions:read", h.jobLogs)
}

// syncWorkflows records the workflows of the default branch.
func (h *Hub) syncWorkflows(r *repository) error {
	sha, err := h.resolve(r, "refs/heads/"+r.DefaultBranch)
	if err != nil {
		return nil // nothing was pushed yet
	}
	files, err := h.workflows(r, sha)
	if err != nil {
		return err
	}
	for _, f := range files {
		h.record(r, f.Path, f.Name)
	}
	return nil
}

// workflowOf is the workflow of the path: by number, file name or path.
func (h *Hub) workflowOf(c *call) (*workflowRecord, error) {
	if err := h.syncWorkflows(c.repo); err != nil {
		return nil, err
	}
	want := c.PathValue("workflow")
	id, _ := strconv.ParseInt(want, 10, 64) // a file name is no number
	w := find(c.repo.Workflows, func(w *workflowRecord) bool { return w.ID == id || w.Path == workflowPath(want) })
	if w == nil {
		return nil, errNotFound
	}
	return w, nil
}

func (h *Hub) listWorkflows(c *call) (answer, error) {
	if err := h.syncWorkflows(c.repo); err != nil {
		return answer{}, err
	}
	some, header := page(h, c, c.repo.Workflows)
	list := shapes(some, func(w *workflowRecord) m { return h.workflowShape(c.repo, w) })
	return answer{status: http.StatusOK, header: header, body: m{"total_count": len(c.repo.Workflows), "workflows": list}}, nil
}

func (h *Hub) getWorkflow(c *call) (answer, error) {
	w, err := h.workflowOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.workflowShape(c.repo, w))
}

func (h *Hub) enableWorkflow(c *call) (answer, error)  { return h.setDisabled(c, false) }
func (h *Hub) disableWorkflow(c *call) (answer, error) { return h.setDisabled(c, true) }

func (h *Hub) setDisabled(c *call, to bool) (answer, error) {
	w, err := h.workflowOf(c)
	if err != nil {
		return answer{}, err
	}
	w.Disabled = to
	h.changed()
	return noContent()
}

func (h *Hub) listRuns(c *call) (answer, error) {
	runs := newest(c.repo.Runs)
	if c.PathValue("workflow") != "" {
		w, err := h.workflowOf(c)
		if err != nil {
			return answer{}, err
		}
		runs = slices.DeleteFunc(runs, func(r *run) bool { return r.Workflow != w.ID })
	}
	q := c.URL.Query()
	within, err := createdRange(q.Get("created"))
	if err != nil {
		return answer{}, invalidText(err.Error())
	}
	is := func(key, value string) bool { return q.Get(key) == "" || strings.EqualFold(q.Get(key), value) }
	runs = slices.DeleteFunc(runs, func(r *run) bool {
		status := q.Get("status") == "" || q.Get("status") == r.Status || q.Get("status") == r.Conclusion
		return !(status && is("branch", r.HeadBranch) && is("event", r.Event) && is("actor", r.Actor) &&
			is("head_sha", r.HeadSHA) && is("check_suite_id", strconv.FormatInt(r.ID, 10)) && within(r.Created) &&
			(q.Get("exclude_pull_requests") != "true" || r.Pull == 0))
	})
	some, header := page(h, c, runs)
	list := shapes(some, func(x *run) m { return h.runShape(c.repo, x) })
	return answer{status: http.StatusOK, header: header, body: m{"total_count": len(runs), "workflow_runs": list}}, nil
}

// createdRange reads GitHub's search form of dates: >=A, <=B, A..B, A, with * for
// an open end.
func createdRange(text string) (func(time.Time) bool, error) {
	if text == "" {
		return func(time.Time) bool { return true }, nil
	}
	parse := func(s string, endOfDay bool) (time.Time, error) {
		if day, err := time.Parse(time.DateOnly, s); err == nil {
			if endOfDay {
				day = day.Add(24*time.Hour - time.Second)
			}
			return day, nil
		}
		return time.Parse(time.RFC3339, s)
	}
	from, to := text, text
	strictFrom, strictTo := false, false
	switch {
	case strings.Contains(text, ".."):
		from, to, _ = strings.Cut(text, "..")
	case strings.HasPrefix(text, ">="):
		from, to = text[2:], "*"
	case strings.HasPrefix(text, ">"):
		from, to, strictFrom = text[1:], "*", true
	case strings.HasPrefix(text, "<="):
		from, to = "*", text[2:]
	case strings.HasPrefix(text, "<"):
		from, to, strictTo = "*", text[1:], true
	}
	var a, b time.Time
	var err error
	if from != "*" {
		if a, err = parse(from, strictFrom); err != nil {
			return nil, fmt.Errorf("created: %w", err)
		}
	}
	if to != "*" {
		if b, err = parse(to, !strictTo); err != nil {
			return nil, fmt.Errorf("created: %w", err)
		}
	}
	return func(t time.Time) bool {
		early := from != "*" && (t.Before(a) || strictFrom && t.Equal(a))
		late := to != "*" && (t.After(b) || strictTo && t.Equal(b))
		return !early && !late
	}, nil
}

func (h *Hub) runOf(c *call) (*run, error) {
	id, err := c.number("run")
	if err != nil {
		return nil, err
	}
	if r := c.repo.run(id); r != nil {
		return r, nil
	}
	return nil, errNotFound
}

func (h *Hub) getRun(c *call) (answer, error) {
	r, err := h.runOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.runShape(c.repo, r))
}

func (h *Hub) deleteRun(c *call) (answer, error) {
	r, err := h.runOf(c)
	if err != nil {
		return answer{}, err
	}
	if r.Status != statusCompleted {
		return answer{}, &problem{status: http.StatusForbidden, message: "Could not delete the workflow run"}
	}
	c.repo.Runs = slices.DeleteFunc(c.repo.Runs, func(x *run) bool { return x == r })
	h.changed()
	return noContent()
}

// attemptOf is the attempt of the path: its run as it was, and its jobs.
func (h *Hub) attemptOf(c *call) (*run, []*job, error) {
	r, err := h.runOf(c)
	if err != nil {
		return nil, nil, err
	}
	n, err := c.number("attempt")
	if err != nil {
		return nil, nil, err
	}
	if int(n) == r.Attempt {
		return r, r.Jobs, nil
	}
	e := find(r.Earlier, func(a *attempt) bool { return a.Number == int(n) })
	if e == nil {
		return nil, nil, errNotFound
	}
	was := *r
	was.Attempt, was.Status, was.Conclusion, was.Started, was.Updated = e.Number, statusCompleted, e.Conclusion, e.Started, e.Updated
	was.Triggering = e.Triggering
	return &was, e.Jobs, nil
}

func (h *Hub) getAttempt(c *call) (answer, error) {
	r, _, err := h.attemptOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.runShape(c.repo, r))
}

func (h *Hub) listAttemptJobs(c *call) (answer, error) {
	r, jobs, err := h.attemptOf(c)
	if err != nil {
		return answer{}, err
	}
	return h.jobList(c, r, jobs)
}

func (h *Hub) cancelRun(c *call) (answer, error) {
	r, err := h.runOf(c)
	if err != nil {
		return answer{}, err
	}
	if r.Status == statusCompleted {
		return answer{}, &problem{status: http.StatusConflict, message: "Cannot cancel a workflow run that is completed."}
	}
	h.cancel(c.repo, r)
	h.advance()
	return answer{status: http.StatusAccepted, body: m{}}, nil
}

func (h *Hub) rerunRun(c *call) (answer, error) {
	r, err := h.runOf(c)
	if err != nil {
		return answer{}, err
	}
	if r.Status != statusCompleted {
		return answer{}, &problem{status: http.StatusForbidden, message: "This workflow is already running"}
	}
	if err := h.rerun(c.repo, r, c.who); err != nil {
		return answer{}, err
	}
	return created(m{})
}
