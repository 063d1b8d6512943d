// Package loadtest asks whether a server keeps the service level that a
// project promised, under the load that it expects.
//
// The load is an open loop of Poisson arrivals (package openloop) with real
// images. Every request of the measured part either meets the service level,
// that is, it is answered completely and by the right model within the latency
// counted from its intended start, or it misses it. The question is then one
// about a proportion, not about a percentile: is the share of misses at most
// 1 - objective? It is answered with an exact binomial test (Clopper and
// Pearson, Biometrika 26, 1934; used so by MLPerf inference's early stopping,
// Reddi et al. 2020), in both directions, and with "undecided" in between.
//
// Refused: a verdict from a measurement that was itself bad (a generator that
// lagged, offered less than planned, or ran out of CPU), a plan that could
// never reach the evidence, and a pass on what was not measured.
package loadtest

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// SLO is the section `slo:` of penstock.yaml: the promise, and the load under
// which it is tested.
type SLO struct {
	Latency    time.Duration `yaml:"latency"`              // an answer later than this is a miss
	Objective  float64       `yaml:"objective"`            // share of requests that must not miss, in (0, 1)
	Rate       float64       `yaml:"rate"`                 // arrivals per second
	Duration   time.Duration `yaml:"duration"`             // of the measured part
	Timeout    time.Duration `yaml:"timeout,omitempty"`    // of a request; 0: four times the latency
	Warmup     time.Duration `yaml:"warmup,omitempty"`     // before the measured part, not counted; 0: 2s
	Confidence float64       `yaml:"confidence,omitempty"` // of pass and of reject; 0: 0.99
}

const (
	defaultWarmup     = 2 * time.Second
	defaultConfidence = 0.99
	timeoutLatencies  = 4
)

// Effective is the SLO with its documented defaults in the place of zeros.
func (s SLO) Effective() SLO {
	if s.Timeout == 0 {
		s.Timeout = timeoutLatencies * s.Latency
	}
	if s.Warmup == 0 {
		s.Warmup = defaultWarmup
	}
	if s.Confidence == 0 {
		s.Confidence = defaultConfidence
	}
	return s
}

// Requests is the number of requests in the measured part.
func (s SLO) Requests() int { return int(math.Round(s.Rate * s.Duration.Seconds())) }

// maxRequests bounds a plan: every sample is kept.
const maxRequests = 5_000_000

// Validate refuses what cannot be tested; each error names the key below slo: and the
// remedy. A plan too small to show the objective even without a single miss is
// refused here and not after the test.
func (s SLO) Validate() error {
	e := s.Effective()
	if err := e.validateValues(); err != nil {
		return err
	}
	n, needed := e.Requests(), Needed(e.Objective, e.Confidence)
	if n > maxRequests {
		return fmt.Errorf("rate %g over duration %s is %d requests: at most %d can be kept", e.Rate, e.Duration, n, maxRequests)
	}
	if n < needed {
		longer := time.Duration(math.Ceil(float64(needed)/e.Rate)) * time.Second
		return fmt.Errorf("rate %g over duration %s is %d requests, but showing an objective of %g with confidence %g takes at least %d: set duration to %s or more (or raise rate)",
			e.Rate, e.Duration, n, e.Objective, e.Confidence, needed, longer)
	}
	return nil
}

func (s SLO) validateValues() error {
	switch {
	case s.Latency <= 0:
		return errors.New("latency: give the latency that requests must keep, for example 500ms")
	case !(s.Objective > 0 && s.Objective < 1):
		return fmt.Errorf("objective %g: give the share of requests that must keep the latency, between 0 and 1, for example 0.99", s.Objective)
	case !(s.Rate > 0) || math.IsInf(s.Rate, 0):
		return fmt.Errorf("rate %g: give the arrivals per second, for example 50", s.Rate)
	case s.Duration <= 0:
		return errors.New("duration: give the length of the load test, for example 20s")
	case s.Timeout < s.Latency:
		return fmt.Errorf("timeout %s is shorter than latency %s: a request must be given the time that it may take", s.Timeout, s.Latency)
	case s.Warmup < 0:
		return fmt.Errorf("warmup %s: cannot be negative", s.Warmup)
	case !(s.Confidence > 0.5 && s.Confidence < 1):
		return fmt.Errorf("confidence %g: give a confidence between 0.5 and 1, for example 0.99", s.Confidence)
	}
	return nil
}
