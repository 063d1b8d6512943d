// Package rollout brings a model that has been gated into production and
// judges it there: the canary takes a rising share of the traffic, the
// servers' own counters by digest say whether it does harm, and only then
// does stable load it, the share return to 0, and the alias move. It owns the
// rollout's record in the bucket, from which a killed run goes on, and the way
// back.
//
// Advance is the pure machine: what is known, in; the next record and one
// action, out. Line.Rollout and Line.Rollback run it over four small
// interfaces. The record is written before the action, and every action may
// be done twice.
//
// The judgement is sequential (internal/stat: Lindon & Malek, NeurIPS 2022):
// it may be asked at every look. What is refused: a step up without data, a
// promotion without proof, a share above 0 after a breach, a second rollout
// beside one that runs, and a rollout over another's unfinished end.
package rollout

import (
	"errors"
	"fmt"
	"time"

	"github.com/penstock-ml/penstock/internal/line/split"
)

// Plan is the section `rollout:` of penstock.yaml.
type Plan struct {
	Steps       []float64     `yaml:"steps"`        // percent of the traffic, rising, each above 0 and below 100
	Step        time.Duration `yaml:"step"`         // the least time of a step
	MinRequests int           `yaml:"min_requests"` // the canary must have answered as many, over all steps
	Alpha       float64       `yaml:"alpha"`        // chance of a false abort, and of a false promotion, over all looks
	Errors      Bound         `yaml:"errors"`       // rate of server errors
	Slow        Bound         `yaml:"slow"`         // rate of answers over the slo
	Interval    time.Duration `yaml:"interval"`     // between two looks
	Lease       time.Duration `yaml:"lease"`        // of the share; without a look for so long it goes to 0
	Deadline    time.Duration `yaml:"deadline"`     // undecided until then: back to 0, inconclusive
}

// Bound says how much worse than stable the canary may be. It is stopped when
// its rate is proven to be above Ratio times stable's, and promoted when it is
// proven to be less than Margin above it; in between there is no proof yet.
type Bound struct {
	Margin float64 `yaml:"margin"` // difference of rates, in (0, 1)
	Ratio  float64 `yaml:"ratio"`  // at least 1
}

// Validate refuses a plan that cannot decide.
func (p Plan) Validate() error {
	if len(p.Steps) == 0 {
		return errors.New("steps: name at least one share in percent, such as [5, 25, 50]")
	}
	last := 0.0
	for i, s := range p.Steps {
		if !(s > last) || s >= 100 || int(s*100) < 1 {
			return fmt.Errorf("steps[%d]: %v: shares rise, from 0.01 to below 100 percent", i, s)
		}
		last = s
	}
	switch {
	case p.Step <= 0:
		return errors.New("step: the least time of a step must be above 0, such as 10s")
	case p.MinRequests < 1:
		return errors.New("min_requests: at least 1; a promotion margin of 0.01 needs about 1000")
	case !(p.Alpha > 0 && p.Alpha < 0.5):
		return fmt.Errorf("alpha: %v: a chance between 0 and 0.5 is wanted, such as 0.01", p.Alpha)
	case p.Interval < 50*time.Millisecond:
		return fmt.Errorf("interval: %s: at least 50ms", p.Interval)
	case p.Lease < split.MinLease || p.Lease > split.MaxLease || p.Lease < 4*p.Interval:
		return fmt.Errorf("lease: %s: between %s and %s, and at least four times the interval", p.Lease, split.MinLease, split.MaxLease)
	case p.Deadline < time.Duration(len(p.Steps))*p.Step:
		return fmt.Errorf("deadline: %s is shorter than %d steps of %s", p.Deadline, len(p.Steps), p.Step)
	}
	for name, b := range map[string]Bound{"errors": p.Errors, "slow": p.Slow} {
		if !(b.Margin > 0 && b.Margin < 1) || !(b.Ratio >= 1) {
			return fmt.Errorf("%s: margin %v and ratio %v: a margin between 0 and 1 and a ratio of at least 1 are wanted", name, b.Margin, b.Ratio)
		}
	}
	return nil
}

// share is the share of a step in basis points.
func (p Plan) share(step int) int { return int(p.Steps[step]*100 + 0.5) }

// alphaEach is the part of alpha that each of the two metrics may spend.
func (p Plan) alphaEach() float64 { return p.Alpha / 2 }
