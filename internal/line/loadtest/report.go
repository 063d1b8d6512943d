package loadtest

import (
	"fmt"
	"io"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/penstock-ml/penstock/internal/openloop"
)

// Report is what a load test measured. All counts are of the measured part:
// the cold request and the warm-up stand apart.
type Report struct {
	Endpoint string // URL that images were posted to
	Digest   string // model that had to answer
	Seed     uint64
	Started  time.Time

	Planned int  // requests of the plan
	Begun   int  // requests whose turn came, dropped ones included
	Stopped bool // ended before the plan did, because rejection was certain

	Good     int                   // answered as they must be, within the latency
	Slow     int                   // answered as they must be, too late
	Failed   int                   // everything else, timeouts included
	Clear    int                   // misses that the generator's own lag cannot explain
	Kinds    map[openloop.Kind]int // all of Begun, by kind
	Statuses map[int]int           // HTTP answers by status
	Examples []Failure             // the first failures

	PlannedRate  float64 // arrivals per second in the schedule, as far as it was played
	OfferedRate  float64 // of them, those begun within the schedule's time, per second
	AchievedRate float64 // requests answered as they must be, per second
	Goodput      float64 // those within the latency, per second

	LagP99, LagMax time.Duration // how late the generator began requests
	ClientCPU      float64       // share of the cores that the generator used

	Quantiles []Quantile // of the latency from the intended start
	Histogram *hdrhistogram.Histogram

	Cold   Cold
	Warmup Warmup
}

// Misses is the number of requests that missed the service level.
func (r Report) Misses() int { return r.Slow + r.Failed }

// Failure is an example of a request that failed.
type Failure struct {
	Offset    time.Duration // intended start, from the start of the schedule
	Kind      openloop.Kind
	Image     string
	RequestID string
	Text      string
}

// Cold is the very first request, before the warm-up.
type Cold struct {
	Latency time.Duration
	Kind    openloop.Kind
	Text    string
}

// Warmup counts what came before the measured part.
type Warmup struct {
	Sent, Failed int
}

// histogram tracks microseconds with three significant digits.
func newHistogram(timeout time.Duration) *hdrhistogram.Histogram {
	return hdrhistogram.New(1, max(2*timeout.Microseconds(), 1000), 3)
}

// WriteHistogram writes the latencies in microseconds as an HdrHistogram log
// (version 1.3), which every HdrHistogram tool reads.
func (r Report) WriteHistogram(w io.Writer) error {
	log := hdrhistogram.NewHistogramLogWriter(w)
	steps := []func() error{
		log.OutputLogFormatVersion,
		func() error {
			return log.OutputComment("[penstock loadtest: latency from the intended start, microseconds; model " + r.Digest + "]")
		},
		func() error { return log.OutputStartTime(r.Started.UnixMilli()) },
		log.OutputLegend,
		func() error { return log.OutputIntervalHistogram(r.Histogram) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("write the latency histogram: %w", err)
		}
	}
	return nil
}
