package spread

import (
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func setOf(cpus ...int) *unix.CPUSet {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return &set
}

func TestARunIsMovedToACPUWithoutOne(t *testing.T) {
	s := &Spreader{runs: map[int]int{}}
	if !s.take(3) || s.take(3) {
		t.Fatal("a CPU is free once")
	}
	for _, want := range []int{1, 7, 3} { // then all have one: it stays
		if got := s.choose(3, setOf(1, 3, 7)); got != want {
			t.Errorf("moved to %d, want %d", got, want)
		}
	}
	if got := s.choose(3, setOf()); got != 3 {
		t.Errorf("moved to %d, which is not allowed", got)
	}
	if s.runs[1] != 1 || s.runs[3] != 3 || s.runs[7] != 1 {
		t.Errorf("runs %v", s.runs)
	}
}

// TestRunsAtATimeHaveACPUEach begins as many runs as there are CPUs, and ends
// none before all have begun.
func TestRunsAtATimeHaveACPUEach(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	var begun, done sync.WaitGroup
	places := make([]int, before.Count())
	begun.Add(len(places))
	for i := range places {
		done.Go(func() {
			p := s.Begin()
			var after unix.CPUSet
			if err := unix.SchedGetaffinity(0, &after); err != nil || after != before {
				t.Errorf("the thread is left with %d CPUs of %d, %v", after.Count(), before.Count(), err)
			}
			places[i] = p.cpu
			begun.Done()
			begun.Wait()
			p.End()
		})
	}
	done.Wait()
	seen := map[int]bool{}
	for _, cpu := range places {
		seen[cpu] = true
	}
	if len(seen) != len(places) {
		t.Errorf("runs on the CPUs %v, %d of them there are", places, len(places))
	}
	for cpu, n := range s.runs {
		if n != 0 {
			t.Errorf("%d runs are left on CPU %d", n, cpu)
		}
	}
}

func TestAMovedThreadIsWhereItWasMovedTo(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	for cpu, left := 0, allowed.Count(); left > 0; cpu++ {
		if allowed.IsSet(cpu) {
			left--
			move(cpu, setOf(cpu)) // it may not leave before it was looked at
			if got := current(); got != cpu {
				t.Errorf("on CPU %d, want %d", got, cpu)
			}
			move(cpu, &allowed)
		}
	}
}

func TestNothingIsMovedWithoutASpreader(t *testing.T) {
	var s *Spreader
	s.Begin().End()
}

func BenchmarkBeginEnd(b *testing.B) {
	s, err := New()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Begin().End()
	}
}
