// Package measure owns the measuring of things that answer calls: it drives
// them in a closed loop, a fixed number of callers each with one call under
// way, and says how they compare.
//
// Things are compared in one interleaved run: in every round each of them is
// driven for a short time, in shuffled order, so that what changes on the
// machine meanwhile (its clock, its neighbours) hits all alike. Intervals
// resample whole rounds, with the same rounds for both sides of a comparison
// (cluster bootstrap: Davison & Hinkley 1997, 3.8): calls of one round are not
// independent of each other, and rounds differ.
//
// A closed loop answers how much work a call costs. What users feel at a rate
// of their own is another question: Goodput asks it in an open loop.
//
// Refused: a run in which any call failed. A call that fails fast would look
// fast.
package measure

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// Caller makes one call after the other. It is used by one goroutine at a
// time.
type Caller interface {
	// Prepare readies the caller for a round, outside of what is timed. A call
	// that does not count follows.
	Prepare(ctx context.Context) error
	// Call is what is timed.
	Call(ctx context.Context) error
	Close() error
}

// Arm is one of the things to compare.
type Arm struct {
	Name   string
	Caller func(ctx context.Context) (Caller, error)
}

// Plan says how arms are measured.
type Plan struct {
	Callers int           // in the closed loop
	Rounds  int           // at least 2
	Length  time.Duration // of one arm in one round
	Seed    uint64        // of the order within the rounds
}

// Round is what one arm did in one round.
type Round struct {
	Latencies []float64     // ms, in no order
	PerSecond float64       // calls completed, summed over the callers
	CPU       time.Duration // that this process used meanwhile
}

// Series is all rounds of one arm.
type Series struct {
	Name   string
	Rounds []Round
}

// Run measures the arms at one number of callers. The first round warms up
// and is not counted. progress, which may be nil, is called after each round.
func Run(ctx context.Context, plan Plan, arms []Arm, progress func()) (_ []Series, err error) {
	if plan.Callers < 1 || plan.Rounds < 2 || plan.Length <= 0 || len(arms) == 0 {
		return nil, fmt.Errorf("measure: %d arms, %d callers, %d rounds of %s: want at least 1, 1, 2 and some time", len(arms), plan.Callers, plan.Rounds, plan.Length)
	}
	crews := make([][]Caller, len(arms))
	defer func() {
		for _, crew := range crews {
			for _, c := range crew {
				err = errors.Join(err, c.Close())
			}
		}
	}()
	series := make([]Series, len(arms))
	for i, arm := range arms {
		series[i].Name = arm.Name
		for range plan.Callers {
			c, err := arm.Caller(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", arm.Name, err)
			}
			crews[i] = append(crews[i], c)
		}
	}
	random := rand.New(rand.NewPCG(plan.Seed, uint64(plan.Callers)))
	for n := -1; n < plan.Rounds; n++ {
		for _, i := range random.Perm(len(arms)) {
			round, err := drive(ctx, crews[i], plan.Length)
			if err != nil {
				return nil, fmt.Errorf("%s with %d callers: %w", arms[i].Name, plan.Callers, err)
			}
			if n >= 0 {
				series[i].Rounds = append(series[i].Rounds, round)
			}
		}
		if progress != nil {
			progress()
		}
	}
	return series, nil
}

// drive is one arm in one round. A call that is under way when the time is
// over is waited for and counts, together with the time that it took: the rate
// of a caller is its calls over its own time.
func drive(ctx context.Context, crew []Caller, length time.Duration) (Round, error) {
	if err := ready(ctx, crew); err != nil {
		return Round{}, err
	}
	before := cpu()
	began := time.Now()
	latencies, rates, errs := make([][]float64, len(crew)), make([]float64, len(crew)), make([]error, len(crew))
	var group sync.WaitGroup
	for i, c := range crew {
		group.Go(func() {
			latencies[i], rates[i], errs[i] = loop(ctx, c, began.Add(length))
		})
	}
	group.Wait()
	round := Round{CPU: cpu() - before}
	for i := range crew {
		if errs[i] != nil {
			return Round{}, errs[i] // the others' are the same, or follow from it
		}
		round.Latencies = append(round.Latencies, latencies[i]...)
		round.PerSecond += rates[i]
	}
	return round, nil
}

// ready has every caller make a call that does not count: what the others did
// since the last round has pushed this arm out of the caches, and a connection
// may be new. Who serves one client after the other sees neither.
func ready(ctx context.Context, crew []Caller) error {
	errs := make([]error, len(crew))
	var group sync.WaitGroup
	for i, c := range crew {
		group.Go(func() {
			if errs[i] = c.Prepare(ctx); errs[i] == nil {
				errs[i] = c.Call(ctx)
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the others' are the same, or follow from it
		}
	}
	return nil
}

func loop(ctx context.Context, c Caller, until time.Time) (latencies []float64, rate float64, err error) {
	began := time.Now()
	last := began
	// At least one call: a caller that the machine woke up late has a rate too.
	for len(latencies) == 0 || last.Before(until) {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		if err := c.Call(ctx); err != nil {
			return nil, 0, err
		}
		now := time.Now()
		latencies = append(latencies, Milliseconds(now.Sub(last)))
		last = now
	}
	return latencies, float64(len(latencies)) / last.Sub(began).Seconds(), nil
}

// Milliseconds of a duration.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cpu is the CPU time that this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // it cannot fail for oneself; a cost of 0 would be seen
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
