package hub

import (
	"net/http"
	"time"
)

// downloadLife is how long the address of a download lives, as at GitHub.
const downloadLife = time.Minute

// download is bytes behind an address that needs no token.
type download struct {
	kind    string
	data    []byte
	expires time.Time
}

// redirect answers with a short-lived address, as GitHub does for logs and
// artifacts. The caller holds the lock.
func (h *Hub) redirect(kind string, data []byte) answer {
	now := h.opt.Now()
	for key, d := range h.downloads {
		if d.expires.Before(now) {
			delete(h.downloads, key)
		}
	}
	key := newToken("")
	h.downloads[key] = download{kind: kind, data: data, expires: now.Add(downloadLife)}
	return answer{status: http.StatusFound, header: http.Header{"Location": {h.URL + "/_hub/downloads/" + key}}}
}

func (h *Hub) serveDownload(w http.ResponseWriter, req *http.Request) {
	h.mu.Lock()
	d, known := h.downloads[req.PathValue("key")]
	h.mu.Unlock()
	if !known || d.expires.Before(h.opt.Now()) {
		http.Error(w, "this address has expired: ask the API for another", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", d.kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(d.data) // the client went away
}
