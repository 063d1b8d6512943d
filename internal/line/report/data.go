package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/line/dataset"
)

// Data is how the candidate's data set differs from another one: the
// champion's, or else its parent.
type Data struct {
	Dataset string `json:"dataset"`        // digest
	Base    string `json:"base,omitempty"` // digest; empty for the first data set
	BaseIs  string `json:"base_is"`        // what the base is: "champion's", "parent"

	Rows        int           `json:"rows"`
	Groups      int           `json:"groups"`
	BaseRows    int           `json:"base_rows"`
	BaseGroups  int           `json:"base_groups"`
	Batches     int           `json:"batches"` // more than the base's
	Splits      []SplitChange `json:"splits"`
	Quarantined []Quarantine  `json:"quarantined"` // of the newest batch
	Duplicates  int           `json:"duplicates"`  // of the newest batch
	SetAside    int           `json:"set_aside"`   // of the newest batch
	Prevalence  []Prevalence  `json:"prevalence"`  // in the order of the labels
}

// SplitChange is the size of one split.
type SplitChange struct {
	Name       string `json:"name"`
	Rows       int    `json:"rows"`
	Groups     int    `json:"groups"`
	BaseRows   int    `json:"base_rows"`
	BaseGroups int    `json:"base_groups"`
}

// Quarantine counts the files that stay out for one reason.
type Quarantine struct {
	Code  string `json:"code"`
	Files int    `json:"files"`
}

// Prevalence is how many rows of all splits are positive for a label.
type Prevalence struct {
	Label         string `json:"label"`
	Positives     int    `json:"positives"`
	BasePositives int    `json:"base_positives"`
}

// What a base is.
const (
	Champions = "champion's"
	Parent    = "parent"
)

// Compare tells how a data set differs from base, which is nil for the first.
func Compare(now dataset.Dataset, base *dataset.Dataset, baseIs string) Data {
	d := Data{Dataset: now.Digest, Duplicates: len(now.Duplicates), SetAside: len(now.SetAside)}
	if base == nil {
		base = &dataset.Dataset{}
	} else {
		d.Base, d.BaseIs = base.Digest, baseIs
	}
	d.Batches = len(now.Batches) - len(base.Batches)
	for _, name := range dataset.Splitting {
		n, b := now.Splits[name], base.Splits[name]
		d.Splits = append(d.Splits, SplitChange{name, n.Rows, n.Groups, b.Rows, b.Groups})
		d.Rows, d.Groups = d.Rows+n.Rows, d.Groups+n.Groups
		d.BaseRows, d.BaseGroups = d.BaseRows+b.Rows, d.BaseGroups+b.Groups
	}
	reasons := map[string]int{}
	for _, q := range now.Quarantined {
		reasons[q.Code]++
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		d.Quarantined = append(d.Quarantined, Quarantine{reason, reasons[reason]})
	}
	for _, label := range now.Labels {
		p := Prevalence{Label: label}
		for _, name := range dataset.Splitting {
			p.Positives += now.Splits[name].Positives[label]
			p.BasePositives += base.Splits[name].Positives[label]
		}
		d.Prevalence = append(d.Prevalence, p)
	}
	return d
}

// change is the change of a label's prevalence in percentage points; NaN where
// one of the data sets has no rows.
func (d Data) change(p Prevalence) float64 {
	if d.Rows == 0 || d.BaseRows == 0 {
		return math.NaN()
	}
	return 100 * (float64(p.Positives)/float64(d.Rows) - float64(p.BasePositives)/float64(d.BaseRows))
}

// moved sorts the labels by the size of their change, greatest first.
func (d Data) moved() []Prevalence {
	sorted := slices.Clone(d.Prevalence)
	if d.Base == "" {
		return sorted
	}
	slices.SortStableFunc(sorted, func(a, b Prevalence) int {
		return cmp.Compare(math.Abs(d.change(b)), math.Abs(d.change(a)))
	})
	return sorted
}

// text is the section on the data.
func (d Data) text() string {
	var b strings.Builder
	switch {
	case d.Base == "":
		fmt.Fprintf(&b, "The first data set: %s.\n\n", size(d.Rows, d.Groups))
	case d.Base == d.Dataset:
		fmt.Fprintf(&b, "The same data set as the %s: %s.\n\n", prose(d.BaseIs), size(d.Rows, d.Groups))
	default:
		fmt.Fprintf(&b, "%s against %s of the %s data set %s; %s.\n\n", size(d.Rows, d.Groups), size(d.BaseRows, d.BaseGroups), prose(d.BaseIs), code(short(d.Base)), batches(d.Batches))
	}
	if d.Base != d.Dataset {
		b.WriteString("| split | rows | change | groups | change |\n|---|---:|---:|---:|---:|\n")
		for _, s := range d.Splits {
			fmt.Fprintf(&b, "| %s | %d | %s | %d | %s |\n", code(s.Name), s.Rows, more(s.Rows-s.BaseRows), s.Groups, more(s.Groups-s.BaseGroups))
		}
		fmt.Fprintf(&b, "| all | %d | %s | %d | %s |\n", d.Rows, more(d.Rows-d.BaseRows), d.Groups, more(d.Groups-d.BaseGroups))
	}
	fmt.Fprintf(&b, "\nOf the newest batch stay out: %s; %d duplicates; %d set aside because their group is in final_eval.\n\n", d.quarantine(), d.Duplicates, d.SetAside)
	b.WriteString(d.prevalence())
	return b.String()
}

// more writes a change of a count.
func more(n int) string { return signed(float64(n), 0) }

func batches(n int) string {
	if n == 1 {
		return "one batch more"
	}
	return more(n) + " batches"
}

func (d Data) quarantine() string {
	if len(d.Quarantined) == 0 {
		return "no file in quarantine"
	}
	var parts []string
	for _, q := range d.Quarantined {
		parts = append(parts, fmt.Sprintf("%d %s", q.Files, code(q.Code)))
	}
	return "in quarantine " + strings.Join(parts, ", ")
}

// prevalence has a row for every label, those that moved most first.
func (d Data) prevalence() string {
	var rows []string
	share := func(positives, rows int) string {
		if rows == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f%% (%d)", 100*float64(positives)/float64(rows), positives)
	}
	if d.Base == "" || d.Base == d.Dataset {
		for _, p := range d.moved() {
			rows = append(rows, fmt.Sprintf("| %s | %s |\n", code(p.Label), share(p.Positives, d.Rows)))
		}
		return table("| label | prevalence (positive rows) |\n|---|---|\n", rows)
	}
	for _, p := range d.moved() {
		change := "-"
		if x := d.change(p); !math.IsNaN(x) {
			change = signed(x, 1)
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |\n", code(p.Label), share(p.Positives, d.Rows), share(p.BasePositives, d.BaseRows), change))
	}
	return table("| label | prevalence (positive rows) | before | change, percentage points |\n|---|---|---|---:|\n", rows)
}
