package hub

import (
	"net/http"
	"strings"
)

// routes is all that the hub serves.
func (h *Hub) routes() http.Handler {
	all := &router{}
	h.userRoutes(all)
	h.actionsRoutes(all)
	h.pullRoutes(all)
	h.gitRoutes(all)
	h.deploymentRoutes(all)
	h.checkRoutes(all)
	h.releaseRoutes(all)
	h.artifactRoutes(all)
	h.settingsRoutes(all)
	h.pageRoutes(all)
	h.appRoutes(all)
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		all.HandleFunc(method+" /_hub/faults", h.faultsPath)
	}
	all.HandleFunc("POST /_hub/schedule", h.schedulePath)
	all.HandleFunc("GET /_hub/downloads/{key}", h.serveDownload)
	all.HandleFunc("GET /{owner}/{repo}/info/refs", h.remote)
	all.HandleFunc("POST /{owner}/{repo}/git-upload-pack", h.remote)
	all.HandleFunc("POST /{owner}/{repo}/git-receive-pack", h.remote)
	return h.guard(h.misbehave(all))
}

// isAPI says whether a path is GitHub's: only those misbehave.
func isAPI(path string) bool { return strings.HasPrefix(path, "/api/") }
