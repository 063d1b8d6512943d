package main

import (
	"runtime"
	"testing"
)

func TestThreadsAreLeftForWhatComesInWhileAllCPUsWork(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	schedule(3)
	if got := runtime.GOMAXPROCS(0); got <= 3 {
		t.Errorf("%d threads for 3 CPUs at work", got)
	}
}
