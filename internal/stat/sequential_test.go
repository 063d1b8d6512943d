package stat

import (
	"math"
	"math/rand/v2"
	"testing"
)

// traffic draws one look of so many requests, the canary's share of them and
// the event rates of both arms.
func traffic(rng *rand.Rand, requests int, share, canary, control float64) Look {
	var l Look
	for range requests {
		arm, rate := &l.Control, control
		if rng.Float64() < share {
			arm, rate = &l.Canary, canary
		}
		arm.Requests++
		if rng.Float64() < rate {
			arm.Events++
		}
	}
	return l
}

func TestLookingAfterEveryMinuteRarelyCondemnsAHealthyCanary(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	rule := Rule{Alpha: 0.05, Ratio: 1, Margin: 0.001}
	for _, c := range []struct {
		requests int
		shares   []float64
		rate     float64
	}{
		{10, []float64{0.5}, 0.005},
		{100, []float64{0.1}, 0.005},
		{100, []float64{0.05, 0.25, 0.5}, 0.02},
		{100, []float64{0.5}, 0.3}, // events that are anything but rare
	} {
		const trials = 200
		condemned := 0
		for range trials {
			var looks []Look
			proof := 0.0
			for minute := range 40 {
				looks = append(looks, traffic(rng, c.requests, c.shares[minute*len(c.shares)/40], c.rate, c.rate))
				proof = math.Max(proof, math.Exp(logEValue(looks, rule.Ratio)))
			}
			if proof >= 1/rule.Alpha {
				condemned++
			}
		}
		// 5% of 200 is 10; 20 would be a chance of less than 1 in 400 at 5%.
		if condemned >= 20 {
			t.Errorf("%+v: %d of %d healthy canaries condemned at alpha %v", c, condemned, trials, rule.Alpha)
		}
	}
}

func TestAFaultIsFoundWithinAFewTimesTheExpectedRequests(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	rule := Rule{Alpha: 0.05, Ratio: 1, Margin: 0.01}
	for _, c := range []struct{ share, healthy, faulty float64 }{
		{0.1, 0.005, 0.05}, {0.5, 0.005, 0.05}, {0.05, 0, 0.2}, {0.25, 0.001, 0.1},
	} {
		expected := DetectionRequests(c.share, c.healthy, c.faulty, rule.Ratio, rule.Alpha)
		const trials = 60
		found, total := 0, 0.0
		for range trials {
			var looks []Look
			for len(looks) < 60 {
				looks = append(looks, traffic(rng, int(expected/10)+1, c.share, c.faulty, c.healthy))
				j, err := Judge(looks, rule)
				if err != nil {
					t.Fatal(err)
				}
				if j.Comparison == NotWorse {
					t.Fatalf("%+v: a canary beyond the margin was let pass: %+v", c, j)
				}
				if j.Comparison == Worse {
					found++
					total += float64(j.Canary.Requests + j.Control.Requests)
					break
				}
			}
		}
		if found < trials {
			t.Errorf("%+v: found %d of %d times within 6 times the expected requests", c, found, trials)
		}
		if ratio := total / trials / expected; ratio < 0.4 || ratio > 2.5 {
			t.Errorf("%+v: took %.2f times the expected %.0f requests", c, ratio, expected)
		}
	}
}

func TestJudgeOnCountsThatSpeakForThemselves(t *testing.T) {
	rule := Rule{Alpha: 0.05, Ratio: 1, Margin: 0.01}
	for _, c := range []struct {
		name  string
		looks []Look
		want  Comparison
	}{
		{"nothing seen", nil, Undecided},
		{"a canary without traffic", []Look{{Control: Count{0, 5000}}}, Undecided},
		{"a canary with a little clean traffic", []Look{{Count{0, 100}, Count{0, 900}}}, Undecided},
		{"a canary with much clean traffic", []Look{{Count{0, 1000}, Count{0, 9000}}}, NotWorse},
		{"clean traffic over three steps", []Look{{Count{0, 50}, Count{0, 950}}, {Count{0, 250}, Count{0, 750}}, {Count{0, 500}, Count{0, 500}}}, NotWorse},
		{"one failure against none", []Look{{Count{1, 50}, Count{0, 950}}}, Undecided},
		{"three failures against none", []Look{{Count{3, 50}, Count{0, 950}}}, Worse},
		{"all failing", []Look{{Count{20, 20}, Count{0, 380}}}, Worse},
		{"both failing alike", []Look{{Count{50, 500}, Count{50, 500}}}, Undecided},
		{"the canary much better", []Look{{Count{0, 1000}, Count{90, 1000}}}, NotWorse},
		{"nothing to compare with", []Look{{Count{40, 1000}, Count{0, 0}}}, Undecided},
		{"worse by less than the margin", []Look{{Count{600, 100_000}, Count{400, 100_000}}}, NotWorse},
	} {
		j, err := Judge(c.looks, rule)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if j.Comparison != c.want {
			t.Errorf("%s: %s, wanted %s: %+v", c.name, j.Comparison, c.want, j)
		}
	}
}

func TestMoreFailuresOfTheCanaryNeverLookBetter(t *testing.T) {
	rule := Rule{Alpha: 0.05, Ratio: 1.5, Margin: 0.02}
	rank := map[Comparison]int{NotWorse: 0, Undecided: 1, Worse: 2}
	for _, control := range []int64{0, 3, 40} {
		last, evidence := NotWorse, 0.0
		for events := int64(0); events <= 400; events++ {
			j, err := Judge([]Look{{Count{events / 2, 100}, Count{control, 900}}, {Count{events - events/2, 300}, Count{control, 700}}}, rule)
			if events-events/2 > 100 {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if rank[j.Comparison] < rank[last] || j.EValue < evidence {
				t.Fatalf("control %d: with %d failures %s (%v) after %s (%v)", control, events, j.Comparison, j.EValue, last, evidence)
			}
			last, evidence = j.Comparison, j.EValue
		}
		if last != Worse {
			t.Errorf("control %d: 200 failures in 400 requests are %s", control, last)
		}
	}
}

func TestEmptyLooksAndMergedLooksOfOneShareChangeNothing(t *testing.T) {
	rule := Rule{Alpha: 0.05, Ratio: 1, Margin: 0.01}
	one, err := Judge([]Look{{Count{4, 200}, Count{6, 800}}}, rule)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Judge([]Look{{Count{1, 100}, Count{5, 400}}, {}, {Count{3, 100}, Count{1, 400}}}, rule)
	if err != nil {
		t.Fatal(err)
	}
	if !near(one.EValue, two.EValue, 1e-9) || !near(one.Ratio.Low, two.Ratio.Low, 1e-9) || one.Difference != two.Difference {
		t.Errorf("one look %+v, two looks %+v", one, two)
	}
}

func TestJudgeRefusesRulesAndCountsThatCannotBe(t *testing.T) {
	good := Rule{Alpha: 0.05, Ratio: 1, Margin: 0.01}
	for _, r := range []Rule{{}, {0.05, 0.5, 0.01}, {0.5, 1, 0.01}, {0.05, 1, 0}, {0.05, 1, 1}, {math.NaN(), 1, 0.1}, {0.05, math.Inf(1), 0.1}, {0.05, math.NaN(), 0.1}} {
		if _, err := Judge(nil, r); err == nil {
			t.Errorf("rule %+v: no error", r)
		}
	}
	for _, l := range []Look{{Canary: Count{1, 0}}, {Control: Count{-1, 5}}, {Canary: Count{0, -1}}} {
		if _, err := Judge([]Look{l}, good); err == nil {
			t.Errorf("look %+v: no error", l)
		}
	}
}

func TestRateSequenceCoversOverAllLooks(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for _, rate := range []float64{0.001, 0.02, 0.4} {
		const trials = 200
		missed := 0
		for range trials {
			var c Count
			for range 50 {
				l := traffic(rng, 40, 0, 0, rate)
				c = c.plus(l.Control)
				if i := RateSequence(c, 0.05); rate < i.Low || rate > i.High {
					missed++
					break
				}
			}
		}
		if missed >= 20 {
			t.Errorf("rate %v: missed in %d of %d trials at 5%%", rate, missed, trials)
		}
	}
	if i := RateSequence(Count{}, 0.05); i.Low != 0 || i.High != 1 {
		t.Errorf("without requests [%v, %v]", i.Low, i.High)
	}
}

func TestDetectionNeedsMoreRequestsForASmallerFault(t *testing.T) {
	last := 0.0
	for _, faulty := range []float64{1, 0.5, 0.1, 0.05, 0.02, 0.01} {
		n := DetectionRequests(0.1, 0.005, faulty, 1, 0.05)
		if !(n > last) {
			t.Errorf("a rate of %v is found in %v requests, a greater one in %v", faulty, n, last)
		}
		last = n
	}
	for _, n := range []float64{DetectionRequests(0, 0.1, 0.2, 1, 0.05), DetectionRequests(0.1, 0.1, 0.1, 1, 0.05), DetectionRequests(0.1, 0.1, 0.15, 2, 0.05)} {
		if !math.IsInf(n, 1) {
			t.Errorf("what cannot be found is found in %v requests", n)
		}
	}
}
