package service

import (
	"time"

	"golang.org/x/sync/semaphore"
)

// again is when a request may be sent again that there was no room for.
const again = time.Second

// Crowded is a refusal for want of room.
func Crowded(why string) *Problem {
	return &Problem{Kind: Refused, Text: why + ": try again later or on another server", RetryAfter: again}
}

// Room is what the requests of a moment may hold together, in bytes.
type Room struct {
	Short func() // is called where there is none; nil: nobody is told

	free *semaphore.Weighted
	all  int64
}

// NewRoom makes one of so many bytes.
func NewRoom(bytes int64) *Room { return &Room{free: semaphore.NewWeighted(bytes), all: bytes} }

// Share is what one request holds of a room. It is not safe for concurrent use;
// the zero value holds without end.
type Share struct {
	room *Room
	held int64
}

// Share gives a request its own, which holds nothing yet.
func (r *Room) Share() Share { return Share{room: r} }

// Hold reserves n bytes more, until End. One request may hold all of the room.
// It never waits for others: a server that is full says so.
func (s *Share) Hold(n int64) error {
	if s.room == nil {
		return nil
	}
	n = min(n, s.room.all-s.held)
	if !s.room.free.TryAcquire(n) {
		if s.room.Short != nil {
			s.room.Short()
		}
		return Crowded("the requests under way hold as much memory as they may")
	}
	s.held += n
	return nil
}

// HoldApart does so for what outlives the request's own share.
func (s *Share) HoldApart(n int64) (Share, error) {
	before := s.held
	if err := s.Hold(n); err != nil {
		return Share{}, err
	}
	apart := Share{s.room, s.held - before}
	s.held = before
	return apart, nil
}

// End gives everything back. Calls after the first do nothing.
func (s *Share) End() {
	if s.held > 0 {
		s.room.free.Release(s.held)
		s.held = 0
	}
}
