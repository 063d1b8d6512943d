package hub

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// tickEvery is how often the clock is looked at; GitHub's own schedules are
// late by minutes.
const tickEvery = 10 * time.Second

// keepSchedules starts scheduled workflows by the hub's clock until it ends.
func (h *Hub) keepSchedules() {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for last := h.now(); ; {
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
		}
		now := h.now()
		if err := h.Tick(last, now); err != nil {
			h.opt.Logf("hub: schedules: %v", err)
		}
		last = now
	}
}

// schedulePath is POST /_hub/schedule {repository, workflow}: a schedule that is
// due now, for the administrator.
func (h *Hub) schedulePath(w http.ResponseWriter, req *http.Request) {
	if who, known := h.whoIs(req); !known || !who.Admin {
		http.Error(w, "the administrator's token is required", http.StatusUnauthorized)
		return
	}
	var body struct{ Repository, Workflow string }
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody)).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	owner, name, _ := strings.Cut(body.Repository, "/")
	if err := h.Schedule(owner, name, body.Workflow); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
