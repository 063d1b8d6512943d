package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// lookInterval lies between two looks at /proc, which tells nobody of changes.
const lookInterval = 20 * time.Millisecond

// order is the order of Up; Down goes the other way, so that no server loses
// what it stands on while it still answers.
func order() []string {
	names := []string{minioName, mlflowName, routerName, prometheusName}
	for _, slot := range Slots {
		names = append(names, servePrefix+slot)
	}
	return append(names, haproxyName)
}

// Down ends every process of the folder's stack and returns their number. Data,
// logs, ports and secrets stay for the next Up.
func Down(ctx context.Context, dir string, logf func(string, ...any)) (ended int, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return 0, err
	}
	if _, err := os.Stat(statePath(dir)); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	unlock, err := lock(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	s, err := load(dir)
	if err != nil {
		return 0, err
	}
	names := order()
	slices.Reverse(names)
	for _, name := range names {
		n, err := s.end(name, stopGrace)
		if err != nil {
			return ended, err
		}
		if ended += n; n > 0 && logf != nil {
			logf("%-14s ended", name)
		}
	}
	if s.SocketDir != "" && s.SocketDir != dir {
		if err := os.RemoveAll(s.SocketDir); err != nil {
			return ended, fmt.Errorf("folder of HAProxy's socket: %w", err)
		}
		s.SocketDir = ""
	}
	return ended, s.save()
}

// processes are the processes of a service that are still there: the one that was recorded,
// and all that carry the service's mark.
func (s *state) processes(name string) ([]process.Identity, error) {
	ids, err := process.Marked(s.mark(name))
	if err != nil {
		return nil, err
	}
	if rec, ok := s.Processes[name]; ok && rec.ID.Exists() && !slices.Contains(ids, rec.ID) {
		ids = append(ids, rec.ID)
	}
	return ids, nil
}

// end ends all processes of a service, forgets it and returns their number:
// SIGTERM, and after grace SIGKILL.
func (s *state) end(name string, grace time.Duration) (int, error) {
	asked := map[process.Identity]bool{}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		told := map[process.Identity]bool{}
		for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(lookInterval) {
			left, err := s.processes(name)
			if err != nil {
				return len(asked), err
			}
			if len(left) == 0 {
				delete(s.Processes, name)
				return len(asked), nil
			}
			for _, id := range left {
				if told[id] {
					continue
				}
				told[id], asked[id] = true, true
				if err := id.Signal(signal); err != nil {
					return len(asked), fmt.Errorf("end %s: %w", name, err)
				}
			}
		}
	}
	return len(asked), fmt.Errorf("%s does not end, not even by SIGKILL: look at its processes with ps", name)
}
