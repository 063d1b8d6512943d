package rollout

import (
	"fmt"
	"math"
	"strconv"

	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Result renders a closed state: its verdict, the numbers behind it, the
// digests.
func (s State) Result(p Plan) (verdict.Result, error) {
	r := verdict.Result{
		Schema: verdict.Schema, Verdict: s.Verdict, Reason: s.Reason,
		Subjects: map[string]string{"model": s.Digest}, Outputs: map[string]string{"phase": string(s.Phase)},
		Warnings: s.Warnings,
	}
	if s.Previous != "" {
		r.Subjects["previous"] = s.Previous
	}
	if s.Version != "" {
		r.Outputs["version"] = s.Version
	}
	total := s.Total()
	r.Outputs["canary_requests"] = strconv.FormatUint(total.Canary.Requests, 10)
	r.Outputs["stable_requests"] = strconv.FormatUint(total.Stable.Requests, 10)
	if s.Kind != Rollout || len(s.Strata) == 0 {
		return r, nil
	}
	j, err := s.Judge(p)
	if err != nil {
		return verdict.Result{}, err
	}
	requests := verdict.Check{
		Name: "canary requests", Required: true, Verdict: verdict.Inconclusive, N: int(total.Canary.Requests),
		Observed: verdict.Number(float64(total.Canary.Requests)), Wanted: fmt.Sprintf(">= %d", p.MinRequests), Unit: "requests",
	}
	if total.Canary.Requests >= uint64(p.MinRequests) {
		requests.Verdict = verdict.Pass
	}
	r.Checks = []verdict.Check{requests, check("error rate above stable's", j.Errors, p.Errors), check("rate over the slo above stable's", j.Slow, p.Slow)}
	ratio, warning := s.ratioCheck()
	r.Checks = append(r.Checks, ratio)
	if warning != "" {
		r.Warnings = append(r.Warnings, warning)
	}
	return r, nil
}

func check(name string, j stat.Judgement, b Bound) verdict.Check {
	c := verdict.Check{
		Name: name, Required: true, Verdict: verdict.Inconclusive, N: int(j.Canary.Requests),
		Observed: verdict.Number(rate(j.Canary) - rate(j.Control)),
		Interval: &verdict.Interval{
			Low: verdict.Number(j.Difference.Low), High: verdict.Number(j.Difference.High),
			Level: j.Difference.Level, Method: j.Difference.Method,
		},
		Wanted: fmt.Sprintf("< %g", b.Margin), Unit: "rate",
		Text: describe(j, b.Ratio),
	}
	switch j.Comparison {
	case stat.NotWorse:
		c.Verdict = verdict.Pass
	case stat.Worse:
		c.Verdict = verdict.Reject
	}
	return c
}

func rate(c stat.Count) float64 { return float64(c.Events) / float64(c.Requests) }

// sampleRatioZ is how many standard deviations of the split are suspicious.
const sampleRatioZ = 4

// ratioCheck tells whether the canary got the traffic that was asked for.
func (s State) ratioCheck() (verdict.Check, string) {
	got, asked, z := s.sampleRatio()
	c := verdict.Check{
		Name: "sample ratio", Verdict: verdict.Pass, Observed: verdict.Number(got), Unit: "share",
		Wanted: fmt.Sprintf("about %.4f", asked), Text: fmt.Sprintf("%.1f standard deviations from what was asked for", z),
	}
	if math.Abs(z) < sampleRatioZ {
		return c, ""
	}
	c.Verdict = verdict.Inconclusive
	return c, fmt.Sprintf("the canary got %.1f%% of the requests, %.1f%% were asked for: few users, requests without a key, or a split that does not work", got*100, asked*100)
}
