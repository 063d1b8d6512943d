package hub

import (
	"net/http"
	"regexp"
	"strings"
)

// settingsRoutes are what doctor asks about: permissions and runners. Reading
// them needs administration, which a run's token never has.
func (h *Hub) settingsRoutes(mux *router) {
	const actions = "/repos/{owner}/{repo}/actions"
	h.api(mux, "GET "+actions+"/permissions", "administration:read", h.getPermissions)
	h.api(mux, "GET "+actions+"/permissions/workflow", "administration:read", h.getWorkflowPermissions)
	h.api(mux, "GET "+actions+"/runners", "administration:read", h.listRunners)
	h.api(mux, "GET /orgs/{org}/actions/runner-groups", "", h.listRunnerGroups)
	h.api(mux, "GET /orgs/{org}/actions/runner-groups/{group}", "", h.getRunnerGroup)
	h.api(mux, "GET /orgs/{org}/actions/runner-groups/{group}/runners", "", h.listGroupRunners)
	mux.HandleFunc("POST /api/graphql", h.graphQL)
}

func (h *Hub) getPermissions(*call) (answer, error) {
	return ok(m{"enabled": true, "allowed_actions": "all", "sha_pinning_required": false})
}

func (h *Hub) getWorkflowPermissions(*call) (answer, error) {
	return ok(m{"default_workflow_permissions": "read", "can_approve_pull_request_reviews": false})
}

// runners are none, or the one that the hub is.
func (h *Hub) runners() []m {
	if len(h.opt.Labels) == 0 {
		return []m{}
	}
	status := "online"
	if !h.runnerOnline() {
		status = "offline"
	}
	labels := []m{}
	for i, l := range h.runnerLabels() {
		kind := "custom"
		if i < 3 {
			kind = "read-only"
		}
		labels = append(labels, m{"id": i + 1, "name": l, "type": kind})
	}
	return []m{{"id": 1, "runner_group_id": 1, "name": "penstock-hub", "os": "linux", "status": status, "busy": len(h.live) > 0, "labels": labels, "ephemeral": false}}
}

func (h *Hub) listRunners(c *call) (answer, error) {
	all := h.runners()
	some, header := page(h, c, all)
	return answer{status: http.StatusOK, header: header, body: m{"total_count": len(all), "runners": some}}, nil
}

// forAdministrators: organisations show their runners to their owners only.
func forAdministrators(c *call) error {
	if c.who.Admin {
		return nil
	}
	if c.who.Scopes != nil {
		return &problem{status: http.StatusForbidden, message: "Resource not accessible by integration"}
	}
	return errNotFound
}

func (h *Hub) runnerGroup(org string) m {
	url := h.API() + "/orgs/" + org + "/actions/runner-groups/1"
	return m{
		"id": 1, "name": "Default", "visibility": "all", "default": true, "runners_url": url + "/runners", "inherited": false,
		"allows_public_repositories": false, "restricted_to_workflows": false, "selected_workflows": []string{}, "workflow_restrictions_read_only": false,
	}
}

func (h *Hub) listRunnerGroups(c *call) (answer, error) {
	if err := forAdministrators(c); err != nil {
		return answer{}, err
	}
	some, header := page(h, c, []m{h.runnerGroup(c.PathValue("org"))})
	return answer{status: http.StatusOK, header: header, body: m{"total_count": 1, "runner_groups": some}}, nil
}

func (h *Hub) getRunnerGroup(c *call) (answer, error) {
	if err := forAdministrators(c); err != nil {
		return answer{}, err
	}
	if c.PathValue("group") != "1" {
		return answer{}, errNotFound
	}
	return ok(h.runnerGroup(c.PathValue("org")))
}

func (h *Hub) listGroupRunners(c *call) (answer, error) {
	if err := forAdministrators(c); err != nil {
		return answer{}, err
	}
	if c.PathValue("group") != "1" {
		return answer{}, errNotFound
	}
	return h.listRunners(c)
}

// viewerQuery is the one query that the stand-in answers.
var viewerQuery = regexp.MustCompile(`^\s*(query\s*)?\{\s*viewer\s*\{\s*login\s*\}\s*\}\s*$`)

// graphQL answers who the viewer is, which GitHub tells bots here and only
// here. Every other query is refused in GraphQL's own shape.
func (h *Hub) graphQL(w http.ResponseWriter, req *http.Request) {
	h.handle(w, req, "", func(c *call) (answer, error) {
		var body struct{ Query string }
		if err := c.read(&body); err != nil {
			return answer{}, err
		}
		if !viewerQuery.MatchString(body.Query) {
			return ok(m{"errors": []m{{"message": "the stand-in answers query{viewer{login}} only, not " + strings.TrimSpace(body.Query)}}})
		}
		return ok(m{"data": m{"viewer": m{"login": c.who.Login}}})
	}).write(w)
}
