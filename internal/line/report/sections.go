package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// unbroken is a space at which no line ends.
const unbroken = "\u00A0"

// openRows is how many rows of a long table are shown before the rest is
// folded away.
const openRows = 10

// sections are all parts of the comment in reading order. What has no facts
// has no section.
func (f Facts) sections() []section {
	var all []section
	add := func(title, body string) {
		if body != "" {
			all = append(all, section{title, "### " + title + "\n\n" + strings.Trim(body, "\n") + "\n\n"})
		}
	}
	if r := f.Report; r != nil {
		if r.Comparison != nil {
			add("Candidate against champion", against(*r))
			add("AUROC by label", chart(comparedBars(*r.Comparison), true)+labelDifferences(*r.Comparison))
			if len(r.Comparison.Slices) > 0 {
				add("Slices that moved", sliceDifferences(*r))
			} else {
				add("Slices", ownSlices(*r)) // a report of an earlier version
			}
		} else {
			add("The candidate, without a champion", alone(*r))
			add("AUROC by label", chart(ownBars(r.Own), false)+ownLabels(*r))
			add("Slices", ownSlices(*r))
		}
	}
	for _, s := range f.Steps {
		if isGate(s.Name) {
			add("What "+code(s.Name)+" asked", checks(s.Checks, true))
		}
	}
	for _, s := range f.Steps {
		if s.Name == "loadtest" {
			add("Load test", loadTest(s))
		}
	}
	if f.Data != nil {
		add("Data", f.Data.text())
	}
	add("Steps", f.steps())
	add("Warnings", f.warnings())
	return all
}

func (f Facts) steps() string {
	var b strings.Builder
	if len(f.Steps) > 0 {
		b.WriteString("| step | verdict | reason |\n|---|---|---|\n")
	}
	for _, s := range f.Steps {
		says, why := string(s.Verdict), prose(s.Reason.Text)
		if s.Verdict == "" {
			says, why = "no result", "-"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", code(s.Name), prose(says), orDash(why))
	}
	if len(f.Jobs) > 0 {
		b.WriteString("\n| job | result |\n|---|---|\n")
	}
	for _, j := range f.Jobs {
		fmt.Fprintf(&b, "| %s | %s |\n", code(j.Name), code(j.Result))
	}
	return b.String()
}

func (f Facts) warnings() string {
	var b strings.Builder
	for _, s := range f.Steps {
		for _, w := range s.Warnings {
			fmt.Fprintf(&b, "- %s: %s\n", code(s.Name), prose(w))
		}
	}
	return b.String()
}

// checks is a table of checks; required leaves out those that decided nothing.
func checks(all []verdict.Check, required bool) string {
	var b strings.Builder
	for _, c := range all {
		if required && !c.Required {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("| check | verdict | observed | interval | wanted | n |\n|---|---|---|---|---|---:|\n")
		}
		observed := "-"
		if c.Observed != nil {
			observed = strings.TrimSpace(figure(*c.Observed) + " " + prose(c.Unit))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", code(c.Name), prose(string(c.Verdict)), observed, checkInterval(c.Interval), orDash(prose(c.Wanted)), count(c.N))
	}
	return b.String()
}

// loadTest shows the checks in the order of the load test: the share of misses,
// the measurement's own quality, latency quantiles, rates, failures.
func loadTest(s Step) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %s\n\n", prose(string(s.Verdict)), prose(s.Reason.Text))
	b.WriteString(checks(s.Checks, false))
	return b.String()
}

func checkInterval(i *verdict.Interval) string {
	if i == nil {
		return "-"
	}
	end := func(x *float64) string {
		if x == nil {
			return "…"
		}
		return figure(*x)
	}
	return fmt.Sprintf("[%s,%s%s]%s%s%%", end(i.Low), unbroken, end(i.High), unbroken, figure(100*i.Level))
}

// figure writes a number of any unit with four digits.
func figure(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

func count(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// metric writes a metric between 0 and 1 with its interval.
func metric(m evaluation.Metric) string {
	if m.Value == nil {
		return "-"
	}
	return number(*m.Value) + ends(m, number)
}

// difference writes a difference with its sign and interval, in bold where the
// interval leaves out zero.
func difference(m evaluation.Metric) string {
	if m.Value == nil {
		return "-"
	}
	text := signed(*m.Value, 3)
	if m.Low != nil && m.High != nil && (*m.Low > 0 || *m.High < 0) {
		text = "**" + text + "**"
	}
	return text + ends(m, func(x float64) string { return signed(x, 3) })
}

// signed writes a change; what rounds to nothing has no sign.
func signed(x float64, decimals int) string {
	text := strconv.FormatFloat(x, 'f', decimals, 64)
	if strings.Trim(text, "-0.") == "" {
		return strings.TrimPrefix(text, "-")
	}
	if x > 0 {
		return "+" + text
	}
	return text
}

func ends(m evaluation.Metric, write func(float64) string) string {
	if m.Low == nil || m.High == nil {
		return ""
	}
	return " [" + write(*m.Low) + "," + unbroken + write(*m.High) + "]"
}

// size is what a metric rests on.
func size(rows, groups int) string { return fmt.Sprintf("%d rows, %d groups", rows, groups) }

// table writes rows, the first openRows of them open and the rest folded away.
func table(head string, rows []string) string {
	if len(rows) == 0 {
		return ""
	}
	if len(rows) <= openRows+2 {
		return head + strings.Join(rows, "")
	}
	return head + strings.Join(rows[:openRows], "") +
		fmt.Sprintf("\n<details><summary>%d more</summary>\n\n", len(rows)-openRows) +
		head + strings.Join(rows[openRows:], "") + "\n</details>\n"
}

// intervals tells how the intervals of a report are to be read.
func intervals(s evaluation.Settings) string {
	return fmt.Sprintf("%s%% intervals, one by one, from %d bootstrap replicates of groups", figure(100*(2*s.Confidence-1)), s.Replicates)
}

// magnitude is the size of a metric for sorting; without a value it comes last.
func magnitude(m evaluation.Metric) float64 {
	if m.Value == nil {
		return math.Inf(-1)
	}
	return math.Abs(*m.Value)
}

func byMagnitude[T any](all []T, of func(T) evaluation.Metric) []T {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b T) int { return cmp.Compare(magnitude(of(b)), magnitude(of(a))) })
	return sorted
}
