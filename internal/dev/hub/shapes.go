package hub

import (
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

// nodeID is an opaque identifier, as GitHub's GraphQL gives.
func nodeID(kind string, id int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + strconv.FormatInt(id, 10)))
}

// when is a time, or null.
func when(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}

// text is a text, or null.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func userID(login string) int64 {
	f := fnv.New32a()
	f.Write([]byte(strings.ToLower(login)))
	return int64(f.Sum32())
}

func isBot(login string) bool { return strings.HasSuffix(login, "[bot]") }

// user is somebody as others see them.
func (h *Hub) user(login string) m {
	base := h.API() + "/users/" + login
	kind := "User"
	if isBot(login) {
		kind = "Bot"
	}
	return m{
		"login": login, "id": userID(login), "node_id": nodeID("User", userID(login)), "type": kind, "site_admin": false,
		"avatar_url": h.URL + "/_hub/avatar.svg", "gravatar_id": "", "url": base, "html_url": h.URL + "/" + login,
		"followers_url": base + "/followers", "following_url": base + "/following{/other_user}", "gists_url": base + "/gists{/gist_id}",
		"starred_url": base + "/starred{/owner}{/repo}", "subscriptions_url": base + "/subscriptions",
		"organizations_url": base + "/orgs", "repos_url": base + "/repos", "events_url": base + "/events{/privacy}",
		"received_events_url": base + "/received_events", "user_view_type": "public",
	}
}

// repoURL is the API's address of a repository.
func (h *Hub) repoURL(r *repository) string { return h.API() + "/repos/" + r.full() }

// repositoryTemplates are the addresses that every shape of a repository has.
var repositoryTemplates = map[string]string{
	"archive_url": "/{archive_format}{/ref}", "assignees_url": "/assignees{/user}", "blobs_url": "/git/blobs{/sha}",
	"branches_url": "/branches{/branch}", "collaborators_url": "/collaborators{/collaborator}", "comments_url": "/comments{/number}",
	"commits_url": "/commits{/sha}", "compare_url": "/compare/{base}...{head}", "contents_url": "/contents/{+path}",
	"contributors_url": "/contributors", "deployments_url": "/deployments", "downloads_url": "/downloads", "events_url": "/events",
	"forks_url": "/forks", "git_commits_url": "/git/commits{/sha}", "git_refs_url": "/git/refs{/sha}", "git_tags_url": "/git/tags{/sha}",
	"hooks_url": "/hooks", "issue_comment_url": "/issues/comments{/number}", "issue_events_url": "/issues/events{/number}",
	"issues_url": "/issues{/number}", "keys_url": "/keys{/key_id}", "labels_url": "/labels{/name}", "languages_url": "/languages",
	"merges_url": "/merges", "milestones_url": "/milestones{/number}", "notifications_url": "/notifications{?since,all,participating}",
	"pulls_url": "/pulls{/number}", "releases_url": "/releases{/id}", "stargazers_url": "/stargazers", "statuses_url": "/statuses/{sha}",
	"subscribers_url": "/subscribers", "subscription_url": "/subscription", "tags_url": "/tags", "teams_url": "/teams",
	"trees_url": "/git/trees{/sha}",
}

// minimalRepository is a repository inside another answer.
func (h *Hub) minimalRepository(r *repository) m {
	out := m{
		"id": r.ID, "node_id": nodeID("Repository", r.ID), "name": r.Name, "full_name": r.full(), "owner": h.user(r.Owner),
		"private": r.Private, "html_url": h.URL + "/" + r.full(), "description": nil, "fork": r.Parent != "", "url": h.repoURL(r),
	}
	for name, path := range repositoryTemplates {
		out[name] = h.repoURL(r) + path
	}
	return out
}

// visibility is public or private.
func visibility(r *repository) string {
	if r.Private {
		return "private"
	}
	return "public"
}

// simpleRepository is a repository with its counts, as pull requests show it.
func (h *Hub) simpleRepository(r *repository) m {
	out := h.minimalRepository(r)
	open := 0
	for _, i := range r.Issues {
		if i.State == "open" {
			open++
		}
	}
	for k, v := range (m{
		"clone_url": h.GitURL(r.Owner, r.Name), "git_url": h.GitURL(r.Owner, r.Name), "ssh_url": h.GitURL(r.Owner, r.Name),
		"svn_url": h.URL + "/" + r.full(), "mirror_url": nil, "homepage": nil, "language": nil, "license": nil,
		"default_branch": r.DefaultBranch, "visibility": visibility(r), "forks": 0, "forks_count": 0, "open_issues": open,
		"open_issues_count": open, "watchers": 0, "watchers_count": 0, "stargazers_count": 0, "size": 0, "archived": false,
		"disabled": false, "has_issues": true, "has_projects": false, "has_wiki": false, "has_pages": false, "has_downloads": false,
		"has_discussions": false, "is_template": false, "topics": []string{}, "allow_forking": true, "web_commit_signoff_required": false,
		"created_at": when(r.Created), "updated_at": when(r.Pushed), "pushed_at": when(r.Pushed),
	}) {
		out[k] = v
	}
	return out
}

// fullRepository is GET /repos/{owner}/{repo}.
func (h *Hub) fullRepository(r *repository, who identity) m {
	out := h.simpleRepository(r)
	write := h.may(who, r, "contents", "write")
	out["permissions"] = m{"admin": who.Admin, "maintain": who.Admin, "push": write, "triage": write, "pull": true}
	out["network_count"], out["subscribers_count"] = 0, 0
	out["allow_squash_merge"], out["allow_merge_commit"], out["allow_rebase_merge"] = false, true, false
	if parent := h.state.byFull(r.Parent); parent != nil {
		out["parent"], out["source"] = h.simpleRepository(parent), h.simpleRepository(parent)
	}
	return out
}

// payloadRepository is a repository in an event's payload.
func (h *Hub) payloadRepository(r *repository) m { return h.simpleRepository(r) }

func (h *Hub) workflowShape(r *repository, w *workflowRecord) m {
	state := "active"
	if w.Disabled {
		state = "disabled_manually"
	}
	return m{
		"id": w.ID, "node_id": nodeID("Workflow", w.ID), "name": w.Name, "path": w.Path, "state": state,
		"created_at": when(w.Created), "updated_at": when(w.Created),
		"url":       fmt.Sprintf("%s/actions/workflows/%d", h.repoURL(r), w.ID),
		"html_url":  h.URL + "/" + r.full() + "/blob/" + r.DefaultBranch + "/" + w.Path,
		"badge_url": h.URL + "/" + r.full() + "/actions/workflows/" + strings.TrimPrefix(w.Path, ".github/workflows/") + "/badge.svg",
	}
}

func (h *Hub) runURL(r *repository, run *run) string {
	return fmt.Sprintf("%s/actions/runs/%d", h.repoURL(r), run.ID)
}

func (h *Hub) runPage(r *repository, run *run) string {
	return fmt.Sprintf("%s/%s/actions/runs/%d", h.URL, r.full(), run.ID)
}

func (h *Hub) jobURL(r *repository, run *run, j *job) string {
	return fmt.Sprintf("%s/job/%d", h.runPage(r, run), j.ID)
}

// runShape is a workflow run.
func (h *Hub) runShape(r *repository, run *run) m {
	url := h.runURL(r, run)
	head := h.minimalRepository(r)
	if hr := h.state.byFull(run.HeadRepository); hr != nil {
		head = h.minimalRepository(hr)
	}
	var previous any
	if run.Attempt > 1 {
		previous = fmt.Sprintf("%s/attempts/%d", url, run.Attempt-1)
	}
	return m{
		"id": run.ID, "name": run.Name, "node_id": nodeID("WorkflowRun", run.ID), "check_suite_id": run.ID,
		"check_suite_node_id": nodeID("CheckSuite", run.ID), "head_branch": text(run.HeadBranch), "head_sha": run.HeadSHA,
		"path": run.Path, "run_number": run.Number, "run_attempt": run.Attempt, "event": run.Event, "display_title": run.Title,
		"status": run.Status, "conclusion": text(run.Conclusion), "workflow_id": run.Workflow, "url": url, "html_url": h.runPage(r, run),
		"pull_requests": h.runPulls(r, run), "created_at": when(run.Created), "updated_at": when(run.Updated),
		"run_started_at": when(run.Started), "actor": h.user(run.Actor), "triggering_actor": h.user(run.Triggering),
		"jobs_url": url + "/jobs", "logs_url": url + "/logs", "check_suite_url": fmt.Sprintf("%s/check-suites/%d", h.repoURL(r), run.ID),
		"artifacts_url": url + "/artifacts", "cancel_url": url + "/cancel", "rerun_url": url + "/rerun", "previous_attempt_url": previous,
		"workflow_url": fmt.Sprintf("%s/actions/workflows/%d", h.repoURL(r), run.Workflow),
		"head_commit":  h.headCommit(r, run.HeadSHA), "repository": h.minimalRepository(r), "head_repository": head,
		"referenced_workflows": []m{},
	}
}

// runPulls: GitHub lists none for a fork's pull request.
func (h *Hub) runPulls(r *repository, run *run) []m {
	i := r.issue(run.Pull)
	if i == nil || i.Pull == nil || run.Fork {
		return []m{}
	}
	return []m{h.pullMinimal(r, i)}
}

func (h *Hub) pullMinimal(r *repository, i *issue) m {
	repo := m{"id": r.ID, "url": h.repoURL(r), "name": r.Name}
	return m{
		"id": i.Pull.ID, "number": i.Number, "url": fmt.Sprintf("%s/pulls/%d", h.repoURL(r), i.Number),
		"head": m{"ref": i.Pull.Head, "sha": i.Pull.HeadSHA, "repo": repo},
		"base": m{"ref": i.Pull.Base, "sha": i.Pull.BaseSHA, "repo": repo},
	}
}

// headCommit is the commit of a run, in short; null where it is gone. A commit
// never changes, so its shape is kept.
func (h *Hub) headCommit(r *repository, sha string) any {
	key := r.full() + "@" + sha
	if c, known := h.heads[key]; known {
		return c
	}
	c, err := h.commit(r, sha)
	if err != nil {
		return nil
	}
	h.heads[key] = m{
		"id": c.SHA, "tree_id": c.Tree, "message": c.Message, "timestamp": when(c.Committer.Date),
		"author": m{"name": c.Author.Name, "email": c.Author.Email}, "committer": m{"name": c.Committer.Name, "email": c.Committer.Email},
	}
	return h.heads[key]
}

// jobShape is a job of a run.
func (h *Hub) jobShape(r *repository, run *run, j *job) m {
	steps := []m{}
	for i, s := range j.Steps {
		steps = append(steps, m{
			"name": s.Name, "status": s.Status, "conclusion": text(s.Conclusion), "number": i + 1,
			"started_at": when(s.Started), "completed_at": when(s.Completed),
		})
	}
	started := j.Started
	if started.IsZero() {
		started = j.Created
	}
	var runner, group any
	var runnerID, groupID any
	if !j.Started.IsZero() {
		runner, group, runnerID, groupID = "penstock-hub", "Default", 1, 1
	}
	labels := j.Labels
	if labels == nil {
		labels = []string{}
	}
	return m{
		"id": j.ID, "run_id": run.ID, "run_url": h.runURL(r, run), "run_attempt": j.Attempt, "node_id": nodeID("CheckRun", j.ID),
		"head_sha": run.HeadSHA, "head_branch": text(run.HeadBranch), "workflow_name": run.Name, "name": j.Name,
		"url": fmt.Sprintf("%s/actions/jobs/%d", h.repoURL(r), j.ID), "html_url": h.jobURL(r, run, j),
		"status": j.Status, "conclusion": text(j.Conclusion), "created_at": when(j.Created), "started_at": when(started),
		"completed_at": when(j.Completed), "steps": steps, "check_run_url": fmt.Sprintf("%s/check-runs/%d", h.repoURL(r), j.ID),
		"labels": labels, "runner_id": runnerID, "runner_name": runner, "runner_group_id": groupID, "runner_group_name": group,
	}
}
