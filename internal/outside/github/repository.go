package github

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	gh "github.com/google/go-github/v60/github"
)

// Repository is what the line asks about a repository.
type Repository struct {
	DefaultBranch string
	Public        bool
	Organisation  string // its owner, where that is an organisation; else empty
	URL           string
}

// ReadRepository reads the repository's settings.
func (c *Client) ReadRepository(ctx context.Context) (Repository, error) {
	r, _, err := c.api.Repositories.Get(ctx, c.owner, c.name)
	if err != nil {
		return Repository{}, explain("repository "+c.Repository(), "see that "+RepositoryVariable+" is right and that the token may read it", err)
	}
	found := Repository{DefaultBranch: r.GetDefaultBranch(), Public: !r.GetPrivate() && r.GetVisibility() != "internal", URL: r.GetHTMLURL()}
	if r.GetOwner().GetType() == "Organization" {
		found.Organisation = r.GetOwner().GetLogin()
	}
	return found, nil
}

// DefaultBranch is the name of the repository's default branch.
func (c *Client) DefaultBranch(ctx context.Context) (string, error) {
	r, err := c.ReadRepository(ctx)
	if err == nil && r.DefaultBranch == "" {
		err = fmt.Errorf("repository %s has no default branch: push to it first", c.Repository())
	}
	return r.DefaultBranch, err
}

// Comparison says how head stands to base: ahead, behind, identical or
// diverged, and by how many commits.
type Comparison struct {
	Status        string
	Ahead, Behind int
}

// Compare compares two commits, branches or tags.
func (c *Client) Compare(ctx context.Context, base, head string) (Comparison, error) {
	found, _, err := c.api.Repositories.CompareCommits(ctx, c.owner, c.name, base, head, &gh.ListOptions{PerPage: 1})
	if err != nil {
		return Comparison{}, explain(fmt.Sprintf("compare %s with %s in %s", base, head, c.Repository()), "see that both exist there and the token has contents: read", err)
	}
	return Comparison{found.GetStatus(), found.GetAheadBy(), found.GetBehindBy()}, nil
}

// IsAncestor tells whether ancestor lies on head's history, or is head.
func (c *Client) IsAncestor(ctx context.Context, ancestor, head string) (bool, error) {
	found, err := c.Compare(ctx, ancestor, head)
	if err != nil {
		return false, err
	}
	switch found.Status {
	case "ahead", "identical":
		return true, nil
	case "behind", "diverged":
		return false, nil
	}
	return false, fmt.Errorf("compare %s with %s in %s: GitHub answers the unknown status %q", ancestor, head, c.Repository(), found.Status)
}

// Workflow is a workflow file as GitHub knows it.
type Workflow struct {
	File  string // train.yml
	State string // active, disabled_manually, disabled_inactivity, …
	Text  string // of the file on the default branch
}

// ReadWorkflow reads a workflow's state and its file on the default branch.
// Where there is none the error's Status is 404.
func (c *Client) ReadWorkflow(ctx context.Context, file string) (Workflow, error) {
	content, _, _, err := c.api.Repositories.GetContents(ctx, c.owner, c.name, ".github/workflows/"+file, nil)
	if err != nil {
		return Workflow{}, c.explainWorkflow("file", file, "contents: read", err)
	}
	if content == nil {
		return Workflow{}, fmt.Errorf(".github/workflows/%s in %s is no file", file, c.Repository())
	}
	text, err := content.GetContent()
	if err != nil {
		return Workflow{}, fmt.Errorf("file of %s in %s: %w", file, c.Repository(), err)
	}
	known, _, err := c.api.Actions.GetWorkflowByFileName(ctx, c.owner, c.name, file)
	if err != nil {
		return Workflow{}, c.explainWorkflow("state", file, "actions: read", err)
	}
	return Workflow{file, known.GetState(), text}, nil
}

// Permissions say what Actions may do in the repository.
type Permissions struct {
	Enabled bool
	Actions string // which actions may be used: all, local_only or selected
	Pinned  bool   // actions must be named by a full commit
	Token   string // what GITHUB_TOKEN may do by default: read or write
	Approve bool   // workflows may approve pull requests
}

// ReadPermissions reads the repository's Actions settings. The token needs
// administration: read, which GITHUB_TOKEN never has: Status is 403 then.
func (c *Client) ReadPermissions(ctx context.Context) (Permissions, error) {
	const need = "a token with administration: read can see them; GITHUB_TOKEN cannot"
	var may struct {
		Enabled bool   `json:"enabled"`
		Allowed string `json:"allowed_actions"`
		Pinned  bool   `json:"sha_pinning_required"`
	}
	if err := c.get(ctx, c.path("actions/permissions"), &may); err != nil {
		return Permissions{}, explain("Actions settings of "+c.Repository(), need, err)
	}
	var workflow struct {
		Token   string `json:"default_workflow_permissions"`
		Approve bool   `json:"can_approve_pull_request_reviews"`
	}
	if err := c.get(ctx, c.path("actions/permissions/workflow"), &workflow); err != nil {
		return Permissions{}, explain("workflow permissions of "+c.Repository(), need, err)
	}
	return Permissions{may.Enabled, may.Allowed, may.Pinned, workflow.Token, workflow.Approve}, nil
}

func (c *Client) get(ctx context.Context, path string, answer any) error {
	req, err := c.api.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	_, err = c.api.Do(ctx, req, answer)
	return err
}

// Viewer is the login under which the client's comments stand. GITHUB_TOKEN
// and installations are no users: GET /user refuses them, GraphQL knows them,
// and in Actions, where GraphQL is not served, GITHUB_TOKEN's login is fixed.
func (c *Client) Viewer(ctx context.Context) (string, error) {
	const need = "see that the token is valid"
	if c.app != nil {
		app, _, err := c.app.Apps.Get(ctx, "")
		if err != nil {
			return "", explain("the App's name", need, err)
		}
		return app.GetSlug() + "[bot]", nil
	}
	user, _, err := c.api.Users.Get(ctx, "")
	err = explain("login of the token", need, err)
	if Status(err) != http.StatusForbidden {
		return user.GetLogin(), err
	}
	login, graphErr := c.graphViewer(ctx)
	if status := Status(graphErr); c.actions && (status == http.StatusNotFound || status == http.StatusForbidden) {
		return "github-actions[bot]", nil
	}
	return login, graphErr
}

// graphViewer asks GraphQL, which stands beside the REST API: /graphql on
// github.com, /api/graphql for /api/v3.
func (c *Client) graphViewer(ctx context.Context) (string, error) {
	u := *c.api.BaseURL
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v3") + "/graphql"
	req, err := c.api.NewRequest(http.MethodPost, u.String(), map[string]string{"query": "query{viewer{login}}"})
	if err != nil {
		return "", err
	}
	var answer struct {
		Data struct {
			Viewer struct{ Login string }
		}
	}
	_, err = c.api.Do(repeat(ctx), req, &answer)
	if err == nil && answer.Data.Viewer.Login == "" {
		err = fmt.Errorf("GraphQL names no viewer")
	}
	return answer.Data.Viewer.Login, explain("viewer of the token", "see that the token is valid", err)
}
