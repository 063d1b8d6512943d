// Package admission owns who may run when the server has more to do than it
// can: one bounded first-in-first-out queue a model name. A request whose
// predicted finish misses its deadline is refused at once, while its sender can
// still go elsewhere, and never takes time from those that can be kept.
//
// The service time is estimated as TCP estimates a round trip: a moving mean
// and a moving mean deviation, the bound four deviations above the mean
// (Jacobson and Karels, "Congestion Avoidance and Control", 1988; RFC 6298).
// Work ahead is counted in requests, or in what their senders know of them
// (EnterWith: the megapixels of pictures that are enlarged), so the prediction is
// the work at hand and ahead times that estimate, over the turns.
//
// Refused: priorities and reordering. A turn is never taken back: who has one
// keeps it until Leave.
package admission

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Reason says why a request was not let in.
type Reason string

// Reasons.
const (
	Full     Reason = "full"     // as many wait as may
	Deadline Reason = "deadline" // it would be, or has become, too late
)

// Refused is the answer to a request that the server cannot serve in time. It
// says nothing about the request: the same one may be let in later.
type Refused struct {
	Queue      string
	Reason     Reason
	RetryAfter time.Duration // when it is worth another try: above 0
}

func (r *Refused) Error() string {
	if r.Reason == Full {
		return fmt.Sprintf("the queue of %s is full: try again in %s or on another server", r.Queue, r.RetryAfter.Round(time.Millisecond))
	}
	return fmt.Sprintf("%s has too much to do to answer within the deadline: try again in %s, on another server, or allow more time", r.Queue, r.RetryAfter.Round(time.Millisecond))
}

// Options say how much one model name may have in hand.
type Options struct {
	Name  string // of the model, for what is said to a client
	Turns int    // requests at work at a time, at least 1
	Depth int    // requests that wait at most; 0: none waits
}

// Queue lets requests in, in the order in which they came. It outlives the
// swaps of its model.
type Queue struct {
	name  string
	turns int
	depth int

	mu      sync.Mutex
	waiting *list.List // of *waiter
	atWork  map[*Turn]struct{}
	service estimate
}

// New makes an empty queue. Options that nothing could ever pass are a mistake
// of the program: it panics.
func New(o Options) *Queue {
	if o.Turns < 1 || o.Depth < 0 {
		panic(fmt.Sprintf("the queue of %s: %d turns and %d places to wait: want at least 1 and 0", o.Name, o.Turns, o.Depth))
	}
	return &Queue{
		name: o.Name, turns: o.Turns, depth: o.Depth,
		waiting: list.New(), atWork: map[*Turn]struct{}{}, service: estimate{turns: o.Turns},
	}
}

// Waiting is how many requests wait for their turn.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting.Len()
}

// AtWork is how many requests have their turn.
func (q *Queue) AtWork() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.atWork)
}

// Turn is the right to work. Its holder gives it back by Leave.
type Turn struct {
	queue *Queue
	came  time.Time
	began time.Time
	cost  float64
}

// Waited is how long the turn was waited for.
func (t *Turn) Waited() time.Duration { return t.began.Sub(t.came) }

// Costs says what the turn costs where that is known only now.
func (t *Turn) Costs(cost float64) {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.cost = cost
}

// Leave gives the turn back, once; more calls do nothing. A turn that ended
// well feeds the estimate. One that did not (a picture that cannot be read, a
// client that went away) says little when it was short. When it was longer than
// the estimate it was cut short, and counts double, as a lost packet doubles
// the time that TCP allows (Karn and Partridge, "Improving Round-Trip Time
// Estimates in Reliable Transport Protocols", 1987): else a server too slow for
// every deadline would never learn that it is.
func (t *Turn) Leave(ok bool) {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, held := q.atWork[t]; !held {
		return
	}
	delete(q.atWork, t)
	now := time.Now()
	switch took := scaled(now.Sub(t.began), 1/t.cost); {
	case ok:
		q.service.observe(took, now)
	case q.service.known && took > q.service.mean:
		q.service.observe(2*took, now)
	}
	q.grant(now)
}

// waiter is a request in the queue. Its channel gives the turn, or is closed
// without one when the request was refused in the end.
type waiter struct {
	came, deadline time.Time
	cost           float64
	decided        chan struct{} // closed under the lock
	turn           *Turn
	refused        *Refused
}

// Enter waits for a turn. It gives *Refused at once when the queue is full or
// the predicted finish is after the deadline, *Refused later when the deadline
// has come too near while it waited, and ctx's cause when the client left; the
// place is free at once then. The zero deadline means none; ctx's own is one.
//
// A deadline that ctx does not have is only wanted: nothing ends the work then,
// and the answer is of use when it is late. Such a request is not refused where
// it can begin at once, or a model slower than what is wanted would answer
// nobody.
func (q *Queue) Enter(ctx context.Context, deadline time.Time) (*Turn, error) {
	return q.EnterWith(ctx, deadline, 1)
}

// EnterWith is Enter for requests that take times in proportion to a cost, above
// 0, that is known beforehand. All requests of a queue have costs of one unit.
func (q *Queue) EnterWith(ctx context.Context, deadline time.Time, cost float64) (*Turn, error) {
	if ctx.Err() != nil {
		return nil, q.left(ctx)
	}
	_, ends := ctx.Deadline()
	turn, w, err := q.admit(deadline, ends, cost)
	if w == nil {
		return turn, err
	}
	return q.wait(ctx, w)
}

// admit gives a turn where one is free and nobody waits, else a place in the
// queue, or says why not.
func (q *Queue) admit(deadline time.Time, ends bool, cost float64) (*Turn, *list.Element, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	free := len(q.atWork) < q.turns && q.waiting.Len() == 0
	if !free && q.waiting.Len() >= q.depth {
		return nil, nil, &Refused{q.name, Full, q.retryAfter(q.perPlace())}
	}
	if late := q.late(now, deadline, free, cost); late > 0 && (ends || !free) {
		return nil, nil, &Refused{q.name, Deadline, q.retryAfter(late)}
	}
	if free {
		return q.begin(now, now, cost), nil, nil
	}
	return nil, q.waiting.PushBack(&waiter{came: now, deadline: deadline, cost: cost, decided: make(chan struct{})}), nil
}

// wait waits in place e.
func (q *Queue) wait(ctx context.Context, e *list.Element) (*Turn, error) {
	w := e.Value.(*waiter)
	var tooLate <-chan time.Time
	if !w.deadline.IsZero() {
		timer := time.NewTimer(time.Until(w.deadline))
		defer timer.Stop()
		tooLate = timer.C
	}
	select {
	case <-w.decided:
	case <-tooLate:
	case <-ctx.Done():
	}
	q.mu.Lock()
	undecided := w.turn == nil && w.refused == nil
	if undecided {
		q.waiting.Remove(e)
		w.refused = &Refused{q.name, Deadline, q.retryAfter(q.perPlace())}
	}
	q.mu.Unlock()
	if ctx.Err() != nil {
		if w.turn != nil {
			w.turn.Leave(false) // it came too late
		}
		return nil, q.left(ctx)
	}
	if w.refused != nil {
		return nil, w.refused
	}
	return w.turn, nil
}

// left says why a request whose ctx has ended got no turn.
func (q *Queue) left(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		q.mu.Lock()
		defer q.mu.Unlock()
		return &Refused{q.name, Deadline, q.retryAfter(q.perPlace())}
	}
	return context.Cause(ctx)
}

// grant hands free turns to those who wait, in order. Who can no longer make
// it is refused instead of being served in vain. Where others wait behind, it
// must make it even if it takes long: they have more time left.
func (q *Queue) grant(now time.Time) {
	for len(q.atWork) < q.turns && q.waiting.Len() > 0 {
		w := q.waiting.Remove(q.waiting.Front()).(*waiter)
		needs := q.service.mean
		if q.waiting.Len() > 0 {
			needs = q.service.bound()
		}
		if !w.deadline.IsZero() && now.Add(scaled(needs, w.cost)).After(w.deadline) {
			w.refused = &Refused{q.name, Deadline, q.retryAfter(q.perPlace())}
		} else {
			w.turn = q.begin(w.came, now, w.cost)
		}
		close(w.decided)
	}
}

func (q *Queue) begin(came, now time.Time, cost float64) *Turn {
	t := &Turn{queue: q, came: came, began: now, cost: cost}
	q.atWork[t] = struct{}{}
	return t
}

// late predicts by how much a request that comes now would miss its deadline;
// 0 or less: it makes it. Where it begins at once, the mean decides: nobody
// else can use the time. Where it must wait, the cautious bound does. Without
// an estimate everybody makes it; neither does an idle server go by one that
// has had nothing to confirm it for a while, or it could refuse for ever.
func (q *Queue) late(now, deadline time.Time, free bool, cost float64) time.Duration {
	if deadline.IsZero() {
		return 0
	}
	left := deadline.Sub(now)
	switch {
	case left <= 0:
		return max(-left, 1)
	case !q.service.known, len(q.atWork) == 0 && q.service.stale(now):
		return 0
	case free:
		return scaled(q.service.mean, cost) - left
	}
	var ahead, squares float64
	for e := q.waiting.Front(); e != nil; e = e.Next() {
		c := e.Value.(*waiter).cost
		ahead, squares = ahead+c, squares+c*c
	}
	turns := float64(q.turns)
	var rest time.Duration
	for t := range q.atWork {
		// who takes longer than the mean is still some way off
		rest += max(scaled(q.service.mean, t.cost)-now.Sub(t.began), scaled(q.service.deviation, t.cost))
		squares += t.cost * t.cost
	}
	wait := (float64(rest) + ahead*float64(q.service.mean)) / turns
	// The variances of those before it add up, and its own turn must fit too.
	spread := math.Sqrt(squares) / turns
	return time.Duration(wait) + q.service.margin(spread) + scaled(q.service.bound(), cost) - left
}

// perPlace is how often a place gets free.
func (q *Queue) perPlace() time.Duration { return q.service.mean / time.Duration(q.turns) }

func scaled(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// retryAfter is above 0 for a time of no length too.
func (q *Queue) retryAfter(d time.Duration) time.Duration { return max(d, time.Millisecond) }
