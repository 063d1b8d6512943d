package hub

import (
	"net/http"
	"strings"
)

// userRoutes are people and repositories.
func (h *Hub) userRoutes(mux *router) {
	h.api(mux, "GET /user", "", h.getViewer)
	h.api(mux, "GET /users/{login}", "", h.getUser)
	h.api(mux, "GET /rate_limit", "", h.rateLimit)
	h.api(mux, "POST /user/repos", "", h.postRepository)
	h.api(mux, "POST /orgs/{org}/repos", "", h.postRepository)
	h.api(mux, "GET /repos/{owner}/{repo}", "metadata:read", h.getRepository)
	h.api(mux, "PATCH /repos/{owner}/{repo}", "administration:write", h.patchRepository)
	h.api(mux, "POST /repos/{owner}/{repo}/forks", "metadata:read", h.postFork)
}

// getViewer: a run's or an installation's token has no user behind it.
func (h *Hub) getViewer(c *call) (answer, error) {
	if c.who.Scopes != nil || c.who.App != 0 {
		return answer{}, &problem{status: http.StatusForbidden, message: "Resource not accessible by integration"}
	}
	return ok(h.publicUser(c.who.Login))
}

func (h *Hub) getUser(c *call) (answer, error) { return ok(h.publicUser(c.PathValue("login"))) }

func (h *Hub) publicUser(login string) m {
	u := h.user(login)
	for k, v := range (m{
		"name": nil, "company": nil, "blog": "", "location": nil, "email": nil, "hireable": nil, "bio": nil, "twitter_username": nil,
		"public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
		"created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
	}) {
		u[k] = v
	}
	return u
}

// rateLimit tells of no limit that is enforced: faults do that.
func (h *Hub) rateLimit(*call) (answer, error) {
	limit := m{"limit": 5000, "used": 0, "remaining": 5000, "reset": h.now().Unix() + 3600}
	return ok(m{"rate": limit, "resources": m{"core": limit, "search": limit}})
}

func (h *Hub) postRepository(c *call) (answer, error) {
	var body struct {
		Name    string `json:"name"`
		Private bool   `json:"private"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	owner := c.who.Login
	if org := c.PathValue("org"); org != "" {
		owner = org
	}
	if c.who.Scopes != nil || !c.who.Admin && owner != c.who.Login {
		return answer{}, &problem{status: http.StatusForbidden, message: "You need admin access to the organization before adding a repository to it."}
	}
	if h.state.repository(owner, body.Name) != nil || !nameRule.MatchString(body.Name) {
		return answer{}, invalid("Repository", "name", "custom")
	}
	r, err := h.createRepository(owner, body.Name, "", body.Private)
	if err != nil {
		return answer{}, err
	}
	return created(h.fullRepository(r, c.who))
}

func (h *Hub) getRepository(c *call) (answer, error) { return ok(h.fullRepository(c.repo, c.who)) }

func (h *Hub) patchRepository(c *call) (answer, error) {
	var body struct {
		DefaultBranch string `json:"default_branch"`
		Private       *bool  `json:"private"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if body.DefaultBranch != "" {
		if _, err := h.resolve(c.repo, "refs/heads/"+body.DefaultBranch); err != nil {
			return answer{}, invalid("Repository", "default_branch", "invalid")
		}
		if _, err := h.git(c.repo, nil, "symbolic-ref", "HEAD", "refs/heads/"+body.DefaultBranch); err != nil {
			return answer{}, err
		}
		c.repo.DefaultBranch = body.DefaultBranch
	}
	if body.Private != nil {
		c.repo.Private = *body.Private
	}
	h.changed()
	return ok(h.fullRepository(c.repo, c.who))
}

func (h *Hub) postFork(c *call) (answer, error) {
	if c.who.Scopes != nil {
		return answer{}, &problem{status: http.StatusForbidden, message: "Resource not accessible by integration"}
	}
	r := h.state.repository(c.who.Login, c.repo.Name)
	if r == nil {
		var err error
		if r, err = h.createRepository(c.who.Login, c.repo.Name, c.repo.full(), c.repo.Private); err != nil {
			return answer{}, err
		}
	} else if !strings.EqualFold(r.Parent, c.repo.full()) {
		return answer{}, invalidText("a repository of this name is there already and is no fork")
	}
	return answer{status: http.StatusAccepted, body: h.fullRepository(r, c.who)}, nil
}
