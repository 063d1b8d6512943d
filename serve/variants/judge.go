package variants

import (
	"fmt"

	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/measure"
)

// Reason codes of a variant's verdict.
const (
	Faster       = "faster"     // pass: faster, and as good as the policy asks
	NotFaster    = "not-faster" // reject: shown to be no faster than its parent
	Undecided    = "speed-undecided"
	Refused      = "refused"      // reject: it cannot be run, or is too far from the goldens
	QualityPoor  = "quality"      // reject or inconclusive: the gate's reason stands in the text
	NothingToTry = "nothing-made" // no variant was asked for
)

// Candidate is a variant and what is known of it.
type Candidate struct {
	Kind       string
	Digest     string
	Bytes      int64   // of the graph
	Difference float64 // greatest, from the goldens
	Refusal    error   // why there is none; then nothing else is known
	Latency    measure.Summary
	Speedup    measure.Estimate // parent's p50 over its own, one caller: above 1 is faster
	Throughput measure.Estimate // its own over the parent's, all callers
	Quality    Quality
}

// Quality is the gate's word on the variant against its parent.
type Quality struct {
	Verdict verdict.Verdict
	Reason  string
	Metric  string           // what Value is: macro_auroc, or psnr in dB
	N       int              // rows or pictures that it rests on
	Value   float64          // of the variant
	Change  measure.Estimate // variant minus parent, with one-sided bounds as the policy has them
}

// Judge decides on one variant. It must be faster beyond its interval, and the
// gate must let it through.
func Judge(c Candidate) (verdict.Verdict, verdict.Reason) {
	speed := fmt.Sprintf("%.2f times as fast as its parent, %.2f to %.2f", c.Speedup.Value, c.Speedup.Low, c.Speedup.High)
	switch {
	case c.Refusal != nil:
		return verdict.Reject, verdict.Reason{Code: Refused, Text: c.Refusal.Error()}
	case c.Quality.Verdict == verdict.Reject:
		return verdict.Reject, verdict.Reason{Code: QualityPoor, Text: c.Quality.Reason}
	case c.Speedup.High <= 1:
		return verdict.Reject, verdict.Reason{Code: NotFaster, Text: speed}
	case !(c.Speedup.Low > 1):
		return verdict.Inconclusive, verdict.Reason{Code: Undecided, Text: speed + ": more rounds, or a quieter machine, are needed to say"}
	case c.Quality.Verdict != verdict.Pass:
		return verdict.Inconclusive, verdict.Reason{Code: QualityPoor, Text: c.Quality.Reason}
	}
	return verdict.Pass, verdict.Reason{Code: Faster, Text: speed + "; " + c.Quality.Reason}
}

// Best is the fastest of those that pass, -1 where none does, and the verdict
// on all of them together.
func Best(all []Candidate) (int, verdict.Verdict, verdict.Reason) {
	best, together := -1, verdict.Reject
	reason := verdict.Reason{Code: NothingToTry, Text: "no variant was made"}
	for i, c := range all {
		v, why := Judge(c)
		why.Text = c.Kind + ": " + why.Text
		switch {
		case v == verdict.Pass && (best < 0 || c.Speedup.Value > all[best].Speedup.Value):
			best, together, reason = i, v, why
		case best >= 0:
		case v == verdict.Inconclusive && together != verdict.Inconclusive:
			together, reason = v, why
		case reason.Code == NothingToTry:
			reason = why
		}
	}
	return best, together, reason
}
