package loadtest

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/penstock-ml/penstock/internal/openloop"
	"github.com/penstock-ml/penstock/internal/verdict"
)

func promise() SLO {
	return SLO{Latency: 500 * time.Millisecond, Objective: 0.99, Rate: 50, Duration: 20 * time.Second}
}

// measured is a report of a good measurement with so many slow and failed
// requests among the plan's thousand.
func measured(slow, failed int) Report {
	return Report{
		Digest: "sha256-a", Planned: 1000, Begun: 1000,
		Good: 1000 - slow - failed, Slow: slow, Failed: failed, Clear: slow + failed,
		Kinds:       map[openloop.Kind]int{openloop.Answered: 1000 - failed, openloop.BadStatus: failed},
		PlannedRate: 50, OfferedRate: 50, LagP99: time.Millisecond, LagMax: 3 * time.Millisecond, ClientCPU: 0.1,
	}
}

func TestRequestsNeededAgreeWithMLPerfsTable(t *testing.T) {
	if n := Needed(0.99, 0.99); n != 459 {
		t.Errorf("Needed(0.99, 0.99) = %d, MLPerf says 459", n)
	}
	for misses, n := range map[int]int{0: 459, 1: 662, 2: 838, 3: 1001, 10: 2010} {
		if got := passAt(n, 0.99, 0.99); got != misses {
			t.Errorf("%d requests pass with %d misses, want %d", n, got, misses)
		}
		if got := passAt(n-1, 0.99, 0.99); got != misses-1 {
			t.Errorf("%d requests pass with %d misses, want %d", n-1, got, misses-1)
		}
	}
}

func TestRejectionErrsNoMoreThanItsConfidenceAllows(t *testing.T) {
	for _, n := range []int{30, 459, 1000, 5000} {
		reject, pass := rejectAt(n, 0.99, 0.99), passAt(n, 0.99, 0.99)
		if reject <= pass {
			t.Fatalf("n=%d: %d misses would be both rejected and passed (pass up to %d)", n, reject, pass)
		}
		if tail := binomialTail(n, reject, 0.01); tail > 0.01 {
			t.Errorf("n=%d: a server at exactly the objective has %d misses with probability %g", n, reject, tail)
		}
		if tail := binomialTail(n, reject-1, 0.01); tail <= 0.01 {
			t.Errorf("n=%d: %d misses would do already (probability %g)", n, reject-1, tail)
		}
	}
}

// binomialTail is P(X >= t), summed term by term as an oracle.
func binomialTail(n, t int, p float64) float64 {
	sum := 0.0
	for k := t; k <= n; k++ {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		sum += math.Exp(a - b - c + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	return sum
}

func TestJudge(t *testing.T) {
	change := func(r Report, f func(*Report)) Report { f(&r); return r }
	cases := []struct {
		name    string
		report  Report
		verdict verdict.Verdict
		code    string
		text    string // must stand in the reason
	}{
		{"without a miss", measured(0, 0), verdict.Pass, "done", "0 of 1000"},
		{"as many misses as the evidence bears", measured(1, 1), verdict.Pass, "done", ""},
		{"between pass and reject", measured(10, 0), verdict.Inconclusive, verdict.Undecided, "longer slo.duration"},
		{"many late answers", measured(60, 0), verdict.Reject, TooSlow, "60 of 1000"},
		{"many failures", measured(0, 60), verdict.Reject, Failing, "status 60"},
		{
			"stopped early", change(measured(0, 0), func(r *Report) { r.Begun, r.Good, r.Slow, r.Clear, r.Stopped = 40, 5, 35, 35, true }),
			verdict.Reject, TooSlow, "stopped after 40 of 1000",
		},
		{
			"cut short without cause", change(measured(0, 0), func(r *Report) { r.Begun, r.Good = 700, 700 }),
			verdict.Inconclusive, verdict.Undecided, "",
		},
		{"no request at all", Report{Planned: 1000}, verdict.Inconclusive, verdict.Undecided, ""},
		{
			"a lagging generator cannot pass", change(measured(0, 0), func(r *Report) { r.LagP99 = 51 * time.Millisecond }),
			verdict.Inconclusive, verdict.Invalid, "generator-lag-p99 51 ms",
		},
		{
			"a lagging generator cannot reject by what its lag explains",
			change(measured(60, 0), func(r *Report) { r.LagP99, r.Clear = 51*time.Millisecond, 3 }),
			verdict.Inconclusive, verdict.Invalid, "",
		},
		{
			"a lagging generator rejects what its lag cannot explain",
			change(measured(60, 0), func(r *Report) { r.LagP99, r.Clear = 51*time.Millisecond, 55 }),
			verdict.Reject, TooSlow, "",
		},
		{
			"offered less than planned", change(measured(0, 0), func(r *Report) { r.OfferedRate = 49.4 }),
			verdict.Inconclusive, verdict.Invalid, "offered-rate 49.4",
		},
		{
			"dropped requests", change(measured(0, 0), func(r *Report) { r.Kinds[openloop.Dropped] = 1 }),
			verdict.Inconclusive, verdict.Invalid, "1 requests were not sent",
		},
		{
			"a saturated client cannot reject", change(measured(60, 0), func(r *Report) { r.ClientCPU = 0.95 }),
			verdict.Inconclusive, verdict.Invalid, "client-cpu",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Judge(c.report, promise())
			if got.Verdict != c.verdict || got.Reason.Code != c.code || !strings.Contains(got.Reason.Text, c.text) {
				t.Errorf("verdict %s, reason %s: %s\nwant %s, %s: …%s…", got.Verdict, got.Reason.Code, got.Reason.Text, c.verdict, c.code, c.text)
			}
			if got.Verdict != verdict.Join(got.Checks) {
				t.Errorf("verdict %s, but its checks join to %s", got.Verdict, verdict.Join(got.Checks))
			}
		})
	}
}

func TestIntervalOfTheShareAgreesWithTheVerdict(t *testing.T) {
	for misses := range 60 {
		got := Judge(measured(misses, 0), promise())
		interval := got.Checks[0].Interval
		if low := interval.Low != nil && *interval.Low > 0.01; low != (got.Verdict == verdict.Reject) {
			t.Errorf("%d misses: lower bound %v and verdict %s", misses, *interval.Low, got.Verdict)
		}
		if high := *interval.High <= 0.01; high != (got.Verdict == verdict.Pass) {
			t.Errorf("%d misses: upper bound %v and verdict %s", misses, *interval.High, got.Verdict)
		}
	}
}

func TestValidateNamesTheKeyAndTheRemedy(t *testing.T) {
	if err := promise().Validate(); err != nil {
		t.Fatalf("a sound promise is refused: %v", err)
	}
	cases := []struct {
		want   string
		change func(*SLO)
	}{
		{"latency", func(s *SLO) { s.Latency = 0 }},
		{"objective 1:", func(s *SLO) { s.Objective = 1 }},
		{"objective NaN:", func(s *SLO) { s.Objective = math.NaN() }},
		{"rate 0:", func(s *SLO) { s.Rate = 0 }},
		{"rate +Inf:", func(s *SLO) { s.Rate = math.Inf(1) }},
		{"duration", func(s *SLO) { s.Duration = 0 }},
		{"timeout 100ms", func(s *SLO) { s.Timeout = 100 * time.Millisecond }},
		{"warmup", func(s *SLO) { s.Warmup = -1 }},
		{"confidence 0.3", func(s *SLO) { s.Confidence = 0.3 }},
		{"is 200 requests, but showing an objective of 0.99 with confidence 0.99 takes at least 459: set duration to 23s", func(s *SLO) { s.Rate, s.Duration = 20, 10*time.Second }},
		{"at most 5000000", func(s *SLO) { s.Rate = 1e9 }},
	}
	for _, c := range cases {
		slo := promise()
		c.change(&slo)
		if err := slo.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

func TestRecorderStopsAtTheFirstMissThatDecides(t *testing.T) {
	slo := promise().Effective()
	record, decides := newRecorder(slo), rejectAt(1000, 0.99, 0.99)
	start := time.Now()
	for i := 1; i <= decides; i++ {
		shot := openloop.Shot{Index: i, Offset: time.Duration(i), Intended: start, Started: start}
		stop := record.add(shot, openloop.Answer{Kind: openloop.Answered, Status: 200, Latency: time.Second})
		if stop != (i == decides) {
			t.Fatalf("after %d misses stop = %v, the decisive miss is the %dth", i, stop, decides)
		}
	}
}

func TestRecorderDoesNotStopForWhatTheGeneratorsLagExplains(t *testing.T) {
	record := newRecorder(promise().Effective())
	start := time.Now()
	for i := range 100 {
		shot := openloop.Shot{Index: i, Offset: time.Duration(i), Intended: start, Started: start.Add(600 * time.Millisecond)}
		if record.add(shot, openloop.Answer{Kind: openloop.Answered, Status: 200, Latency: 610 * time.Millisecond}) {
			t.Fatalf("stopped after %d requests that the generator itself delayed", i+1)
		}
	}
}

func TestTimeoutsCountInTheQuantilesAndFastFailuresDoNot(t *testing.T) {
	record := newRecorder(promise().Effective())
	start := time.Now()
	shot := openloop.Shot{Intended: start, Started: start}
	record.add(shot, openloop.Answer{Kind: openloop.TimedOut, Latency: 2 * time.Second})
	record.add(shot, openloop.Answer{Kind: openloop.BadStatus, Status: 500, Latency: time.Millisecond})
	report, err := record.report()
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Quantiles) != 3 || report.Quantiles[0].N != 1 || report.Quantiles[0].Millis != 2000 {
		t.Errorf("quantiles %+v, want only the timeout's 2000 ms", report.Quantiles)
	}
	if report.Misses() != 2 || report.Statuses[500] != 1 || report.Kinds[openloop.TimedOut] != 1 {
		t.Errorf("%d misses, statuses %v, kinds %v", report.Misses(), report.Statuses, report.Kinds)
	}
}

func TestOfferedRateIsWhatWasBegunWithinTheSchedulesTime(t *testing.T) {
	rate := func(slowdown float64) float64 {
		record, start := newRecorder(promise().Effective()), time.Now()
		for i := range 1000 {
			offset := time.Duration(i) * 20 * time.Millisecond
			shot := openloop.Shot{Index: i, Offset: offset, Intended: start.Add(offset)}
			shot.Started = start.Add(time.Duration(float64(offset) * slowdown))
			record.add(shot, openloop.Answer{Kind: openloop.Answered, Latency: shot.Lag() + time.Millisecond})
		}
		report, err := record.report()
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(report.PlannedRate-50) > 0.01 {
			t.Errorf("planned %g/s, want 50", report.PlannedRate)
		}
		return report.OfferedRate
	}
	if got := rate(1); math.Abs(got-50) > 0.01 {
		t.Errorf("a punctual generator offered %g/s, want 50", got)
	}
	if got := rate(1.05); got > 48 || got < 47 {
		t.Errorf("a generator 5%% too slow offered %g/s within the schedule's time, want about 47.6", got)
	}
}

func TestHistogramFileIsReadBackByHdrHistogram(t *testing.T) {
	record := newRecorder(promise().Effective())
	start := time.Now()
	for _, ms := range []int{5, 7, 400, 900} {
		record.add(openloop.Shot{Intended: start, Started: start}, openloop.Answer{Kind: openloop.Answered, Latency: time.Duration(ms) * time.Millisecond})
	}
	report, err := record.report()
	if err != nil {
		t.Fatal(err)
	}
	report.Started = start
	var file bytes.Buffer
	if err := report.WriteHistogram(&file); err != nil {
		t.Fatal(err)
	}
	back, err := hdrhistogram.NewHistogramLogReader(&file).NextIntervalHistogram()
	if err != nil {
		t.Fatal(err)
	}
	if back.TotalCount() != 4 || back.Max() < 899_000 || back.Max() > 901_000 {
		t.Errorf("read back %d values, largest %d µs", back.TotalCount(), back.Max())
	}
}

func TestScheduleIsAFunctionOfItsSeed(t *testing.T) {
	a, b, c := openloop.Schedule(100, 5000, 7), openloop.Schedule(100, 5000, 7), openloop.Schedule(100, 5000, 8)
	if !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Error("the same seed must give the same schedule, another seed another")
	}
	if !slices.IsSorted(a) {
		t.Error("arrivals are not in order")
	}
	// 5000 exponential gaps of 10 ms: mean within four standard errors, and
	// a standard deviation that equals the mean (evenly spaced would be 0).
	mean := a[len(a)-1].Seconds() / 5000
	variance := 0.0
	for i := 1; i < len(a); i++ {
		gap := (a[i] - a[i-1]).Seconds() - mean
		variance += gap * gap / 5000
	}
	if math.Abs(mean-0.01) > 4*0.01/math.Sqrt(5000) || math.Abs(math.Sqrt(variance)-0.01) > 0.001 {
		t.Errorf("gaps have mean %g s and deviation %g s, want 0.01 both", mean, math.Sqrt(variance))
	}
}
