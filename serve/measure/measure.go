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
	"sync/atomic"
	"syscall"
	"time"
)

// Caller makes one call after the other. It is used by one goroutine at a
// time.
type Caller interface {
	// Prepare readies the caller for a round, outside of what is timed.
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
	Made      int           // calls meanwhile, also those that do not count
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

// drive is one arm in one round. What is timed is how the arm answers so many
// callers: before all of them have asked, and when some have left, it answers the
// others faster. So the first call of each does not count, nor do those that it
// makes until the last of them is through. The first call also brings back what
// the rounds of others have pushed out of the caches, and a new connection. The
// rate of a caller is its calls over its own time.
func drive(ctx context.Context, crew []Caller, length time.Duration) (Round, error) {
	for _, c := range crew {
		if err := c.Prepare(ctx); err != nil {
			return Round{}, err
		}
	}
	before := cpu()
	parts, errs := make([]Round, len(crew)), make([]error, len(crew))
	var group sync.WaitGroup
	var through atomic.Int64
	left := func() bool { return through.Load() < int64(len(crew)) }
	for i, c := range crew {
		group.Go(func() {
			parts[i], errs[i] = loop(ctx, c, length)
			through.Add(1)
			for errs[i] == nil && left() {
				parts[i].Made++
				errs[i] = ask(ctx, c)
			}
		})
	}
	group.Wait()
	round := Round{CPU: cpu() - before}
	for i, part := range parts {
		if errs[i] != nil {
			return Round{}, errs[i] // the others' are the same, or follow from it
		}
		round.Latencies = append(round.Latencies, part.Latencies...)
		round.PerSecond += part.PerSecond
		round.Made += part.Made
	}
	return round, nil
}

// loop makes a call that does not count and then, for a time, those that do. One
// that is under way when the time is over is waited for and counts.
func loop(ctx context.Context, c Caller, length time.Duration) (r Round, err error) {
	if err := ask(ctx, c); err != nil {
		return r, err
	}
	began := time.Now()
	last := began
	for last.Sub(began) < length {
		if err := ask(ctx, c); err != nil {
			return r, err
		}
		now := time.Now()
		r.Latencies = append(r.Latencies, Milliseconds(now.Sub(last)))
		last = now
	}
	r.PerSecond = float64(len(r.Latencies)) / last.Sub(began).Seconds()
	r.Made = 1 + len(r.Latencies)
	return r, nil
}

func ask(ctx context.Context, c Caller) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.Call(ctx)
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
