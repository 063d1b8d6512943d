package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// snapshotEvery bounds how much a crash can lose.
const snapshotEvery = time.Second

func (h *Hub) snapshotPath() string { return filepath.Join(h.opt.Dir, "hub.json") }

// load reads the snapshot. Runs that were in progress ended with the hub that
// ran them.
func (h *Hub) load() error {
	h.state = &state{LastID: 1000}
	data, err := os.ReadFile(h.snapshotPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, h.state)
	}
	if err != nil {
		return fmt.Errorf("hub: snapshot %s: %w: remove the hub's folder to begin anew", h.snapshotPath(), err)
	}
	for _, r := range h.state.Repositories {
		for _, run := range r.Runs {
			if run.Status == statusInProgress {
				run.Problem = "the hub ended while this ran"
				h.finish(r, run, actrun.Cancelled)
			}
		}
	}
	return nil
}

// save writes the snapshot. The caller holds the lock.
func (h *Hub) save() error {
	data, err := json.Marshal(h.state)
	if err != nil {
		return fmt.Errorf("hub: snapshot: %w", err)
	}
	h.dirty = false
	return verdict.WriteFile(h.snapshotPath(), data)
}

// keepSnapshot writes what changed until the hub ends.
func (h *Hub) keepSnapshot() {
	defer close(h.kept)
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
		}
		h.mu.Lock()
		if h.dirty {
			if err := h.save(); err != nil {
				h.opt.Logf("hub: %v", err)
			}
		}
		h.mu.Unlock()
	}
}

// discardLog: clients that hang up are no news.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
