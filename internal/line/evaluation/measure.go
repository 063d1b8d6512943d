package evaluation

import (
	"math"

	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/stat"
)

// column is one statistic: its value where each group counts weight[group]
// times. earlier holds the values of the columns added before it.
type column func(weight []int32, earlier []float64) float64

// bench collects statistics that are measured on the same draws.
type bench struct{ columns []column }

func (b *bench) add(c column) int {
	b.columns = append(b.columns, c)
	return len(b.columns) - 1
}

// run measures every column on the rows as they are and on the replicates.
func (b *bench) run(groups int, s Settings) ([]Metric, error) {
	evaluate := func(weight []int32, out []float64) {
		for k, c := range b.columns {
			out[k] = c(weight, out[:k])
		}
	}
	once := make([]int32, groups)
	for i := range once {
		once[i] = 1
	}
	values := make([]float64, len(b.columns))
	evaluate(once, values)
	samples, err := stat.Resample(groups, s.Replicates, s.Seed, len(b.columns), evaluate)
	if err != nil {
		return nil, err
	}
	out := make([]Metric, len(b.columns))
	for k, value := range values {
		sample := samples.Of(k)
		out[k] = Metric{Value: number(value), Degenerate: sample.Degenerate}
		if out[k].Value != nil {
			out[k].Low, out[k].High = number(sample.Lower(s.Confidence)), number(sample.Upper(s.Confidence))
		}
	}
	return out, nil
}

// number is nil for what is not one.
func number(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// unknown is a metric that cannot be computed.
func unknown([]int32, []float64) float64 { return math.NaN() }

// auroc measures label k of t.
func (b *bench) auroc(t table, k int) (int, error) {
	r, err := t.ranking(k)
	if err != nil {
		return 0, err
	}
	return b.add(func(weight []int32, _ []float64) float64 { return r.AUROC(weight) }), nil
}

// macro averages the AUROC of some labels of t. Where one of them has no value
// the average has none: a mean over other labels would be another statistic.
func (b *bench) macro(t table, labels []int) (int, error) {
	at := make([]int, len(labels))
	for i, k := range labels {
		var err error
		if at[i], err = b.auroc(t, k); err != nil {
			return 0, err
		}
	}
	return b.mean(at), nil
}

// mean averages earlier columns; of none it is NaN.
func (b *bench) mean(at []int) int {
	return b.add(func(_ []int32, earlier []float64) float64 {
		sum := 0.0
		for _, k := range at {
			sum += earlier[k]
		}
		return sum / float64(len(at))
	})
}

// difference subtracts earlier column l from k, draw by draw.
func (b *bench) difference(k, l int) int {
	return b.add(func(_ []int32, earlier []float64) float64 { return earlier[k] - earlier[l] })
}

// ratio divides two sums over groups.
func (b *bench) ratio(above, below []float64) int {
	return b.add(func(weight []int32, _ []float64) float64 {
		a, c := 0.0, 0.0
		for g, w := range weight {
			// Products rounded by themselves: fused ones differ by processor.
			a += float64(float64(w) * above[g])
			c += float64(float64(w) * below[g])
		}
		return a / c // 0/0 is NaN: no value on this draw
	})
}

// brier is the mean squared distance of label k's scores from the truth.
func (b *bench) brier(t table, k int) int {
	squares := t.sums(func(r predictions.Row) float64 {
		d := float64(r.Scores[k])
		if r.Labels[k] {
			d--
		}
		return float64(d * d) // rounded by itself, as in ratio
	})
	return b.ratio(squares, t.sums(func(predictions.Row) float64 { return 1 }))
}

// atThreshold measures F1, sensitivity and specificity of label k where a
// score of at least the threshold is a finding.
func (b *bench) atThreshold(t table, k int, threshold float64) (f1, sensitivity, specificity int) {
	count := func(truth, found bool) []float64 {
		return t.sums(func(r predictions.Row) float64 {
			if r.Labels[k] == truth && (float64(r.Scores[k]) >= threshold) == found {
				return 1
			}
			return 0
		})
	}
	hits, misses := count(true, true), count(true, false)
	alarms, quiet := count(false, true), count(false, false)
	twice, both := make([]float64, t.groups), make([]float64, t.groups)
	for g := range twice {
		twice[g] = 2 * hits[g]
		both[g] = 2*hits[g] + misses[g] + alarms[g]
	}
	return b.ratio(twice, both), b.ratio(hits, plus(hits, misses)), b.ratio(quiet, plus(quiet, alarms))
}

func plus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] + b[i]
	}
	return out
}
