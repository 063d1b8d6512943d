package stat

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// naive is the area under the curve by its definition, over all pairs.
func naive(scores []float64, positive []bool, weight func(int) float64) float64 {
	won, pairs := 0.0, 0.0
	for i := range scores {
		for j := range scores {
			if !positive[i] || positive[j] {
				continue
			}
			w := weight(i) * weight(j)
			pairs += w
			switch {
			case scores[i] > scores[j]:
				won += w
			case scores[i] == scores[j]:
				won += w / 2
			}
		}
	}
	return won / pairs
}

func TestAUROCIsTheShareOfPairsWon(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		n, groups := 1+rng.IntN(30), 1+rng.IntN(6)
		scores, positive, group := make([]float64, n), make([]bool, n), make([]int, n)
		for i := range n {
			scores[i], positive[i], group[i] = float64(rng.IntN(8)), rng.IntN(3) == 0, rng.IntN(groups)
		}
		weight := make([]int32, groups)
		for i := range weight {
			weight[i] = int32(rng.IntN(3))
		}
		r, err := Rank(scores, positive, group, groups)
		if err != nil {
			t.Fatal(err)
		}
		want := naive(scores, positive, func(i int) float64 { return float64(weight[group[i]]) })
		if got := r.AUROC(weight); !near(got, want, 1e-12) && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Fatalf("AUROC %v, by pairs %v", got, want)
		}
		// Turned round, every won pair is a lost one; a monotone map changes none.
		turned, grown := make([]float64, n), make([]float64, n)
		for i, s := range scores {
			turned[i], grown[i] = -s, math.Exp(s)
		}
		back, err := Rank(turned, positive, group, groups)
		if err != nil {
			t.Fatal(err)
		}
		same, err := Rank(grown, positive, group, groups)
		if err != nil {
			t.Fatal(err)
		}
		if a := r.AUROC(nil); !math.IsNaN(a) && (!near(a+back.AUROC(nil), 1, 1e-12) || a != same.AUROC(nil)) {
			t.Fatalf("AUROC %v, turned %v, grown %v", a, back.AUROC(nil), same.AUROC(nil))
		}
	}
}

func TestAUROCWithoutBothClassesIsNaN(t *testing.T) {
	for _, positive := range [][]bool{{true, true}, {false, false}, {}} {
		r, err := Rank(make([]float32, len(positive)), positive, make([]int, len(positive)), 1)
		if err != nil {
			t.Fatal(err)
		}
		if a := r.AUROC(nil); !math.IsNaN(a) {
			t.Errorf("labels %v: AUROC %v", positive, a)
		}
	}
}

func TestRankRefusesWhatHasNoRank(t *testing.T) {
	for name, try := range map[string]func() error{
		"NaN":           func() error { _, err := Rank([]float64{math.NaN()}, []bool{true}, []int{0}, 1); return err },
		"infinite":      func() error { _, err := Rank([]float32{float32(math.Inf(1))}, []bool{true}, []int{0}, 1); return err },
		"lengths":       func() error { _, err := Rank([]float64{1}, nil, []int{0}, 1); return err },
		"unknown group": func() error { _, err := Rank([]float64{1}, []bool{true}, []int{1}, 1); return err },
	} {
		if try() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// clustered draws rows in groups whose scores hang together, which intervals
// for independent rows would overlook.
func clustered(rng *rand.Rand, groups, each int) (scores []float64, positive []bool, group []int) {
	for g := range groups {
		mood, sick := rng.NormFloat64(), g%3 == 0
		for range each {
			s := mood + 0.5*rng.NormFloat64()
			if sick {
				s++
			}
			scores, positive, group = append(scores, s), append(positive, sick), append(group, g)
		}
	}
	return scores, positive, group
}

func TestGroupBootstrapCoversTheTruthWhereRowsHangTogether(t *testing.T) {
	// Two normal distributions of standard deviation sqrt(1.25), one apart.
	truth := 0.5 * math.Erfc(-1/math.Sqrt(2*1.25)/math.Sqrt2)
	rng := rand.New(rand.NewPCG(2, 2))
	const trials, groups = 150, 60
	covered := 0
	for trial := range trials {
		scores, positive, group := clustered(rng, groups, 4)
		r, err := Rank(scores, positive, group, groups)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Resample(groups, MinReplicates, uint64(trial), 1, func(w []int32, out []float64) { out[0] = r.AUROC(w) })
		if err != nil {
			t.Fatal(err)
		}
		if i := s.Of(0).Interval(0.95); i.Low <= truth && truth <= i.High {
			covered++
		}
	}
	// 95% of 150 is 142.5; percentile intervals of 60 groups run a little short.
	if covered < 133 {
		t.Errorf("the 95%% interval covered the truth in %d of %d trials", covered, trials)
	}
}

func TestResampleRepeatsWithItsSeedOnly(t *testing.T) {
	run := func(seed uint64) []float64 {
		s, err := Resample(7, MinReplicates, seed, 1, func(w []int32, out []float64) {
			out[0] = 0
			for i, x := range w {
				out[0] += float64(int32(i) * x)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return s.columns[0]
	}
	if !slices.Equal(run(1), run(1)) {
		t.Error("the same seed gave other draws")
	}
	if slices.Equal(run(1), run(2)) {
		t.Error("another seed gave the same draws")
	}
}

func TestResampleDrawsAsManyGroupsAsThereAre(t *testing.T) {
	_, err := Resample(9, MinReplicates, 3, 1, func(w []int32, out []float64) {
		sum := int32(0)
		for _, x := range w {
			sum += x
		}
		if sum != 9 {
			t.Fatalf("%d groups drawn, wanted 9", sum)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDegenerateReplicatesAreCountedAndLeftOut(t *testing.T) {
	calls := 0
	s, err := Resample(3, MinReplicates, 1, 2, func(_ []int32, out []float64) {
		out[0], out[1] = math.NaN(), 1
		if calls%4 == 0 {
			out[0] = float64(calls)
		}
		calls++
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Of(0); got.Degenerate != 1500 || got.Replicates != 2000 || got.Upper(0.999999) > 1997 {
		t.Errorf("%d of %d degenerate, upper bound %v", got.Degenerate, got.Replicates, got.Upper(0.999999))
	}
	if got := s.Difference(1, 0); got.Degenerate != 1500 {
		t.Errorf("%d differences degenerate, wanted 1500", got.Degenerate)
	}
	none := newSample([]float64{math.NaN()})
	if i := none.Interval(0.95); i.ForCheck() != nil || !math.IsNaN(none.Lower(0.95)) || !math.IsNaN(none.Upper(0.95)) {
		t.Errorf("bounds %v, %v, %v out of nothing", i, none.Lower(0.95), none.Upper(0.95))
	}
}

func TestResampleRefusesTooFewReplicates(t *testing.T) {
	nothing := func([]int32, []float64) {}
	for _, c := range []struct{ groups, replicates, width int }{{0, 2000, 1}, {5, 1999, 1}, {5, 2000, 0}} {
		if _, err := Resample(c.groups, c.replicates, 1, c.width, nothing); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func TestQuantileIntervalLeavesEndsOpenWhereValuesAreTooFew(t *testing.T) {
	values := make([]float64, 100)
	for i := range values {
		values[i] = float64(i)
	}
	p99, err := QuantileInterval(values, 0.99, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	if p99.Low != 96 || !math.IsInf(p99.High, 1) {
		t.Errorf("p99 of 100 values in [%v, %v], wanted [96, +Inf]", p99.Low, p99.High)
	}
	if c := p99.ForCheck(); c == nil || c.High != nil || *c.Low != 96 {
		t.Errorf("check interval %+v", c)
	}
	for name, bad := range map[string][]float64{"unsorted": {2, 1}, "NaN": {math.NaN(), 1}, "none": nil} {
		if _, err := QuantileInterval(bad, 0.5, 0.95); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestProportionsThatCannotBeAreRefused(t *testing.T) {
	for _, c := range []struct {
		k, n  int
		level float64
	}{{-1, 5, 0.9}, {6, 5, 0.9}, {0, 0, 0.9}, {1, 2, 0}, {1, 2, 1}, {1, 2, math.NaN()}} {
		if _, err := ClopperPearson(c.k, c.n, c.level); err == nil {
			t.Errorf("Clopper-Pearson %+v: no error", c)
		}
		if _, err := Wilson(c.k, c.n, c.level); err == nil {
			t.Errorf("Wilson %+v: no error", c)
		}
	}
}
