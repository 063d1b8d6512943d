package loadtest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/openloop"
	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Reason codes of a rejection.
const (
	TooSlow = "slo-latency"  // most misses were answers that came too late, timeouts among them
	Failing = "slo-failures" // most misses were failed requests
)

// What a measurement must be to count.
const (
	lagShare     = 0.10 // the generator's lag at its 99th percentile, as a share of the SLO's latency
	offeredShare = 0.99 // the rate offered, as a share of the rate planned
	cpuShare     = 0.90 // the generator's use of the cores
)

func lagLimit(slo SLO) time.Duration { return time.Duration(lagShare * float64(slo.Latency)) }

// Judge decides over a report. It is pure. The share of misses decides; that
// the measurement was a good one is required beside it. A bad measurement
// makes the verdict inconclusive with the reason "invalid", except where the
// server missed so clearly that the generator's lag cannot be the cause.
func Judge(r Report, slo SLO) verdict.Result {
	slo = slo.Effective()
	lag, offered, cpu := lagCheck(r, slo), offeredCheck(r), cpuCheck(r)
	share := shareCheck(r, slo, lag.Verdict == verdict.Pass, cpu.Verdict == verdict.Pass)
	checks := append([]verdict.Check{share, lag, offered, cpu}, listed(r, slo)...)

	var result verdict.Result
	switch joined := verdict.Join(checks); {
	case joined == verdict.Pass:
		result = verdict.Passed("%s", summary(r, slo))
	case joined == verdict.Reject:
		result = verdict.Rejected(cause(r), "%s%s", summary(r, slo), firstFailure(r))
	case share.Verdict == verdict.Inconclusive && valid(lag, offered, cpu):
		result = verdict.Undecidable(verdict.Undecided, "%s: neither kept nor broken is shown at confidence %g; a longer slo.duration would tell", summary(r, slo), slo.Confidence)
	default:
		result = verdict.Undecidable(verdict.Invalid, "the measurement was bad: %s", faults(lag, offered, cpu))
	}
	result.Checks = checks
	result.Subjects["model"] = r.Digest
	return result
}

// shareCheck asks for the share of misses. Of a test that stopped early only
// the lower end of the interval is known, and that from as many misses among
// all the requests of the plan.
func shareCheck(r Report, slo SLO, punctual, idle bool) verdict.Check {
	allowed := 1 - slo.Objective
	check := verdict.Check{
		Name: "over-slo", Required: true, Unit: "share", N: r.Begun,
		Wanted:  fmt.Sprintf("<= %.4g of requests over %s or failed, shown with confidence %g", allowed, slo.Latency, slo.Confidence),
		Verdict: verdict.Inconclusive,
		Text:    fmt.Sprintf("%d of %d missed: %d too late, %d failed", r.Misses(), r.Begun, r.Slow, r.Failed),
	}
	if r.Begun == 0 {
		check.Text = "no request was measured"
		return check
	}
	check.Observed = verdict.Number(float64(r.Misses()) / float64(r.Begun))
	reject := rejectAt(r.Planned, slo.Objective, slo.Confidence)
	check.Interval = shareInterval(r, slo.Confidence)
	switch {
	case r.Misses() >= reject && idle && (punctual || r.Clear >= reject):
		check.Verdict = verdict.Reject
	case r.Begun >= r.Planned && r.Misses() <= passAt(r.Begun, slo.Objective, slo.Confidence):
		check.Verdict = verdict.Pass
	}
	return check
}

// shareInterval is the interval of the share of misses; each end errs with at
// most 1 - confidence.
func shareInterval(r Report, confidence float64) *verdict.Interval {
	bounds, err := stat.ClopperPearson(r.Misses(), max(r.Begun, r.Planned), 2*confidence-1)
	if err != nil {
		return nil // no share, no interval: the verdict does not rest on it
	}
	if r.Begun < r.Planned {
		bounds.High, bounds.Level = math.Inf(1), confidence
	}
	return bounds.ForCheck()
}

func lagCheck(r Report, slo SLO) verdict.Check {
	limit := lagLimit(slo)
	return required("generator-lag-p99", "ms", millis(r.LagP99), r.Begun, r.LagP99 <= limit,
		fmt.Sprintf("<= %g ms, a tenth of the slo's latency", millis(limit)),
		fmt.Sprintf("requests began up to %s late: give the load generator a machine or cores of its own", short(r.LagMax)))
}

func offeredCheck(r Report) verdict.Check {
	return required("offered-rate", "1/s", r.OfferedRate, r.Begun, r.OfferedRate >= offeredShare*r.PlannedRate && r.Kinds[openloop.Dropped] == 0,
		fmt.Sprintf(">= 99%% of the schedule's %.4g/s", r.PlannedRate),
		fmt.Sprintf("%d requests were not sent because too many were in flight; lower slo.rate, or use a faster load generator", r.Kinds[openloop.Dropped]))
}

func cpuCheck(r Report) verdict.Check {
	return required("client-cpu", "share", r.ClientCPU, 0, r.ClientCPU < cpuShare,
		fmt.Sprintf("< %g of the cores used by the load generator", cpuShare),
		"the load generator itself was the bottleneck: use a larger machine or a lower slo.rate")
}

// required is a check of the measurement: it passes or makes the whole invalid.
func required(name, unit string, observed float64, n int, ok bool, wanted, remedy string) verdict.Check {
	check := verdict.Check{
		Name: name, Required: true, Unit: unit, N: n, Wanted: wanted,
		Observed: verdict.Number(observed), Verdict: verdict.Pass,
	}
	if !ok {
		check.Verdict, check.Text = verdict.Inconclusive, remedy
	}
	return check
}

// listed are figures for people. They decide nothing.
func listed(r Report, slo SLO) []verdict.Check {
	var checks []verdict.Check
	for _, q := range r.Quantiles {
		check := verdict.Check{
			Name: fmt.Sprintf("latency-p%g", 100*q.Q), Unit: "ms", N: q.N, Verdict: verdict.Pass,
			Observed: verdict.Number(q.Millis), Wanted: fmt.Sprintf("<= %g ms", millis(slo.Latency)),
			Interval: q.Interval.ForCheck(),
		}
		if q.Millis > millis(slo.Latency) {
			check.Verdict = verdict.Reject
		}
		checks = append(checks, check)
	}
	cold := figure("cold-request", "ms", millis(r.Cold.Latency), 1, strings.TrimSpace(string(r.Cold.Kind)+" "+r.Cold.Text))
	if r.Cold.Kind != openloop.Answered {
		cold.Verdict = verdict.Reject
	}
	return append(checks,
		failuresOf("failed-requests", r.Failed, r.Begun, failures(r)),
		failuresOf("warm-up-failures", r.Warmup.Failed, r.Warmup.Sent, "before the measured part"),
		cold,
		figure("achieved-rate", "1/s", r.AchievedRate, r.Begun, "answered, also too late"),
		figure("goodput", "1/s", r.Goodput, r.Begun, "answered within the slo"),
	)
}

func failuresOf(name string, failed, n int, text string) verdict.Check {
	check := figure(name, "requests", float64(failed), n, text)
	if check.Wanted = "0"; failed > 0 {
		check.Verdict = verdict.Reject
	}
	return check
}

func figure(name, unit string, value float64, n int, text string) verdict.Check {
	return verdict.Check{Name: name, Unit: unit, N: n, Verdict: verdict.Pass, Observed: verdict.Number(value), Text: text}
}

// failures names every kind of failure with its count, the most frequent first.
func failures(r Report) string {
	kinds := make([]openloop.Kind, 0, len(r.Kinds))
	for kind := range r.Kinds {
		if kind != openloop.Answered {
			kinds = append(kinds, kind)
		}
	}
	slices.SortFunc(kinds, func(a, b openloop.Kind) int {
		if d := r.Kinds[b] - r.Kinds[a]; d != 0 {
			return d
		}
		return strings.Compare(string(a), string(b))
	})
	parts := make([]string, len(kinds))
	for i, kind := range kinds {
		parts[i] = fmt.Sprintf("%s %d", kind, r.Kinds[kind])
	}
	return strings.Join(parts, ", ")
}

func cause(r Report) string {
	if late := r.Slow + r.Kinds[openloop.TimedOut]; 2*late >= r.Misses() {
		return TooSlow
	}
	return Failing
}

func firstFailure(r Report) string {
	if len(r.Examples) == 0 {
		return ""
	}
	first := r.Examples[0]
	return fmt.Sprintf("; first failure: %s (%s)", first.Text, first.Kind)
}

func summary(r Report, slo SLO) string {
	text := fmt.Sprintf("%d of %d requests missed %s (at most %.4g%% may)", r.Misses(), r.Begun, slo.Latency, 100*(1-slo.Objective))
	if n := len(r.Quantiles); n > 0 {
		text += fmt.Sprintf(", p99 %.4g ms", r.Quantiles[n-1].Millis)
	}
	if r.Failed > 0 {
		text += ", failed: " + failures(r)
	}
	if r.Stopped {
		text += fmt.Sprintf("; stopped after %d of %d, as no more could change it", r.Begun, r.Planned)
	}
	return text
}

func valid(checks ...verdict.Check) bool {
	return !slices.ContainsFunc(checks, func(c verdict.Check) bool { return c.Verdict != verdict.Pass })
}

func faults(checks ...verdict.Check) string {
	var parts []string
	for _, c := range checks {
		if c.Verdict != verdict.Pass {
			observed := "not measured"
			if c.Observed != nil {
				observed = fmt.Sprintf("%.4g %s", *c.Observed, c.Unit)
			}
			parts = append(parts, fmt.Sprintf("%s %s, wanted %s (%s)", c.Name, observed, c.Wanted, c.Text))
		}
	}
	return strings.Join(parts, "; ")
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// short rounds a duration for people.
func short(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
