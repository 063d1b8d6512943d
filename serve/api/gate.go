package api

import (
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/penstock-ml/penstock/serve/service"
)

// Limits bound what the requests of a moment may hold together. What one may
// hold is imaging's and oip's.
type Limits struct {
	Requests int   // that are read, wait or run at a time
	Bytes    int64 // of their bodies
}

// DefaultLimits leave room for a queue of large pictures.
var DefaultLimits = Limits{Requests: 512, Bytes: 1 << 30}

// gate lets requests in before their bodies are read.
type gate struct {
	requests chan struct{}
	bytes    *semaphore.Weighted
	all      int64
}

func newGate(l Limits) *gate {
	return &gate{requests: make(chan struct{}, l.Requests), bytes: semaphore.NewWeighted(l.Bytes), all: l.Bytes}
}

// enter reserves room for a body of so many bytes, at most limit; -1: nobody
// said how many. It never waits: a server that is full says so.
func (g *gate) enter(length, limit int64) (leave func(), err error) {
	select {
	case g.requests <- struct{}{}:
	default:
		return nil, crowded("the server reads and answers as many requests as it may")
	}
	if length < 0 || length > limit {
		length = limit
	}
	length = min(length, g.all)
	if !g.bytes.TryAcquire(length) {
		<-g.requests
		return nil, crowded("the requests under way hold as much memory as they may")
	}
	return func() {
		g.bytes.Release(length)
		<-g.requests
	}, nil
}

func crowded(why string) error {
	return &service.Problem{Kind: service.Refused, Text: why + ": try again later or on another server", RetryAfter: time.Second}
}
