package hub

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed standin
var standinFiles embed.FS

// installStandIns puts the stand-ins of actions/upload-artifact and
// actions/download-artifact into the hub's folder, for whom the caller names
// none: GitHub's own speak a protocol that only its runners do.
func (h *Hub) installStandIns() error {
	root := filepath.Join(h.opt.Dir, "standin")
	if err := os.RemoveAll(root); err != nil {
		return fmt.Errorf("hub: stand-ins: %w", err)
	}
	files, err := fs.Sub(standinFiles, "standin")
	if err == nil {
		err = os.CopyFS(root, files)
	}
	if err != nil {
		return fmt.Errorf("hub: stand-ins: %w", err)
	}
	actions := map[string]string{}
	for _, name := range []string{"upload-artifact", "download-artifact"} {
		actions["actions/"+name] = filepath.Join(root, name)
	}
	for name, dir := range h.opt.LocalActions {
		actions[name] = dir
	}
	h.opt.LocalActions = actions
	return nil
}
