package action

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Text renders a result for a terminal.
func Text(r verdict.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (%s) %s\n", r.Command, r.Verdict, r.Reason.Code, r.Reason.Text)
	if len(r.Checks) > 0 {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  CHECK\tVERDICT\tDECIDES\tOBSERVED\tINTERVAL\tWANTED\tN\t")
		for _, c := range r.Checks {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", c.Name, c.Verdict, decides(c), observed(c), interval(c.Interval), dash(c.Wanted), count(c.N))
		}
		w.Flush()
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&b, "  warning: %s\n", warning)
	}
	for _, m := range []map[string]string{r.Subjects, r.Outputs} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "  %s: %s\n", name, m[name])
		}
	}
	return b.String()
}

// Markdown renders a result for the step summary. Text that came from data is
// escaped.
func Markdown(r verdict.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n%s (`%s`)\n", plain(r.Command), r.Verdict, plain(r.Reason.Text), plain(r.Reason.Code))
	if len(r.Checks) > 0 {
		b.WriteString("\n| check | verdict | decides | observed | interval | wanted | n |\n|---|---|---|---|---|---|---|\n")
		for _, c := range r.Checks {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", plain(c.Name), c.Verdict, decides(c), plain(observed(c)), interval(c.Interval), plain(dash(c.Wanted)), count(c.N))
		}
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&b, "\n- warning: %s\n", plain(warning))
	}
	if len(r.Subjects) > 0 {
		b.WriteString("\n| subject | digest |\n|---|---|\n")
		for _, name := range slices.Sorted(maps.Keys(r.Subjects)) {
			fmt.Fprintf(&b, "| %s | `%s` |\n", plain(name), plain(r.Subjects[name]))
		}
	}
	if !r.Finished.IsZero() {
		fmt.Fprintf(&b, "\n%s, %s\n", plain(r.Version), r.Finished.Sub(r.Started).Round(time.Millisecond))
	}
	return b.String() + "\n"
}

func decides(c verdict.Check) string {
	if c.Required {
		return "yes"
	}
	return "listed"
}

func observed(c verdict.Check) string {
	if c.Observed == nil {
		return dash(c.Text)
	}
	return strings.TrimSpace(number(*c.Observed) + " " + c.Unit)
}

func interval(i *verdict.Interval) string {
	if i == nil {
		return "-"
	}
	end := func(x *float64) string {
		if x == nil {
			return "..."
		}
		return number(*x)
	}
	return fmt.Sprintf("[%s, %s] %s%%", end(i.Low), end(i.High), strconv.FormatFloat(100*i.Level, 'g', 4, 64))
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

func count(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plain makes text that came from data or from outside safe in Markdown: no
// row, markup, link, mention or reference of its own.
func plain(s string) string {
	return strings.NewReplacer(
		`\`, `\\`, "|", `\|`, "\n", " ", "\r", " ", "<", "&lt;", ">", "&gt;", "&", "&amp;", "`", "'",
		"*", `\*`, "_", `\_`, "~", `\~`, "[", `\[`, "#", "&#35;", "@", "@\u200b", "://", "&#58;//", "www.", "www&#46;",
	).Replace(s)
}

// cell makes a definition's own words fit into a table of the docs.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", ">", "&gt;").Replace(s)
}
