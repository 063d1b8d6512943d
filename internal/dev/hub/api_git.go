package hub

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// gitRoutes are refs, tags, branches, commits, comparisons and files.
func (h *Hub) gitRoutes(mux *router) {
	const repo = "/repos/{owner}/{repo}"
	h.api(mux, "GET "+repo+"/git/ref/{ref...}", "contents:read", h.getRef)
	h.api(mux, "GET "+repo+"/git/matching-refs/{ref...}", "contents:read", h.matchingRefs)
	h.api(mux, "POST "+repo+"/git/refs", "contents:write", h.postRef)
	h.api(mux, "PATCH "+repo+"/git/refs/{ref...}", "contents:write", h.patchRef)
	h.api(mux, "DELETE "+repo+"/git/refs/{ref...}", "contents:write", h.deleteRef)
	h.api(mux, "GET "+repo+"/git/commits/{sha}", "contents:read", h.getGitCommit)
	h.api(mux, "POST "+repo+"/git/tags", "contents:write", h.postTag)
	h.api(mux, "GET "+repo+"/git/tags/{sha}", "contents:read", h.getTag)
	h.api(mux, "GET "+repo+"/tags", "metadata:read", h.listTags)
	h.api(mux, "GET "+repo+"/branches", "contents:read", h.listBranches)
	h.api(mux, "GET "+repo+"/branches/{branch...}", "contents:read", h.getBranch)
	h.api(mux, "GET "+repo+"/commits", "contents:read", h.listCommits)
	h.api(mux, "GET "+repo+"/commits/{ref}", "contents:read", h.getCommit)
	h.api(mux, "GET "+repo+"/compare/{basehead...}", "contents:read", h.compare)
	h.api(mux, "GET "+repo+"/contents/{path...}", "contents:read", h.getContents)
}

func (h *Hub) refShape(r *repository, ref, sha string) m {
	kind := "commit"
	if out, err := h.git(r, nil, "cat-file", "-t", sha); err == nil {
		kind = strings.TrimSpace(string(out))
	}
	return m{
		"ref": ref, "node_id": nodeID("Ref", userID(ref)), "url": h.repoURL(r) + "/git/" + ref,
		"object": m{"type": kind, "sha": sha, "url": h.repoURL(r) + "/git/" + kind + "s/" + sha},
	}
}

func (h *Hub) getRef(c *call) (answer, error) {
	refs, err := h.refs(c.repo)
	if err != nil {
		return answer{}, err
	}
	ref := "refs/" + c.PathValue("ref")
	sha, there := refs[ref]
	if !there {
		return answer{}, errNotFound
	}
	return ok(h.refShape(c.repo, ref, sha))
}

func (h *Hub) matchingRefs(c *call) (answer, error) {
	refs, err := h.refs(c.repo)
	if err != nil {
		return answer{}, err
	}
	var names []string
	for name := range refs {
		if strings.HasPrefix(name, "refs/"+c.PathValue("ref")) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	some, header := page(h, c, names)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(n string) m { return h.refShape(c.repo, n, refs[n]) })}, nil
}

// moveRef sets a ref for the API, and makes the events that a push makes.
func (h *Hub) moveRef(c *call, ref, old, now string) error {
	args := []string{"update-ref", ref, now}
	if now == "" {
		args = []string{"update-ref", "-d", ref}
	}
	h.refsMoved(c.repo)
	if _, err := h.git(c.repo, nil, args...); err != nil {
		return invalidText("Reference could not be updated")
	}
	return h.refChanged(c.repo, ref, old, now, c.who)
}

func (h *Hub) postRef(c *call) (answer, error) {
	var body struct{ Ref, SHA string }
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if !strings.HasPrefix(body.Ref, "refs/heads/") && !strings.HasPrefix(body.Ref, "refs/tags/") {
		return answer{}, invalidText("Reference name is not valid. It must start with 'refs' and have at least two slashes.")
	}
	if _, err := h.git(c.repo, nil, "check-ref-format", body.Ref); err != nil {
		return answer{}, invalidText("Reference name is not valid")
	}
	refs, err := h.refs(c.repo)
	if err != nil {
		return answer{}, err
	}
	if refs[body.Ref] != "" {
		return answer{}, invalidText("Reference already exists")
	}
	if !shaRule.MatchString(body.SHA) {
		return answer{}, invalidText("The sha parameter must be exactly 40 characters and contain only [0-9a-f].")
	}
	if _, err := h.git(c.repo, nil, "cat-file", "-e", body.SHA); err != nil {
		return answer{}, invalidText("Object does not exist")
	}
	if err := h.moveRef(c, body.Ref, "", body.SHA); err != nil {
		return answer{}, err
	}
	return created(h.refShape(c.repo, body.Ref, body.SHA))
}

func (h *Hub) patchRef(c *call) (answer, error) {
	var body struct {
		SHA   string
		Force bool
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	refs, err := h.refs(c.repo)
	if err != nil {
		return answer{}, err
	}
	ref := "refs/" + c.PathValue("ref")
	old := refs[ref]
	if old == "" {
		return answer{}, invalidText("Reference does not exist")
	}
	if _, err := h.git(c.repo, nil, "cat-file", "-e", body.SHA); err != nil || !shaRule.MatchString(body.SHA) {
		return answer{}, invalidText("Object does not exist")
	}
	if !body.Force && h.mergeBase(c.repo, old, body.SHA) != old {
		return answer{}, invalidText("Update is not a fast forward")
	}
	if err := h.moveRef(c, ref, old, body.SHA); err != nil {
		return answer{}, err
	}
	return ok(h.refShape(c.repo, ref, body.SHA))
}

func (h *Hub) deleteRef(c *call) (answer, error) {
	refs, err := h.refs(c.repo)
	if err != nil {
		return answer{}, err
	}
	ref := "refs/" + c.PathValue("ref")
	if refs[ref] == "" || strings.HasPrefix(ref, "refs/pull/") {
		return answer{}, invalidText("Reference does not exist")
	}
	if err := h.moveRef(c, ref, refs[ref], ""); err != nil {
		return answer{}, err
	}
	return noContent()
}

func (h *Hub) getGitCommit(c *call) (answer, error) {
	if !shaRule.MatchString(c.PathValue("sha")) {
		return answer{}, errNotFound
	}
	commit, err := h.commit(c.repo, c.PathValue("sha"))
	if err != nil {
		return answer{}, err
	}
	full := h.commitShape(c.repo, commit)
	inner := full["commit"].(m)
	return ok(m{
		"sha": commit.SHA, "node_id": full["node_id"], "url": inner["url"], "html_url": full["html_url"], "author": inner["author"],
		"committer": inner["committer"], "tree": inner["tree"], "message": commit.Message, "parents": full["parents"],
		"verification": inner["verification"],
	})
}

func (h *Hub) postTag(c *call) (answer, error) {
	var body struct{ Tag, Message, Object, Type string }
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if !shaRule.MatchString(body.Object) || body.Tag == "" {
		return answer{}, invalid("Tag", "object", "invalid")
	}
	if body.Type == "" {
		body.Type = "commit"
	}
	text := fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger %s <%s@users.noreply.localhost> %d +0000\n\n%s\n",
		body.Object, body.Type, body.Tag, c.who.Login, c.who.Login, h.now().Unix(), body.Message)
	out, err := h.git(c.repo, []byte(text), "mktag")
	if err != nil {
		return answer{}, invalid("Tag", "object", "invalid")
	}
	a, err := h.tag(c.repo, strings.TrimSpace(string(out)))
	a.status = http.StatusCreated
	return a, err
}

func (h *Hub) getTag(c *call) (answer, error) {
	if !shaRule.MatchString(c.PathValue("sha")) {
		return answer{}, errNotFound
	}
	return h.tag(c.repo, c.PathValue("sha"))
}

// tag is an annotated tag, read as git stores it.
func (h *Hub) tag(r *repository, sha string) (answer, error) {
	data, err := h.git(r, nil, "cat-file", "tag", sha)
	if err != nil {
		return answer{}, errNotFound
	}
	head, message, _ := strings.Cut(string(data), "\n\n")
	fields := map[string]string{}
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		fields[name] = value
	}
	name, rest, _ := strings.Cut(fields["tagger"], " <")
	email, _, _ := strings.Cut(rest, ">")
	return ok(m{
		"sha": sha, "node_id": nodeID("Tag", userID(sha)), "tag": fields["tag"], "message": strings.TrimSuffix(message, "\n"),
		"url": h.repoURL(r) + "/git/tags/" + sha, "tagger": m{"name": name, "email": email, "date": when(h.now())},
		"object": m{"sha": fields["object"], "type": fields["type"], "url": h.repoURL(r) + "/git/" + fields["type"] + "s/" + fields["object"]},
	})
}

// named are the refs below a prefix with the commits they lead to, by name.
func (h *Hub) named(r *repository, prefix string) ([]string, map[string]string, error) {
	t, err := h.refTable(r)
	var names []string
	commits := map[string]string{}
	for ref, sha := range t.commits {
		if name, below := strings.CutPrefix(ref, prefix); below {
			names = append(names, name)
			commits[name] = sha
		}
	}
	slices.Sort(names)
	return names, commits, err
}

func (h *Hub) listTags(c *call) (answer, error) {
	names, commits, err := h.named(c.repo, "refs/tags/")
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, newest(names))
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(n string) m {
		return m{
			"name": n, "node_id": nodeID("Tag", userID(n)), "commit": m{"sha": commits[n], "url": h.repoURL(c.repo) + "/commits/" + commits[n]},
			"zipball_url": h.repoURL(c.repo) + "/zipball/refs/tags/" + n, "tarball_url": h.repoURL(c.repo) + "/tarball/refs/tags/" + n,
		}
	})}, nil
}

func (h *Hub) listBranches(c *call) (answer, error) {
	names, commits, err := h.named(c.repo, "refs/heads/")
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, names)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(n string) m {
		return m{"name": n, "protected": false, "commit": m{"sha": commits[n], "url": h.repoURL(c.repo) + "/commits/" + commits[n]}}
	})}, nil
}

func (h *Hub) getBranch(c *call) (answer, error) {
	name := c.PathValue("branch")
	sha, err := h.resolve(c.repo, "refs/heads/"+name)
	if err != nil {
		return answer{}, &problem{status: http.StatusNotFound, message: "Branch not found"}
	}
	commit, err := h.commit(c.repo, sha)
	if err != nil {
		return answer{}, err
	}
	url := h.repoURL(c.repo) + "/branches/" + name
	return ok(m{
		"name": name, "protected": false, "commit": h.commitShape(c.repo, commit), "protection_url": url + "/protection",
		"protection": m{"enabled": false, "required_status_checks": m{"enforcement_level": "off", "contexts": []string{}, "checks": []m{}}},
		"_links":     m{"self": url, "html": h.URL + "/" + c.repo.full() + "/tree/" + name},
	})
}
