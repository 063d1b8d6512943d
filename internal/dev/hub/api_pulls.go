package hub

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

// maxComment is GitHub's limit of a body, in characters.
const maxComment = 65536

// pullRoutes are pull requests, issues and comments.
func (h *Hub) pullRoutes(mux *router) {
	const pulls, issues = "/repos/{owner}/{repo}/pulls", "/repos/{owner}/{repo}/issues"
	const talk = "issues|pull-requests"
	h.api(mux, "GET "+pulls, "pull-requests:read", h.listPulls)
	h.api(mux, "POST "+pulls, "", h.postPull)
	h.api(mux, "GET "+pulls+"/{number}", "pull-requests:read", h.getPull)
	h.api(mux, "PATCH "+pulls+"/{number}", "pull-requests:write", h.patchIssue)
	h.api(mux, "GET "+pulls+"/{number}/files", "pull-requests:read", h.listPullFiles)
	h.api(mux, "GET "+pulls+"/{number}/commits", "pull-requests:read", h.listPullCommits)
	h.api(mux, "PUT "+pulls+"/{number}/merge", "contents:write", h.putMerge)
	h.api(mux, "GET "+issues, talk+":read", h.listIssues)
	h.api(mux, "POST "+issues, "issues:write", h.postIssue)
	h.api(mux, "GET "+issues+"/{number}", talk+":read", h.getIssue)
	h.api(mux, "PATCH "+issues+"/{number}", talk+":write", h.patchIssue)
	h.api(mux, "GET "+issues+"/{number}/comments", talk+":read", h.listComments)
	h.api(mux, "POST "+issues+"/{number}/comments", "", h.postComment)
	h.api(mux, "GET "+issues+"/comments", talk+":read", h.listComments)
	h.api(mux, "GET "+issues+"/comments/{comment}", talk+":read", h.getComment)
	h.api(mux, "PATCH "+issues+"/comments/{comment}", "", h.patchComment)
	h.api(mux, "DELETE "+issues+"/comments/{comment}", "", h.deleteComment)
}

// talks says whether somebody may open issues and pull requests and comment:
// people may where they can read, tokens where their permissions say so.
func (h *Hub) talks(c *call, scopes ...string) error {
	if c.who.Scopes == nil || slices.ContainsFunc(scopes, func(s string) bool { return h.may(c.who, c.repo, s, "write") }) {
		return nil
	}
	return &problem{status: http.StatusForbidden, message: "Resource not accessible by integration"}
}

func (h *Hub) issueOf(c *call, pull bool) (*issue, error) {
	n, err := c.number("number")
	if err != nil {
		return nil, err
	}
	i := c.repo.issue(int(n))
	if i == nil || pull && i.Pull == nil {
		return nil, errNotFound
	}
	return i, nil
}

// listed are issues in the order and state that the query asks for.
func (c *call) listed(all []*issue) []*issue {
	q := c.URL.Query()
	state := q.Get("state")
	if state == "" {
		state = "open"
	}
	out := slices.DeleteFunc(slices.Clone(all), func(i *issue) bool { return state != "all" && i.State != state })
	if q.Get("sort") == "updated" {
		slices.SortStableFunc(out, func(a, b *issue) int { return a.Updated.Compare(b.Updated) })
	}
	if q.Get("direction") != "asc" {
		slices.Reverse(out)
	}
	return out
}

func (h *Hub) listPulls(c *call) (answer, error) {
	q := c.URL.Query()
	all := slices.DeleteFunc(c.listed(c.repo.Issues), func(i *issue) bool {
		if i.Pull == nil || q.Get("base") != "" && q.Get("base") != i.Pull.Base {
			return true
		}
		owner, _, _ := strings.Cut(i.Pull.HeadRepository, "/")
		return q.Get("head") != "" && q.Get("head") != owner+":"+i.Pull.Head
	})
	some, header := page(h, c, all)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(i *issue) m { return h.pullShape(c.repo, i, false) })}, nil
}

func (h *Hub) postPull(c *call) (answer, error) {
	if err := h.talks(c, "pull-requests"); err != nil {
		return answer{}, err
	}
	var body struct {
		Title, Body, Head, Base string
		Draft                   bool
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	for field, value := range map[string]string{"title": body.Title, "head": body.Head, "base": body.Base} {
		if value == "" {
			return answer{}, invalid("PullRequest", field, "missing_field")
		}
	}
	i, err := h.openPull(c.repo, body.Title, body.Body, body.Head, body.Base, body.Draft, c.who)
	if err != nil {
		return answer{}, err
	}
	return created(h.pullShape(c.repo, i, true))
}

func (h *Hub) getPull(c *call) (answer, error) {
	i, err := h.issueOf(c, true)
	if err != nil {
		return answer{}, err
	}
	return ok(h.pullShape(c.repo, i, true))
}

// patchIssue changes an issue or a pull request.
func (h *Hub) patchIssue(c *call) (answer, error) {
	pull := strings.Contains(c.URL.Path, "/pulls/")
	i, err := h.issueOf(c, pull)
	if err != nil {
		return answer{}, err
	}
	var body struct {
		Title, Body, State *string
		Labels             *[]string
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	edited := false
	set := func(to *string, from *string) {
		if from != nil && *from != *to {
			*to, edited = *from, true
		}
	}
	set(&i.Title, body.Title)
	set(&i.Body, body.Body)
	if body.Labels != nil {
		i.Labels = *body.Labels
	}
	i.Updated = h.now()
	h.changed()
	if edited && i.Pull != nil {
		if err := h.pullEvent(c.repo, i, "edited", c.who, m{"changes": m{}}); err != nil {
			return answer{}, err
		}
	}
	if body.State != nil {
		if *body.State != "open" && *body.State != "closed" || *body.State == "open" && i.Pull != nil && i.Pull.Merged {
			return answer{}, invalid("Issue", "state", "invalid")
		}
		if err := h.setIssueState(c.repo, i, *body.State, c.who); err != nil {
			return answer{}, err
		}
	}
	if pull {
		return ok(h.pullShape(c.repo, i, true))
	}
	return ok(h.issueShape(c.repo, i))
}

func (h *Hub) listPullFiles(c *call) (answer, error) {
	i, err := h.issueOf(c, true)
	if err != nil {
		return answer{}, err
	}
	files, err := h.pullFiles(c.repo, i.Pull)
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, files)
	from := h.mergeBase(c.repo, i.Pull.BaseSHA, i.Pull.HeadSHA)
	if err := h.patches(c.repo, from, i.Pull.HeadSHA, some); err != nil {
		return answer{}, err
	}
	list := shapes(some, func(f changedFile) m { return h.fileShape(c.repo, i.Pull.HeadSHA, f) })
	return answer{status: http.StatusOK, header: header, body: list}, nil
}

func (h *Hub) listPullCommits(c *call) (answer, error) {
	i, err := h.issueOf(c, true)
	if err != nil {
		return answer{}, err
	}
	commits, err := h.commits(c.repo, 250, i.Pull.HeadSHA, "^"+i.Pull.BaseSHA)
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, newest(commits))
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(x gitCommit) m { return h.commitShape(c.repo, x) })}, nil
}

func (h *Hub) putMerge(c *call) (answer, error) {
	i, err := h.issueOf(c, true)
	if err != nil {
		return answer{}, err
	}
	var body struct {
		SHA string `json:"sha"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	switch {
	case i.State != "open" || !i.Pull.Mergeable:
		return answer{}, &problem{status: http.StatusMethodNotAllowed, message: "Pull Request is not mergeable"}
	case body.SHA != "" && body.SHA != i.Pull.HeadSHA:
		return answer{}, &problem{status: http.StatusConflict, message: "Head branch was modified. Review and try the merge again."}
	}
	if err := h.mergePull(c.repo, i, c.who); err != nil {
		return answer{}, err
	}
	return ok(m{"sha": i.Pull.MergeSHA, "merged": true, "message": "Pull Request successfully merged"})
}

func (h *Hub) listIssues(c *call) (answer, error) {
	some, header := page(h, c, c.listed(c.repo.Issues))
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(i *issue) m { return h.issueShape(c.repo, i) })}, nil
}

func (h *Hub) postIssue(c *call) (answer, error) {
	var body struct {
		Title, Body string
		Labels      []string
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if body.Title == "" {
		return answer{}, invalid("Issue", "title", "missing_field")
	}
	r := c.repo
	r.LastNumber++
	i := &issue{
		ID: h.id(), Number: r.LastNumber, Title: body.Title, Body: body.Body, State: "open", User: c.who.Login,
		Created: h.now(), Updated: h.now(), Labels: body.Labels,
	}
	r.Issues = append(r.Issues, i)
	h.changed()
	return created(h.issueShape(r, i))
}

func (h *Hub) getIssue(c *call) (answer, error) {
	i, err := h.issueOf(c, false)
	if err != nil {
		return answer{}, err
	}
	return ok(h.issueShape(c.repo, i))
}

func (h *Hub) listComments(c *call) (answer, error) {
	all := c.repo.Comments
	if c.PathValue("number") != "" {
		i, err := h.issueOf(c, false)
		if err != nil {
			return answer{}, err
		}
		all = commentsOf(c.repo, i.Number)
	}
	if since := c.URL.Query().Get("since"); since != "" {
		after, err := createdRange(">=" + since)
		if err != nil {
			return answer{}, invalidText(err.Error())
		}
		all = slices.DeleteFunc(slices.Clone(all), func(x *comment) bool { return !after(x.Updated) })
	}
	some, header := page(h, c, all)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(x *comment) m { return h.commentShape(c.repo, x) })}, nil
}

// commentBody reads and bounds the text of a comment.
func commentBody(c *call) (string, error) {
	var body struct {
		Body *string `json:"body"`
	}
	if err := c.read(&body); err != nil {
		return "", err
	}
	switch {
	case body.Body == nil || *body.Body == "":
		return "", &problem{
			status: http.StatusUnprocessableEntity, message: "Validation Failed",
			errors: []m{{"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": "Body cannot be blank"}},
		}
	case utf8.RuneCountInString(*body.Body) > maxComment:
		return "", &problem{
			status: http.StatusUnprocessableEntity, message: "Validation Failed",
			errors: []m{{"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": "Body is too long (maximum is 65536 characters)"}},
		}
	}
	return *body.Body, nil
}

func (h *Hub) postComment(c *call) (answer, error) {
	i, err := h.issueOf(c, false)
	if err != nil {
		return answer{}, err
	}
	scopes := []string{"issues"}
	if i.Pull != nil {
		scopes = append(scopes, "pull-requests")
	}
	if err := h.talks(c, scopes...); err != nil {
		return answer{}, err
	}
	body, err := commentBody(c)
	if err != nil {
		return answer{}, err
	}
	x := &comment{ID: h.id(), Number: i.Number, User: c.who.Login, Body: body, Created: h.now(), Updated: h.now()}
	c.repo.Comments = append(c.repo.Comments, x)
	i.Updated = h.now()
	h.changed()
	if err := h.commentEvent(c, i, x, "created"); err != nil {
		return answer{}, err
	}
	return created(h.commentShape(c.repo, x))
}

// commentEvent fires issue_comment, which runs on the default branch.
func (h *Hub) commentEvent(c *call, i *issue, x *comment, action string) error {
	r := c.repo
	sha, err := h.resolve(r, "refs/heads/"+r.DefaultBranch)
	if err != nil {
		return nil // nothing was pushed yet: nothing can listen
	}
	return h.fire(r, occurrence{
		event: trigger.Event{Name: "issue_comment", Type: action}, ref: "refs/heads/" + r.DefaultBranch, sha: sha,
		headBranch: r.DefaultBranch, headSHA: sha, title: i.Title, who: c.who,
		payload: h.payload(r, c.who, m{"action": action, "issue": h.issueShape(r, i), "comment": h.commentShape(r, x)}),
	})
}

func (h *Hub) commentOf(c *call) (*comment, error) {
	id, err := c.number("comment")
	if err != nil {
		return nil, err
	}
	x := find(c.repo.Comments, func(x *comment) bool { return x.ID == id })
	if x == nil {
		return nil, errNotFound
	}
	return x, nil
}

// ownComment is a comment that the caller may change: his own, or any with
// write access.
func (h *Hub) ownComment(c *call) (*comment, error) {
	x, err := h.commentOf(c)
	if err != nil {
		return nil, err
	}
	if err := h.talks(c, "issues", "pull-requests"); err != nil {
		return nil, err
	}
	if c.who.Scopes == nil && x.User != c.who.Login && !h.may(c.who, c.repo, "issues", "write") {
		return nil, &problem{status: http.StatusForbidden, message: "Must have admin rights to Repository."}
	}
	return x, nil
}

func (h *Hub) getComment(c *call) (answer, error) {
	x, err := h.commentOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.commentShape(c.repo, x))
}

func (h *Hub) patchComment(c *call) (answer, error) {
	x, err := h.ownComment(c)
	if err != nil {
		return answer{}, err
	}
	body, err := commentBody(c)
	if err != nil {
		return answer{}, err
	}
	x.Body, x.Updated = body, h.now()
	h.changed()
	return ok(h.commentShape(c.repo, x))
}

func (h *Hub) deleteComment(c *call) (answer, error) {
	x, err := h.ownComment(c)
	if err != nil {
		return answer{}, err
	}
	c.repo.Comments = slices.DeleteFunc(c.repo.Comments, func(o *comment) bool { return o == x })
	h.changed()
	return noContent()
}
