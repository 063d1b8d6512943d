package api

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var document []byte

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	send(w, http.StatusOK, "application/json", document)
}
