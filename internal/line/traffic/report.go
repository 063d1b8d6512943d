package traffic

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/penstock-ml/penstock/internal/openloop"
)

// Schema is the version of the report.
const Schema = 1

// Report is what became of the traffic so far. Sent = answered + failed; what
// is under way is in none of them.
type Report struct {
	Schema         int            `json:"schema"`
	Started        time.Time      `json:"started"`
	Updated        time.Time      `json:"updated"`
	Done           bool           `json:"done"` // the last report
	Seed           uint64         `json:"seed"`
	Users          int            `json:"users"`
	Sent           int            `json:"sent"`
	Failed         int            `json:"failed"`
	ByDigest       map[string]int `json:"by_digest"`        // answered, by the model that did
	FailedByDigest map[string]int `json:"failed_by_digest"` // failed, where the answer named a model
	ByStatus       map[string]int `json:"by_status"`        // HTTP answers, good and bad
	ByKind         map[string]int `json:"by_kind"`          // all of Sent
	P50Millis      float64        `json:"p50_ms"`           // of what was answered, from the intended start
	P99Millis      float64        `json:"p99_ms"`
	Failures       []Failure      `json:"failures"` // the first ones
}

// Failure is an example.
type Failure struct {
	At        time.Time `json:"at"`
	Kind      string    `json:"kind"`
	Status    int       `json:"status,omitempty"`
	Digest    string    `json:"digest,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Image     string    `json:"image,omitempty"`
	Text      string    `json:"text"`
}

const (
	maxFailures = 10
	maxMicros   = 600_000_000 // what the histogram can hold: ten minutes
)

// ledger counts answers of concurrent requests.
type ledger struct {
	mu        sync.Mutex
	sum       Report
	latencies *hdrhistogram.Histogram // microseconds
}

func newLedger(p Profile, now time.Time) *ledger {
	return &ledger{
		latencies: hdrhistogram.New(1, maxMicros, 3),
		sum: Report{
			Schema: Schema, Started: now.UTC(), Seed: p.Seed, Users: p.Users,
			ByDigest: map[string]int{}, FailedByDigest: map[string]int{},
			ByStatus: map[string]int{}, ByKind: map[string]int{}, Failures: []Failure{},
		},
	}
}

func (l *ledger) add(a openloop.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Sent++
	l.sum.ByKind[string(a.Kind)]++
	if a.Status != 0 {
		l.sum.ByStatus[strconv.Itoa(a.Status)]++
	}
	if a.OK() {
		l.sum.ByDigest[a.Digest]++
		if l.latencies.RecordValue(min(max(a.Latency.Microseconds(), 1), maxMicros)) != nil {
			panic("the histogram refused a value within its range")
		}
		return
	}
	l.sum.Failed++
	if a.Digest != "" {
		l.sum.FailedByDigest[a.Digest]++
	}
	if len(l.sum.Failures) < maxFailures {
		l.sum.Failures = append(l.sum.Failures, Failure{
			At: time.Now().UTC(), Kind: string(a.Kind), Status: a.Status, Digest: a.Digest,
			RequestID: a.RequestID, Image: a.Image, Text: a.Err,
		})
	}
}

// report is a copy of the counts.
func (l *ledger) report(done bool) Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.sum
	r.Updated, r.Done = time.Now().UTC(), done
	r.ByDigest, r.FailedByDigest = maps.Clone(r.ByDigest), maps.Clone(r.FailedByDigest)
	r.ByStatus, r.ByKind = maps.Clone(r.ByStatus), maps.Clone(r.ByKind)
	r.Failures = slices.Clone(r.Failures)
	if l.latencies.TotalCount() > 0 {
		r.P50Millis = float64(l.latencies.ValueAtQuantile(50)) / 1000
		r.P99Millis = float64(l.latencies.ValueAtQuantile(99)) / 1000
	}
	return r
}
