package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/measure"
	"github.com/penstock-ml/penstock/serve/variants"
)

// decide judges, publishes the best variant if there is one, and reports.
func (p *optimization) decide(ctx context.Context) (verdict.Result, error) {
	best, v, reason := variants.Best(p.candidates)
	r := verdict.Passed("")
	r.Verdict, r.Reason, r.Checks = v, reason, p.checks()
	r.Subjects["parent"], r.Subjects["dataset"] = p.parent.Digest, p.dataset
	r.Outputs["provider"], r.Outputs["machine"] = p.runtime.Provider(), machine()
	if err := p.tables(); err != nil {
		return r, err
	}
	if best < 0 {
		return r, nil
	}
	kept := p.candidates[best]
	digest, err := bundle.Publish(ctx, p.w.Bucket, p.place(kept.Kind))
	if err != nil {
		return r, err
	}
	if out := p.options.out; out != "" {
		if err := copyWhole(p.place(kept.Kind), out); err != nil {
			return r, err
		}
	}
	r.Subjects["model"], r.Outputs["kind"] = digest, kept.Kind
	return r, nil
}

// copyWhole copies a folder to out by way of a name beside it, so that what
// stands there is whole.
func copyWhole(from, out string) (err error) {
	beside := filepath.Dir(filepath.Clean(out))
	if err := os.MkdirAll(beside, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(beside, ".variant-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // MkdirTemp's is for its owner only
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return err
	}
	return os.Rename(dir, out)
}

// checks are the figures of every variant; the first of each decides.
func (p *optimization) checks() []verdict.Check {
	var checks []verdict.Check
	for _, c := range p.candidates {
		v, reason := variants.Judge(c)
		decides := verdict.Check{Name: c.Kind, Verdict: v, Required: true, Text: reason.Text, Wanted: "> 1 times as fast, and the gate's pass"}
		if c.Refusal == nil {
			decides.Observed, decides.Interval = verdict.Number(c.Speedup.Value), intervalOf(c.Speedup, measure.Level, "bootstrap of rounds")
			decides.N = c.Latency.Rounds
		}
		checks = append(checks, decides)
		if c.Refusal != nil {
			continue
		}
		list := func(name, unit string, value float64, i *verdict.Interval, n int) {
			checks = append(checks, verdict.Check{Name: c.Kind + "/" + name, Verdict: verdict.Pass, Observed: verdict.Number(value), Unit: unit, Interval: i, N: n})
		}
		list("size", "bytes", float64(c.Bytes), nil, 1)
		list("p50", "ms", c.Latency.P50, nil, c.Latency.Calls)
		list("p95", "ms", c.Latency.P95, nil, c.Latency.Calls)
		list("throughput_ratio", "of the parent", c.Throughput.Value, intervalOf(c.Throughput, measure.Level, "bootstrap of rounds"), c.Latency.Rounds)
		list("golden_difference", "", c.Difference, nil, len(p.parent.Manifest.Goldens))
		if !math.IsNaN(c.Quality.Change.Value) {
			level := 2*p.w.Project.Gate.Confidence - 1
			list(c.Quality.Metric+"_difference", "", c.Quality.Change.Value, intervalOf(c.Quality.Change, level, "group bootstrap percentile"), c.Quality.N)
		}
	}
	return checks
}

func intervalOf(e measure.Estimate, level float64, method string) *verdict.Interval {
	return &verdict.Interval{Low: verdict.Number(e.Low), High: verdict.Number(e.High), Level: level, Method: method}
}

func orNaN(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}

// heading of the table.
var heading = []string{"variant", "size", "p50 ms", "p95 ms", "times as fast", "throughput", "golden difference", "quality", "change", "verdict", "why"}

// lines are the table's rows, the parent first.
func (p *optimization) lines() ([][]string, error) {
	size, err := graphBytes(p.parent)
	if err != nil {
		return nil, err
	}
	lines := [][]string{{"parent", kilobytes(size), millis(p.latency.P50), millis(p.latency.P95), "1", "1", number3(p.open[0].GoldenDifference()), "", "", "", ""}}
	for _, c := range p.candidates {
		v, reason := variants.Judge(c)
		line := []string{c.Kind, "", "", "", "", "", "", "", "", string(v), reason.Text}
		if c.Refusal == nil {
			copy(line[1:], []string{
				kilobytes(c.Bytes), millis(c.Latency.P50), millis(c.Latency.P95), ranged(c.Speedup), ranged(c.Throughput),
				number3(c.Difference), "not known", "",
			})
			if !math.IsNaN(c.Quality.Value) { // too little evidence, as WHY says
				copy(line[7:], []string{c.Quality.Metric + " " + number3(c.Quality.Value), ranged(c.Quality.Change)})
			}
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func kilobytes(n int64) string { return fmt.Sprintf("%d kB", (n+500)/1000) }
func millis(ms float64) string { return fmt.Sprintf("%.3f", ms) }
func number3(x float64) string { return fmt.Sprintf("%.3g", x) }
func ranged(e measure.Estimate) string {
	return fmt.Sprintf("%.3g (%.3g to %.3g)", e.Value, e.Low, e.High)
}

// tables shows the variants on the terminal, and in the step summary as
// Markdown.
func (p *optimization) tables() error {
	lines, err := p.lines()
	if err != nil {
		return err
	}
	if !p.env.Common.JSON {
		w := tabwriter.NewWriter(p.env.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, strings.ToUpper(strings.Join(heading, "\t")))
		for _, line := range lines {
			fmt.Fprintln(w, strings.Join(line, "\t"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if summary := p.env.Getenv("GITHUB_STEP_SUMMARY"); p.env.InActions() && summary != "" {
		return appendMarkdown(summary, heading, lines)
	}
	return nil
}

// appendMarkdown adds a table to a file. Cells hold no markup of their own.
func appendMarkdown(path string, heading []string, lines [][]string) (err error) {
	var text strings.Builder
	row := func(cells []string) {
		for _, cell := range cells {
			text.WriteString("| " + strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "`", "'").Replace(cell) + " ")
		}
		text.WriteString("|\n")
	}
	row(heading)
	text.WriteString(strings.Repeat("|---", len(heading)) + "|\n")
	for _, line := range lines {
		row(line)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("\n" + text.String() + "\n"); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
