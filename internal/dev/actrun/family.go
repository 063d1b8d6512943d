package actrun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// GitHub's times: SIGINT to the step's entry process, then SIGTERM, then the
// end of all that is left.
const (
	afterInterrupt = 7500 * time.Millisecond
	afterTerminate = 2500 * time.Millisecond
	look           = 20 * time.Millisecond
)

// family finds the processes of a run: those born with its mark, those that
// work in its folder, and what descends from act. A daemon that drops its
// environment, its parents and its folder escapes, as it does on GitHub.
type family struct {
	mark   string // NAME=value
	dir    string // the run's folder, which holds the jobs' workspaces
	act    int    // pid
	shells string // folder of the shells' wrappers
}

// all are the living processes of the run, act itself left out.
func (f family) all() ([]process.Identity, error) {
	found, err := process.Marked(f.mark)
	if err != nil {
		return nil, err
	}
	known := map[int]bool{f.act: true}
	for _, id := range found {
		known[id.PID] = true
	}
	parents, err := parentOf()
	if err != nil {
		return nil, err
	}
	for pid := range parents {
		at, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
		if err != nil || known[pid] || !strings.HasPrefix(at, f.dir+"/") {
			continue // ended meanwhile, another person's, or known
		}
		if id, err := process.Identify(pid); err == nil {
			known[pid] = true
			found = append(found, id)
		}
	}
	for changed := true; changed; {
		changed = false
		for pid, parent := range parents {
			if !known[pid] && known[parent] {
				known[pid], changed = true, true
				if id, err := process.Identify(pid); err == nil {
					found = append(found, id)
				}
			}
		}
	}
	return found, nil
}

// entries are the processes that the runner itself would have started for the
// running steps: act's children, and behind the wrapper its child.
func (f family) entries() ([]process.Identity, error) {
	parents, err := parentOf()
	if err != nil {
		return nil, err
	}
	var found []process.Identity
	for pid, parent := range parents {
		if parent != f.act && (parents[parent] != f.act || !f.wraps(parent)) {
			continue
		}
		if parent == f.act && f.wraps(pid) {
			continue
		}
		if id, err := process.Identify(pid); err == nil {
			found = append(found, id)
		}
	}
	return found, nil
}

// wraps says whether the process is the wrapper of a shell.
func (f family) wraps(pid int) bool {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && bytes.Contains(line, []byte("\x00"+f.shells+"/"))
}

// parentOf reads every process's parent.
func parentOf() (map[int]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	parents := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // no process
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it ended meanwhile
		}
		// The command's name, in parentheses, may hold blanks of its own.
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			parents[pid] = parent
		}
	}
	return parents, nil
}

// end ends the entries as GitHub does, and then what is left of the family;
// act lives. It returns when the entries are gone.
func (f family) end() error {
	entries, err := f.entries()
	if err != nil {
		return err
	}
	stages := []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, afterInterrupt}, {syscall.SIGTERM, afterTerminate}}
	for _, stage := range stages {
		if err := signal(entries, stage.signal); err != nil {
			return err
		}
		if gone(entries, stage.wait) {
			return nil
		}
	}
	return f.kill()
}

// kill ends every process of the family by SIGKILL and waits until none is
// left: what forks while it is killed is found by the next look.
func (f family) kill() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		left, err := f.all()
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of the run (%s) do not end, the first is %d", len(left), f.mark, left[0].PID)
		}
		if err := signal(left, syscall.SIGKILL); err != nil {
			return err
		}
		gone(left, time.Second)
	}
}

func signal(ids []process.Identity, sig syscall.Signal) error {
	var all error
	for _, id := range ids {
		all = errors.Join(all, id.Signal(sig))
	}
	return all
}

// gone waits until none of the processes is left, at most limit.
func gone(ids []process.Identity, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		left := false
		for _, id := range ids {
			left = left || id.Exists()
		}
		if !left {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(look)
	}
}
