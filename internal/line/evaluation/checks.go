package evaluation

import (
	"fmt"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// intervalMethod names the intervals in checks.
const intervalMethod = "group bootstrap percentile"

// Checks lists every metric of the report. None of them decides: evaluation
// measures. A metric without a value, or on too few groups, is inconclusive.
func (r Report) Checks() []verdict.Check {
	l := lister{level: 2*r.Settings.Confidence - 1}
	if c := r.Comparison; c != nil {
		groups := fmt.Sprintf("on the champion's %d test rows of %d groups, %d of %d labels", c.Rows, c.Groups, len(c.Evaluable), len(r.Labels))
		l.add("compare.macro_auroc.difference", c.Difference, c.Rows, true, groups)
		l.add("compare.macro_auroc.candidate", c.Candidate, c.Rows, true, groups)
		l.add("compare.macro_auroc.champion", c.Champion, c.Rows, true, groups)
		for _, d := range c.Labels {
			l.add("compare.auroc.difference."+d.Name, d.Difference, c.Rows, d.Evaluable, d.text())
		}
	}
	if b := r.BatchRows; b != nil {
		groups := fmt.Sprintf("%d test rows of %d groups in the new batch, %d labels", b.Rows, b.Groups, len(b.Evaluable))
		l.add("batch.macro_auroc.candidate", b.Candidate, b.Rows, true, groups)
		l.add("batch.macro_auroc.champion", b.Champion, b.Rows, true, groups)
		l.add("batch.macro_auroc.difference", b.Difference, b.Rows, true, groups)
		l.add("batch.champion_drop", b.Drop, b.Rows, true, groups)
	}
	l.own(r.Own, len(r.Labels))
	return l.checks
}

type lister struct {
	level  float64
	checks []verdict.Check
}

func (l *lister) own(c Card, labels int) {
	l.add("own.macro_auroc", c.Macro, c.Rows, true, fmt.Sprintf("%d rows of %d groups, %d of %d labels", c.Rows, c.Groups, len(c.Evaluable), labels))
	l.add("own.brier", c.Brier, c.Rows, true, "mean over all labels")
	for _, x := range c.Labels {
		l.add("own.auroc."+x.Name, x.AUROC, c.Rows, x.Evaluable, x.text())
	}
	for _, x := range c.Labels {
		at := "no threshold"
		if x.Threshold != nil {
			at = fmt.Sprintf("at %.4g; %s", *x.Threshold, x.text())
		}
		l.add("own.sensitivity."+x.Name, x.Sensitivity, x.PositiveRows, x.Evaluable, at)
		l.add("own.specificity."+x.Name, x.Specificity, x.NegativeRows, x.Evaluable, at)
		l.add("own.f1."+x.Name, x.F1, c.Rows, x.Evaluable, at)
		l.add("own.brier."+x.Name, x.Brier, c.Rows, x.Evaluable, x.text())
	}
	for _, s := range c.Slices {
		text := fmt.Sprintf("%d groups, %d labels", s.Groups, len(s.Evaluable))
		l.add(fmt.Sprintf("own.macro_auroc[%s=%s]", s.Name, s.Value), s.Macro, s.Rows, true, text)
	}
	for _, q := range c.Latency {
		l.checks = append(l.checks, verdict.Check{
			Name: fmt.Sprintf("own.latency.p%g", 100*q.Q), Verdict: verdict.Pass, Observed: verdict.Number(q.Millisecond), Unit: "ms", N: c.Rows,
			Interval: interval(q.Low, q.High, l.level, "order statistics"), Text: "one inference at a time",
		})
	}
}

func (l *lister) add(name string, m Metric, n int, evaluable bool, text string) {
	c := verdict.Check{
		Name: name, Verdict: verdict.Pass, Observed: m.Value, N: n, Text: text,
		Interval: interval(m.Low, m.High, l.level, intervalMethod),
	}
	switch {
	case m.Value == nil:
		c.Verdict, c.Text = verdict.Inconclusive, "not computable: "+text
	case !evaluable:
		c.Verdict, c.Text = verdict.Inconclusive, "not evaluable: "+text
	}
	l.checks = append(l.checks, c)
}

func interval(low, high *float64, level float64, method string) *verdict.Interval {
	if low == nil && high == nil {
		return nil
	}
	return &verdict.Interval{Low: low, High: high, Level: level, Method: method}
}

func (c Counts) text() string {
	return fmt.Sprintf("%d positive groups, %d negative", c.PositiveGroups, c.NegativeGroups)
}
