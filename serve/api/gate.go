package api

import "github.com/penstock-ml/penstock/serve/service"

// Limits bound what the requests of a moment may hold together. What one may
// hold is imaging's and oip's.
type Limits struct {
	Requests int   // that are read, wait or run at a time
	Bytes    int64 // of their bodies, and of large answers until they are taken
}

// small is how large an answer may be that is not counted.
const small = 1 << 20

// DefaultLimits leave room for a queue of large pictures.
var DefaultLimits = Limits{Requests: 512, Bytes: 1 << 30}

// gate lets requests in before their bodies are read.
type gate struct {
	requests chan struct{}
	bytes    *service.Room
}

func newGate(l Limits) *gate {
	return &gate{requests: make(chan struct{}, l.Requests), bytes: service.NewRoom(l.Bytes)}
}

// place is a request's, from before its body is read until its answer is taken.
type place struct {
	gate *gate
	held service.Share // bytes
}

// enter reserves room for a body of so many bytes, at most limit; -1: nobody
// said how many. It never waits: a server that is full says so.
func (g *gate) enter(length, limit int64) (*place, error) {
	select {
	case g.requests <- struct{}{}:
	default:
		return nil, service.Crowded("the server reads and answers as many requests as it may")
	}
	if length < 0 || length > limit {
		length = limit
	}
	p := &place{gate: g, held: g.bytes.Share()}
	if err := p.held.Hold(length); err != nil {
		<-g.requests
		return nil, err
	}
	return p, nil
}

// answer reserves room for an answer of so many bytes where it is large: who
// takes it slowly, or not at all, holds it for minutes.
func (p *place) answer(length int) error {
	if length <= small {
		return nil
	}
	return p.held.Hold(int64(length))
}

func (p *place) leave() {
	p.held.End()
	<-p.gate.requests
}
