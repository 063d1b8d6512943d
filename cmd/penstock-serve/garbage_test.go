package main

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"
)

func TestCollectionsOfASmallHeapAreApart(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 4 << 20: 800, 8 << 20: 400, 32 << 20: 100, 1 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes alive: GOGC %d, want %d", live, got, want)
		}
	}
}

func TestThePaceIsSetAgainAfterACollection(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	paceCollector(func(string) string { return "" })
	held := make([]byte, 2*leastGarbage)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		if percent := debug.SetGCPercent(100); percent == 100 {
			break // that much alive: Go's own rule
		} else if debug.SetGCPercent(percent); time.Now().After(deadline) {
			t.Fatalf("GOGC is %d with %d bytes alive", percent, len(held))
		}
	}
	runtime.KeepAlive(held)
}

// Go puts small objects without pointers together, and none of them is collected
// before all are.
func TestThePaceIsSetAgainBesideSmallObjectsThatStay(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	var kept []*int64
	var collected atomic.Int32
	const paces = 100
	for range paces {
		p := new(pace)
		kept = append(kept, new(int64))
		runtime.SetFinalizer(p, func(*pace) { collected.Add(1) })
	}
	for deadline := time.Now().Add(10 * time.Second); collected.Load() < paces; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(deadline) {
			t.Fatalf("%d of %d were collected", collected.Load(), paces)
		}
	}
	runtime.KeepAlive(kept)
}

func TestWhatTheOperatorSaysOfTheCollectorHolds(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if paceCollector(func(asked string) string { return map[string]string{name: "77"}[asked] }) {
			t.Errorf("%s is given, and the collector is paced nevertheless", name)
		}
	}
}
