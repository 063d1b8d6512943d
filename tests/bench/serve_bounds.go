package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// The test that swaps models under load.
const (
	swapPackage = "./serve/host"
	swapTest    = "TestSwapsUnderLoad"
)

// bound is what a figure of a model should keep to. least says that it is a
// minimum.
type bound struct {
	model, figure string
	value         float64
	least         bool
}

// bounds are what this server promises. turbo is the same server with
// --decoder=turbo.
var bounds = []bound{
	{"resnet18", "penstock-binary/1/added_p50", 1, false},
	{"resnet18", "penstock-binary/2/throughput_ratio", 0.95, true},
	{"resnet18", "penstock-json/1/added_p50", 7, false},
	{"resnet18", "penstock-jpeg/1/added_p50", 15, false},
	{"resnet18", "turbo-jpeg/1/added_p50", 6, false},
	{"resnet18", "turbo-jpeg/8/over/fastapi/throughput_ratio", 1.1, true},
	{"resnet18", "turbo-jpeg/8/over/fastapi/p99_ratio", 1, false},
	{"resnet18", "turbo-jpeg/8/over/node/throughput_ratio", 1, true},
	{"xray", "turbo-jpeg/8/over/fastapi/throughput_ratio", 2, true},
	{"xray", "turbo-jpeg/8/over/fastapi/p99_ratio", 1, false},
	{"xray", "turbo-jpeg/8/over/node/throughput_ratio", 1, true},
	{"resnet18", "overload/goodput_share", 0.9, true},
	{"resnet18", "overload/accepted_p99", 500, false},
	{"xray-1024", "overload/goodput_share", 0.9, true},
	{"xray-1024", "overload/accepted_p99", 500, false},
}

// keep makes rows of a model's figures. A bound on a figure that was not
// measured is an error: what is not there does not hold.
func (b *serveBench) keep(model string, found []verdict.Check) error {
	measured := map[string]bool{}
	for _, c := range found {
		if c.Observed == nil {
			continue
		}
		measured[c.Name] = true
		row := Row{Name: model + " " + c.Name, Value: *c.Observed, Unit: c.Unit, N: c.N}
		if i := c.Interval; i != nil {
			row.Low, row.High = i.Low, i.High
		}
		for _, want := range bounds {
			if want.model == model && want.figure == c.Name {
				row.hold(want.value, want.least)
			}
		}
		b.rows = append(b.rows, row)
	}
	for _, want := range bounds {
		if want.model == model && !measured[want.figure] {
			return fmt.Errorf("%s has a bound and was not measured", want.figure)
		}
	}
	return nil
}

// hold says whether the row keeps to a bound.
func (r *Row) hold(bound float64, least bool) {
	holds := r.Value <= bound
	if least {
		holds = r.Value >= bound
	}
	r.Bound, r.Least, r.Holds = &bound, least, &holds
}

// swapLine is what the test of swaps logs.
var swapLine = regexp.MustCompile(`(\d+) swaps: (\d+) requests, (\d+) failed, p50 ([\d.]+) ?ms, p99 ([\d.]+) ?ms; resident memory after swap 20 (\d+) MB, after swap \d+ (\d+) MB`)

// swapRows are its figures with their bounds.
func swapRows(text string) ([]Row, error) {
	found := swapLine.FindStringSubmatch(text)
	if found == nil {
		return nil, fmt.Errorf("%s logs no line of figures:\n%s", swapTest, text)
	}
	var v [8]float64
	for i := 1; i < len(v); i++ {
		var err error
		if v[i], err = strconv.ParseFloat(found[i], 64); err != nil {
			return nil, fmt.Errorf("%s: %w", swapTest, err)
		}
	}
	failed := Row{Name: "swaps failed", Value: v[3], Unit: "of all requests", N: int(v[2])}
	failed.hold(0, false)
	memory := Row{Name: "swaps resident_ratio", Value: v[7] / v[6], Unit: "of that after swap 20", N: int(v[1])}
	memory.hold(1.1, false)
	return []Row{
		{Name: "swaps", Value: v[1], Unit: "under load"},
		failed, memory,
		{Name: "swaps p50", Value: v[4], Unit: "ms", N: int(v[2])},
		{Name: "swaps p99", Value: v[5], Unit: "ms", N: int(v[2])},
	}, nil
}

// Markers of the part of a page that is written here.
const (
	markBegin = "<!-- bench-serve: begin (make bench-serve writes what is between the markers) -->"
	markEnd   = "<!-- bench-serve: end -->"
)

// document renews the table between the markers of a Markdown file: figures
// with a bound first, then one table for each model.
func document(path string, r Report, notes []string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(data)
	begin, end := strings.Index(text, markBegin), strings.Index(text, markEnd)
	if begin < 0 || end < begin {
		return fmt.Errorf("%s has no lines %q and %q to write between", path, markBegin, markEnd)
	}
	return verdict.WriteFile(path, []byte(text[:begin]+markBegin+"\n"+markdown(r, notes)+text[end:]))
}

func markdown(r Report, notes []string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nTaken on %s, %d cores, %s, by `make bench-serve` on %s. Client and servers share the machine.\n\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.When.Format("2006-01-02"))
	for _, note := range notes {
		fmt.Fprintf(&out, "- %s\n", note)
	}
	if differences := r.differences(); differences != "" {
		fmt.Fprintf(&out, "- Scores of pictures differ from ONNX Runtime's on this server's pixels, by other decoders and resizers: %s\n", differences)
	}
	out.WriteString("\n| figure | value | 95% interval | bound | holds |\n|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		if row.Bound == nil {
			continue
		}
		fmt.Fprintf(&out, "| %s | %.4g %s | %s | %s %.4g | %s |\n", row.Name, row.Value, row.Unit, span(row), row.sense(), *row.Bound, map[bool]string{true: "yes", false: "no"}[*row.Holds])
	}
	for _, model := range modelsOf(r) {
		fmt.Fprintf(&out, "\n%s:\n\n| callers | what | p50 ms | p99 ms | added p50 ms | added p99 ms | /s | of bare | client CPU ms | cost of a million |\n|---|---|---|---|---|---|---|---|---|---|\n", model)
		for _, at := range placesOf(r, model) {
			fmt.Fprintf(&out, "| %s | %s", at.callers, at.arm)
			for _, figure := range []string{"p50", "p99", "added_p50", "added_p99", "throughput", "throughput_ratio", "client_cpu", "cost"} {
				out.WriteString(" | " + r.figure(model+" "+at.arm+"/"+at.callers+"/"+figure))
			}
			out.WriteString(" |\n")
		}
	}
	out.WriteString("\n")
	return out.String()
}

// differences tells whose answers are not those of bare runs to the digit.
func (r Report) differences() string {
	var found []string
	for _, row := range r.Rows {
		if name, ok := strings.CutSuffix(row.Name, "-jpeg/difference"); ok && row.Value > 1e-6 {
			found = append(found, fmt.Sprintf("%s %.2g", name, row.Value))
		}
	}
	return strings.Join(found, ", ")
}

func span(row Row) string {
	if row.Low == nil && row.High == nil {
		return "–"
	}
	end := func(x *float64) string {
		if x == nil {
			return "…"
		}
		return fmt.Sprintf("%.3g", *x)
	}
	return end(row.Low) + " to " + end(row.High)
}

// figure is a value by its name, a dash where there is none.
func (r Report) figure(name string) string {
	for _, row := range r.Rows {
		if row.Name == name {
			return fmt.Sprintf("%.3g", row.Value)
		}
	}
	return "–"
}

// modelsOf are the models of the rows, in order.
func modelsOf(r Report) []string {
	var models []string
	seen := map[string]bool{}
	for _, row := range r.Rows {
		model, figure, ok := strings.Cut(row.Name, " ")
		if ok && strings.HasPrefix(figure, "bare/") && !seen[model] {
			seen[model], models = true, append(models, model)
		}
	}
	return models
}

// place is an arm at a number of callers.
type place struct{ arm, callers string }

func placesOf(r Report, model string) []place {
	var places []place
	for _, row := range r.Rows {
		parts := strings.Split(strings.TrimPrefix(row.Name, model+" "), "/")
		if strings.HasPrefix(row.Name, model+" ") && len(parts) == 3 && parts[2] == "p50" {
			places = append(places, place{parts[0], parts[1]})
		}
	}
	return places
}
