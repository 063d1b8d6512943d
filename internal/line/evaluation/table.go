package evaluation

import (
	"fmt"
	"slices"

	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/stat"
)

// table is rows with their groups numbered. Tables that share a numbering
// share bootstrap draws.
type table struct {
	meta   predictions.Meta
	rows   []predictions.Row
	group  []int // number of each row's group
	groups int   // of the numbering, not only of these rows
}

// numbered gives tables of several row sets with one numbering, by name, so
// that it does not depend on the rows' order.
func numbered(files ...Predictions) []table {
	var names []string
	for _, f := range files {
		for _, r := range f.Rows {
			names = append(names, r.Group)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var all stat.Groups
	for _, name := range names {
		all.Index(name)
	}
	tables := make([]table, len(files))
	for i, f := range files {
		tables[i] = table{meta: f.Meta, rows: f.Rows, groups: len(names), group: make([]int, len(f.Rows))}
		for k, r := range f.Rows {
			tables[i].group[k] = all.Index(r.Group)
		}
	}
	return tables
}

// where keeps some rows; the numbering stays.
func (t table) where(keep func(predictions.Row) bool) table {
	out := table{meta: t.meta, groups: t.groups}
	for i, r := range t.rows {
		if keep(r) {
			out.rows, out.group = append(out.rows, r), append(out.group, t.group[i])
		}
	}
	return out
}

// present is how many groups have a row in the table.
func (t table) present() int {
	seen := map[int]bool{}
	for _, g := range t.group {
		seen[g] = true
	}
	return len(seen)
}

// counts is the evidence on label k.
func (t table) counts(k int) Counts {
	var c Counts
	positive, negative := map[int]bool{}, map[int]bool{}
	for i, r := range t.rows {
		if r.Labels[k] {
			c.PositiveRows++
			positive[t.group[i]] = true
		} else {
			c.NegativeRows++
			negative[t.group[i]] = true
		}
	}
	c.PositiveGroups, c.NegativeGroups = len(positive), len(negative)
	return c
}

func (s Settings) enough(c Counts) bool {
	return c.PositiveGroups >= s.PositiveGroups && c.NegativeGroups >= s.NegativeGroups
}

// evaluable are the labels with enough evidence in every one of the tables.
func (s Settings) evaluable(tables ...table) []int {
	labels := []int{}
	for k := range tables[0].meta.Labels {
		if !slices.ContainsFunc(tables, func(t table) bool { return !s.enough(t.counts(k)) }) {
			labels = append(labels, k)
		}
	}
	return labels
}

// names turns label numbers into names; none gives an empty list, not null.
func (t table) names(labels []int) []string {
	out := []string{}
	for _, k := range labels {
		out = append(out, t.meta.Labels[k])
	}
	return out
}

// ranking sorts the rows by the score of label k.
func (t table) ranking(k int) (stat.Ranking, error) {
	scores, positive := make([]float32, len(t.rows)), make([]bool, len(t.rows))
	for i, r := range t.rows {
		scores[i], positive[i] = r.Scores[k], r.Labels[k]
	}
	r, err := stat.Rank(scores, positive, t.group, t.groups)
	if err != nil {
		return stat.Ranking{}, fmt.Errorf("label %s: %w", t.meta.Labels[k], err)
	}
	return r, nil
}

// probabilities tells whether all scores lie in [0, 1].
func (t table) probabilities() bool {
	for _, r := range t.rows {
		for _, s := range r.Scores {
			if s < 0 || s > 1 {
				return false
			}
		}
	}
	return true
}

// sums adds up count(row) by group.
func (t table) sums(count func(predictions.Row) float64) []float64 {
	out := make([]float64, t.groups)
	for i, r := range t.rows {
		out[t.group[i]] += count(r)
	}
	return out
}
