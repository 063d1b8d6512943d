package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// ErrMemory means that the server could not note what it serves: its own fault,
// which says nothing of the bundle.
var ErrMemory = errors.New("remember the model for a restart")

// memory is the file that holds the assigned digest over a restart.
type memory string

func memoryOf(dir, name string) memory { return memory(filepath.Join(dir, name+".json")) }

// assignment is the file's content. An empty digest stands for unloaded.
type assignment struct {
	Digest string `json:"digest"`
}

func (m memory) remember(digest string) error {
	data, err := json.Marshal(assignment{digest})
	if err != nil {
		return err
	}
	if err := verdict.WriteFile(string(m), append(data, '\n')); err != nil {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	return nil
}

// recall gives what was remembered, and whether anything was.
func (m memory) recall() (digest string, known bool, err error) {
	data, err := os.ReadFile(string(m))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	var before assignment
	if err == nil {
		err = json.Unmarshal(data, &before)
	}
	if err == nil && before.Digest != "" && !bundle.ValidDigest(before.Digest) {
		err = fmt.Errorf("%q is no digest", before.Digest)
	}
	if err != nil {
		return "", false, fmt.Errorf("which model was served before cannot be read from %s: %w", m, err)
	}
	return before.Digest, true, nil
}

// Resume loads what was served before the restart; without a memory it does
// nothing, and what was unloaded stays so. A failure is in the status too: the
// server stays up for the admin listener to tell it better. What was asked for
// before Resume has its turn is left alone.
func (h *Host) Resume(ctx context.Context) error {
	leave, err := h.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := verdict.SweepFile(string(h.state)); err != nil {
		h.log.Warn("what a killed write left is still there", "model", h.name, "reason", err)
	}
	digest, known, err := h.state.recall()
	switch {
	case err != nil:
		h.set(Status{State: Failed, Reason: err.Error()})
		return err
	case !known:
		return nil
	case digest == "":
		h.set(Status{State: Unloaded})
		return nil
	}
	_, err = h.assign(ctx, digest)
	return err
}
