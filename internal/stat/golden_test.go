package stat

import (
	_ "embed"
	"encoding/json"
	"math"
	"strconv"
	"testing"
)

//go:embed testdata/golden.json
var goldenJSON []byte

// golden is what testdata/golden.py wrote.
type golden struct {
	AUROC []struct {
		Scores          []float64
		Positive        []bool
		Group           []int
		Weight          []int32
		AUROC, Weighted float64
	}
	Proportions []struct {
		K, N          int
		Level         float64
		Exact, Wilson [2]float64
	}
	QuantileRanks []struct {
		N         int
		Q, Level  float64
		Low, High int
	} `json:"quantile_ranks"`
	Quantiles struct {
		Values []float64
		At     map[string]float64
	}
	Judgements []struct {
		Looks           [][4]int64
		Ratio, Alpha    float64
		EValue          float64
		RatioBounds     [2]*float64 `json:"ratio_bounds"`
		Canary, Control [2]float64
	}
	ClusterBootstrap struct {
		A, B                  []float64
		Positive              []bool
		Group                 []int
		Difference, Low, High float64
	} `json:"cluster_bootstrap"`
}

func loadGolden(t *testing.T) golden {
	t.Helper()
	var g golden
	if err := json.Unmarshal(goldenJSON, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// near tells whether two numbers agree to tolerance, relative above 1.
func near(a, b, tolerance float64) bool {
	return math.Abs(a-b) <= tolerance*math.Max(1, math.Max(math.Abs(a), math.Abs(b)))
}

func TestAUROCAgreesWithScikitLearn(t *testing.T) {
	for i, c := range loadGolden(t).AUROC {
		r, err := Rank(c.Scores, c.Positive, c.Group, len(c.Weight))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.AUROC(nil); !near(got, c.AUROC, 1e-12) {
			t.Errorf("case %d: AUROC %v, scikit-learn %v", i, got, c.AUROC)
		}
		if got := r.AUROC(c.Weight); !near(got, c.Weighted, 1e-12) {
			t.Errorf("case %d: weighted AUROC %v, scikit-learn %v", i, got, c.Weighted)
		}
	}
}

func TestProportionIntervalsAgreeWithSciPy(t *testing.T) {
	for _, c := range loadGolden(t).Proportions {
		exact, err := ClopperPearson(c.K, c.N, c.Level)
		if err != nil {
			t.Fatal(err)
		}
		wilson, err := Wilson(c.K, c.N, c.Level)
		if err != nil {
			t.Fatal(err)
		}
		if !near(exact.Low, c.Exact[0], 1e-9) || !near(exact.High, c.Exact[1], 1e-9) {
			t.Errorf("%d of %d at %v: Clopper-Pearson [%v, %v], SciPy %v", c.K, c.N, c.Level, exact.Low, exact.High, c.Exact)
		}
		if !near(wilson.Low, c.Wilson[0], 1e-9) || !near(wilson.High, c.Wilson[1], 1e-9) {
			t.Errorf("%d of %d at %v: Wilson [%v, %v], SciPy %v", c.K, c.N, c.Level, wilson.Low, wilson.High, c.Wilson)
		}
	}
}

func TestQuantileRanksAgreeWithBruteForce(t *testing.T) {
	for _, c := range loadGolden(t).QuantileRanks {
		got, err := QuantileRanks(c.N, c.Q, c.Level)
		if err != nil {
			t.Fatal(err)
		}
		if got.Low != c.Low || got.High != c.High {
			t.Errorf("n %d, q %v, level %v: ranks %d to %d, brute force %d to %d", c.N, c.Q, c.Level, got.Low, got.High, c.Low, c.High)
		}
		if got.Coverage < c.Level-1e-9 && c.Low > 0 && c.High <= c.N {
			t.Errorf("n %d, q %v, level %v: coverage only %v", c.N, c.Q, c.Level, got.Coverage)
		}
	}
}

func TestQuantileAgreesWithNumPy(t *testing.T) {
	g := loadGolden(t).Quantiles
	for at, want := range g.At {
		q, err := strconv.ParseFloat(at, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := Quantile(g.Values, q); !near(got, want, 1e-12) {
			t.Errorf("%v-quantile %v, NumPy %v", q, got, want)
		}
	}
}

func TestJudgeAgreesWithTheDefinitionInSciPy(t *testing.T) {
	for i, c := range loadGolden(t).Judgements {
		var looks []Look
		for _, l := range c.Looks {
			looks = append(looks, Look{Canary: Count{l[0], l[1]}, Control: Count{l[2], l[3]}})
		}
		j, err := Judge(looks, Rule{Alpha: c.Alpha, Ratio: c.Ratio, Margin: 0.01})
		if err != nil {
			t.Fatal(err)
		}
		if !near(j.EValue, c.EValue, 1e-8) {
			t.Errorf("case %d: e-value %v, SciPy %v", i, j.EValue, c.EValue)
		}
		// The oracle looks at a grid: its bounds are right to its step only.
		low, high := *c.RatioBounds[0], math.Inf(1)
		if c.RatioBounds[1] != nil {
			high = *c.RatioBounds[1]
		}
		if !near(j.Ratio.Low, low, 1e-3) || !(j.Ratio.High == high || near(j.Ratio.High, high, 1e-3)) {
			t.Errorf("case %d: ratio [%v, %v], SciPy [%v, %v]", i, j.Ratio.Low, j.Ratio.High, low, high)
		}
		for _, arm := range []struct {
			count Count
			want  [2]float64
		}{{j.Canary, c.Canary}, {j.Control, c.Control}} {
			got := RateSequence(arm.count, c.Alpha/2)
			if !near(got.Low, arm.want[0], 1e-5) || !near(got.High, arm.want[1], 1e-5) {
				t.Errorf("case %d: rate of %+v in [%v, %v], SciPy %v", i, arm.count, got.Low, got.High, arm.want)
			}
		}
	}
}

func TestPairedGroupBootstrapAgreesWithDrawingRowByRow(t *testing.T) {
	c := loadGolden(t).ClusterBootstrap
	a, err := Rank(c.A, c.Positive, c.Group, 50)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Rank(c.B, c.Positive, c.Group, 50)
	if err != nil {
		t.Fatal(err)
	}
	if d := a.AUROC(nil) - b.AUROC(nil); !near(d, c.Difference, 1e-12) {
		t.Errorf("difference %v, scikit-learn %v", d, c.Difference)
	}
	s, err := Resample(50, 8000, 1, 2, func(w []int32, out []float64) { out[0], out[1] = a.AUROC(w), b.AUROC(w) })
	if err != nil {
		t.Fatal(err)
	}
	// Both ends are quantiles of 8,000 random draws: they agree to about 0.003.
	d := s.Difference(0, 1)
	if low, high := d.Lower(0.95), d.Upper(0.95); math.Abs(low-c.Low) > 0.008 || math.Abs(high-c.High) > 0.008 {
		t.Errorf("bounds [%v, %v], scikit-learn [%v, %v]", low, high, c.Low, c.High)
	}
}
