package evaluation

import (
	"cmp"
	"maps"
	"slices"

	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/stat"
)

// columnsOf tells where a label's metrics stand on the bench.
type columnsOf struct{ auroc, brier, f1, sensitivity, specificity int }

// card measures one model on all rows of its predictions.
func (s Settings) card(file Predictions) (Card, error) {
	t := numbered(file)[0]
	evaluable := s.evaluable(t)
	var b bench
	labels, macro, brier, err := b.labels(t, evaluable)
	if err != nil {
		return Card{}, err
	}
	parts, err := s.slices(&b, t)
	if err != nil {
		return Card{}, err
	}
	metrics, err := b.run(t.groups, s)
	if err != nil {
		return Card{}, err
	}
	c := Card{Rows: len(t.rows), Groups: t.present(), Evaluable: t.names(evaluable), Macro: metrics[macro], Brier: metrics[brier]}
	for k, at := range labels {
		counts := t.counts(k)
		l := Label{
			Name: t.meta.Labels[k], Counts: counts, Evaluable: s.enough(counts),
			AUROC: metrics[at.auroc], Brier: metrics[at.brier],
			F1: metrics[at.f1], Sensitivity: metrics[at.sensitivity], Specificity: metrics[at.specificity],
		}
		if threshold, ok := t.meta.Thresholds[l.Name]; ok {
			l.Threshold = &threshold
		}
		c.Labels = append(c.Labels, l)
	}
	for i, part := range parts {
		parts[i].Macro = metrics[part.at]
		c.Slices = append(c.Slices, parts[i].Slice)
	}
	c.Latency, err = latency(t.rows, s)
	return c, err
}

// labels puts every label's metrics on the bench.
func (b *bench) labels(t table, evaluable []int) (at []columnsOf, macro, brier int, err error) {
	probabilities := t.probabilities()
	at = make([]columnsOf, len(t.meta.Labels))
	briers, inMacro := []int{}, []int{}
	for k, name := range t.meta.Labels {
		if at[k].auroc, err = b.auroc(t, k); err != nil {
			return nil, 0, 0, err
		}
		if slices.Contains(evaluable, k) {
			inMacro = append(inMacro, at[k].auroc)
		}
		if probabilities {
			at[k].brier = b.brier(t, k)
			briers = append(briers, at[k].brier)
		} else {
			at[k].brier = b.add(unknown)
		}
		if threshold, ok := t.meta.Thresholds[name]; ok {
			at[k].f1, at[k].sensitivity, at[k].specificity = b.atThreshold(t, k, threshold)
		} else {
			none := b.add(unknown)
			at[k].f1, at[k].sensitivity, at[k].specificity = none, none, none
		}
	}
	return at, b.mean(inMacro), b.mean(briers), nil
}

// part is a slice and where its macro AUROC stands on the bench.
type part struct {
	Slice
	at int
}

// slices puts the macro AUROC of every value of every slice on the bench, by
// name and value.
func (s Settings) slices(b *bench, t table) ([]part, error) {
	order := t.sliced()
	parts := make([]part, 0, len(order))
	for _, key := range order {
		rows := t.where(func(r predictions.Row) bool {
			value, ok := r.Slices[key[0]]
			return ok && value == key[1]
		})
		evaluable := s.evaluable(rows)
		at, err := b.macro(rows, evaluable)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{at: at, Slice: Slice{
			Name: key[0], Value: key[1], Rows: len(rows.rows), Groups: rows.present(), Evaluable: rows.names(evaluable),
		}})
	}
	return parts, nil
}

// sliced lists every value of every slice of the rows, by name and value.
func (t table) sliced() [][2]string {
	seen := map[[2]string]bool{}
	for _, r := range t.rows {
		for name, value := range r.Slices {
			seen[[2]string{name, value}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
}

// latency gives quantiles of the single inferences.
func latency(rows []predictions.Row, s Settings) ([]Quantile, error) {
	ms := make([]float64, len(rows))
	for i, r := range rows {
		ms[i] = r.LatencyMS
	}
	slices.Sort(ms)
	var out []Quantile
	for _, q := range []float64{0.5, 0.9, 0.99} {
		i, err := stat.QuantileInterval(ms, q, 2*s.Confidence-1)
		if err != nil {
			return nil, err
		}
		out = append(out, Quantile{Q: q, Millisecond: stat.Quantile(ms, q), Low: number(i.Low), High: number(i.High)})
	}
	return out, nil
}
