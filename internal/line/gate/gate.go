// Package gate owns the policy of a project and the two decisions that rest on
// it, as pure functions: Decide over an evaluation report (stage offline), and
// Release over the results of earlier steps (stage release).
//
// The first model ever is an explicit mode of its own (section bootstrap).
// Every other model must be proven non-inferior to the champion: the one-sided
// lower bound of (candidate - champion) lies above minus the margin, which was
// fixed beforehand (ICH E9/E10; for models Feng et al. 2021, PMC7946712, who
// also show why margins must be small). Proven worse is a rejection, neither
// is inconclusive. All required checks must hold, so no correction for many of
// them is needed (intersection-union test, Berger 1982).
//
// Nothing passes on absence: a report that is not valid, was made with other
// settings than the policy's, or lacks a metric is an error; too little
// evidence is inconclusive; only checks that the policy requires decide.
package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Reason codes of the gate's verdicts.
const (
	DataAlarm     = "data-alarm"     // the champion collapses on the new batch: suspect the batch
	Worse         = "worse"          // the candidate is proven worse than the champion
	BelowMinimum  = "below-minimum"  // the first model is proven below what bootstrap asks
	NoEvidence    = "no-evidence"    // too few groups, labels or replicates with a value
	NotProven     = "not-proven"     // neither bound is on the right side
	NonInferior   = "non-inferior"   // the candidate may replace the champion
	FirstModel    = "first-model"    // the first model has its metrics
	PolicyChanged = "policy-changed" // the report was made under another policy
	NoBootstrap   = "no-bootstrap"   // no champion, and no section bootstrap
)

// Decision is what the gate says, and why.
type Decision struct {
	Verdict  verdict.Verdict
	Reason   verdict.Reason
	Checks   []verdict.Check
	Warnings []string
}

// Settings are what evaluate must be run with for this policy.
func (p Policy) Settings() evaluation.Settings {
	return evaluation.Settings{
		Confidence: p.Confidence, Replicates: p.Replicates, Seed: p.Seed,
		PositiveGroups: p.Evidence.PositiveGroups, NegativeGroups: p.Evidence.NegativeGroups,
	}
}

// Decide judges the candidate of a report. An error means that the policy or
// the report cannot be decided on; the verdict is then unknown, not reject.
func Decide(p Policy, r evaluation.Report) (Decision, error) {
	if err := p.Validate(); err != nil {
		return Decision{}, fmt.Errorf("gate: %w", err)
	}
	if err := r.Validate(); err != nil {
		return Decision{}, verdict.Coded(evaluation.BadEvidence, err)
	}
	if r.Settings != p.Settings() {
		return Decision{}, verdict.Coded(PolicyChanged, fmt.Errorf("gate: the report was made with %+v, the policy wants %+v: evaluate again", r.Settings, p.Settings()))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Compare.Labels)) {
		if !slices.Contains(r.Labels, name) {
			return Decision{}, fmt.Errorf("gate: compare.labels names %q, which the model does not score", name)
		}
	}
	j := judge{policy: p, report: r}
	if r.Comparison == nil {
		if p.Bootstrap == nil {
			return Decision{}, verdict.Coded(NoBootstrap, fmt.Errorf("gate: there is no champion to compare with, and the policy has no section bootstrap that would let a first model through: add one, or find out where the champion is"))
		}
		j.bootstrap()
	} else {
		j.compare()
		j.batch()
	}
	return j.decision(), nil
}

// judge collects the checks of one decision; ruling holds what each check that
// does not pass would give as the reason, in the order of precedence.
type judge struct {
	policy  Policy
	report  evaluation.Report
	checks  []verdict.Check
	rulings []ruling
	warn    []string
}

type ruling struct {
	verdict verdict.Verdict
	reason  verdict.Reason
}

// require adds a check that decides; code and text are the reason where it
// does not pass.
func (j *judge) require(c verdict.Check, code string) {
	c.Required = true
	j.checks = append(j.checks, c)
	if c.Verdict != verdict.Pass {
		j.rulings = append(j.rulings, ruling{c.Verdict, verdict.Reason{Code: code, Text: c.Text}})
	}
}

// list adds a check that decides nothing.
func (j *judge) list(c verdict.Check) {
	c.Required = false
	j.checks = append(j.checks, c)
}

// bootstrap asks of the first model that its metrics are there and, where the
// policy says so, that its lower bound reaches a minimum.
func (j *judge) bootstrap() {
	own := j.report.Own
	enough := j.evidence("own.evidence", own.Evaluable, own.Rows, own.Macro)
	least := j.policy.Bootstrap.MacroAUROC
	if !enough || least == nil {
		j.list(j.metric("own.macro_auroc", own.Macro, own.Rows))
		return
	}
	c := j.bounded("own.macro_auroc", own.Macro, own.Rows, least.AtLeast)
	c.Wanted = fmt.Sprintf("> %g at %g", least.AtLeast, j.policy.Confidence)
	j.require(c, map[verdict.Verdict]string{verdict.Reject: BelowMinimum, verdict.Inconclusive: NotProven}[c.Verdict])
}

// compare asks whether the candidate is non-inferior on the champion's rows.
func (j *judge) compare() {
	c := j.report.Comparison
	j.list(j.metric("compare.macro_auroc.candidate", c.Candidate, c.Rows))
	j.list(j.metric("compare.macro_auroc.champion", c.Champion, c.Rows))
	if j.evidence("compare.evidence", c.Evaluable, c.Rows, c.Difference) {
		j.nonInferior("compare.macro_auroc.difference", c.Difference, c.Rows, j.policy.Compare.MacroAUROC.Margin)
	} else {
		j.list(j.metric("compare.macro_auroc.difference", c.Difference, c.Rows))
	}
	for _, l := range c.Labels {
		name := "compare.auroc.difference." + l.Name
		margin, required := j.policy.Compare.Labels[l.Name]
		switch {
		case required && !l.Evaluable:
			text := fmt.Sprintf("label %s has %d positive and %d negative groups; the policy asks for %d and %d", l.Name,
				l.PositiveGroups, l.NegativeGroups, j.policy.Evidence.PositiveGroups, j.policy.Evidence.NegativeGroups)
			j.require(verdict.Check{Name: name, Verdict: verdict.Inconclusive, N: c.Rows, Text: text}, NoEvidence)
		case required:
			j.nonInferior(name, l.Difference, c.Rows, margin.Margin)
		case l.Evaluable:
			j.list(j.metric(name, l.Difference, c.Rows))
		}
	}
	j.list(j.metric("own.macro_auroc", j.report.Own.Macro, j.report.Own.Rows))
}

func (j *judge) nonInferior(name string, m evaluation.Metric, n int, margin float64) {
	c := j.bounded(name, m, n, -margin)
	c.Wanted = fmt.Sprintf("> %g at %g", -margin, j.policy.Confidence)
	j.require(c, map[verdict.Verdict]string{verdict.Reject: Worse, verdict.Inconclusive: NotProven}[c.Verdict])
}

// batch is the data alarm.
func (j *judge) batch() {
	b := j.report.BatchRows
	if b == nil {
		return
	}
	j.list(j.metric("batch.macro_auroc.candidate", b.Candidate, b.Rows))
	j.list(j.metric("batch.macro_auroc.champion", b.Champion, b.Rows))
	c := j.metric("batch.champion_drop", b.Drop, b.Rows)
	rule := j.policy.Batch
	if rule == nil {
		j.list(c)
		return
	}
	c.Wanted = fmt.Sprintf("not < %g at %g", -rule.MaxDrop, j.policy.Confidence)
	if len(b.Evaluable) < rule.Labels || j.degenerate(b.Drop) {
		c.Verdict = verdict.Inconclusive
		c.Text = fmt.Sprintf("data alarm: the batch's %d test rows make %d labels evaluable, %d are needed", b.Rows, len(b.Evaluable), rule.Labels)
		if rule.WithoutEvidence == HoldVerdict {
			j.require(c, NoEvidence)
			return
		}
		j.warn = append(j.warn, c.Text+"; the policy only lists it")
		j.list(c)
		return
	}
	if *b.Drop.High < -rule.MaxDrop {
		c.Verdict = verdict.Reject
		c.Text = fmt.Sprintf("data alarm: on the batch's %d test rows the champion's macro AUROC is %.3f, on its own test rows %.3f; the fall of %.3f (at least %.3f at %g) is more than %g: examine the labels of batch %s",
			b.Rows, value(b.Champion), value(b.Reference), -*b.Drop.Value, -*b.Drop.High, j.policy.Confidence, rule.MaxDrop, j.report.Batch)
	}
	j.require(c, DataAlarm)
}

// evidence asks for enough evaluable labels and replicates with a value.
func (j *judge) evidence(name string, evaluable []string, rows int, m evaluation.Metric) bool {
	labels := float64(len(evaluable))
	c := verdict.Check{
		Name: name, Verdict: verdict.Pass, Observed: verdict.Number(labels), Unit: "labels", N: rows,
		Wanted: fmt.Sprintf(">= %d evaluable", j.policy.Evidence.Labels),
		Text:   "evaluable: " + strings.Join(evaluable, ", "),
	}
	switch {
	case len(evaluable) < j.policy.Evidence.Labels:
		c.Verdict = verdict.Inconclusive
		c.Text = fmt.Sprintf("%d of %d labels are evaluable on %d test rows, the policy asks for %d: more data is needed", len(evaluable), len(j.report.Labels), rows, j.policy.Evidence.Labels)
	case j.degenerate(m):
		c.Verdict = verdict.Inconclusive
		c.Text = fmt.Sprintf("%d of %d bootstrap replicates have no value, the policy allows a share of %g: more positive groups are needed", m.Degenerate, j.policy.Replicates, j.policy.Evidence.MaxDegenerate)
	}
	j.require(c, NoEvidence)
	return c.Verdict == verdict.Pass
}

func (j *judge) degenerate(m evaluation.Metric) bool {
	return m.Low == nil || float64(m.Degenerate) > j.policy.Evidence.MaxDegenerate*float64(j.policy.Replicates)
}

// bounded compares both one-sided bounds with a floor.
func (j *judge) bounded(name string, m evaluation.Metric, n int, floor float64) verdict.Check {
	c := j.metric(name, m, n)
	at := j.policy.Confidence
	switch {
	case j.degenerate(m):
		c.Verdict = verdict.Inconclusive
		c.Text = fmt.Sprintf("%s: %d of %d bootstrap replicates have no value", name, m.Degenerate, j.policy.Replicates)
	case *m.Low > floor:
		c.Text = fmt.Sprintf("%s is %.3f, at least %.3f at %g", name, *m.Value, *m.Low, at)
	case *m.High < floor:
		c.Verdict = verdict.Reject
		c.Text = fmt.Sprintf("%s is %.3f, at most %.3f at %g; wanted more than %g", name, *m.Value, *m.High, at, floor)
	default:
		c.Verdict = verdict.Inconclusive
		c.Text = fmt.Sprintf("%s is %.3f, somewhere from %.3f to %.3f at %g each: too little evidence to say whether it is above %g", name, *m.Value, *m.Low, *m.High, at, floor)
	}
	return c
}

// metric is a check that shows a metric.
func (j *judge) metric(name string, m evaluation.Metric, n int) verdict.Check {
	c := verdict.Check{Name: name, Verdict: verdict.Pass, Observed: m.Value, N: n}
	if m.Low != nil {
		c.Interval = &verdict.Interval{Low: m.Low, High: m.High, Level: 2*j.policy.Confidence - 1, Method: "group bootstrap percentile"}
	}
	if m.Value == nil {
		c.Verdict, c.Text = verdict.Inconclusive, "not computable"
	}
	return c
}

func value(m evaluation.Metric) float64 {
	if m.Value == nil {
		return 0
	}
	return *m.Value
}

// decision joins the checks. Of several reasons a data alarm goes first: a
// batch that is wrong explains a candidate that is worse.
func (j *judge) decision() Decision {
	d := Decision{Verdict: verdict.Join(j.checks), Checks: j.checks, Warnings: j.warn}
	if d.Verdict == verdict.Pass {
		d.Reason = j.passed()
		return d
	}
	for _, r := range j.rulings {
		if r.verdict == d.Verdict && (d.Reason.Code == "" || r.reason.Code == DataAlarm) {
			d.Reason = r.reason
		}
	}
	return d
}

func (j *judge) passed() verdict.Reason {
	own := j.report.Own
	if c := j.report.Comparison; c != nil {
		return verdict.Reason{Code: NonInferior, Text: fmt.Sprintf("macro AUROC %.3f against the champion's %.3f on its %d test rows: the difference is %+.3f, at least %+.3f at %g",
			value(c.Candidate), value(c.Champion), c.Rows, value(c.Difference), value(evaluation.Metric{Value: c.Difference.Low}), j.policy.Confidence)}
	}
	return verdict.Reason{Code: FirstModel, Text: fmt.Sprintf("the first model: macro AUROC %.3f over %d labels on %d test rows", value(own.Macro), len(own.Evaluable), own.Rows)}
}
