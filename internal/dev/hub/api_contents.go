package hub

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"strings"
)

func (h *Hub) getContents(c *call) (answer, error) {
	ref := c.URL.Query().Get("ref")
	if ref == "" {
		ref = "refs/heads/" + c.repo.DefaultBranch
	}
	sha, err := h.resolve(c.repo, ref)
	if err != nil {
		return answer{}, &problem{status: http.StatusNotFound, message: "No commit found for the ref " + ref}
	}
	file := path.Clean(c.PathValue("path"))
	out, err := h.git(c.repo, nil, "ls-tree", "-z", "-l", sha, "--", file)
	if err != nil || len(out) == 0 {
		return answer{}, errNotFound
	}
	entry := treeEntry(strings.TrimSuffix(string(out), "\x00"))
	if entry.kind == "tree" {
		return h.listContents(c, sha, file)
	}
	data, err := h.show(c.repo, sha, file)
	if err != nil {
		return answer{}, err
	}
	if strings.Contains(c.Header.Get("Accept"), "raw") {
		return answer{status: http.StatusOK, raw: data, header: http.Header{"Content-Type": {"application/vnd.github.raw+json; charset=utf-8"}}}, nil
	}
	shape := h.contentShape(c.repo, sha, entry)
	shape["encoding"], shape["content"] = "base64", base64.StdEncoding.EncodeToString(data)
	return ok(shape)
}

type entry struct {
	kind, sha, path string
	size            int64
}

func treeEntry(line string) entry {
	head, name, _ := strings.Cut(line, "\t")
	f := strings.Fields(head)
	e := entry{kind: f[1], sha: f[2], path: name}
	fmt.Sscan(f[3], &e.size) // "-" of a folder stays 0
	return e
}

func (h *Hub) listContents(c *call, sha, folder string) (answer, error) {
	out, err := h.git(c.repo, nil, "ls-tree", "-z", "-l", sha, "--", folder+"/")
	if err != nil {
		return answer{}, err
	}
	list := []m{}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		list = append(list, h.contentShape(c.repo, sha, treeEntry(line)))
	}
	return ok(list)
}

func (h *Hub) contentShape(r *repository, sha string, e entry) m {
	url := h.repoURL(r) + "/contents/" + e.path + "?ref=" + sha
	kind, page, git := "file", h.URL+"/"+r.full()+"/blob/"+sha+"/"+e.path, h.repoURL(r)+"/git/blobs/"+e.sha
	var raw any = h.URL + "/" + r.full() + "/raw/" + sha + "/" + e.path
	if e.kind == "tree" {
		kind, git, raw = "dir", h.repoURL(r)+"/git/trees/"+e.sha, nil
	}
	return m{
		"type": kind, "name": path.Base(e.path), "path": e.path, "sha": e.sha, "size": e.size, "url": url, "git_url": git, "html_url": page,
		"download_url": raw, "_links": m{"self": url, "git": git, "html": page},
	}
}
