package hub

import (
	"fmt"
	"strings"
)

func (h *Hub) issueURL(r *repository, number int) string {
	return fmt.Sprintf("%s/issues/%d", h.repoURL(r), number)
}

// association is how somebody stands to a repository.
func (h *Hub) association(r *repository, login string) string {
	switch {
	case strings.EqualFold(login, r.Owner):
		return "OWNER"
	case login == h.opt.Login || isBot(login):
		return "MEMBER"
	}
	return "CONTRIBUTOR"
}

func (h *Hub) labelShapes(r *repository, names []string) []m {
	return shapes(names, func(name string) m {
		id := userID(name)
		return m{
			"id": id, "node_id": nodeID("Label", id), "url": h.repoURL(r) + "/labels/" + name, "name": name,
			"description": nil, "color": "ededed", "default": false,
		}
	})
}

// pullShape is a pull request; full has the counts that only a single one shows.
func (h *Hub) pullShape(r *repository, i *issue, full bool) m {
	p := i.Pull
	url := fmt.Sprintf("%s/pulls/%d", h.repoURL(r), i.Number)
	page := fmt.Sprintf("%s/%s/pull/%d", h.URL, r.full(), i.Number)
	link := func(href string) m { return m{"href": href} }
	statuses := h.repoURL(r) + "/statuses/" + p.HeadSHA
	out := m{
		"url": url, "id": p.ID, "node_id": nodeID("PullRequest", p.ID), "html_url": page, "diff_url": page + ".diff", "patch_url": page + ".patch",
		"issue_url": h.issueURL(r, i.Number), "commits_url": url + "/commits", "review_comments_url": url + "/comments",
		"review_comment_url": h.repoURL(r) + "/pulls/comments{/number}", "comments_url": h.issueURL(r, i.Number) + "/comments",
		"statuses_url": statuses, "number": i.Number, "state": i.State, "locked": false, "title": i.Title, "user": h.user(i.User),
		"body": text(i.Body), "labels": h.labelShapes(r, i.Labels), "milestone": nil, "created_at": when(i.Created),
		"updated_at": when(i.Updated), "closed_at": when(i.Closed), "merged_at": when(p.MergedAt), "merge_commit_sha": text(p.MergeSHA),
		"assignee": nil, "assignees": []m{}, "requested_reviewers": []m{}, "requested_teams": []m{}, "draft": p.Draft,
		"head": h.pullSide(p.HeadRepository, p.Head, p.HeadSHA), "base": h.pullSide(r.full(), p.Base, p.BaseSHA),
		"author_association": h.association(r, i.User), "auto_merge": nil, "active_lock_reason": nil,
		"_links": m{
			"self": link(url), "html": link(page), "issue": link(h.issueURL(r, i.Number)), "comments": link(h.issueURL(r, i.Number) + "/comments"),
			"review_comments": link(url + "/comments"), "review_comment": link(h.repoURL(r) + "/pulls/comments{/number}"),
			"commits": link(url + "/commits"), "statuses": link(statuses),
		},
	}
	if full {
		state := "clean"
		if !p.Mergeable {
			state = "dirty"
		}
		var by any
		if p.MergedBy != "" {
			by = h.user(p.MergedBy)
		}
		for k, v := range (m{
			"merged": p.Merged, "mergeable": p.Mergeable, "rebaseable": false, "mergeable_state": state, "merged_by": by,
			"comments": len(commentsOf(r, i.Number)), "review_comments": 0, "maintainer_can_modify": p.MaintainerCanPush,
			"commits": p.Commits, "additions": p.Additions, "deletions": p.Deleted, "changed_files": p.Files,
		}) {
			out[k] = v
		}
	}
	return out
}

// pullSide is head or base; the repository is null after a fork is gone.
func (h *Hub) pullSide(full, branch, sha string) m {
	owner, _, _ := strings.Cut(full, "/")
	side := m{"label": owner + ":" + branch, "ref": branch, "sha": sha, "user": h.user(owner), "repo": nil}
	if r := h.state.byFull(full); r != nil {
		side["repo"] = h.simpleRepository(r)
	}
	return side
}

// issueShape is an issue, or a pull request as an issue.
func (h *Hub) issueShape(r *repository, i *issue) m {
	url := h.issueURL(r, i.Number)
	page := fmt.Sprintf("%s/%s/issues/%d", h.URL, r.full(), i.Number)
	out := m{
		"id": i.ID, "node_id": nodeID("Issue", i.ID), "url": url, "repository_url": h.repoURL(r), "labels_url": url + "/labels{/name}",
		"comments_url": url + "/comments", "events_url": url + "/events", "html_url": page, "number": i.Number, "state": i.State,
		"state_reason": nil, "title": i.Title, "body": text(i.Body), "user": h.user(i.User), "labels": h.labelShapes(r, i.Labels),
		"assignee": nil, "assignees": []m{}, "milestone": nil, "locked": false, "active_lock_reason": nil,
		"comments": len(commentsOf(r, i.Number)), "created_at": when(i.Created), "updated_at": when(i.Updated), "closed_at": when(i.Closed),
		"author_association": h.association(r, i.User),
	}
	if i.Pull != nil {
		page = fmt.Sprintf("%s/%s/pull/%d", h.URL, r.full(), i.Number)
		out["html_url"] = page
		out["pull_request"] = m{
			"url": fmt.Sprintf("%s/pulls/%d", h.repoURL(r), i.Number), "html_url": page, "diff_url": page + ".diff",
			"patch_url": page + ".patch", "merged_at": when(i.Pull.MergedAt),
		}
	}
	return out
}

func (h *Hub) commentShape(r *repository, c *comment) m {
	kind := "issues"
	if i := r.issue(c.Number); i != nil && i.Pull != nil {
		kind = "pull"
	}
	return m{
		"id": c.ID, "node_id": nodeID("IssueComment", c.ID), "url": fmt.Sprintf("%s/issues/comments/%d", h.repoURL(r), c.ID),
		"html_url":  fmt.Sprintf("%s/%s/%s/%d#issuecomment-%d", h.URL, r.full(), kind, c.Number, c.ID),
		"issue_url": h.issueURL(r, c.Number), "body": c.Body, "user": h.user(c.User), "created_at": when(c.Created),
		"updated_at": when(c.Updated), "author_association": h.association(r, c.User), "performed_via_github_app": nil,
	}
}

// commentsOf are an issue's comments, oldest first.
func commentsOf(r *repository, number int) []*comment {
	var all []*comment
	for _, c := range r.Comments {
		if c.Number == number {
			all = append(all, c)
		}
	}
	return all
}

// fileShape is a file of a comparison or a pull request.
func (h *Hub) fileShape(r *repository, sha string, f changedFile) m {
	path := r.full() + "/%s/" + sha + "/" + f.Path
	out := m{
		"sha": f.Blob, "filename": f.Path, "status": f.Status, "additions": f.Additions, "deletions": f.Deleted,
		"changes": f.Additions + f.Deleted, "blob_url": h.URL + "/" + fmt.Sprintf(path, "blob"), "raw_url": h.URL + "/" + fmt.Sprintf(path, "raw"),
		"contents_url": h.repoURL(r) + "/contents/" + f.Path + "?ref=" + sha,
	}
	if f.Patch != "" {
		out["patch"] = f.Patch
	}
	if f.Previous != "" {
		out["previous_filename"] = f.Previous
	}
	return out
}

// commitShape is a commit of a list.
func (h *Hub) commitShape(r *repository, c gitCommit) m {
	url := h.repoURL(r) + "/commits/" + c.SHA
	parents := shapes(c.Parents, func(sha string) m {
		return m{"sha": sha, "url": h.repoURL(r) + "/commits/" + sha, "html_url": h.URL + "/" + r.full() + "/commit/" + sha}
	})
	who := func(p gitPerson) m { return m{"name": p.Name, "email": p.Email, "date": when(p.Date)} }
	return m{
		"sha": c.SHA, "node_id": nodeID("Commit", userID(c.SHA)), "url": url, "html_url": h.URL + "/" + r.full() + "/commit/" + c.SHA,
		"comments_url": url + "/comments", "author": nil, "committer": nil, "parents": parents,
		"commit": m{
			"message": c.Message, "author": who(c.Author), "committer": who(c.Committer), "comment_count": 0,
			"tree": m{"sha": c.Tree, "url": h.repoURL(r) + "/git/trees/" + c.Tree}, "url": h.repoURL(r) + "/git/commits/" + c.SHA,
			"verification": m{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil},
		},
	}
}
