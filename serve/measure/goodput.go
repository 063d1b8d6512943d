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

// Overload is an open loop at a rate that a server cannot keep up with.
type Overload struct {
	Rate     float64 // requests a second, offered in a Poisson process
	Length   time.Duration
	Deadline time.Duration // an answer after it is of no use
	Seed     uint64
}

// Goodput is what became of an overload. Latencies run from a request's
// intended start, so that a generator that falls behind hides nothing.
type Goodput struct {
	Overload
	Offered  int
	Good     int // 200 within the deadline
	Late     int // 200 after it
	Refused  int // 429: the server said at once that it would not
	Failed   int // anything else
	Failure  string
	P50, P99 float64 // ms, of all 200
	Lag      float64 // ms, p99 of how late the generator was
}

// PerSecond is how many good answers a second of the loop brought.
func (g Goodput) PerSecond() float64 { return float64(g.Good) / g.Length.Seconds() }

// inFlight is more than any deadline lets wait; above it the generator itself
// would be the limit.
const inFlight = 4096

// RunOverload drives the request in an open loop.
func RunOverload(ctx context.Context, request *Request, o Overload) (Goodput, error) {
	n := int(o.Rate * o.Length.Seconds())
	if n < 1 || o.Deadline <= 0 {
		return Goodput{}, fmt.Errorf("measure: no open loop of %v requests a second for %s", o.Rate, o.Length)
	}
	g := &gauge{result: Goodput{Overload: o, Offered: n}, request: request}
	defer g.close()
	if !openloop.Run(ctx, time.Now(), slices.Values(openloop.Schedule(o.Rate, n, o.Seed)), inFlight, func(s openloop.Shot) { g.fire(ctx, s) }) {
		return Goodput{}, context.Cause(ctx)
	}
	slices.Sort(g.latencies)
	slices.Sort(g.lags)
	g.result.P50, g.result.P99 = stat.Quantile(g.latencies, 0.5), stat.Quantile(g.latencies, 0.99)
	g.result.Lag = stat.Quantile(g.lags, 0.99)
	return g.result, nil
}

// gauge counts answers and keeps connections for the next request.
type gauge struct {
	request *Request

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
		if took <= g.result.Deadline {
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
