package report

import (
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/line/evaluation"
)

// against is the comparison in a few lines, and the new batch.
func against(r evaluation.Report) string {
	c := r.Comparison
	var b strings.Builder
	fmt.Fprintf(&b, "On the champion's %d test rows of %d groups; %s. A difference in bold has zero outside its interval.\n\n", c.Rows, c.Groups, intervals(r.Settings))
	b.WriteString("| | candidate | champion | candidate - champion | on |\n|---|---|---|---|---|\n")
	fmt.Fprintf(&b, "| macro AUROC over %d of %d labels | %s | %s | %s | %s |\n", len(c.Evaluable), len(r.Labels),
		metric(c.Candidate), metric(c.Champion), difference(c.Difference), size(c.Rows, c.Groups))
	if n := r.BatchRows; n != nil && n.Rows > 0 {
		fmt.Fprintf(&b, "| the same on the new batch's test rows, over %d labels | %s | %s | %s | %s |\n", len(n.Evaluable),
			metric(n.Candidate), metric(n.Champion), difference(n.Difference), size(n.Rows, n.Groups))
		if n.Drop.Value != nil {
			fmt.Fprintf(&b, "\nOn the new batch's rows the champion does %s against its own test rows.\n", difference(n.Drop))
		}
	}
	return b.String()
}

// labelDifferences has a row for every label, those that moved most first.
func labelDifferences(c evaluation.Comparison) string {
	var rows []string
	for _, l := range byMagnitude(c.Labels, func(l evaluation.Difference) evaluation.Metric { return l.Difference }) {
		moved, note := difference(l.Difference), ""
		if !l.Evaluable {
			moved, note = strings.ReplaceAll(moved, "**", ""), ", too few to count"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s%s |\n", code(l.Name), metric(l.Candidate), metric(l.Champion), moved, evidence(l.Counts), note))
	}
	return table("| label | candidate | champion | candidate - champion | positive rows (groups) of all |\n|---|---|---|---|---|\n", rows)
}

// sliceDifferences has a row for every slice of the champion's rows, those that
// moved most first.
func sliceDifferences(r evaluation.Report) string {
	c := r.Comparison
	var rows []string
	for _, s := range byMagnitude(c.Slices, func(s evaluation.SliceDifference) evaluation.Metric { return s.Difference }) {
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %d |\n", code(s.Name+" = "+s.Value), metric(s.Candidate), metric(s.Champion), difference(s.Difference), size(s.Rows, s.Groups), len(s.Evaluable)))
	}
	return "Macro AUROC over the labels that are evaluable within the slice, on the champion's test rows; the greatest move first.\n\n" +
		table("| slice | candidate | champion | candidate - champion | on | labels |\n|---|---|---|---|---|---:|\n", rows)
}

// evidence is how many rows (and groups) are positive for a label.
func evidence(c evaluation.Counts) string {
	return fmt.Sprintf("%d (%d) of %d", c.PositiveRows, c.PositiveGroups, c.PositiveRows+c.NegativeRows)
}

// alone is the first model's measure.
func alone(r evaluation.Report) string {
	c := r.Own
	var b strings.Builder
	fmt.Fprintf(&b, "There is no champion to compare with. On the candidate's own %d test rows of %d groups; %s.\n\n", c.Rows, c.Groups, intervals(r.Settings))
	b.WriteString("| | candidate | on |\n|---|---|---|\n")
	fmt.Fprintf(&b, "| macro AUROC over %d of %d labels | %s | %s |\n", len(c.Evaluable), len(r.Labels), metric(c.Macro), size(c.Rows, c.Groups))
	if c.Brier.Value != nil {
		fmt.Fprintf(&b, "| Brier score, mean over all labels (less is better) | %s | %s |\n", metric(c.Brier), size(c.Rows, c.Groups))
	}
	return b.String()
}

// ownLabels has a row for every label of the candidate, in their order.
func ownLabels(r evaluation.Report) string {
	var rows []string
	for _, l := range r.Own.Labels {
		note := ""
		if !l.Evaluable {
			note = ", too few to count"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s%s |\n", code(l.Name), metric(l.AUROC), metric(l.Sensitivity), metric(l.Specificity), evidence(l.Counts), note))
	}
	return table("| label | AUROC | sensitivity at its threshold | specificity | positive rows (groups) of all |\n|---|---|---|---|---|\n", rows)
}

// ownSlices has a row for every slice of the candidate's own test rows, those
// that lie farthest from the whole first. A slice's distance from the whole has
// no interval of its own.
func ownSlices(r evaluation.Report) string {
	whole := r.Own.Macro
	distance := func(s evaluation.Slice) evaluation.Metric {
		if s.Macro.Value == nil || whole.Value == nil {
			return evaluation.Metric{}
		}
		d := *s.Macro.Value - *whole.Value
		return evaluation.Metric{Value: &d}
	}
	var rows []string
	for _, s := range byMagnitude(r.Own.Slices, distance) {
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %d |\n", code(s.Name+" = "+s.Value), metric(s.Macro), difference(distance(s)), size(s.Rows, s.Groups), len(s.Evaluable)))
	}
	if len(rows) == 0 {
		return ""
	}
	return "Macro AUROC of the candidate over the labels that are evaluable within the slice, on its own test rows, against all of these rows.\n\n" +
		table("| slice | candidate | slice - all rows | on | labels |\n|---|---|---|---|---:|\n", rows)
}
