package main

import (
	"runtime"
	"runtime/debug"
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

func TestWhatTheOperatorSaysOfTheCollectorHolds(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if paceCollector(func(asked string) string { return map[string]string{name: "77"}[asked] }) {
			t.Errorf("%s is given, and the collector is paced nevertheless", name)
		}
	}
}
