package evaluation

import (
	"slices"
	"testing"
)

// BenchmarkEvaluate makes the whole report on 900 test rows of 300 patients
// with 15 labels, compared with a champion and with a batch of its own.
func BenchmarkEvaluate(b *testing.B) {
	in := newWorld(200, 100, false).input(1.2, 1)
	for _, p := range []*Predictions{&in.Candidate, &in.Champion.Candidate, &in.Champion.Own, &in.Champion.Here} {
		widen(p, 5)
	}
	in.Expected, in.Champion.Expected = expected(in.Candidate), expected(in.Champion.Own)
	b.ReportMetric(5e9, "ns/op-bound")
	for b.Loop() {
		if _, err := Evaluate(in); err != nil {
			b.Fatal(err)
		}
	}
}

// widen repeats the labels under new names.
func widen(p *Predictions, times int) {
	names := p.Meta.Labels
	p.Meta.Labels = nil
	p.Rows = slices.Clone(p.Rows)
	for i := range p.Rows {
		r := &p.Rows[i]
		r.Labels, r.Scores = slices.Repeat(r.Labels, times), slices.Repeat(r.Scores, times)
	}
	p.Meta.Thresholds = map[string]float64{}
	for i := range times {
		for _, name := range names {
			name += string(rune('a' + i))
			p.Meta.Labels = append(p.Meta.Labels, name)
			p.Meta.Thresholds[name] = 0.5
		}
	}
}
