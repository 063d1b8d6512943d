// Package spread owns on which CPU a run begins, where several go on at a time
// and each keeps one CPU busy for milliseconds.
//
// The kernel balances threads over CPUs by and by. A thread that was woken to
// read a request, and then goes on to run it, stays on the CPU where it woke,
// although another run may be under way there and a CPU lie idle: both runs then
// share one for some milliseconds, until the balancer looks. Here a run that
// would begin on the CPU of another one is moved to a CPU without, once. From
// then on it is the kernel's again: nothing is pinned, and other processes on
// the machine are heeded as ever.
package spread

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Spreader knows on which CPUs the runs of this process began. It is safe for
// concurrent use; a nil one moves nothing.
type Spreader struct {
	mu   sync.Mutex
	runs map[int]int // by CPU
}

// New makes sure that threads of this process may be moved.
func New() (*Spreader, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("read the CPUs of a thread: %w", err)
	}
	if err := unix.SchedSetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("set the CPUs of a thread: %w", err)
	}
	return &Spreader{runs: map[int]int{}}, nil
}

// Place is where a run began.
type Place struct {
	of  *Spreader
	cpu int
}

// Begin is called right before a run, by the goroutine that makes it, which
// keeps its thread until End.
func (s *Spreader) Begin() Place {
	if s == nil {
		return Place{}
	}
	runtime.LockOSThread()
	here := current()
	if s.take(here) {
		return Place{s, here}
	}
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) != nil {
		allowed = unix.CPUSet{} // then it stays where it is
	}
	cpu := s.choose(here, &allowed)
	if cpu != here {
		move(cpu, &allowed)
	}
	return Place{s, cpu}
}

// End is called when the run is over, by the goroutine that began it.
func (p Place) End() {
	if p.of == nil {
		return
	}
	p.of.mu.Lock()
	p.of.runs[p.cpu]--
	p.of.mu.Unlock()
	runtime.UnlockOSThread()
}

// take counts a run on a CPU that has none.
func (s *Spreader) take(cpu int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs[cpu] > 0 {
		return false
	}
	s.runs[cpu]++
	return true
}

// choose counts a run on the first allowed CPU that has none, else on the one
// where it is.
func (s *Spreader) choose(here int, allowed *unix.CPUSet) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen := here
	for cpu, left := 0, allowed.Count(); left > 0; cpu++ {
		if !allowed.IsSet(cpu) {
			continue
		}
		left--
		if s.runs[cpu] == 0 {
			chosen = cpu
			break
		}
	}
	s.runs[chosen]++
	return chosen
}

// move brings the thread to a CPU and lets it go again. A CPU that the process
// has lost meanwhile is an error of the first call: the thread stays. The second
// fails only if all of them are lost; then any will do.
func move(cpu int, allowed *unix.CPUSet) {
	var one unix.CPUSet
	one.Set(cpu)
	if unix.SchedSetaffinity(0, &one) != nil {
		return
	}
	if unix.SchedSetaffinity(0, allowed) != nil {
		var all unix.CPUSet
		all.Fill()
		_ = unix.SchedSetaffinity(0, &all) // it holds every CPU that there is
	}
}

// current is the CPU that the thread is on.
func current() int {
	var cpu uint32
	// It fails only for an address that it cannot write to.
	_, _, _ = unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	return int(cpu)
}
