package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

// deploymentRoutes are deployments, their statuses and environments.
func (h *Hub) deploymentRoutes(mux *router) {
	const all = "/repos/{owner}/{repo}/deployments"
	h.api(mux, "GET "+all, "deployments:read", h.listDeployments)
	h.api(mux, "POST "+all, "deployments:write", h.postDeployment)
	h.api(mux, "GET "+all+"/{deployment}", "deployments:read", h.getDeployment)
	h.api(mux, "DELETE "+all+"/{deployment}", "deployments:write", h.deleteDeployment)
	h.api(mux, "GET "+all+"/{deployment}/statuses", "deployments:read", h.listDeploymentStatuses)
	h.api(mux, "POST "+all+"/{deployment}/statuses", "deployments:write", h.postDeploymentStatus)
	h.api(mux, "GET "+all+"/{deployment}/statuses/{status}", "deployments:read", h.getDeploymentStatus)
	h.api(mux, "GET /repos/{owner}/{repo}/environments", "actions:read", h.listEnvironments)
	h.api(mux, "GET /repos/{owner}/{repo}/environments/{environment}", "actions:read", h.getEnvironment)
}

func (h *Hub) deploymentURL(r *repository, d *deployment) string {
	return fmt.Sprintf("%s/deployments/%d", h.repoURL(r), d.ID)
}

func (h *Hub) deploymentShape(r *repository, d *deployment) m {
	url := h.deploymentURL(r, d)
	payload := any(d.Payload)
	if len(d.Payload) == 0 {
		payload = m{}
	}
	return m{
		"url": url, "id": d.ID, "node_id": nodeID("Deployment", d.ID), "sha": d.SHA, "ref": d.Ref, "task": d.Task, "payload": payload,
		"original_environment": d.Original, "environment": d.Environment, "description": text(d.Description), "creator": h.user(d.Creator),
		"created_at": when(d.Created), "updated_at": when(d.Updated), "statuses_url": url + "/statuses", "repository_url": h.repoURL(r),
		"transient_environment": d.Transient, "production_environment": d.Production, "performed_via_github_app": nil,
	}
}

func (h *Hub) deploymentStatusShape(r *repository, d *deployment, s *deploymentStatus) m {
	url := h.deploymentURL(r, d)
	return m{
		"url": fmt.Sprintf("%s/statuses/%d", url, s.ID), "id": s.ID, "node_id": nodeID("DeploymentStatus", s.ID), "state": s.State,
		"creator": h.user(s.Creator), "description": s.Description, "environment": s.Environment, "target_url": s.LogURL,
		"log_url": s.LogURL, "environment_url": s.SiteURL, "created_at": when(s.Created), "updated_at": when(s.Created),
		"deployment_url": url, "repository_url": h.repoURL(r), "performed_via_github_app": nil,
	}
}

func (h *Hub) listDeployments(c *call) (answer, error) {
	q := c.URL.Query()
	is := func(key, value string) bool { return q.Get(key) == "" || q.Get(key) == value }
	all := slices.DeleteFunc(newest(c.repo.Deployments), func(d *deployment) bool {
		return !(is("sha", d.SHA) && is("ref", d.Ref) && is("task", d.Task) && is("environment", d.Environment))
	})
	some, header := page(h, c, all)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(d *deployment) m { return h.deploymentShape(c.repo, d) })}, nil
}

func (h *Hub) postDeployment(c *call) (answer, error) {
	var body struct {
		Ref, Task, Environment, Description string
		AutoMerge                           *bool           `json:"auto_merge"`
		Contexts                            *[]string       `json:"required_contexts"`
		Payload                             json.RawMessage `json:"payload"`
		Transient                           bool            `json:"transient_environment"`
		Production                          *bool           `json:"production_environment"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if body.Ref == "" {
		return answer{}, invalid("Deployment", "ref", "missing_field")
	}
	sha, err := h.resolve(c.repo, body.Ref)
	if err != nil {
		return answer{}, invalidText("No ref found for: " + body.Ref)
	}
	if a, refused := h.notReady(c, sha, body.Ref, body.AutoMerge, body.Contexts); refused {
		return a, nil
	}
	d := &deployment{
		ID: h.id(), SHA: sha, Ref: body.Ref, Task: orElse(body.Task, "deploy"), Environment: orElse(body.Environment, "production"),
		Description: body.Description, Creator: c.who.Login, Payload: body.Payload, Transient: body.Transient, Created: h.now(), Updated: h.now(),
	}
	d.Original = d.Environment
	d.Production = d.Environment == "production"
	if body.Production != nil {
		d.Production = *body.Production
	}
	c.repo.Deployments = append(c.repo.Deployments, d)
	h.changed()
	return answer{status: http.StatusCreated, body: h.deploymentShape(c.repo, d)}, h.fire(c.repo, occurrence{
		event: trigger.Event{Name: "deployment", Type: "created"}, ref: h.fullRef(c.repo, body.Ref), sha: sha, headSHA: sha, who: c.who,
		payload: h.payload(c.repo, c.who, m{"action": "created", "deployment": h.deploymentShape(c.repo, d)}),
	})
}

// notReady is what surprises people who leave auto_merge and required_contexts
// out: GitHub merges the default branch into the ref first (202, and no
// deployment), and refuses (409) while a commit status is not a success.
func (h *Hub) notReady(c *call, sha, ref string, merge *bool, contexts *[]string) (answer, bool) {
	base, err := h.resolve(c.repo, "refs/heads/"+c.repo.DefaultBranch)
	isBranch := strings.HasPrefix(h.fullRef(c.repo, ref), "refs/heads/")
	if (merge == nil || *merge) && err == nil && isBranch && h.mergeBase(c.repo, base, sha) != base {
		return answer{status: http.StatusAccepted, body: m{"message": "Auto-merged " + c.repo.DefaultBranch + " into " + ref + " on deployment."}}, true
	}
	latest := latestStatuses(c.repo, sha)
	for _, s := range latest {
		if s.State != "success" && (contexts == nil || slices.Contains(*contexts, s.Context)) {
			p := &problem{status: http.StatusConflict, message: "Conflict: Commit status checks failed for " + ref + "."}
			return p.answer(), true
		}
	}
	if contexts != nil {
		for _, want := range *contexts {
			if !slices.ContainsFunc(latest, func(s *commitStatus) bool { return s.Context == want }) {
				p := &problem{status: http.StatusConflict, message: "Conflict: Commit status checks failed for " + ref + "."}
				return p.answer(), true
			}
		}
	}
	return answer{}, false
}

func orElse(s, preset string) string {
	if s == "" {
		return preset
	}
	return s
}

func (h *Hub) deploymentOf(c *call) (*deployment, error) {
	id, err := c.number("deployment")
	if err != nil {
		return nil, err
	}
	d := find(c.repo.Deployments, func(d *deployment) bool { return d.ID == id })
	if d == nil {
		return nil, errNotFound
	}
	return d, nil
}

func (h *Hub) getDeployment(c *call) (answer, error) {
	d, err := h.deploymentOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.deploymentShape(c.repo, d))
}

func (h *Hub) deleteDeployment(c *call) (answer, error) {
	d, err := h.deploymentOf(c)
	if err != nil {
		return answer{}, err
	}
	if n := len(d.Statuses); n > 0 && d.Statuses[n-1].State != "inactive" && len(c.repo.Deployments) > 1 {
		return answer{}, invalidText("We cannot delete an active deployment unless it is the only deployment in a given environment.")
	}
	c.repo.Deployments = slices.DeleteFunc(c.repo.Deployments, func(o *deployment) bool { return o == d })
	h.changed()
	return noContent()
}

func (h *Hub) listDeploymentStatuses(c *call) (answer, error) {
	d, err := h.deploymentOf(c)
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, newest(d.Statuses))
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(s *deploymentStatus) m { return h.deploymentStatusShape(c.repo, d, s) })}, nil
}

func (h *Hub) getDeploymentStatus(c *call) (answer, error) {
	d, err := h.deploymentOf(c)
	if err != nil {
		return answer{}, err
	}
	id, err := c.number("status")
	if err != nil {
		return answer{}, err
	}
	s := find(d.Statuses, func(s *deploymentStatus) bool { return s.ID == id })
	if s == nil {
		return answer{}, errNotFound
	}
	return ok(h.deploymentStatusShape(c.repo, d, s))
}

var deploymentStates = []string{"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}

func (h *Hub) postDeploymentStatus(c *call) (answer, error) {
	d, err := h.deploymentOf(c)
	if err != nil {
		return answer{}, err
	}
	var body struct {
		State, Description, Environment string
		LogURL                          string `json:"log_url"`
		TargetURL                       string `json:"target_url"`
		SiteURL                         string `json:"environment_url"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if !slices.Contains(deploymentStates, body.State) || len(body.Description) > 140 {
		return answer{}, invalid("DeploymentStatus", "state", "custom")
	}
	s := h.setDeployment(c.repo, d, deploymentStatus{
		State: body.State, Creator: c.who.Login, Description: body.Description, Environment: body.Environment,
		LogURL: orElse(body.LogURL, body.TargetURL), SiteURL: body.SiteURL,
	})
	return answer{status: http.StatusCreated, body: h.deploymentStatusShape(c.repo, d, s)}, h.fire(c.repo, occurrence{
		event: trigger.Event{Name: "deployment_status", Type: "created"}, ref: h.fullRef(c.repo, d.Ref), sha: d.SHA, headSHA: d.SHA, who: c.who,
		payload: h.payload(c.repo, c.who, m{
			"action": "created", "deployment": h.deploymentShape(c.repo, d), "deployment_status": h.deploymentStatusShape(c.repo, d, s),
		}),
	})
}

// environments are the names that deployments have gone to, sorted.
func environments(r *repository) []string {
	var names []string
	for _, d := range r.Deployments {
		if !slices.Contains(names, d.Environment) {
			names = append(names, d.Environment)
		}
	}
	slices.Sort(names)
	return names
}

func (h *Hub) environmentShape(r *repository, name string) m {
	id := userID(r.full() + "/" + name)
	first := find(r.Deployments, func(d *deployment) bool { return d.Environment == name })
	return m{
		"id": id, "node_id": nodeID("Environment", id), "name": name, "url": h.repoURL(r) + "/environments/" + name,
		"html_url": h.URL + "/" + r.full() + "/deployments/activity_log?environments_filter=" + name, "created_at": when(first.Created),
		"updated_at": when(first.Updated), "protection_rules": []m{}, "deployment_branch_policy": nil,
	}
}

func (h *Hub) listEnvironments(c *call) (answer, error) {
	names := environments(c.repo)
	some, header := page(h, c, names)
	list := shapes(some, func(n string) m { return h.environmentShape(c.repo, n) })
	return answer{status: http.StatusOK, header: header, body: m{"total_count": len(names), "environments": list}}, nil
}

func (h *Hub) getEnvironment(c *call) (answer, error) {
	name := c.PathValue("environment")
	if !slices.Contains(environments(c.repo), name) {
		return answer{}, errNotFound
	}
	return ok(h.environmentShape(c.repo, name))
}
