package api

import "testing"

func TestTheGateReservesWhatABodyMayHave(t *testing.T) {
	g := newGate(Limits{Requests: 3, Bytes: 100})
	enter := func(length int64) func() {
		t.Helper()
		p, err := g.enter(length, 80)
		if err != nil {
			t.Fatalf("%d bytes: %v", length, err)
		}
		return p.leave
	}
	first := enter(-1) // of any length: the limit
	if _, err := g.enter(30, 80); err == nil {
		t.Error("80 and 30 of 100 bytes are let in")
	}
	second := enter(20)
	first()
	third, fourth := enter(40), enter(40)
	if _, err := g.enter(0, 80); err == nil {
		t.Error("a fourth of three requests is let in")
	}
	second()
	third()
	fourth()
	enter(500)() // it is cut off at the limit
	small := newGate(Limits{Requests: 1, Bytes: 10})
	p, err := small.enter(-1, 80)
	if err != nil {
		t.Fatalf("a limit above all that there is lets nobody in: %v", err)
	}
	p.leave()
}
