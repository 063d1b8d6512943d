package hub

import (
	"net/http"
	"strings"
)

func (h *Hub) listCommits(c *call) (answer, error) {
	from := c.URL.Query().Get("sha")
	if from == "" {
		from = "refs/heads/" + c.repo.DefaultBranch
	}
	sha, err := h.resolve(c.repo, from)
	if err != nil {
		return answer{}, err
	}
	commits, err := h.commits(c.repo, 0, sha)
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, commits)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(x gitCommit) m { return h.commitShape(c.repo, x) })}, nil
}

func (h *Hub) getCommit(c *call) (answer, error) {
	sha, err := h.resolve(c.repo, c.PathValue("ref"))
	if err != nil {
		return answer{}, &problem{status: http.StatusUnprocessableEntity, message: "No commit found for SHA: " + c.PathValue("ref")}
	}
	if c.Header.Get("Accept") == "application/vnd.github.sha" || strings.HasSuffix(c.Header.Get("Accept"), ".sha") {
		return answer{status: http.StatusOK, raw: []byte(sha)}, nil
	}
	commit, err := h.commit(c.repo, sha)
	if err != nil {
		return answer{}, err
	}
	from := emptyTree
	if len(commit.Parents) > 0 {
		from = commit.Parents[0]
	}
	files, err := h.diff(c.repo, from, sha)
	if err != nil {
		return answer{}, err
	}
	out := h.commitShape(c.repo, commit)
	added, deleted := 0, 0
	for _, f := range files {
		added, deleted = added+f.Additions, deleted+f.Deleted
	}
	out["stats"] = m{"additions": added, "deletions": deleted, "total": added + deleted}
	out["files"] = shapes(files, func(f changedFile) m { return h.fileShape(c.repo, sha, f) })
	return ok(out)
}

// compare is base...head: how head stands to where the two parted.
func (h *Hub) compare(c *call) (answer, error) {
	base, head, found := strings.Cut(c.PathValue("basehead"), "...")
	if !found {
		return answer{}, errNotFound
	}
	baseSHA, err := h.resolve(c.repo, base)
	if err != nil {
		return answer{}, err
	}
	headSHA, err := h.resolve(c.repo, head)
	if err != nil {
		return answer{}, err
	}
	common := h.mergeBase(c.repo, baseSHA, headSHA)
	if common == "" {
		return answer{}, &problem{status: http.StatusNotFound, message: "No common ancestor between " + base + " and " + head + "."}
	}
	ahead, err := h.commits(c.repo, 0, headSHA, "^"+baseSHA)
	if err != nil {
		return answer{}, err
	}
	behind, err := h.count(c.repo, baseSHA, "^"+headSHA)
	if err != nil {
		return answer{}, err
	}
	status := standing(len(ahead), behind)
	baseCommit, err := h.commit(c.repo, baseSHA)
	if err != nil {
		return answer{}, err
	}
	commonCommit, err := h.commit(c.repo, common)
	if err != nil {
		return answer{}, err
	}
	files, err := h.diff(c.repo, common, headSHA)
	if err != nil {
		return answer{}, err
	}
	site := h.URL + "/" + c.repo.full() + "/compare/" + base + "..." + head
	some, header := page(h, c, newest(ahead))
	return answer{status: http.StatusOK, header: header, body: m{
		"url": h.repoURL(c.repo) + "/compare/" + base + "..." + head, "html_url": site, "permalink_url": site,
		"diff_url": site + ".diff", "patch_url": site + ".patch", "status": status, "ahead_by": len(ahead), "behind_by": behind,
		"total_commits": len(ahead), "base_commit": h.commitShape(c.repo, baseCommit), "merge_base_commit": h.commitShape(c.repo, commonCommit),
		"commits": shapes(some, func(x gitCommit) m { return h.commitShape(c.repo, x) }),
		"files":   shapes(files, func(f changedFile) m { return h.fileShape(c.repo, headSHA, f) }),
	}}, nil
}

// standing is how head stands to base.
func standing(ahead, behind int) string {
	switch {
	case ahead == 0 && behind == 0:
		return "identical"
	case behind == 0:
		return "ahead"
	case ahead == 0:
		return "behind"
	}
	return "diverged"
}
