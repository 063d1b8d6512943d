package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Identity names a process beyond its pid, which the kernel gives out again:
// the start time in clock ticks since boot makes the pair unique.
type Identity struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
}

// Identify reads the identity of the process that has pid now.
func Identify(pid int) (Identity, error) {
	st, err := readStat(pid)
	if err != nil {
		return Identity{}, err
	}
	if st.ended() {
		return Identity{}, fmt.Errorf("process %d has ended", pid)
	}
	return Identity{pid, st.started}, nil
}

// Exists says whether this very process is there. One that was killed a moment
// ago still is, and holds its ports.
func (i Identity) Exists() bool {
	now, err := Identify(i.PID)
	return err == nil && now == i
}

// Alive says whether this very process runs and will go on: it is there, it is
// not on its way out, and no SIGKILL waits for it.
func (i Identity) Alive() bool {
	st, err := readStat(i.PID)
	return err == nil && st.started == i.Started && !st.ended() && st.flags&exiting == 0 && !killed(i.PID)
}

// stat is what /proc/<pid>/stat tells, by the numbers of proc(5).
type stat struct {
	state   byte   // field 3
	flags   uint64 // field 9
	started uint64 // field 22, clock ticks since boot
}

// exiting is PF_EXITING of the kernel's flags.
const exiting = 0x4

func (s stat) ended() bool { return s.state == 'Z' || s.state == 'X' }

// readStat counts fields from the last parenthesis: the command's name, field 2,
// may itself hold blanks and parentheses.
func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat has an unknown form", pid)
	}
	flags, err1 := strconv.ParseUint(string(fields[6]), 10, 64)
	started, err2 := strconv.ParseUint(string(fields[19]), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return stat{fields[0][0], flags, started}, nil
}

// killed says whether a SIGKILL is pending: sent, but not yet acted on.
func killed(pid int) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return true // gone meanwhile
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && mask&(1<<(syscall.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// Signal sends a signal to exactly this process. A process that is gone is no
// error: that is what a signal is sent for.
func (i Identity) Signal(sig os.Signal) error {
	p, err := os.FindProcess(i.PID) // holds a pidfd: the pid cannot change hands below
	if err != nil {
		return fmt.Errorf("process %d: %w", i.PID, err)
	}
	defer p.Release()
	if !i.Exists() {
		return nil
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", i.PID, err)
	}
	return nil
}

// Marked finds every living process that was born with the variable mark
// ("NAME=value") in its environment, descendants included: a process can leave
// its parent and its group, but not what it was born with.
func Marked(mark string) ([]Identity, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	wanted := []byte("\x00" + mark + "\x00")
	var found []Identity
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // no process
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue // it ended meanwhile, or is another person's
		}
		if !bytes.Contains(slices.Concat([]byte{0}, env, []byte{0}), wanted) {
			continue
		}
		if id, err := Identify(pid); err == nil {
			found = append(found, id)
		}
	}
	return found, nil
}
