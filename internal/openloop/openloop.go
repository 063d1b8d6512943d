// Package openloop sends image requests to a model's endpoint on a schedule
// that does not wait for answers, and says what became of each.
//
// It is what the load test and live traffic share: a seeded Poisson process of
// arrivals, a driver that starts a request at every arrival whether or not
// earlier ones were answered, and a client that classifies answers. Latency
// runs from the intended start, so that a slow server cannot hide its queue by
// slowing the generator down (Tene's "coordinated omission"; MLPerf
// LoadGen's server scenario, Reddi et al. 2020, measures the same way).
//
// Refused: closed loops, retries (a retried request is a failed one), and
// answers taken on their status alone.
package openloop

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

// Arrivals is an endless Poisson process: the offsets of arrivals from the
// start, with exponential gaps of mean 1/rate seconds. The same rate and seed
// give the same process. rate must be positive.
func Arrivals(rate float64, seed uint64) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		random := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
		at := 0.0
		for {
			at += random.ExpFloat64() / rate
			if !yield(time.Duration(at * float64(time.Second))) {
				return
			}
		}
	}
}

// Schedule is the first n arrivals of the process.
func Schedule(rate float64, n int, seed uint64) []time.Duration {
	schedule := make([]time.Duration, 0, n)
	for at := range Arrivals(rate, seed) {
		if len(schedule) == n {
			break
		}
		schedule = append(schedule, at)
	}
	return schedule
}

// Shot is one request of the schedule at the moment it begins.
type Shot struct {
	Index    int           // position in the schedule, from 0
	Offset   time.Duration // intended offset from the start of the schedule
	Intended time.Time     // when it should have begun
	Started  time.Time     // when the generator got to it
	Dropped  bool          // too many were in flight: it must not be sent
}

// Lag is how late the generator was.
func (s Shot) Lag() time.Duration { return max(0, s.Started.Sub(s.Intended)) }

// Run calls fire for every arrival, at start plus its offset and each in a
// goroutine of its own, at most inFlight at once. An arrival beyond that is
// handed over with Dropped set instead of being delayed. Run ends when the
// arrivals do, or when ctx is done, and in both cases only after every fire
// has returned; it reports whether it got to the end of the arrivals.
func Run(ctx context.Context, start time.Time, arrivals iter.Seq[time.Duration], inFlight int, fire func(Shot)) bool {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, inFlight)
	timer := time.NewTimer(0)
	defer timer.Stop()
	index := -1
	for offset := range arrivals {
		index++
		shot := Shot{Index: index, Offset: offset, Intended: start.Add(offset)}
		if !waitUntil(ctx, timer, shot.Intended) {
			return false
		}
		select {
		case slots <- struct{}{}:
		default:
			shot.Dropped = true
		}
		running.Go(func() {
			if !shot.Dropped {
				defer func() { <-slots }()
			}
			shot.Started = time.Now()
			fire(shot)
		})
	}
	return true
}

// waitUntil sleeps to the moment; false means that ctx ended first.
func waitUntil(ctx context.Context, timer *time.Timer, moment time.Time) bool {
	if ctx.Err() != nil {
		return false
	}
	wait := time.Until(moment)
	if wait <= 0 {
		return true
	}
	timer.Reset(wait)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
