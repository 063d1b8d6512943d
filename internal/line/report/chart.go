package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/line/evaluation"
)

// What still can be read in a chart as wide as a comment.
const (
	maxBars      = 20
	maxBarName   = 18 // runes
	barHeight    = 34 // pixels a label
	chartPadding = 130
)

// palette is the candidate's blue and the champion's orange, which colour-blind
// people tell apart (Okabe and Ito 2008).
const palette = "#56B4E9,#D55E00"

// bar is one label of a chart: the candidate's AUROC, the champion's, and by
// how much it should be in the chart where not all labels find room.
type bar struct {
	name                string
	candidate, champion float64
	weight              float64
}

func comparedBars(c evaluation.Comparison) []bar {
	var bars []bar
	for _, l := range c.Labels {
		if l.Evaluable && drawable(l.Candidate) && drawable(l.Champion) {
			bars = append(bars, bar{l.Name, *l.Candidate.Value, *l.Champion.Value, magnitude(l.Difference)})
		}
	}
	return bars
}

// drawable tells whether a metric lies on the chart.
func drawable(m evaluation.Metric) bool {
	return m.Value != nil && *m.Value >= 0 && *m.Value <= 1
}

func ownBars(c evaluation.Card) []bar {
	var bars []bar
	for _, l := range c.Labels {
		if l.Evaluable && drawable(l.AUROC) {
			bars = append(bars, bar{name: l.Name, candidate: *l.AUROC.Value, weight: 1 - *l.AUROC.Value})
		}
	}
	return bars
}

// chart is a Mermaid xychart of AUROC by label: bars for the candidate, a line
// for the champion. It has the labels in their order; of too many those that
// moved most, or of a single model the worst. Nothing in it can leave its
// quotes (chartText), so that every chart is valid.
func chart(bars []bar, compared bool) string {
	if len(bars) == 0 {
		return ""
	}
	all := len(bars)
	bars = heaviest(bars, maxBars)
	title := "bars: candidate"
	if compared {
		title += ", line: champion"
	}
	title += "; evaluable labels only"
	if len(bars) < all {
		title += fmt.Sprintf(", %d of %d", len(bars), all)
	}
	var b strings.Builder
	b.WriteString("```mermaid\n")
	fmt.Fprintf(&b, "%%%%{init: {\"xyChart\": {\"width\": 860, \"height\": %d, \"chartOrientation\": \"horizontal\"}, \"themeVariables\": {\"xyChart\": {\"plotColorPalette\": %q}}}}%%%%\n", chartPadding+barHeight*len(bars), palette)
	b.WriteString("xychart-beta\n")
	fmt.Fprintf(&b, "    title \"%s\"\n", strings.ReplaceAll(title, ";", ","))
	fmt.Fprintf(&b, "    x-axis [%s]\n", strings.Join(barNames(bars), ", "))
	fmt.Fprintf(&b, "    y-axis \"AUROC\" %s --> 1\n", number(floor(bars)))
	fmt.Fprintf(&b, "    bar [%s]\n", series(bars, func(x bar) float64 { return x.candidate }))
	if compared {
		fmt.Fprintf(&b, "    line [%s]\n", series(bars, func(x bar) float64 { return x.champion }))
	}
	b.WriteString("```\n\n")
	return b.String()
}

// heaviest keeps the n bars with the greatest weight, in their order.
func heaviest(bars []bar, n int) []bar {
	if len(bars) <= n {
		return bars
	}
	weights := make([]float64, len(bars))
	for i, x := range bars {
		weights[i] = x.weight
	}
	slices.Sort(weights)
	least := weights[len(weights)-n]
	var kept []bar
	for _, x := range bars {
		if x.weight >= least && len(kept) < n {
			kept = append(kept, x)
		}
	}
	return kept
}

// barNames are quoted and different: a chart draws equal names over each other.
func barNames(bars []bar) []string {
	seen := map[string]bool{}
	names := make([]string, 0, len(bars))
	for _, x := range bars {
		name := chartText(x.name, maxBarName)
		for n, plain := 2, name; seen[name]; n++ {
			name = plain + " (" + strconv.Itoa(n) + ")"
		}
		seen[name] = true
		names = append(names, `"`+name+`"`)
	}
	return names
}

// floor is where the axis starts: at a half, which is chance, or at the tenth
// below the worst value.
func floor(bars []bar) float64 {
	least := 0.5
	for _, x := range bars {
		least = min(least, x.candidate)
		if x.champion > 0 {
			least = min(least, x.champion)
		}
	}
	return math.Floor(10*least) / 10
}

func series(bars []bar, of func(bar) float64) string {
	values := make([]string, 0, len(bars))
	for _, x := range bars {
		values = append(values, number(of(x)))
	}
	return strings.Join(values, ", ")
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', 3, 64) }
