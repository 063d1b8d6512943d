package evaluation

import (
	"fmt"
	"math"
	"slices"
)

// Validate refuses a report that Evaluate could not have made: the gate must
// not decide on one.
func (r Report) Validate() error {
	if r.Schema != Schema {
		return fmt.Errorf("evaluation: schema %q, this version reads %q", r.Schema, Schema)
	}
	if err := r.Settings.validate(); err != nil {
		return err
	}
	switch {
	case r.Model == "" || r.Dataset == "":
		return fmt.Errorf("evaluation: the report names no model or no data set")
	case r.Split != TestSplit:
		return fmt.Errorf("evaluation: the report is on split %q, only %s decides", r.Split, TestSplit)
	case len(r.Labels) == 0:
		return fmt.Errorf("evaluation: the report names no labels")
	case (r.Champion == "") != (r.ChampionDataset == "") || (r.Champion == "") != (r.Comparison == nil):
		return fmt.Errorf("evaluation: champion, its data set and the comparison belong together")
	case (r.BatchRows != nil) != (r.Champion != "" && r.Batch != ""):
		return fmt.Errorf("evaluation: the batch's rows belong to a report with a batch and a champion")
	}
	if err := r.Own.validate(r); err != nil {
		return fmt.Errorf("evaluation: own: %w", err)
	}
	if c := r.Comparison; c != nil {
		if err := c.validate(r); err != nil {
			return fmt.Errorf("evaluation: comparison: %w", err)
		}
	}
	if b := r.BatchRows; b != nil {
		if err := b.validate(r); err != nil {
			return fmt.Errorf("evaluation: batch_rows: %w", err)
		}
	}
	return nil
}

func (c Card) validate(r Report) error {
	labels := make([]evidence, len(c.Labels))
	for i, l := range c.Labels {
		labels[i] = evidence{l.Name, l.Evaluable, l.Counts, l.AUROC, 0}
	}
	if err := r.validateRows(c.Rows, c.Groups, labels, c.Evaluable); err != nil {
		return err
	}
	return c.Macro.validate("macro_auroc", r, 0, len(c.Evaluable) > 0)
}

func (c Comparison) validate(r Report) error {
	labels := make([]evidence, len(c.Labels))
	for i, l := range c.Labels {
		labels[i] = evidence{l.Name, l.Evaluable, l.Counts, l.Difference, -1}
	}
	if err := r.validateRows(c.Rows, c.Groups, labels, c.Evaluable); err != nil {
		return err
	}
	some := len(c.Evaluable) > 0
	for _, m := range []struct {
		name   string
		metric Metric
		least  float64
	}{{"candidate_macro_auroc", c.Candidate, 0}, {"champion_macro_auroc", c.Champion, 0}, {"difference_macro_auroc", c.Difference, -1}} {
		if err := m.metric.validate(m.name, r, m.least, some); err != nil {
			return err
		}
	}
	for _, slice := range c.Slices {
		if err := slice.validate(r, c); err != nil {
			return fmt.Errorf("slice %s=%s: %w", slice.Name, slice.Value, err)
		}
	}
	return nil
}

func (s SliceDifference) validate(r Report, c Comparison) error {
	if s.Rows < 1 || s.Rows > c.Rows || s.Groups < 1 || s.Groups > s.Rows {
		return fmt.Errorf("%d rows of %d groups, of the comparison's %d rows", s.Rows, s.Groups, c.Rows)
	}
	for _, l := range s.Evaluable {
		if !slices.Contains(r.Labels, l) {
			return fmt.Errorf("%q is evaluable, but not a label", l)
		}
	}
	some := len(s.Evaluable) > 0
	for _, m := range []struct {
		name   string
		metric Metric
		least  float64
	}{{"candidate_macro_auroc", s.Candidate, 0}, {"champion_macro_auroc", s.Champion, 0}, {"difference_macro_auroc", s.Difference, -1}} {
		if err := m.metric.validate(m.name, r, m.least, some); err != nil {
			return err
		}
	}
	return nil
}

// evidence is what validation looks at of a label, on a card or in a
// comparison; least is the smallest value that the metric can have.
type evidence struct {
	name      string
	evaluable bool
	counts    Counts
	metric    Metric
	least     float64
}

// validateRows wants every label of the report once, in order, called
// evaluable exactly where its counts say so.
func (r Report) validateRows(rows, groups int, labels []evidence, listed []string) error {
	if rows < 1 || groups < 1 || groups > rows {
		return fmt.Errorf("%d rows of %d groups", rows, groups)
	}
	var names, evaluable []string
	for _, l := range labels {
		names = append(names, l.name)
		if l.evaluable {
			evaluable = append(evaluable, l.name)
		}
		if l.evaluable != r.Settings.enough(l.counts) || l.counts.PositiveRows+l.counts.NegativeRows != rows {
			return fmt.Errorf("label %s: its counts contradict the settings or the %d rows", l.name, rows)
		}
		if err := l.metric.validate("its metric", r, l.least, l.evaluable); err != nil {
			return fmt.Errorf("label %s: %w", l.name, err)
		}
	}
	if !slices.Equal(names, r.Labels) || !slices.Equal(evaluable, listed) {
		return fmt.Errorf("the labels are %q with %q evaluable, not %q with %q", names, evaluable, r.Labels, listed)
	}
	return nil
}

func (b BatchCard) validate(r Report) error {
	if b.Rows < 0 || b.Groups < 0 || b.Groups > b.Rows {
		return fmt.Errorf("%d rows of %d groups", b.Rows, b.Groups)
	}
	for _, l := range b.Evaluable {
		if !slices.Contains(r.Labels, l) {
			return fmt.Errorf("%q is evaluable, but not a label", l)
		}
	}
	for _, m := range []struct {
		name   string
		metric Metric
		least  float64
	}{
		{"candidate_macro_auroc", b.Candidate, 0},
		{"champion_macro_auroc", b.Champion, 0},
		{"difference_macro_auroc", b.Difference, -1},
		{"champion_macro_auroc_on_its_own_rows", b.Reference, 0},
	} {
		if err := m.metric.validate(m.name, r, m.least, false); err != nil {
			return err
		}
	}
	return b.Drop.validate("champion_drop", r, -1, len(b.Evaluable) > 0)
}

// validate wants a metric between least and 1 with an interval in order. A
// metric that is needed must be there: null is not a measurement.
func (m Metric) validate(name string, r Report, least float64, needed bool) error {
	if m.Degenerate < 0 || m.Degenerate > r.Settings.Replicates {
		return fmt.Errorf("%s: %d of %d replicates degenerate", name, m.Degenerate, r.Settings.Replicates)
	}
	if m.Value == nil {
		if needed {
			return fmt.Errorf("%s is missing though there is evidence for it", name)
		}
		return nil
	}
	for _, x := range []*float64{m.Value, m.Low, m.High} {
		if x != nil && (math.IsNaN(*x) || *x < least || *x > 1) {
			return fmt.Errorf("%s: %v is not between %v and 1", name, *x, least)
		}
	}
	all := m.Degenerate == r.Settings.Replicates
	if (m.Low == nil) != (m.High == nil) || (m.Low == nil) != all {
		return fmt.Errorf("%s has no interval", name)
	}
	if m.Low != nil && *m.Low > *m.High {
		return fmt.Errorf("%s: its interval [%v, %v] is not in order", name, *m.Low, *m.High)
	}
	return nil
}
