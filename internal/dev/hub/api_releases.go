package hub

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// maxAsset bounds a release's file.
const maxAsset = 2 << 30

func (h *Hub) releaseRoutes(mux *router) {
	const all = "/repos/{owner}/{repo}/releases"
	h.api(mux, "GET "+all, "contents:read", h.listReleases)
	h.api(mux, "POST "+all, "contents:write", h.postRelease)
	h.api(mux, "GET "+all+"/latest", "contents:read", h.latestRelease)
	h.api(mux, "GET "+all+"/tags/{tag...}", "contents:read", h.releaseByTag)
	h.api(mux, "GET "+all+"/{release}", "contents:read", h.getRelease)
	h.api(mux, "PATCH "+all+"/{release}", "contents:write", h.patchRelease)
	h.api(mux, "DELETE "+all+"/{release}", "contents:write", h.deleteRelease)
	h.api(mux, "GET "+all+"/{release}/assets", "contents:read", h.listAssets)
	h.api(mux, "GET "+all+"/assets/{asset}", "contents:read", h.getAsset)
	mux.HandleFunc("POST /api/uploads/repos/{owner}/{repo}/releases/{release}/assets", h.putAsset)
}

func (h *Hub) assetPath(a *asset) string {
	return filepath.Join(h.opt.Dir, "assets", strconv.FormatInt(a.ID, 10))
}

func (h *Hub) assetShape(r *repository, x *release, a *asset) m {
	return m{
		"url": fmt.Sprintf("%s/releases/assets/%d", h.repoURL(r), a.ID), "id": a.ID, "node_id": nodeID("ReleaseAsset", a.ID), "name": a.Name,
		"browser_download_url": fmt.Sprintf("%s/%s/releases/download/%s/%s", h.URL, r.full(), x.Tag, a.Name), "label": nil, "state": "uploaded",
		"content_type": a.Type, "size": a.Size, "digest": a.Digest, "download_count": 0, "created_at": when(a.Created),
		"updated_at": when(a.Created), "uploader": h.user(a.Uploader),
	}
}

func (h *Hub) releaseShape(r *repository, x *release) m {
	url := fmt.Sprintf("%s/releases/%d", h.repoURL(r), x.ID)
	return m{
		"url": url, "html_url": h.URL + "/" + r.full() + "/releases/tag/" + x.Tag, "assets_url": url + "/assets",
		"upload_url":  fmt.Sprintf("%s/api/uploads/repos/%s/releases/%d/assets{?name,label}", h.URL, r.full(), x.ID),
		"tarball_url": h.repoURL(r) + "/tarball/" + x.Tag, "zipball_url": h.repoURL(r) + "/zipball/" + x.Tag, "id": x.ID,
		"node_id": nodeID("Release", x.ID), "tag_name": x.Tag, "target_commitish": x.Target, "name": text(x.Name), "body": text(x.Body),
		"draft": x.Draft, "prerelease": x.Prerelease, "immutable": false, "created_at": when(x.Created), "published_at": when(x.Published),
		"author": h.user(x.Author), "assets": shapes(x.Assets, func(a *asset) m { return h.assetShape(r, x, a) }),
	}
}

func (h *Hub) listReleases(c *call) (answer, error) {
	some, header := page(h, c, newest(c.repo.Releases))
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(x *release) m { return h.releaseShape(c.repo, x) })}, nil
}

type releaseBody struct {
	Tag        string `json:"tag_name"`
	Target     string `json:"target_commitish"`
	Name, Body *string
	Draft      *bool
	Prerelease *bool
}

func (h *Hub) postRelease(c *call) (answer, error) {
	var body releaseBody
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if body.Tag == "" {
		return answer{}, invalid("Release", "tag_name", "missing_field")
	}
	if find(c.repo.Releases, func(x *release) bool { return x.Tag == body.Tag && !x.Draft }) != nil {
		return answer{}, invalid("Release", "tag_name", "already_exists")
	}
	x := &release{ID: h.id(), Tag: body.Tag, Target: orElse(body.Target, c.repo.DefaultBranch), Author: c.who.Login, Created: h.now()}
	fillRelease(x, body)
	if err := h.publish(c, x); err != nil {
		return answer{}, err
	}
	c.repo.Releases = append(c.repo.Releases, x)
	h.changed()
	return answer{status: http.StatusCreated, body: h.releaseShape(c.repo, x)}, h.released(c, x)
}

func fillRelease(x *release, b releaseBody) {
	if b.Name != nil {
		x.Name = *b.Name
	}
	if b.Body != nil {
		x.Body = *b.Body
	}
	if b.Draft != nil {
		x.Draft = *b.Draft
	}
	if b.Prerelease != nil {
		x.Prerelease = *b.Prerelease
	}
}

// publish gives a release that is no draft its tag.
func (h *Hub) publish(c *call, x *release) error {
	if x.Draft {
		return nil
	}
	x.Published = h.now()
	if _, err := h.resolve(c.repo, "refs/tags/"+x.Tag); err == nil {
		return nil
	}
	sha, err := h.resolve(c.repo, x.Target)
	if err != nil {
		return invalid("Release", "target_commitish", "invalid")
	}
	return h.moveRef(c, "refs/tags/"+x.Tag, "", sha)
}

// released fires release for one that is published.
func (h *Hub) released(c *call, x *release) error {
	if x.Draft {
		return nil
	}
	sha, err := h.resolve(c.repo, "refs/tags/"+x.Tag)
	if err != nil {
		return err
	}
	return h.fire(c.repo, occurrence{
		event: trigger.Event{Name: "release", Type: "published"}, ref: "refs/tags/" + x.Tag, sha: sha, headBranch: x.Tag, headSHA: sha,
		title: x.Name, who: c.who, payload: h.payload(c.repo, c.who, m{"action": "published", "release": h.releaseShape(c.repo, x)}),
	})
}

func (h *Hub) releaseOf(c *call) (*release, error) {
	id, err := c.number("release")
	if err != nil {
		return nil, err
	}
	x := find(c.repo.Releases, func(x *release) bool { return x.ID == id })
	if x == nil {
		return nil, errNotFound
	}
	return x, nil
}

func (h *Hub) getRelease(c *call) (answer, error) {
	x, err := h.releaseOf(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.releaseShape(c.repo, x))
}

func (h *Hub) latestRelease(c *call) (answer, error) {
	x := find(newest(c.repo.Releases), func(x *release) bool { return !x.Draft && !x.Prerelease })
	if x == nil {
		return answer{}, errNotFound
	}
	return ok(h.releaseShape(c.repo, x))
}

func (h *Hub) releaseByTag(c *call) (answer, error) {
	x := find(c.repo.Releases, func(x *release) bool { return x.Tag == c.PathValue("tag") && !x.Draft })
	if x == nil {
		return answer{}, errNotFound
	}
	return ok(h.releaseShape(c.repo, x))
}

func (h *Hub) patchRelease(c *call) (answer, error) {
	x, err := h.releaseOf(c)
	if err != nil {
		return answer{}, err
	}
	var body releaseBody
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	was := x.Draft
	fillRelease(x, body)
	h.changed()
	if was && !x.Draft {
		if err := h.publish(c, x); err != nil {
			return answer{}, err
		}
		if err := h.released(c, x); err != nil {
			return answer{}, err
		}
	}
	return ok(h.releaseShape(c.repo, x))
}

func (h *Hub) deleteRelease(c *call) (answer, error) {
	x, err := h.releaseOf(c)
	if err != nil {
		return answer{}, err
	}
	c.repo.Releases = slices.DeleteFunc(c.repo.Releases, func(o *release) bool { return o == x })
	h.changed()
	return noContent()
}

func (h *Hub) listAssets(c *call) (answer, error) {
	x, err := h.releaseOf(c)
	if err != nil {
		return answer{}, err
	}
	some, header := page(h, c, x.Assets)
	return answer{status: http.StatusOK, header: header, body: shapes(some, func(a *asset) m { return h.assetShape(c.repo, x, a) })}, nil
}

func (h *Hub) getAsset(c *call) (answer, error) {
	id, err := c.number("asset")
	if err != nil {
		return answer{}, err
	}
	for _, x := range c.repo.Releases {
		a := find(x.Assets, func(a *asset) bool { return a.ID == id })
		if a == nil {
			continue
		}
		if !strings.Contains(c.Header.Get("Accept"), "octet-stream") {
			return ok(h.assetShape(c.repo, x, a))
		}
		data, err := os.ReadFile(h.assetPath(a))
		return h.redirect(a.Type, data), err
	}
	return answer{}, errNotFound
}

// putAsset takes a release's file; its body is larger than the API's.
func (h *Hub) putAsset(w http.ResponseWriter, req *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxAsset))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	req.Body = http.NoBody
	h.serveAPI(w, req, "contents:write", func(c *call) (answer, error) {
		x, err := h.releaseOf(c)
		if err != nil {
			return answer{}, err
		}
		name := c.URL.Query().Get("name")
		if name == "" || strings.Contains(name, "/") || find(x.Assets, func(a *asset) bool { return a.Name == name }) != nil {
			return answer{}, invalid("ReleaseAsset", "name", "already_exists")
		}
		a := &asset{
			ID: h.id(), Name: name, Type: orElse(c.Header.Get("Content-Type"), "application/octet-stream"), Size: int64(len(data)),
			Digest: digest(data), Uploader: c.who.Login, Created: h.now(),
		}
		if err := verdict.WriteFile(h.assetPath(a), data); err != nil {
			return answer{}, err
		}
		x.Assets = append(x.Assets, a)
		h.changed()
		return created(h.assetShape(c.repo, x, a))
	})
}
