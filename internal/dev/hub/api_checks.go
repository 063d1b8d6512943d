package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// checkRoutes are commit statuses and check runs.
func (h *Hub) checkRoutes(mux *router) {
	const repo = "/repos/{owner}/{repo}"
	h.api(mux, "POST "+repo+"/statuses/{sha}", "statuses:write", h.postStatus)
	h.api(mux, "GET "+repo+"/commits/{ref}/statuses", "statuses:read", h.listStatuses)
	h.api(mux, "GET "+repo+"/commits/{ref}/status", "statuses:read", h.combinedStatus)
	h.api(mux, "POST "+repo+"/check-runs", "checks:write", h.postCheckRun)
	h.api(mux, "GET "+repo+"/check-runs/{check}", "checks:read", h.getCheckRun)
	h.api(mux, "PATCH "+repo+"/check-runs/{check}", "checks:write", h.patchCheckRun)
	h.api(mux, "GET "+repo+"/check-runs/{check}/annotations", "checks:read", h.listAnnotations)
	h.api(mux, "GET "+repo+"/commits/{ref}/check-runs", "checks:read", h.listCheckRuns)
}

func (h *Hub) statusShape(r *repository, s *commitStatus) m {
	return m{
		"url": h.repoURL(r) + "/statuses/" + s.SHA, "avatar_url": h.URL + "/_hub/avatar.svg", "id": s.ID, "node_id": nodeID("Status", s.ID),
		"state": s.State, "description": text(s.Description), "target_url": text(s.URL), "context": s.Context,
		"created_at": when(s.Created), "updated_at": when(s.Created), "creator": h.user(s.Creator),
	}
}

// latestStatuses are the newest statuses of a commit, one a context.
func latestStatuses(r *repository, sha string) []*commitStatus {
	var latest []*commitStatus
	for _, s := range newest(r.Statuses) {
		if s.SHA == sha && !slices.ContainsFunc(latest, func(o *commitStatus) bool { return o.Context == s.Context }) {
			latest = append(latest, s)
		}
	}
	return latest
}

func (h *Hub) postStatus(c *call) (answer, error) {
	var body struct {
		State, Description, Context string
		URL                         string `json:"target_url"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if !slices.Contains([]string{"error", "failure", "pending", "success"}, body.State) {
		return answer{}, invalid("Status", "state", "custom")
	}
	sha, err := h.resolve(c.repo, c.PathValue("sha"))
	if err != nil {
		return answer{}, invalidText("No commit found for SHA: " + c.PathValue("sha"))
	}
	s := &commitStatus{
		ID: h.id(), SHA: sha, State: body.State, Context: orElse(body.Context, "default"), Description: body.Description,
		URL: body.URL, Creator: c.who.Login, Created: h.now(),
	}
	c.repo.Statuses = append(c.repo.Statuses, s)
	h.changed()
	return created(h.statusShape(c.repo, s))
}

func (h *Hub) listStatuses(c *call) (answer, error) {
	sha, err := h.resolve(c.repo, c.PathValue("ref"))
	if err != nil {
		return answer{}, err
	}
	all := slices.DeleteFunc(newest(c.repo.Statuses), func(s *commitStatus) bool { return s.SHA != sha })
	some, header := page(h, c, all)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(s *commitStatus) m { return h.statusShape(c.repo, s) })}, nil
}

func (h *Hub) combinedStatus(c *call) (answer, error) {
	sha, err := h.resolve(c.repo, c.PathValue("ref"))
	if err != nil {
		return answer{}, err
	}
	latest := latestStatuses(c.repo, sha)
	state := "success"
	for _, s := range latest {
		switch {
		case s.State == "error" || s.State == "failure":
			state = "failure"
		case s.State == "pending" && state == "success":
			state = "pending"
		}
	}
	if len(latest) == 0 {
		state = "pending"
	}
	return ok(m{
		"state": state, "sha": sha, "total_count": len(latest), "repository": h.minimalRepository(c.repo),
		"commit_url": h.repoURL(c.repo) + "/commits/" + sha, "url": h.repoURL(c.repo) + "/commits/" + sha + "/status",
		"statuses": shapes(latest, func(s *commitStatus) m {
			shape := h.statusShape(c.repo, s)
			delete(shape, "creator")
			return shape
		}),
	})
}

// checkBody is what creates or changes a check run.
type checkBody struct {
	Name, Status, Conclusion string
	SHA                      string    `json:"head_sha"`
	Details                  string    `json:"details_url"`
	External                 string    `json:"external_id"`
	Started                  time.Time `json:"started_at"`
	Completed                time.Time `json:"completed_at"`
	Output                   *struct {
		Title, Summary, Text string
		Annotations          []json.RawMessage
	}
}

// maxAnnotations is how many a request may bring.
const maxAnnotations = 50

func (h *Hub) fillCheck(x *checkRun, b checkBody) error {
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	set(&x.Name, b.Name)
	set(&x.Status, b.Status)
	set(&x.Details, b.Details)
	set(&x.External, b.External)
	if b.Conclusion != "" {
		x.Conclusion, x.Status, x.Completed = b.Conclusion, statusCompleted, h.now()
	}
	if !b.Started.IsZero() {
		x.Started = b.Started
	}
	if !b.Completed.IsZero() {
		x.Completed, x.Status = b.Completed, statusCompleted
	}
	if x.Status == statusCompleted && x.Conclusion == "" {
		return invalidText("Invalid request. A conclusion is required for a completed check run.")
	}
	if b.Output != nil {
		if len(b.Output.Annotations) > maxAnnotations {
			return invalidText("Invalid request. No more than 50 items are allowed.")
		}
		x.Title, x.Summary, x.Text = b.Output.Title, b.Output.Summary, b.Output.Text
		x.Annotations = append(x.Annotations, b.Output.Annotations...)
	}
	return nil
}

func (h *Hub) postCheckRun(c *call) (answer, error) {
	if c.who.Scopes == nil { // people cannot: GitHub asks for an App
		return answer{}, &problem{status: http.StatusForbidden, message: "You must authenticate via a GitHub App."}
	}
	var body checkBody
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	sha, err := h.resolve(c.repo, body.SHA)
	if err != nil || body.Name == "" {
		return answer{}, invalidText("No commit found for SHA: " + body.SHA)
	}
	x := &checkRun{ID: h.id(), SHA: sha, Status: statusQueued, App: c.who.Login, Started: h.now()}
	if err := h.fillCheck(x, body); err != nil {
		return answer{}, err
	}
	c.repo.CheckRuns = append(c.repo.CheckRuns, x)
	h.changed()
	return created(h.checkShape(c.repo, x))
}

func (h *Hub) checkOf(c *call) (*checkRun, error) {
	id, err := c.number("check")
	if err != nil {
		return nil, err
	}
	if x := find(h.checks(c.repo), func(x *checkRun) bool { return x.ID == id }); x != nil {
		return x, nil
	}
	return nil, errNotFound
}

// checks are the check runs that somebody made, and one for each job of a run.
func (h *Hub) checks(r *repository) []*checkRun {
	all := slices.Clone(r.CheckRuns)
	for _, run := range r.Runs {
		for _, j := range run.Jobs {
			all = append(all, &checkRun{
				ID: j.ID, SHA: run.HeadSHA, Name: j.Name, Status: j.Status, Conclusion: j.Conclusion, Details: h.jobURL(r, run, j),
				App: actionsBot, Started: j.Created, Completed: j.Completed,
			})
		}
	}
	return all
}

func (h *Hub) getCheckRun(c *call) (answer, error) {
	x, err := h.checkOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.checkShape(c.repo, x))
}

func (h *Hub) patchCheckRun(c *call) (answer, error) {
	if c.who.Scopes == nil {
		return answer{}, &problem{status: http.StatusForbidden, message: "You must authenticate via a GitHub App."}
	}
	id, err := c.number("check")
	if err != nil {
		return answer{}, err
	}
	x := find(c.repo.CheckRuns, func(x *checkRun) bool { return x.ID == id })
	if x == nil {
		return answer{}, errNotFound
	}
	var body checkBody
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if err := h.fillCheck(x, body); err != nil {
		return answer{}, err
	}
	h.changed()
	return ok(h.checkShape(c.repo, x))
}

func (h *Hub) checkShape(r *repository, x *checkRun) m {
	url := fmt.Sprintf("%s/check-runs/%d", h.repoURL(r), x.ID)
	slug := strings.TrimSuffix(x.App, "[bot]")
	return m{
		"id": x.ID, "node_id": nodeID("CheckRun", x.ID), "head_sha": x.SHA, "name": x.Name, "external_id": x.External, "url": url,
		"html_url": orElse(x.Details, h.URL+"/"+r.full()), "details_url": text(x.Details), "status": x.Status, "conclusion": text(x.Conclusion),
		"started_at": when(x.Started), "completed_at": when(x.Completed), "pull_requests": []m{}, "check_suite": m{"id": x.ID},
		"output": m{
			"title": text(x.Title), "summary": text(x.Summary), "text": text(x.Text), "annotations_count": len(x.Annotations),
			"annotations_url": url + "/annotations",
		},
		"app": m{
			"id": userID(slug), "slug": slug, "node_id": nodeID("App", userID(slug)), "owner": h.user("github"), "name": slug,
			"description": nil, "external_url": h.URL, "html_url": h.URL + "/apps/" + slug, "created_at": "2020-01-01T00:00:00Z",
			"updated_at": "2020-01-01T00:00:00Z", "permissions": m{}, "events": []string{},
		},
	}
}

func (h *Hub) listAnnotations(c *call) (answer, error) {
	x, err := h.checkOf(c)
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, x.Annotations)
	list := []m{}
	for _, raw := range some {
		a := m{"start_column": nil, "end_column": nil, "title": nil, "raw_details": nil, "blob_href": h.repoURL(c.repo)}
		if err := json.Unmarshal(raw, &a); err != nil {
			return answer{}, fmt.Errorf("annotation: %w", err)
		}
		list = append(list, a)
	}
	return answer{status: http.StatusOK, header: header, body: list}, nil
}

func (h *Hub) listCheckRuns(c *call) (answer, error) {
	sha, err := h.resolve(c.repo, c.PathValue("ref"))
	if err != nil {
		return answer{}, err
	}
	q := c.URL.Query()
	all := slices.DeleteFunc(h.checks(c.repo), func(x *checkRun) bool {
		return x.SHA != sha || q.Get("check_name") != "" && q.Get("check_name") != x.Name || q.Get("status") != "" && q.Get("status") != x.Status
	})
	some, header := page(h, c, all)
	list := shapes(some, func(x *checkRun) m { return h.checkShape(c.repo, x) })
	return answer{status: http.StatusOK, header: header, body: m{"total_count": len(all), "check_runs": list}}, nil
}
