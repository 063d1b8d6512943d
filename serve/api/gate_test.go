package api

import (
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/serve/buffers"
)

func TestTheGateReservesWhatABodyMayHave(t *testing.T) {
	g := newGate(Limits{Requests: 3, Bytes: 100})
	enter := func(length int64) func() {
		t.Helper()
		leave, err := g.enter(length, 80)
		if err != nil {
			t.Fatalf("%d bytes: %v", length, err)
		}
		return leave
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
	leave, err := small.enter(-1, 80)
	if err != nil {
		t.Fatalf("a limit above all that there is lets nobody in: %v", err)
	}
	leave()
}

func TestAGrowingBodyHoldsOneBuffer(t *testing.T) {
	pool := buffers.New()
	l := loan{pool: pool}
	body := strings.Repeat("abcdefg\n", 100_000)
	got, err := readAll(strings.NewReader(body), -1, &l)
	if err != nil || string(got) != body {
		t.Fatalf("%d of %d bytes, %v", len(got), len(body), err)
	}
	if pool.Lent() != 1 {
		t.Errorf("%d buffers are lent", pool.Lent())
	}
	if l.end(); pool.Lent() != 0 {
		t.Errorf("%d buffers are not given back", pool.Lent())
	}
}
