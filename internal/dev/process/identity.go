package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Identity names a process beyond its pid, which the kernel gives out again:
// the start time in clock ticks since boot makes the pair unique.
type Identity struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
}

// Identify reads the identity of the process that has pid now.
func Identify(pid int) (Identity, error) {
	state, started, err := stat(pid)
	if err != nil {
		return Identity{}, err
	}
	if state == 'Z' || state == 'X' {
		return Identity{}, fmt.Errorf("process %d has ended", pid)
	}
	return Identity{pid, started}, nil
}

// Alive says whether exactly this process still runs.
func (i Identity) Alive() bool {
	now, err := Identify(i.PID)
	return err == nil && now == i
}

// stat reads state and start time from /proc/<pid>/stat: fields 3 and 22. The
// command's name, field 2, may hold blanks and parentheses, so fields are
// counted from the last parenthesis.
func stat(pid int) (state byte, started uint64, err error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has an unknown form", pid)
	}
	started, err = strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/stat: start time: %w", pid, err)
	}
	return fields[0][0], started, nil
}

// Marked finds every living process that was started with the variable
// "NAME=value" in its environment, descendants included. A process can leave
// its parent and its group, but not the environment it was born with.
func Marked(mark string) ([]Identity, error) {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []Identity
	for _, p := range paths {
		env, err := os.ReadFile(filepath.Join(p, "environ"))
		if err != nil {
			continue // ended meanwhile, or another person's process
		}
		if !bytes.Contains(append([]byte{0}, append(env, 0)...), []byte("\x00"+mark+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue // not a process: the pattern lets 12abc through
		}
		if id, err := Identify(pid); err == nil {
			found = append(found, id)
		}
	}
	return found, nil
}
