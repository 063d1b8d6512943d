package stat

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkComparison is the gate's bootstrap: 14 labels of two models on 1,000
// rows of 300 groups, 2,000 replicates.
func BenchmarkComparison(b *testing.B) {
	rng := rand.New(rand.NewPCG(9, 9))
	const rows, groups, labels = 1000, 300, 14
	var all []Ranking
	for range 2 * labels {
		scores, positive, group := make([]float32, rows), make([]bool, rows), make([]int, rows)
		for i := range rows {
			scores[i], positive[i], group[i] = rng.Float32(), rng.IntN(10) == 0, i*groups/rows
		}
		r, err := Rank(scores, positive, group, groups)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, r)
	}
	b.ReportMetric(3e9, "ns/op-bound")
	for b.Loop() {
		_, err := Resample(groups, 2000, 1, len(all), func(w []int32, out []float64) {
			for k, r := range all {
				out[k] = r.AUROC(w)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
