package loadtest

import (
	"fmt"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/openloop"
)

// maxExamples bounds how many failures a report shows.
const maxExamples = 5

// sample is one measured request.
type sample struct {
	offset   time.Duration // intended start, from the start of the schedule
	lag      time.Duration // of the generator
	latency  time.Duration // from the intended start
	finished time.Time
	kind     openloop.Kind
}

// recorder gathers samples from all requests and tells when enough are bad.
type recorder struct {
	slo      SLO
	rejectAt int

	mu       sync.Mutex
	samples  []sample
	misses   int
	statuses map[int]int
	examples []Failure
	warmup   Warmup
	certain  bool
}

func newRecorder(slo SLO) *recorder {
	return &recorder{
		slo: slo, rejectAt: rejectAt(slo.Requests(), slo.Objective, slo.Confidence),
		samples: make([]sample, 0, slo.Requests()), statuses: map[int]int{},
	}
}

// warm notes a request of the warm-up.
func (r *recorder) warm(a openloop.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warmup.Sent++
	if !a.OK() {
		r.warmup.Failed++
	}
}

// add notes a measured request and reports whether rejection is certain now.
func (r *recorder) add(shot openloop.Shot, a openloop.Answer) bool {
	s := sample{shot.Offset, shot.Lag(), a.Latency, shot.Intended.Add(a.Latency), a.Kind}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, s)
	if a.Status != 0 {
		r.statuses[a.Status]++
	}
	if !a.OK() && len(r.examples) < maxExamples {
		r.examples = append(r.examples, Failure{shot.Offset, a.Kind, a.Image, a.RequestID, a.Err})
	}
	if s.missed(r.slo) {
		r.misses++
		r.certain = r.certain || r.misses >= r.rejectAt && r.stands()
	}
	return r.certain
}

// stands tells whether the misses so far would be held against the server: the
// generator kept its time, or its lag cannot explain them.
func (r *recorder) stands() bool {
	lag := lagP99(r.samples)
	return lag <= lagLimit(r.slo) || clearMisses(r.samples, r.slo, lag) >= r.rejectAt
}

func (s sample) missed(slo SLO) bool {
	return s.kind != openloop.Answered || s.latency > slo.Latency
}

// clear tells whether the server missed also when its time is counted from the
// actual start and the generator is granted its lag once more, for reading the
// answer late.
func (s sample) clear(slo SLO, lag time.Duration) bool {
	switch s.kind {
	case openloop.Dropped:
		return false
	case openloop.Answered, openloop.TimedOut:
		return s.latency-s.lag-lag > slo.Latency
	}
	return true
}

func clearMisses(samples []sample, slo SLO, lag time.Duration) int {
	n := 0
	for _, s := range samples {
		if s.clear(slo, lag) {
			n++
		}
	}
	return n
}

// report sums the samples up.
func (r *recorder) report() (Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := Report{
		Planned: r.slo.Requests(), Begun: len(r.samples), Stopped: r.certain && len(r.samples) < r.slo.Requests(),
		Kinds: map[openloop.Kind]int{}, Statuses: r.statuses, Examples: r.examples,
		Warmup: r.warmup, Histogram: newHistogram(r.slo.Timeout),
		LagP99: lagP99(r.samples),
	}
	report.Clear = clearMisses(r.samples, r.slo, report.LagP99)
	var latencies []time.Duration
	for _, s := range r.samples {
		report.Kinds[s.kind]++
		report.LagMax = max(report.LagMax, s.lag)
		switch {
		case s.kind != openloop.Answered:
			report.Failed++
		case s.latency > r.slo.Latency:
			report.Slow++
		default:
			report.Good++
		}
		if s.kind == openloop.Answered || s.kind == openloop.TimedOut {
			latencies = append(latencies, s.latency)
			if err := report.record(s.latency); err != nil {
				return Report{}, err
			}
		}
	}
	report.rates(r.samples, lagLimit(r.slo))
	var err error
	report.Quantiles, err = quantiles(latencies)
	return report, err
}

// record puts a latency into the histogram, the longest it can hold in the
// place of a longer one.
func (r *Report) record(latency time.Duration) error {
	micros := min(max(latency.Microseconds(), 1), r.Histogram.HighestTrackableValue())
	if err := r.Histogram.RecordValue(micros); err != nil {
		return fmt.Errorf("latency histogram: %w", err)
	}
	return nil
}

// rates compares the arrivals as they were planned with what was begun and
// answered. A request counts as offered where it was begun before the last
// planned arrival and the lag that is tolerated: a generator that is slower
// than its schedule has the rest still to send by then.
func (r *Report) rates(samples []sample, tolerated time.Duration) {
	if len(samples) < 2 {
		return
	}
	first, last, answered := samples[0], samples[0], samples[0].finished
	for _, s := range samples {
		if s.offset < first.offset {
			first = s
		}
		if s.offset > last.offset {
			last = s
		}
		if s.finished.After(answered) {
			answered = s.finished
		}
	}
	offered := 0
	for _, s := range samples {
		if s.kind != openloop.Dropped && s.offset+s.lag <= last.offset+tolerated {
			offered++
		}
	}
	r.PlannedRate = perSecond(len(samples)-1, last.offset-first.offset)
	r.OfferedRate = r.PlannedRate * float64(offered) / float64(len(samples))
	whole := answered.Sub(first.finished.Add(-first.latency))
	r.AchievedRate = perSecond(r.Good+r.Slow, whole)
	r.Goodput = perSecond(r.Good, whole)
}

func perSecond(n int, span time.Duration) float64 {
	if n <= 0 || span <= 0 {
		return 0
	}
	return float64(n) / span.Seconds()
}
