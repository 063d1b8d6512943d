package hub

import (
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

// openPull makes a pull request. head is branch, or owner:branch of a fork.
func (h *Hub) openPull(r *repository, title, body, head, base string, draft bool, who identity) (*issue, error) {
	headRepo, branch := r, head
	if owner, b, ok := strings.Cut(head, ":"); ok {
		branch = b
		headRepo = find(h.state.Repositories, func(x *repository) bool {
			return strings.EqualFold(x.Owner, owner) && (x == r || strings.EqualFold(x.Parent, r.full()))
		})
		if headRepo == nil {
			return nil, invalid("PullRequest", "head", "invalid")
		}
	}
	if _, err := h.resolve(r, "refs/heads/"+base); err != nil {
		return nil, invalid("PullRequest", "base", "invalid")
	}
	if _, err := h.resolve(headRepo, "refs/heads/"+branch); err != nil {
		return nil, invalid("PullRequest", "head", "invalid")
	}
	for _, i := range r.Issues {
		if p := i.Pull; p != nil && i.State == "open" && p.HeadRepository == headRepo.full() && p.Head == branch && p.Base == base {
			return nil, invalidText("A pull request already exists for " + headRepo.Owner + ":" + branch + ".")
		}
	}
	now := h.now()
	r.LastNumber++
	i := &issue{
		ID: h.id(), Number: r.LastNumber, Title: title, Body: body, State: "open", User: who.Login, Created: now, Updated: now,
		Pull: &pull{ID: h.id(), Base: base, HeadRepository: headRepo.full(), Head: branch, Draft: draft},
	}
	if err := h.refreshPull(r, i); err != nil {
		return nil, err
	}
	if i.Pull.Commits == 0 {
		return nil, invalidText("No commits between " + base + " and " + branch)
	}
	r.Issues = append(r.Issues, i)
	h.changed()
	return i, h.pullEvent(r, i, "opened", who, nil)
}

// refreshPull fetches the head, makes the trial merge and counts.
func (h *Hub) refreshPull(r *repository, i *issue) error {
	p := i.Pull
	h.refsMoved(r)
	if headRepo := h.state.byFull(p.HeadRepository); headRepo != nil {
		from := fmt.Sprintf("+refs/heads/%s:refs/pull/%d/head", p.Head, i.Number)
		if _, err := h.git(r, nil, "fetch", "--quiet", "--no-tags", h.gitDir(headRepo), from); err != nil {
			return err
		}
	}
	var err error
	if p.HeadSHA, err = h.resolve(r, fmt.Sprintf("refs/pull/%d/head", i.Number)); err != nil {
		return err
	}
	if p.BaseSHA, err = h.resolve(r, "refs/heads/"+p.Base); err != nil {
		return err
	}
	p.MergeSHA, p.Mergeable = "", false
	message := fmt.Sprintf("Merge %s into %s", p.HeadSHA, p.BaseSHA)
	if sha, err := h.merge(r, p.BaseSHA, p.HeadSHA, message); err == nil {
		p.MergeSHA, p.Mergeable = sha, true
		if err := h.setRef(r, fmt.Sprintf("refs/pull/%d/merge", i.Number), sha); err != nil {
			return err
		}
	}
	if p.Commits, err = h.count(r, p.HeadSHA, "^"+p.BaseSHA); err != nil {
		return err
	}
	files, err := h.pullFiles(r, p)
	if err != nil {
		return err
	}
	p.Files, p.Additions, p.Deleted = len(files), 0, 0
	for _, f := range files {
		p.Additions += f.Additions
		p.Deleted += f.Deleted
	}
	i.Updated = h.now()
	return nil
}

// merge makes a merge commit without a working tree; an error is a conflict.
func (h *Hub) merge(r *repository, base, head, message string) (string, error) {
	tree, err := h.git(r, nil, "merge-tree", "--write-tree", base, head)
	if err != nil {
		return "", err
	}
	commit, err := h.git(r, []byte(message+"\n"), "commit-tree", strings.TrimSpace(string(tree)), "-p", base, "-p", head)
	return strings.TrimSpace(string(commit)), err
}

// pullFiles are the files that the pull request changes since it left its base.
func (h *Hub) pullFiles(r *repository, p *pull) ([]changedFile, error) {
	from := h.mergeBase(r, p.BaseSHA, p.HeadSHA)
	if from == "" {
		from = p.BaseSHA
	}
	return h.diff(r, from, p.HeadSHA)
}

// pullEvent fires pull_request and pull_request_target.
func (h *Hub) pullEvent(r *repository, i *issue, action string, who identity, extra m) error {
	p := i.Pull
	files, err := h.pullFiles(r, p)
	if err != nil {
		return err
	}
	payload := func() m {
		own := m{"action": action, "number": i.Number, "pull_request": h.pullShape(r, i, true)}
		for k, v := range extra {
			own[k] = v
		}
		return h.payload(r, who, own)
	}
	o := occurrence{
		event: trigger.Event{Name: "pull_request", Type: action, Branch: p.Base, Paths: paths(files)},
		ref:   fmt.Sprintf("refs/pull/%d/merge", i.Number), sha: p.MergeSHA,
		headBranch: p.Head, headSHA: p.HeadSHA, headRepo: p.HeadRepository, title: i.Title, who: who,
		pull: i.Number, fork: !strings.EqualFold(p.HeadRepository, r.full()), payload: payload(),
	}
	head, err := h.commit(r, p.HeadSHA)
	if err != nil {
		return err
	}
	// A pull request that conflicts starts nothing: there is no merge to run.
	if p.Mergeable && !skipRule.MatchString(head.Message) {
		if err := h.fire(r, o); err != nil {
			return err
		}
	}
	o.event.Name, o.ref, o.sha, o.payload = "pull_request_target", "refs/heads/"+p.Base, p.BaseSHA, payload()
	return h.fire(r, o)
}

// headMoved tells pull requests that a branch moved: their head, or their base.
// now is "" where the branch is gone.
func (h *Hub) headMoved(r *repository, branch, now string, who identity) error {
	for _, base := range h.state.Repositories {
		for _, i := range base.Issues {
			if i.Pull == nil || i.State != "open" {
				continue
			}
			isHead := i.Pull.HeadRepository == r.full() && i.Pull.Head == branch
			isBase := base == r && i.Pull.Base == branch
			if err := h.pullMoved(base, i, isHead, isBase, now, who); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *Hub) pullMoved(base *repository, i *issue, isHead, isBase bool, now string, who identity) error {
	switch {
	case (isHead || isBase) && now == "":
		i.State, i.Closed, i.Updated = "closed", h.now(), h.now()
		return h.pullEvent(base, i, "closed", who, nil)
	case isHead:
		before := i.Pull.HeadSHA
		if err := h.refreshPull(base, i); err != nil {
			return err
		}
		if i.Pull.HeadSHA == before {
			return nil
		}
		return h.pullEvent(base, i, "synchronize", who, m{"before": before, "after": i.Pull.HeadSHA})
	case isBase:
		return h.refreshPull(base, i)
	}
	return nil
}

// closePull closes or reopens.
func (h *Hub) setIssueState(r *repository, i *issue, to string, who identity) error {
	if i.State == to {
		return nil
	}
	i.State, i.Updated, i.Closed = to, h.now(), timestamp{}
	action := "reopened"
	if to == "closed" {
		i.Closed, action = h.now(), "closed"
	}
	h.changed()
	if i.Pull == nil {
		return nil
	}
	if to == "open" {
		if err := h.refreshPull(r, i); err != nil {
			return err
		}
	}
	return h.pullEvent(r, i, action, who, nil)
}

// mergePull merges a pull request into its base and pushes that.
func (h *Hub) mergePull(r *repository, i *issue, who identity) error {
	p := i.Pull
	old := p.BaseSHA
	message := fmt.Sprintf("Merge pull request #%d from %s/%s\n\n%s", i.Number, strings.SplitN(p.HeadRepository, "/", 2)[0], p.Head, i.Title)
	sha, err := h.merge(r, p.BaseSHA, p.HeadSHA, message)
	if err != nil {
		return err
	}
	if err := h.setRef(r, "refs/heads/"+p.Base, sha); err != nil {
		return err
	}
	p.Merged, p.MergedBy, p.MergedAt = true, who.Login, h.now()
	i.State, i.Closed, i.Updated = "closed", h.now(), h.now()
	// The trial merge stays what the event runs on.
	if err := h.pullEvent(r, i, "closed", who, nil); err != nil {
		return err
	}
	p.MergeSHA = sha
	return h.refChanged(r, "refs/heads/"+p.Base, old, sha, who)
}
