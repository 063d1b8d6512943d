package measure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/openloop"
	"github.com/penstock-ml/penstock/internal/stat"
)

// Overload offers more than a server can keep up with, in rounds: a closed loop
// finds what it sustains right now, and an open loop (a Poisson process) offers
// several times that. So what the machine does meanwhile hits both alike.
type Overload struct {
	Callers  int           // in the closed loops
	Times    float64       // what the open loops offer, over what the closed loop before sustained
	Rounds   int           // at least 2
	Length   time.Duration // of the closed and of the open loop of a round, each
	Deadline time.Duration // an answer after it is of no use
	Seed     uint64
}

// Goodput is what became of an overload. Latencies run from a request's
// intended start, so that a generator that falls behind hides nothing.
type Goodput struct {
	Offered   int      // requests, in all rounds
	Good      int      // 200 within the deadline
	Late      int      // 200 after it
	Refused   int      // 429: the server said at once that it would not
	Failed    int      // anything else
	Failure   string   // one of them
	P50, P99  float64  // ms, of all 200
	Lag       float64  // ms, p99 of how late the generator was
	Sustained float64  // calls a second of the closed loops
	Share     Estimate // good answers a second over Sustained; the interval resamples rounds
}

// inFlight is more than any deadline lets wait; above it the generator itself
// would be the limit.
const inFlight = 4096

// RunOverload drives sustained in the closed loops and offered, which may tell
// the server its deadline, in the open ones.
func RunOverload(ctx context.Context, sustained, offered *Request, o Overload) (Goodput, error) {
	if o.Callers < 1 || o.Times <= 0 || o.Rounds < 2 || o.Length <= 0 || o.Deadline <= 0 {
		return Goodput{}, fmt.Errorf("measure: no overload with %+v", o)
	}
	g := &gauge{deadline: o.Deadline, request: offered}
	defer g.close()
	rounds := make([]overloadRound, o.Rounds)
	for i := range rounds {
		var err error
		if rounds[i], err = g.round(ctx, sustained, o, o.Seed+uint64(i)); err != nil {
			return Goodput{}, err
		}
	}
	slices.Sort(g.latencies)
	slices.Sort(g.lags)
	g.result.P50, g.result.P99 = stat.Quantile(g.latencies, 0.5), stat.Quantile(g.latencies, 0.99)
	g.result.Lag = stat.Quantile(g.lags, 0.99)
	return g.result, g.result.share(rounds, o.Seed)
}

// overloadRound is what came of a closed loop and of the open one after it,
// each a second.
type overloadRound struct{ sustained, good float64 }

func (g *gauge) round(ctx context.Context, sustained *Request, o Overload, seed uint64) (r overloadRound, err error) {
	closed := Arm{Name: "what the server sustains", Caller: sustained.Caller}
	series, err := Run(ctx, Plan{Callers: o.Callers, Rounds: 2, Length: o.Length / 3, Seed: seed}, []Arm{closed}, nil)
	if err != nil {
		return r, err
	}
	r.sustained = rate(series[0], []int32{1, 1})
	n := int(o.Times * r.sustained * o.Length.Seconds())
	if n < 1 {
		return r, fmt.Errorf("measure: %v requests a second are too few for an open loop of %s", o.Times*r.sustained, o.Length)
	}
	before, began := g.result.Good, time.Now()
	schedule := slices.Values(openloop.Schedule(o.Times*r.sustained, n, seed))
	if !openloop.Run(ctx, began, schedule, inFlight, func(s openloop.Shot) { g.fire(ctx, s) }) {
		return r, context.Cause(ctx)
	}
	g.result.Offered += n
	// Until the last answer: those that waited when the last request came were
	// not answered within the loop's own time.
	r.good = float64(g.result.Good-before) / time.Since(began).Seconds()
	return r, nil
}

// share sums the rounds up.
func (g *Goodput) share(rounds []overloadRound, seed uint64) error {
	of := func(weight []int32) (good, sustained float64) {
		total := 0.0
		for i, r := range rounds {
			w := float64(weight[i])
			total, good, sustained = total+w, good+w*r.good, sustained+w*r.sustained
		}
		return good / total, sustained / total
	}
	samples, err := stat.Resample(len(rounds), replicates, seed, 1, func(weight []int32, out []float64) {
		good, sustained := of(weight)
		out[0] = good / sustained
	})
	if err != nil {
		return err
	}
	good, sustained := of(slices.Repeat([]int32{1}, len(rounds)))
	interval := samples.Of(0).Interval(Level)
	g.Sustained, g.Share = sustained, Estimate{good / sustained, interval.Low, interval.High}
	return nil
}

// gauge counts answers and keeps connections for the next request.
type gauge struct {
	deadline time.Duration
	request  *Request

	mu        sync.Mutex
	result    Goodput
	latencies []float64
	lags      []float64
	idle      []*HTTPCaller
}

func (g *gauge) fire(ctx context.Context, s openloop.Shot) {
	status, err := 0, errors.New("too many requests were in flight")
	if !s.Dropped {
		status, err = g.ask(ctx)
	}
	took := time.Since(s.Intended)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lags = append(g.lags, Milliseconds(s.Lag()))
	switch {
	case err != nil:
		g.result.Failed++
		g.result.Failure = err.Error()
	case status == http.StatusTooManyRequests:
		g.result.Refused++
	case status != http.StatusOK:
		g.result.Failed++
		g.result.Failure = http.StatusText(status)
	default:
		g.latencies = append(g.latencies, Milliseconds(took))
		if took <= g.deadline {
			g.result.Good++
		} else {
			g.result.Late++
		}
	}
}

// ask sends the request over a connection that is idle, or a new one.
func (g *gauge) ask(ctx context.Context) (int, error) {
	c := g.take()
	if err := c.Prepare(ctx); err != nil {
		return 0, err
	}
	status, _, _, err := c.Exchange(ctx)
	if err != nil {
		return status, errors.Join(err, c.Close())
	}
	g.mu.Lock()
	g.idle = append(g.idle, c)
	g.mu.Unlock()
	return status, nil
}

func (g *gauge) take() *HTTPCaller {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := len(g.idle) - 1
	if last < 0 {
		return &HTTPCaller{request: g.request}
	}
	c := g.idle[last]
	g.idle = g.idle[:last]
	return c
}

func (g *gauge) close() {
	for _, c := range g.idle {
		_ = c.Close() // nothing is read from it any more
	}
}
