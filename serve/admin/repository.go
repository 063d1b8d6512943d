package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/penstock-ml/penstock/serve/host"
)

// Triton's model repository extension (triton-inference-server/server,
// docs/protocol/extension_model_repository.md): what tools that know it ask.
// Its states are READY and UNAVAILABLE, with a reason.

// repositoryModel is one entry of the index.
type repositoryModel struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // the digest
	State   string `json:"state,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// index lists the models; {"ready": true} leaves those out that do not answer.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Ready bool `json:"ready"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := decoder.Decode(&wanted); err != nil && !errors.Is(err, io.EOF) { // nothing is asked for
		fail(w, http.StatusBadRequest, fmt.Sprintf(`the body must be {"ready": true|false} or empty: %v`, err))
		return
	}
	models := []repositoryModel{}
	for _, name := range s.models.Names() {
		status, err := s.models.Status(name)
		if err != nil {
			fail(w, statusOf(err), err.Error())
			return
		}
		if m := entryOf(name, status); m.State == "READY" || !wanted.Ready {
			models = append(models, m)
		}
	}
	reply(w, http.StatusOK, models)
}

// entryOf says READY of whatever answers, also where a newer load goes on or
// failed.
func entryOf(name string, status host.Status) repositoryModel {
	m := repositoryModel{Name: name, Version: status.Serving, State: "READY", Reason: status.Reason}
	if status.Serving == "" {
		m.State = "UNAVAILABLE"
		if m.Reason == "" {
			m.Reason = status.State
		}
	}
	return m
}

// repositoryLoad is refused: the extension names a model, and not which bundle.
func (s *Server) repositoryLoad(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if _, err := s.models.Status(name); err != nil {
		fail(w, statusOf(err), err.Error())
		return
	}
	fail(w, http.StatusBadRequest, fmt.Sprintf(`load by name says nothing of which bundle: PUT /admin/v1/models/%s with {"digest": "..."}`, name))
}

// repositoryUnload is a DELETE under another name. Its body's parameters
// (unload_dependents) mean nothing here.
func (s *Server) repositoryUnload(w http.ResponseWriter, r *http.Request) { s.unload(w, r) }
