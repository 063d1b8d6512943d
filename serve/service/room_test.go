package service

import "testing"

func TestOneRequestMayHoldAllOfTheRoomAndNoOtherBesideIt(t *testing.T) {
	room := NewRoom(100)
	first, other := room.Share(), room.Share()
	if err := first.Hold(70); err != nil {
		t.Fatal(err)
	}
	apart, err := first.HoldApart(70)
	if err != nil {
		t.Fatalf("70 more of one request: %v", err)
	}
	if p := ProblemOf(other.Hold(1)); p.Kind != Refused || p.RetryAfter == 0 {
		t.Errorf("a byte beside all: %v", p)
	}
	first.End()
	first.End()
	if other.Hold(71) == nil || other.Hold(70) != nil {
		t.Error("70 bytes are free beside what is held apart")
	}
	other.End()
	apart.End()
	if err := other.Hold(100); err != nil {
		t.Errorf("all after all was given back: %v", err)
	}
}
