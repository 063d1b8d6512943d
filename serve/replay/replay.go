package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
)

// Runner runs remembered inputs on a model. The outputs are the caller's to
// keep.
type Runner interface {
	Run(ctx context.Context, in Input) ([]oip.Tensor, error)
}

// Report compares a candidate with the model that answers now (the incumbent)
// on the same inputs, in turns, while requests go on. Times are milliseconds,
// the waiting for CPUs included.
type Report struct {
	Inputs   int     `json:"inputs"`           // remembered
	Replayed int     `json:"replayed"`         // of them, those that the incumbent answered again, and so were compared
	Errors   int     `json:"errors"`           // of these, those that the candidate failed
	Short    bool    `json:"short,omitempty"`  // time ran out before the last input
	Unlike   int     `json:"unlike,omitempty"` // answers whose outputs differ in name, datatype or shape: no difference can be told
	P50      float64 `json:"p50_ms"`           // of the candidate
	P95      float64 `json:"p95_ms"`           //
	Before50 float64 `json:"incumbent_p50_ms"` // of the incumbent
	Before95 float64 `json:"incumbent_p95_ms"` //
	Max      float64 `json:"difference_max"`   // greatest absolute difference of an output's element
	Mean     float64 `json:"difference_mean"`  // over all elements
	Memory   int     `json:"memory_bytes"`     // resident memory after the replay less that before the load; other work goes on, so it may be off
	Resident int     `json:"resident_bytes"`   // after the replay, both models loaded
}

// ErrRefused means that the candidate fails where the incumbent does not.
var ErrRefused = errors.New("the candidate fails on requests that the served model answers")

// hang is how much longer than the incumbent a candidate may take for one
// input, when the end of the term cuts it off, before that counts as a failure;
// and the least that it is given.
const (
	hang      = 20
	leastTime = time.Second
)

// Run replays inputs, each on both models, until term is over. A candidate
// that fails on an input that the incumbent answers is ErrRefused; the report
// holds what was seen until then. The end of ctx is its error. Memory is left
// to who loaded the candidate.
func Run(ctx context.Context, candidate, incumbent Runner, inputs []Input, term time.Duration) (Report, error) {
	limited, cancel := context.WithTimeout(ctx, term)
	defer cancel()
	r := Report{Inputs: len(inputs)}
	var now, before []float64
	var sum tally
	var first error
	var slowest time.Duration // of what the candidate answered
	for i, in := range inputs {
		p := both(ctx, limited, candidate, incumbent, in, i%2 == 0)
		if ctx.Err() != nil {
			return r, fmt.Errorf("replay: %w", context.Cause(ctx))
		}
		if limited.Err() != nil && !p.hung(slowest) {
			r.Short = true
			break
		}
		if p.old.err != nil {
			continue // not the candidate's matter
		}
		r.Replayed++
		if p.new.err != nil {
			r.Errors++
			if first == nil {
				first = p.new.err
			}
			continue
		}
		slowest = max(slowest, p.new.took)
		before, now = append(before, milliseconds(p.old.took)), append(now, milliseconds(p.new.took))
		if !sum.add(p.new.outputs, p.old.outputs) {
			r.Unlike++
		}
	}
	r.P50, r.P95, r.Before50, r.Before95 = quantile(now, 0.5), quantile(now, 0.95), quantile(before, 0.5), quantile(before, 0.95)
	r.Max, r.Mean = sum.max, sum.mean()
	if r.Errors > 0 {
		// Not wrapped: the end of a run that was cut off is not the load's own.
		return r, fmt.Errorf("%w: %d of %d; the first: %v (where its inputs changed on purpose, unload the served model first)",
			ErrRefused, r.Errors, r.Replayed, first)
	}
	return r, nil
}

// pair is what became of one input on both models.
type pair struct{ old, new outcome }

type outcome struct {
	outputs []oip.Tensor
	err     error
	took    time.Duration
}

// both runs an input in turns, so that neither model is always the one that
// finds warm caches. An incumbent that comes second to a candidate that used up
// the term gets the time in which it would show the candidate to hang.
func both(ctx, limited context.Context, candidate, incumbent Runner, in Input, first bool) (p pair) {
	if first {
		p.old = run(limited, incumbent, in)
		p.new = run(limited, candidate, in)
		return p
	}
	p.new = run(limited, candidate, in)
	if limited.Err() != nil {
		late, cancel := context.WithTimeout(ctx, p.new.took/hang)
		defer cancel()
		limited = late
	}
	p.old = run(limited, incumbent, in)
	return p
}

func run(ctx context.Context, r Runner, in Input) outcome {
	began := time.Now()
	outputs, err := r.Run(ctx, in)
	return outcome{outputs, err, time.Since(began)}
}

// hung tells a candidate that would not end from one that was cut off. One that
// has answered may be slow: it took no longer than it does.
func (p *pair) hung(slowest time.Duration) bool {
	return p.old.err == nil && p.new.err != nil && p.new.took > max(leastTime, hang*p.old.took, 2*slowest)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile is the nearest rank; 0 of nothing.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
