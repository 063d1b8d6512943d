package variants

import (
	"math"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

func TestAVariantMayLoseAsManyDecibelsAsThePolicySays(t *testing.T) {
	loss := Loss{Most: 0.1, Confidence: 0.95, Replicates: stat.MinReplicates, Seed: 1}
	parent := make([]float64, 20)
	for i := range parent {
		parent[i] = 28 + float64(i%5) // pictures differ more among themselves than the models do
	}
	by := func(change, spread float64) []float64 {
		variant := make([]float64, len(parent))
		for i := range variant {
			variant[i] = parent[i] + change + spread*float64(i%2*2-1)
		}
		return variant
	}
	for _, c := range []struct {
		name    string
		variant []float64
		parent  []float64
		want    verdict.Verdict
	}{
		{"the same", by(0, 0), parent, verdict.Pass},
		{"a little worse", by(-0.05, 0.01), parent, verdict.Pass},
		{"worse", by(-0.5, 0.01), parent, verdict.Reject},
		{"about as much as is allowed", by(-0.1, 0.2), parent, verdict.Inconclusive},
		{"few pictures", by(0, 0)[:7], parent[:7], verdict.Inconclusive},
	} {
		q, err := JudgePSNR(c.variant, c.parent, loss)
		if err != nil || q.Verdict != c.want || q.N != len(c.variant) || !strings.Contains(q.Reason, "dB") {
			t.Errorf("%s: %+v, %v, want %s", c.name, q, err, c.want)
		}
	}
	for _, bad := range [][]float64{nil, {1}, append(by(0, 0)[:19], math.Inf(1))} {
		if _, err := JudgePSNR(bad, parent, loss); err == nil {
			t.Errorf("%v was compared", bad)
		}
	}
}
