package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// leastGarbage is how many bytes may be allocated between two collections, at
// least. What a server holds in Go's heap is small, its models lie outside of
// it, and by Go's rule, as much again as is live, it would collect a hundred
// times a second: a tenth of the CPU time of a small model.
const leastGarbage = 32 << 20

// paceCollector keeps collections leastGarbage apart, where the operator has not
// said otherwise by GOGC or GOMEMLIMIT, and tells whether it does. Heaps larger
// than that go by Go's rule.
func paceCollector(getenv func(string) string) bool {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return false
	}
	new(pace).adjust()
	return true
}

// pace is garbage itself: its finalizer runs after each collection, looks at
// what was found alive, and waits for the next one. The pointer, to nothing,
// keeps Go from putting it beside other small objects, for as long as one of
// which is alive the finalizer would not run.
type pace struct {
	percent int
	_       *pace
}

func (p *pace) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := percentFor(live[0].Value.Uint64())
	// Setting it stops the world for a moment: small changes are not worth it.
	if 10*max(percent-p.percent, p.percent-percent) > p.percent {
		debug.SetGCPercent(percent)
		p.percent = percent
	}
	next := &pace{percent: p.percent}
	runtime.SetFinalizer(next, (*pace).adjust)
}

// leastHeap is what Go takes for alive where less is.
const leastHeap = 4 << 20

// percentFor is GOGC for a live heap of so many bytes.
func percentFor(live uint64) int {
	return int(max(100, leastGarbage*100/max(live, leastHeap)))
}
