package variants

import (
	"errors"
	"math"
	"testing"

	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/measure"
)

func candidate(kind string, speed, low, high float64, quality verdict.Verdict) Candidate {
	return Candidate{Kind: kind, Speedup: measure.Estimate{Value: speed, Low: low, High: high}, Quality: Quality{Verdict: quality, Reason: "quality"}}
}

func TestJudgeTakesOnlyWhatIsShownToBeFasterAndGood(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name      string
		candidate Candidate
		verdict   verdict.Verdict
		code      string
	}{
		{"faster and good", candidate(Int8, 1.5, 1.4, 1.6, verdict.Pass), verdict.Pass, Faster},
		{"its interval holds 1", candidate(Int8, 1.5, 0.9, 1.8, verdict.Pass), verdict.Inconclusive, Undecided},
		{"its interval begins at 1", candidate(Int8, 1.5, 1, 1.8, verdict.Pass), verdict.Inconclusive, Undecided},
		{"slower", candidate(Int8, 0.8, 0.7, 0.9, verdict.Pass), verdict.Reject, NotFaster},
		{"as fast", candidate(Int8, 0.99, 0.95, 1, verdict.Pass), verdict.Reject, NotFaster},
		{"worse", candidate(Int8, 3, 2.9, 3.1, verdict.Reject), verdict.Reject, QualityPoor},
		{"too little evidence", candidate(Int8, 3, 2.9, 3.1, verdict.Inconclusive), verdict.Inconclusive, QualityPoor},
		{"slower on too little evidence", candidate(Int8, 0.5, 0.4, 0.6, verdict.Inconclusive), verdict.Reject, NotFaster},
		{"no interval", candidate(Int8, 3, nan, nan, verdict.Pass), verdict.Inconclusive, Undecided},
		{"nothing known", Candidate{}, verdict.Reject, NotFaster},
		{"refused", Candidate{Refusal: errors.New("goldens")}, verdict.Reject, Refused},
	} {
		if v, reason := Judge(c.candidate); v != c.verdict || reason.Code != c.code || reason.Text == "" {
			t.Errorf("%s: %s (%s) %s, want %s (%s)", c.name, v, reason.Code, reason.Text, c.verdict, c.code)
		}
	}
}

func TestBestIsTheFastestThatPasses(t *testing.T) {
	slow := candidate(Optimised, 0.9, 0.8, 0.95, verdict.Pass)
	good, better := candidate(FP16, 1.5, 1.4, 1.6, verdict.Pass), candidate(Int8, 2, 1.9, 2.1, verdict.Pass)
	worse := candidate(Int8, 3, 2.9, 3.1, verdict.Reject)
	open := candidate(Int8, 1.2, 0.9, 1.4, verdict.Pass)
	for _, c := range []struct {
		name string
		all  []Candidate
		best int
		v    verdict.Verdict
		code string
	}{
		{"the faster one", []Candidate{slow, good, better}, 2, verdict.Pass, Faster},
		{"not the fast bad one", []Candidate{worse, good, open}, 1, verdict.Pass, Faster},
		{"one is open", []Candidate{slow, open, worse}, -1, verdict.Inconclusive, Undecided},
		{"none", []Candidate{slow, worse}, -1, verdict.Reject, NotFaster},
		{"nothing at all", nil, -1, verdict.Reject, NothingToTry},
	} {
		if best, v, reason := Best(c.all); best != c.best || v != c.v || reason.Code != c.code {
			t.Errorf("%s: %d, %s (%s)", c.name, best, v, reason.Code)
		}
	}
}

func TestToleranceIsWhatIsNeededUpToTheCap(t *testing.T) {
	for _, c := range []struct{ difference, parent, most, want float64 }{
		{0, 1e-4, 0.05, 1e-4},
		{3e-5, 1e-4, 0.05, 1e-4},
		{0.001234, 1e-4, 0.05, 0.0025},
		{0.04, 1e-4, 0.05, 0.05},
		{0, 1e-3, 1e-4, 1e-4}, // a policy stricter than the parent holds
	} {
		if got := Tolerance(c.difference, c.parent, c.most); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("off by %v, parent %v, at most %v: %v, want %v", c.difference, c.parent, c.most, got, c.want)
		}
	}
}
