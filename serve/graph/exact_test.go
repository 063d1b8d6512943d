package graph_test

import (
	"math"
	"slices"
	"testing"

	"github.com/penstock-ml/penstock/serve/graph"
)

// heats are maps [2 labels, 1, 2] of three pictures; their means are
// (0.5, -1), (2, 0) and (-3, 4).
func heats() [][]float32 {
	return [][]float32{{0, 1, -3, 1}, {3, 1, -5, 5}, {-7, 1, 4, 4}}
}

// scored gives scores of link(mean + bias) for the maps.
func scored(link func(float64) float64, bias ...float32) [][]float32 {
	var all [][]float32
	for _, h := range heats() {
		var scores []float32
		for _, logit := range (graph.CAM{Bias: bias}).Logits(h) {
			scores = append(scores, float32(link(logit)))
		}
		all = append(all, scores)
	}
	return all
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
func same(x float64) float64    { return x }

func TestPicturesTellWhetherAMapGivesTheScores(t *testing.T) {
	good := scored(sigmoid, 0.25, -1.5)
	off := scored(sigmoid, 0.25, -1.5)
	off[2][1] += 1e-3
	nan := scored(sigmoid, 0.25, -1.5)
	nan[1][0] = float32(math.NaN())
	exchanged := heats()
	for i, h := range exchanged {
		exchanged[i] = slices.Concat(h[2:], h[:2])
	}
	for name, c := range map[string]struct {
		scores, heats [][]float32
		exact, told   bool
	}{
		"sigmoid of the logits":   {good, heats(), true, true},
		"the logits themselves":   {scored(same, 0.25, -1.5), heats(), true, true},
		"saturated":               {scored(sigmoid, 40, -1.5), heats(), true, true},
		"one score is off":        {off, heats(), false, true},
		"a score is no number":    {nan, heats(), false, true},
		"labels exchanged":        {good, exchanged, false, true},
		"one picture":             {good[:1], heats()[:1], false, false},
		"pictures all the same":   {[][]float32{good[0], good[0]}, [][]float32{heats()[0], heats()[0]}, false, false},
		"nothing but 0 and 1":     {[][]float32{{0, 1}, {1, 0}, {0, 1}}, heats(), false, true},
		"another map of the same": {good, [][]float32{heats()[0], heats()[0], heats()[0]}, false, true},
	} {
		d, told := graph.FitCAM(c.scores, c.heats)
		if told != c.told || told && (d <= graph.Exact) != c.exact {
			t.Errorf("%s: %v apart, told %t; want exact %t, told %t", name, d, told, c.exact, c.told)
		}
	}
}
