package hub

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// maxPush bounds what a client can make the hub store at once.
const maxPush = 2 << 30

// remote is git's smart HTTP, by git's own http-backend. What a push changed is
// seen by comparing the refs before and after, while no other push is at work.
func (h *Hub) remote(w http.ResponseWriter, req *http.Request) {
	owner, name := req.PathValue("owner"), strings.TrimSuffix(req.PathValue("repo"), ".git")
	who, ok := h.whoIs(req)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
		http.Error(w, "a token is required: give it as the password", http.StatusUnauthorized)
		return
	}
	writes := strings.HasSuffix(req.URL.Path, "/git-receive-pack") || req.URL.Query().Get("service") == "git-receive-pack"
	h.mu.Lock()
	r := h.state.repository(owner, name)
	level := "read"
	if writes {
		level = "write"
	}
	allowed := r != nil && h.may(who, r, "contents", level)
	h.mu.Unlock()
	if r == nil {
		http.Error(w, "repository not found", http.StatusNotFound)
		return
	}
	if !allowed {
		http.Error(w, "permission to "+r.full()+" denied to "+who.Login, http.StatusForbidden)
		return
	}
	body, err := spool(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer body()
	if strings.HasSuffix(req.URL.Path, "/git-receive-pack") {
		h.receive(w, req, r, who)
		return
	}
	h.backend(w, req, r, who)
}

// receive takes a push and starts what it starts, before git's client hears
// that it is done.
func (h *Hub) receive(w http.ResponseWriter, req *http.Request, r *repository, who identity) {
	h.pushing.Lock()
	defer h.pushing.Unlock()
	before, err := h.readRefs(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.backend(w, req, r, who)
	after, err := h.readRefs(r)
	if err != nil {
		h.opt.Logf("hub: push to %s: %v", r.full(), err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refsMoved(r)
	h.refsChanged(r, before.objects, after.objects, who)
}

// refsChanged makes the events of all refs that differ. The caller holds the lock.
func (h *Hub) refsChanged(r *repository, before, after map[string]string, who identity) {
	names := map[string]bool{}
	for name := range before {
		names[name] = true
	}
	for name := range after {
		names[name] = true
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	h.adoptDefaultBranch(r, after)
	for _, name := range sorted {
		old, now := before[name], after[name]
		if old == now || strings.HasPrefix(name, "refs/pull/") {
			continue
		}
		if err := h.refChanged(r, name, old, now, who); err != nil {
			h.opt.Logf("hub: push of %s to %s: %v", name, r.full(), err)
		}
	}
}

// adoptDefaultBranch: the first branch of an empty repository is its default.
func (h *Hub) adoptDefaultBranch(r *repository, refs map[string]string) {
	if refs["refs/heads/"+r.DefaultBranch] != "" {
		return
	}
	for name := range refs {
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			if _, err := h.git(r, nil, "symbolic-ref", "HEAD", name); err != nil {
				h.opt.Logf("hub: default branch of %s: %v", r.full(), err)
				return
			}
			r.DefaultBranch = branch
			return
		}
	}
}

// backend hands the request to git http-backend.
func (h *Hub) backend(w http.ResponseWriter, req *http.Request, r *repository, who identity) {
	git, err := exec.LookPath("git")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	_, rest, _ = strings.Cut(rest, "/") // behind owner/name
	inner := req.Clone(req.Context())
	inner.URL.Path = "/" + r.Owner + "/" + r.Name + ".git/" + rest
	inner.Header.Del("Authorization")
	handler := &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Env: append(h.gitEnv(),
			"GIT_PROJECT_ROOT="+filepath.Join(h.opt.Dir, "git"), "GIT_HTTP_EXPORT_ALL=1",
			"REMOTE_USER="+who.Login, "GIT_PROTOCOL="+req.Header.Get("Git-Protocol")),
		Stderr: io.Discard,
	}
	handler.ServeHTTP(w, inner)
}

// spool puts a chunked body into a file: CGI must know its length. The function
// it gives removes the file.
func spool(req *http.Request) (func(), error) {
	if req.ContentLength >= 0 {
		return func() {}, nil
	}
	f, err := os.CreateTemp("", "push-*")
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	remove := func() {
		f.Close()
		os.Remove(f.Name())
	}
	n, err := io.Copy(f, io.LimitReader(req.Body, maxPush+1))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil && n > maxPush {
		err = fmt.Errorf("larger than %d bytes", int64(maxPush))
	}
	if err != nil {
		remove()
		return nil, fmt.Errorf("push: %w", err)
	}
	req.Body, req.ContentLength, req.TransferEncoding = f, n, nil
	return remove, nil
}
