package admission

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// load is a simulated service under Poisson arrivals, in virtual time.
type load struct {
	turns, depth int
	deadline     time.Duration
	factor       float64                                           // of the sustainable rate
	length       time.Duration                                     // of the simulation
	service      func(*rand.Rand, time.Duration) time.Duration     // of a request that begins so long after the start
	sustainable  func(from, to time.Duration) (requestsInTime int) // what a server that is never idle would do
}

// measured is what became of the requests.
type measured struct {
	sent, atOnce, later int             // refused at once, refused after waiting
	took                []time.Duration // of every accepted request: it got its turn
	inTime              int
}

func (m measured) p99() time.Duration {
	slices.Sort(m.took)
	return m.took[len(m.took)*99/100]
}

// run gives every accepted request until its deadline, as the server does, and
// counts what is cut off there as missed.
func (l load) run(t *testing.T, seed uint64) (m measured) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: l.turns, Depth: l.depth})
		random := rand.New(rand.NewPCG(seed, 1))
		start := time.Now()
		rate := l.factor * float64(l.sustainable(0, l.length)) / l.length.Seconds()
		var mu sync.Mutex
		var requests sync.WaitGroup
		for time.Since(start) < l.length {
			time.Sleep(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
			service := l.service(random, time.Since(start))
			m.sent++
			requests.Go(func() {
				came := time.Now()
				ctx, cancel := context.WithDeadline(context.Background(), came.Add(l.deadline))
				defer cancel()
				turn, err := q.Enter(ctx, came.Add(l.deadline))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if time.Since(came) == 0 {
						m.atOnce++
					} else {
						m.later++
					}
					return
				}
				mu.Unlock()
				left := l.deadline - time.Since(came)
				time.Sleep(min(service, max(left, 0)+time.Millisecond))
				turn.Leave(service <= left)
				mu.Lock()
				m.took = append(m.took, time.Since(came))
				if service <= left {
					m.inTime++
				}
			})
		}
		requests.Wait()
	})
	return m
}

func constant(d time.Duration) func(*rand.Rand, time.Duration) time.Duration {
	return func(*rand.Rand, time.Duration) time.Duration { return d }
}

// lognormal has the given mean; sigma is that of the logarithm.
func lognormal(mean time.Duration, sigma float64) func(*rand.Rand, time.Duration) time.Duration {
	return func(r *rand.Rand, _ time.Duration) time.Duration {
		return time.Duration(float64(mean) * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2))
	}
}

// steady is what so many turns do of requests of a mean length.
func steady(turns int, mean time.Duration) func(from, to time.Duration) int {
	return func(from, to time.Duration) int { return int(float64(turns) * float64(to-from) / float64(mean)) }
}

func TestAtTwiceTheSustainableLoadGoodputAndDeadlineAreKept(t *testing.T) {
	const ms = time.Millisecond
	slowdown := func(r *rand.Rand, at time.Duration) time.Duration {
		mean := 10 * ms
		if at > 20*time.Second {
			mean *= 3
		}
		return lognormal(mean, 0.3)(r, at)
	}
	slowed := func(from, to time.Duration) int {
		before := max(0, min(to, 20*time.Second)-from)
		return int(2*before/(10*ms) + 2*(to-from-before)/(30*ms))
	}
	for name, l := range map[string]load{
		"constant":                 {turns: 2, depth: 64, deadline: 500 * ms, service: constant(10 * ms), sustainable: steady(2, 10*ms)},
		"one turn, little time":    {turns: 1, depth: 64, deadline: 150 * ms, service: lognormal(30*ms, 0.3), sustainable: steady(1, 30*ms)},
		"lognormal":                {turns: 2, depth: 64, deadline: 500 * ms, service: lognormal(10*ms, 0.5), sustainable: steady(2, 10*ms)},
		"lognormal, heavy":         {turns: 2, depth: 64, deadline: 500 * ms, service: lognormal(20*ms, 1), sustainable: steady(2, 20*ms)},
		"a queue that is too deep": {turns: 2, depth: 5000, deadline: 200 * ms, service: lognormal(10*ms, 0.5), sustainable: steady(2, 10*ms)},
		"slows down threefold":     {turns: 2, depth: 64, deadline: 500 * ms, service: slowdown, sustainable: slowed},
		"many turns":               {turns: 16, depth: 256, deadline: 500 * ms, service: lognormal(50*ms, 0.5), sustainable: steady(16, 50*ms)},
	} {
		t.Run(name, func(t *testing.T) {
			l.factor, l.length = 2, 40*time.Second
			for seed := range uint64(3) {
				m := l.run(t, seed)
				most := l.sustainable(0, l.length)
				t.Logf("seed %d: %d sent, goodput %.1f%% of the maximum, %d refused at once, %d later, accepted p99 %s of %s, %d missed",
					seed, m.sent, 100*float64(m.inTime)/float64(most), m.atOnce, m.later, m.p99(), l.deadline, len(m.took)-m.inTime)
				if m.inTime*10 < most*9 {
					t.Errorf("seed %d: goodput %d of %d", seed, m.inTime, most)
				}
				if m.p99() > l.deadline {
					t.Errorf("seed %d: p99 of the accepted is %s", seed, m.p99())
				}
				if m.later*20 > m.sent {
					t.Errorf("seed %d: %d of %d were refused only after they had waited", seed, m.later, m.sent)
				}
			}
		})
	}
}

// Without refusing by the deadline a full queue makes everybody late: the test
// above would not pass by itself.
func TestTheSimulationShowsAQueueWithoutDeadlinesFailing(t *testing.T) {
	l := load{
		turns: 2, depth: 64, deadline: 200 * time.Millisecond, service: constant(10 * time.Millisecond),
		sustainable: steady(2, 10*time.Millisecond), factor: 2, length: 10 * time.Second,
	}
	late, sent := 0, 0
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: l.turns, Depth: l.depth})
		random := rand.New(rand.NewPCG(1, 1))
		var mu sync.Mutex
		var requests sync.WaitGroup
		for start := time.Now(); time.Since(start) < l.length; {
			time.Sleep(time.Duration(random.ExpFloat64() / 400 * float64(time.Second)))
			requests.Go(func() {
				came := time.Now()
				turn, err := q.Enter(context.Background(), time.Time{})
				if err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
				turn.Leave(true)
				mu.Lock()
				defer mu.Unlock()
				if sent++; time.Since(came) > l.deadline {
					late++
				}
			})
		}
		requests.Wait()
	})
	if late*2 < sent {
		t.Errorf("only %d of %d were late", late, sent)
	}
}
