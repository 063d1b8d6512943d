package hub

import (
	"regexp"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

type timestamp = time.Time

// maxPayloadCommits is how many commits a push's payload lists.
const maxPayloadCommits = 20

// skipRule: commits that ask for no runs, by any of GitHub's words.
var skipRule = regexp.MustCompile(`\[(skip ci|ci skip|no ci|skip actions|actions skip)\]`)

// refChanged makes the events of one ref that a push, or the API, has moved. An
// empty SHA is a ref that was or is not there.
func (h *Hub) refChanged(r *repository, ref, old, now string, who identity) error {
	r.Pushed = h.now()
	h.changed()
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		if err := h.headMoved(r, branch, now, who); err != nil {
			return err
		}
	}
	if now == "" { // a deletion starts nothing on push
		return nil
	}
	sha, err := h.resolve(r, ref)
	if err != nil {
		return err
	}
	head, err := h.commit(r, sha)
	if err != nil {
		return err
	}
	if skipRule.MatchString(head.Message) {
		return nil
	}
	before := old
	if before == "" {
		before = zeroSHA
	}
	name, _ := refParts(ref)
	event := trigger.Event{Name: "push", Ref: ref}
	if strings.HasPrefix(ref, "refs/heads/") {
		if event.Paths, err = h.pushedPaths(r, before, sha, ref); err != nil {
			return err
		}
	}
	payload, err := h.pushPayload(r, ref, before, now, head, who)
	if err != nil {
		return err
	}
	title, _, _ := strings.Cut(head.Message, "\n")
	return h.fire(r, occurrence{
		event: event, ref: ref, sha: sha, headBranch: name, headSHA: sha, title: title, who: who, payload: payload,
	})
}

func (h *Hub) pushPayload(r *repository, ref, before, after string, head gitCommit, who identity) (m, error) {
	span := []string{head.SHA}
	compare := h.URL + "/" + r.full() + "/commit/" + head.SHA[:12]
	forced := false
	if before != zeroSHA {
		span = append(span, "^"+before)
		compare = h.URL + "/" + r.full() + "/compare/" + before[:12] + "..." + head.SHA[:12]
		forced = h.mergeBase(r, before, head.SHA) != before
	}
	commits, err := h.commits(r, maxPayloadCommits, span...)
	if err != nil {
		return nil, err
	}
	list := []m{}
	for _, c := range newest(commits) {
		shape, err := h.pushedCommit(r, c)
		if err != nil {
			return nil, err
		}
		list = append(list, shape)
	}
	headShape, err := h.pushedCommit(r, head)
	if err != nil {
		return nil, err
	}
	return h.payload(r, who, m{
		"ref": ref, "before": before, "after": after, "created": before == zeroSHA, "deleted": false, "forced": forced,
		"base_ref": nil, "compare": compare, "commits": list, "head_commit": headShape,
		"pusher": m{"name": who.Login, "email": who.Login + "@users.noreply.localhost"},
	}), nil
}

// pushedCommit is a commit in a push's payload, with the files it changed.
func (h *Hub) pushedCommit(r *repository, c gitCommit) (m, error) {
	from := emptyTree
	if len(c.Parents) > 0 {
		from = c.Parents[0]
	}
	files, err := h.diff(r, from, c.SHA)
	if err != nil {
		return nil, err
	}
	added, removed, modified := []string{}, []string{}, []string{}
	for _, f := range files {
		switch f.Status {
		case "added", "copied":
			added = append(added, f.Path)
		case "removed":
			removed = append(removed, f.Path)
		case "renamed":
			added, removed = append(added, f.Path), append(removed, f.Previous)
		default:
			modified = append(modified, f.Path)
		}
	}
	return m{
		"id": c.SHA, "tree_id": c.Tree, "distinct": true, "message": c.Message, "timestamp": c.Committer.Date,
		"url":    h.URL + "/" + r.full() + "/commit/" + c.SHA,
		"author": m{"name": c.Author.Name, "email": c.Author.Email}, "committer": m{"name": c.Committer.Name, "email": c.Committer.Email},
		"added": added, "removed": removed, "modified": modified,
	}, nil
}
