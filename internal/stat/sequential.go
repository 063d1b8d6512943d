package stat

import (
	"fmt"
	"math"
)

// Count is how many of so many requests were events (errors, requests over the
// SLO).
type Count struct {
	Events   int64 `json:"events"`
	Requests int64 `json:"requests"`
}

// Look is what both arms did since the look before. Counts are increments, not
// totals: the share of the traffic may change from look to look.
type Look struct {
	Canary  Count `json:"canary"`
	Control Count `json:"control"`
}

// Rule says what is asked of the canary. All three must be set.
type Rule struct {
	// Alpha bounds, over all looks there will ever be, the probability of Worse
	// for a canary that is not, and likewise that of NotWorse for one that is
	// beyond the margin. In (0, 0.5).
	Alpha float64
	// Ratio is how many times the control's event rate is still allowed; 1 asks
	// whether the canary is worse at all. At least 1.
	Ratio float64
	// Margin is the difference of event rates that is still allowed, e.g. 0.01.
	// In (0, 1).
	Margin float64
}

// Comparison is the verdict of Judge in stat's own words.
type Comparison string

const (
	Worse     Comparison = "worse"     // proven: the canary's rate is above Ratio times the control's, observed beyond Margin
	NotWorse  Comparison = "not worse" // proven: the canary's rate is less than Margin above the control's
	Undecided Comparison = "undecided" // neither is proven yet
)

// Judgement is what the looks so far prove.
type Judgement struct {
	Comparison Comparison
	// EValue is the evidence against "the canary's rate is at most Ratio times
	// the control's": 1 is none, 1/Alpha is proof. Infinity where it overflows.
	EValue float64
	// Ratio (canary's rate over control's) and Difference (canary's minus
	// control's) are confidence sequences: the intervals of all looks together
	// cover with probability 1 - Alpha.
	Ratio, Difference Interval
	Canary, Control   Count // totals
}

// Judge compares the canary's event rate with the control's so that it may be
// asked after every look without inflating the error.
//
// Worse rests on which arm each event lands in: were the rates p1 = r p0 and
// the canary's share of a look's requests s, an event would land in the canary
// with probability s r / (s r + 1 - s). The e-value is the likelihood mixed
// over ratios above Rule.Ratio, over the likelihood at Rule.Ratio (Lindon &
// Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022;
// Ville's inequality). Given the requests of each arm, events at equal rates
// fall like draws without replacement, which by Hoeffding (1963, theorem 4)
// only lowers the expectation, so the test stays valid for events that are not
// rare. Rates may drift over time as long as they drift for both arms alike.
//
// NotWorse compares an upper bound for the canary's rate with a lower one for
// the control's, each from a mixture martingale at Alpha/2 (Robbins 1970;
// Howard et al., Ann. Statist. 2021). A canary proven worse by what so far
// looks like less than the margin is Undecided, not Worse: it may yet prove to
// be tolerable.
func Judge(looks []Look, rule Rule) (Judgement, error) {
	if err := rule.validate(); err != nil {
		return Judgement{}, err
	}
	j := Judgement{Comparison: Undecided}
	for i, l := range looks {
		for _, c := range []Count{l.Canary, l.Control} {
			if c.Events < 0 || c.Requests < c.Events {
				return Judgement{}, fmt.Errorf("stat: look %d: %d events of %d requests cannot be", i, c.Events, c.Requests)
			}
		}
		j.Canary = j.Canary.plus(l.Canary)
		j.Control = j.Control.plus(l.Control)
	}
	j.EValue = math.Exp(logEValue(looks, rule.Ratio))
	j.Ratio = ratioSequence(looks, rule.Alpha)
	j.Difference = differenceSequence(j.Canary, j.Control, rule.Alpha)
	switch {
	case j.Difference.High < rule.Margin:
		j.Comparison = NotWorse
	case j.EValue >= 1/rule.Alpha && j.Canary.rate()-j.Control.rate() >= rule.Margin:
		j.Comparison = Worse
	}
	return j, nil
}

func (r Rule) validate() error {
	switch {
	case !(r.Alpha > 0 && r.Alpha < 0.5):
		return fmt.Errorf("stat: alpha %v is not between 0 and 0.5", r.Alpha)
	case !(r.Ratio >= 1) || math.IsInf(r.Ratio, 0):
		return fmt.Errorf("stat: ratio %v is not a number of at least 1", r.Ratio)
	case !(r.Margin > 0 && r.Margin < 1):
		return fmt.Errorf("stat: margin %v is not between 0 and 1", r.Margin)
	}
	return nil
}

func (c Count) plus(d Count) Count {
	return Count{c.Events + d.Events, c.Requests + d.Requests}
}

func (c Count) rate() float64 { return float64(c.Events) / float64(c.Requests) }

// The mixtures run over log ratios from -gridEnd to gridEnd, with weights that
// fall like a Cauchy density: most sensitive to a doubling or tripling, but no
// ratio is without weight. Any prior is valid; this one only sets the power.
const (
	gridStep  = 0.1
	gridEnd   = 7.0 // e^7 is about 1,100
	gridScale = 1.0
)

// steps is how many points the grid has from the given one on; counted, so
// that no rounding decides about the last.
func steps(from float64) int { return int((gridEnd-from)/gridStep+1e-6) + 1 }

func gridWeight(log float64) float64 { return 1 / (1 + log*log/(gridScale*gridScale)) }

// logLikelihood is that of the arms the events landed in, were the canary's
// rate exp(logRatio) times the control's.
func logLikelihood(looks []Look, logRatio float64) float64 {
	sum := 0.0
	for _, l := range looks {
		canary, control := float64(l.Canary.Requests), float64(l.Control.Requests)
		if canary == 0 || control == 0 || l.Canary.Events+l.Control.Events == 0 {
			continue // only one place to land, or nothing landed: no information
		}
		// log s r/(s r + 1 - s) = -log(1 + exp(-z)) with z the log odds
		z := math.Log(canary/control) + logRatio
		sum -= float64(l.Canary.Events)*softplus(-z) + float64(l.Control.Events)*softplus(z)
	}
	return sum
}

// softplus is log(1 + exp(x)), without overflow.
func softplus(x float64) float64 {
	if x > 0 {
		return x + math.Log1p(math.Exp(-x))
	}
	return math.Log1p(math.Exp(x))
}

// logEValue mixes over ratios above the null's only, so that the e-value falls
// where the canary is better than asked and is valid for all such canaries.
func logEValue(looks []Look, ratio float64) float64 {
	null := math.Log(ratio)
	return logMixture(looks, null, gridStep/2) - logLikelihood(looks, null)
}

// logMixture is the log of the likelihood mixed over log ratios centre + d for
// d from the given one to gridEnd.
func logMixture(looks []Look, centre, from float64) float64 {
	total, logs, weights := 0.0, []float64{}, []float64{}
	highest := math.Inf(-1)
	for k := range steps(from) {
		d := from + gridStep*float64(k)
		w, l := gridWeight(d), logLikelihood(looks, centre+d)
		total += w
		logs, weights = append(logs, l), append(weights, w)
		highest = math.Max(highest, l)
	}
	sum := 0.0
	for i, l := range logs {
		sum += weights[i] / total * math.Exp(l-highest)
	}
	return highest + math.Log(sum)
}

// ratioSequence holds the ratios that the two-sided mixture does not refute.
// The log likelihood is concave in the log ratio, so they are an interval.
func ratioSequence(looks []Look, alpha float64) Interval {
	method := "anytime-valid conditional binomial"
	mixed := logMixture(looks, 0, -gridEnd)
	kept := func(log float64) bool { return mixed-logLikelihood(looks, log) < -math.Log(alpha) }
	best := 0.0
	for k := range steps(-gridEnd) {
		d := -gridEnd + gridStep*float64(k)
		if logLikelihood(looks, d) > logLikelihood(looks, best) {
			best = d
		}
	}
	out := open(1-alpha, method)
	out.Low = 0
	const far = 40 // beyond every ratio that counts could show
	if !kept(-far) {
		out.Low = math.Exp(boundary(best, -far, kept))
	}
	if !kept(far) {
		out.High = math.Exp(boundary(best, far, kept))
	}
	return out
}

// differenceSequence is the union of one sequence for each arm.
func differenceSequence(canary, control Count, alpha float64) Interval {
	a, b := RateSequence(canary, alpha/2), RateSequence(control, alpha/2)
	return Interval{
		Low: a.Low - b.High, High: a.High - b.Low, Level: 1 - alpha,
		Method: "anytime-valid, union of both arms",
	}
}

// RateSequence is a confidence sequence for the event rate of one arm: the
// intervals of all looks together cover with probability 1 - alpha. It inverts
// the mixture martingale with two Beta priors of equal weight, Beta(1/2, 50)
// for rates of around one in a hundred and Beta(1/2, 1/2) for all others
// (Robbins 1970; Howard et al. 2021). Without requests it is [0, 1].
func RateSequence(c Count, alpha float64) Interval {
	events, others := float64(c.Events), float64(c.Requests-c.Events)
	mixed := logAdd(
		lbeta(0.5+events, 50+others)-lbeta(0.5, 50),
		lbeta(0.5+events, 0.5+others)-lbeta(0.5, 0.5),
	) - math.Ln2
	kept := func(p float64) bool {
		return mixed-xlogy(events, p)-xlogy(others, 1-p) < -math.Log(alpha)
	}
	out := Interval{Low: 0, High: 1, Level: 1 - alpha, Method: "anytime-valid beta-binomial"}
	if c.Requests == 0 {
		return out
	}
	rate := events / (events + others)
	if !kept(0) {
		out.Low = boundary(rate, 0, kept)
	}
	if !kept(1) {
		out.High = boundary(rate, 1, kept)
	}
	return out
}

// boundary finds by bisection where kept ends between a kept and a refuted
// point, on the refuted side.
func boundary(kept0, refuted float64, kept func(float64) bool) float64 {
	for range 100 {
		middle := (kept0 + refuted) / 2
		if middle == kept0 || middle == refuted {
			break
		}
		if kept(middle) {
			kept0 = middle
		} else {
			refuted = middle
		}
	}
	return refuted
}

// xlogy is x log y with 0 log 0 = 0.
func xlogy(x, y float64) float64 {
	if x == 0 {
		return 0
	}
	return x * math.Log(y)
}

func logAdd(a, b float64) float64 { return math.Max(a, b) + math.Log1p(math.Exp(-math.Abs(a-b))) }

func lbeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}

// DetectionRequests estimates how many requests of both arms together pass
// before Judge calls a canary Worse whose event rate is faulty against a
// control's of healthy, at the canary's share of the traffic: the information
// that 1/alpha takes, log(1/alpha) plus what the mixture costs, over that of
// one request. Infinity where the fault is none.
func DetectionRequests(share, healthy, faulty, ratio, alpha float64) float64 {
	if !(share > 0 && share < 1) || faulty <= ratio*healthy {
		return math.Inf(1)
	}
	events := share*faulty + (1-share)*healthy // events in a request
	actual := share * faulty / events
	null := share * ratio / (share*ratio + 1 - share)
	information := xlogy(actual, actual/null) + xlogy(1-actual, (1-actual)/(1-null))
	const mixtureCost = 2.5 // nats, about the log of the weight near the true ratio
	needed := math.Max((math.Log(1/alpha)+mixtureCost)/information, 1)
	return needed / events
}
