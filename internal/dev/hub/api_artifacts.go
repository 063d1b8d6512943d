package hub

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/verdict"
)

const (
	artifactLife = 90 * 24 * time.Hour
	maxArtifact  = 1 << 30
	maxArtifacts = 500 // a job's, at GitHub
)

// artifactRoutes are GitHub's reading half, and a plain writing half of the
// hub's own, because GitHub's is a protocol of its runners.
func (h *Hub) artifactRoutes(mux *router) {
	const repo = "/repos/{owner}/{repo}/actions"
	h.api(mux, "GET "+repo+"/artifacts", "actions:read", h.listArtifacts)
	h.api(mux, "GET "+repo+"/runs/{run}/artifacts", "actions:read", h.listArtifacts)
	h.api(mux, "GET "+repo+"/artifacts/{artifact}", "actions:read", h.getArtifact)
	h.api(mux, "DELETE "+repo+"/artifacts/{artifact}", "actions:write", h.deleteArtifact)
	h.api(mux, "GET "+repo+"/artifacts/{artifact}/{format}", "actions:read", h.downloadArtifact)
	mux.HandleFunc("PUT /_hub/artifacts/{owner}/{repo}/{run}/{name}", h.putArtifact)
}

func (h *Hub) artifactPath(a *artifact) string {
	return filepath.Join(h.opt.Dir, "artifacts", strconv.FormatInt(a.ID, 10)+".zip")
}

func (h *Hub) artifactShape(r *repository, a *artifact) m {
	url := fmt.Sprintf("%s/actions/artifacts/%d", h.repoURL(r), a.ID)
	out := m{
		"id": a.ID, "node_id": nodeID("Artifact", a.ID), "name": a.Name, "size_in_bytes": a.Size, "url": url,
		"archive_download_url": url + "/zip", "expired": h.expired(a), "created_at": when(a.Created), "updated_at": when(a.Created),
		"expires_at": when(a.Created.Add(artifactLife)), "digest": a.Digest, "workflow_run": nil,
	}
	if run := r.run(a.Run); run != nil {
		head := r.ID
		if hr := h.state.byFull(run.HeadRepository); hr != nil {
			head = hr.ID
		}
		out["workflow_run"] = m{
			"id": run.ID, "repository_id": r.ID, "head_repository_id": head, "head_branch": run.HeadBranch, "head_sha": run.HeadSHA,
		}
	}
	return out
}

func (h *Hub) expired(a *artifact) bool { return a.Created.Add(artifactLife).Before(h.opt.Now()) }

func (h *Hub) listArtifacts(c *call) (answer, error) {
	all := newest(c.repo.Artifacts)
	if c.PathValue("run") != "" {
		run, err := h.runOf(c)
		if err != nil {
			return answer{}, err
		}
		all = slices.DeleteFunc(all, func(a *artifact) bool { return a.Run != run.ID })
	}
	if name := c.URL.Query().Get("name"); name != "" {
		all = slices.DeleteFunc(all, func(a *artifact) bool { return a.Name != name })
	}
	some, header := page(h, c, all)
	list := shapes(some, func(a *artifact) m { return h.artifactShape(c.repo, a) })
	return answer{status: http.StatusOK, header: header, body: m{"total_count": len(all), "artifacts": list}}, nil
}

func (h *Hub) artifactOf(c *call) (*artifact, error) {
	id, err := c.number("artifact")
	if err != nil {
		return nil, err
	}
	a := find(c.repo.Artifacts, func(a *artifact) bool { return a.ID == id })
	if a == nil {
		return nil, errNotFound
	}
	return a, nil
}

func (h *Hub) getArtifact(c *call) (answer, error) {
	a, err := h.artifactOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.artifactShape(c.repo, a))
}

func (h *Hub) deleteArtifact(c *call) (answer, error) {
	a, err := h.artifactOf(c)
	if err != nil {
		return answer{}, err
	}
	c.repo.Artifacts = slices.DeleteFunc(c.repo.Artifacts, func(o *artifact) bool { return o == a })
	h.changed()
	if err := os.Remove(h.artifactPath(a)); err != nil {
		return answer{}, err
	}
	return noContent()
}

func (h *Hub) downloadArtifact(c *call) (answer, error) {
	a, err := h.artifactOf(c)
	if err != nil {
		return answer{}, err
	}
	if c.PathValue("format") != "zip" {
		return answer{}, errNotFound
	}
	if h.expired(a) {
		return answer{}, &problem{status: http.StatusGone, message: "Artifact has expired"}
	}
	data, err := os.ReadFile(h.artifactPath(a))
	if err != nil {
		return answer{}, err
	}
	return h.redirect("application/zip", data), nil
}

// putArtifact takes a zip archive from a step of the run itself. A name is
// given once and cannot be written over.
func (h *Hub) putArtifact(w http.ResponseWriter, req *http.Request) {
	who, known := h.whoIs(req)
	id, err := strconv.ParseInt(req.PathValue("run"), 10, 64)
	if !known || err != nil || who.Run != id {
		http.Error(w, "the run's own GITHUB_TOKEN is required", http.StatusForbidden)
		return
	}
	name := req.PathValue("name")
	if name == "" || strings.ContainsAny(name, "\":<>|*?\r\n\\/") {
		http.Error(w, "an artifact's name has none of \" : < > | * ? \\ /", http.StatusUnprocessableEntity)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxArtifact))
	if err == nil {
		_, err = zip.NewReader(bytes.NewReader(data), int64(len(data)))
	}
	if err != nil {
		http.Error(w, "the body is no zip archive: "+err.Error(), http.StatusUnprocessableEntity)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.state.repository(req.PathValue("owner"), req.PathValue("repo"))
	if r == nil || r.run(id) == nil {
		http.Error(w, "no such run", http.StatusNotFound)
		return
	}
	of := 0
	for _, a := range r.Artifacts {
		if a.Run == id {
			of++
			if a.Name == name {
				http.Error(w, "an artifact with this name exists already on the run", http.StatusConflict)
				return
			}
		}
	}
	if of >= maxArtifacts {
		http.Error(w, "500 artifacts are the most", http.StatusUnprocessableEntity)
		return
	}
	a := &artifact{ID: h.id(), Run: id, Name: name, Size: int64(len(data)), Digest: digest(data), Created: h.now()}
	if err := verdict.WriteFile(h.artifactPath(a), data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Artifacts = append(r.Artifacts, a)
	h.changed()
	answer{status: http.StatusCreated, body: h.artifactShape(r, a)}.write(w)
}
