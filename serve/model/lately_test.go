package model

import (
	"testing"
	"time"
)

func TestARunThatWasKeptFromItsCPUIsNotTakenForALongOne(t *testing.T) {
	var l lately
	for i := range len(l.took) {
		if got := l.shortest(); got != 0 {
			t.Fatalf("%s after %d runs: too few were seen", got, i)
		}
		l.add(time.Second)
	}
	if got := l.shortest(); got != time.Second {
		t.Errorf("%s, all of them took a second", got)
	}
	for _, took := range []time.Duration{3 * time.Millisecond, 120 * time.Microsecond, 20 * time.Millisecond} {
		l.add(took)
	}
	if got := l.shortest(); got != 120*time.Microsecond {
		t.Errorf("%s, one took 120 µs", got)
	}
	for range l.took { // then it became another graph's, or other shapes'
		l.add(time.Minute)
	}
	if got := l.shortest(); got != time.Minute {
		t.Errorf("%s, none of the last took less than a minute", got)
	}
}
