package variants

import (
	"errors"
	"fmt"
	"math"

	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/measure"
)

// Loss is what the policy lets a super-resolution variant lose.
type Loss struct {
	Most       float64 // dB of the mean PSNR
	Confidence float64 // of each one-sided bound
	Replicates int
	Seed       uint64
}

// JudgePSNR compares the PSNR, in dB, of a variant's pictures with its parent's
// of the same pictures. The interval resamples pictures. PSNR of pictures that
// are the same is infinite and cannot be averaged.
func JudgePSNR(variant, parent []float64, l Loss) (Quality, error) {
	if len(variant) != len(parent) || len(variant) == 0 {
		return Quality{}, fmt.Errorf("variants: %d and %d pictures cannot be compared", len(variant), len(parent))
	}
	q := Quality{Metric: "psnr", N: len(variant)}
	for i := range variant {
		d := variant[i] - parent[i]
		if math.IsNaN(d) || math.IsInf(d, 0) {
			return Quality{}, errors.New("variants: a picture's PSNR is no finite number: give pictures that enlarging changes")
		}
		q.Value += variant[i] / float64(len(variant))
		q.Change.Value += d / float64(len(variant))
	}
	samples, err := stat.Resample(len(variant), l.Replicates, l.Seed, 1, func(weight []int32, out []float64) {
		out[0] = 0
		for i, w := range weight {
			out[0] += float64(w) * (variant[i] - parent[i]) / float64(len(variant))
		}
	})
	if err != nil {
		return Quality{}, err
	}
	s := samples.Of(0)
	q.Change = measure.Estimate{Value: q.Change.Value, Low: s.Lower(l.Confidence), High: s.Upper(l.Confidence)}
	text := fmt.Sprintf("PSNR changes by %+.3f dB on %d pictures, %+.3f to %+.3f at %g each; at most %g dB may be lost", q.Change.Value, q.N, q.Change.Low, q.Change.High, l.Confidence, l.Most)
	q.Verdict, q.Reason = verdict.Inconclusive, text+": more pictures are needed to say"
	switch {
	case q.N < leastPictures:
		q.Reason = fmt.Sprintf("%s: fewer than %d pictures say nothing", text, leastPictures)
	case q.Change.Low > -l.Most:
		q.Verdict, q.Reason = verdict.Pass, text
	case q.Change.High < -l.Most:
		q.Verdict, q.Reason = verdict.Reject, text
	}
	return q, nil
}

// leastPictures is below which a bootstrap's interval is too narrow to decide.
const leastPictures = 8
