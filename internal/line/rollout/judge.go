package rollout

import (
	"fmt"
	"math"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/stat"
)

// The fast path: so many failures, and so large a part of all answers, stop a
// canary without statistics (18 of the first 20).
const (
	fastFailures = 18
	fastPart     = 0.9
)

// Judgement is what the counters prove, for each of the two metrics.
type Judgement struct {
	Errors, Slow stat.Judgement
}

// Judge asks the sequential tests. It may be called after every look.
func (s State) Judge(p Plan) (Judgement, error) {
	errors, err := stat.Judge(s.Errors, stat.Rule{Alpha: p.alphaEach(), Ratio: p.Errors.Ratio, Margin: p.Errors.Margin})
	if err != nil {
		return Judgement{}, fmt.Errorf("errors: %w", err)
	}
	slow, err := stat.Judge(s.Slow, stat.Rule{Alpha: p.alphaEach(), Ratio: p.Slow.Ratio, Margin: p.Slow.Margin})
	if err != nil {
		return Judgement{}, fmt.Errorf("slow: %w", err)
	}
	return Judgement{Errors: errors, Slow: slow}, nil
}

// harm gives the code and the numbers of a proven harm, or nothing.
func (j Judgement) harm(s State, p Plan) (code, text string) {
	c := s.Total().Canary
	switch {
	case c.Errors >= fastFailures && float64(c.Errors) >= fastPart*float64(c.Requests):
		return CodeErrors, fmt.Sprintf("%d of the canary's %d requests failed", c.Errors, c.Requests)
	case j.Errors.Comparison == stat.Worse:
		return CodeErrors, "the canary fails more often than stable: " + describe(j.Errors, p.Errors.Ratio)
	case j.Slow.Comparison == stat.Worse:
		return CodeLatency, "the canary is over the slo more often than stable: " + describe(j.Slow, p.Slow.Ratio)
	}
	return "", ""
}

func describe(j stat.Judgement, ratio float64) string {
	return fmt.Sprintf("%d of %d requests against %d of %d, evidence %.3g for more than %g times the rate", j.Canary.Events, j.Canary.Requests, j.Control.Events, j.Control.Requests, j.EValue, ratio)
}

// unproven says which promise is not kept yet.
func (j Judgement) unproven(p Plan) string {
	switch {
	case j.Errors.Comparison != stat.NotWorse:
		return fmt.Sprintf("the canary's rate of errors could be up to %.4f above stable's, less than %g is wanted", j.Errors.Difference.High, p.Errors.Margin)
	case j.Slow.Comparison != stat.NotWorse:
		return fmt.Sprintf("the canary's rate of answers over the slo could be up to %.4f above stable's, less than %g is wanted", j.Slow.Difference.High, p.Slow.Margin)
	}
	return ""
}

func (j Judgement) proof(p Plan) string {
	return fmt.Sprintf("errors at most %.4f above stable's (margin %g), over the slo at most %.4f (margin %g), %d requests",
		j.Errors.Difference.High, p.Errors.Margin, j.Slow.Difference.High, p.Slow.Margin, j.Errors.Canary.Requests)
}

// rebase takes the counters as the zero of a step.
func (s *State) rebase(o Observation) {
	s.delta(deployment.Canary, s.Digest, o.CanaryCounters)
	s.delta(deployment.Stable, s.Previous, o.StableCounts)
}

// accumulate adds what both arms did since the look before. A look at which
// one arm could not be read adds nothing: its requests come with the next one,
// together with the other arm's.
func (s *State) accumulate(o Observation) {
	if o.CanaryCounters == nil || o.StableCounts == nil {
		return
	}
	canary := s.delta(deployment.Canary, s.Digest, o.CanaryCounters)
	stable := s.delta(deployment.Stable, s.Previous, o.StableCounts)
	here := &s.Strata[len(s.Strata)-1]
	here.Canary, here.Stable = plus(here.Canary, canary), plus(here.Stable, stable)
	s.Errors = addLook(s.Errors, look(canary, stable, func(c deployment.Counts) uint64 { return c.Errors }))
	s.Slow = addLook(s.Slow, look(canary, stable, func(c deployment.Counts) uint64 { return c.Slow }))
}

// delta is what the servers of a slot counted for digest since the look
// before. A server that started anew, or whose counters fell, counts from 0;
// one never seen before sets its zero.
func (s *State) delta(slot, digest string, servers map[string]deployment.Reading) deployment.Counts {
	var sum deployment.Counts
	for name, r := range servers {
		key, counts := slot+" "+name, r.Digests[digest]
		before, seen := s.Last[key]
		if s.Last == nil {
			s.Last = map[string]Last{}
		}
		s.Last[key] = Last{Started: r.Started, Counts: counts}
		if !seen {
			continue
		}
		if slot == deployment.Canary && r.Started != before.Started {
			s.Restarts++
		}
		sum = plus(sum, since(before, r.Started, counts))
	}
	return sum
}

func since(before Last, started float64, now deployment.Counts) deployment.Counts {
	old := before.Counts
	if started != before.Started || now.Requests < old.Requests || now.Errors < old.Errors || now.Slow < old.Slow {
		return now
	}
	return deployment.Counts{Requests: now.Requests - old.Requests, Errors: now.Errors - old.Errors, Slow: now.Slow - old.Slow}
}

// look is one metric's increment. A scrape may catch an answer's error before
// its request; the event then waits for nothing: it is capped.
func look(canary, stable deployment.Counts, events func(deployment.Counts) uint64) stat.Look {
	count := func(c deployment.Counts) stat.Count {
		return stat.Count{Events: int64(min(events(c), c.Requests)), Requests: int64(c.Requests)}
	}
	return stat.Look{Canary: count(canary), Control: count(stable)}
}

// addLook appends a look. Looks without an event say nothing about where
// events land, only how many requests there were, so neighbours among them are
// added up, which keeps the record small.
func addLook(looks []stat.Look, l stat.Look) []stat.Look {
	if l.Canary.Requests == 0 && l.Control.Requests == 0 {
		return looks
	}
	quiet := func(l stat.Look) bool { return l.Canary.Events == 0 && l.Control.Events == 0 }
	if n := len(looks); n > 0 && quiet(looks[n-1]) && quiet(l) {
		looks[n-1].Canary.Requests += l.Canary.Requests
		looks[n-1].Control.Requests += l.Control.Requests
		return looks
	}
	return append(looks, l)
}

// sampleRatio compares the canary's part of the requests with the shares asked
// for: z counts standard deviations. Requests of one user go the same way, so
// few users make it large without harm: it warns, it does not decide.
func (s State) sampleRatio() (got, asked, z float64) {
	var canary, all, expected, variance float64
	for _, x := range s.Strata {
		n, share := float64(x.Canary.Requests+x.Stable.Requests), float64(x.ShareBP)/10000
		canary += float64(x.Canary.Requests)
		all += n
		expected += n * share
		variance += n * share * (1 - share)
	}
	if all == 0 || variance == 0 {
		return 0, 0, 0
	}
	return canary / all, expected / all, (canary - expected) / math.Sqrt(variance)
}
