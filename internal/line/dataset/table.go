package dataset

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Reasons for which a file is quarantined; those of the image itself come from
// package imaging.
const (
	NotInTable        = "not-in-table"        // a file that the table does not name
	FileMissing       = "file-missing"        // a row that names a file which is not there
	NamedTwice        = "named-twice"         // the table contradicts itself
	NoGroup           = "no-group"            // nothing keeps the split honest
	NoLabel           = "no-label"            // an empty cell where none has a name of its own
	UnknownLabel      = "unknown-label"       // not among penstock.yaml's labels
	Contradiction     = "contradictory-label" // a finding together with no finding
	ConflictingLabels = "conflicting-labels"  // the same content with other labels
	ConflictingGroups = "conflicting-groups"  // the same content under another group
)

// Problem is a quarantine's code and its reason in words.
type Problem struct{ Code, Reason string }

func problem(code, format string, args ...any) *Problem {
	return &Problem{code, fmt.Sprintf(format, args...)}
}

// entry is one line of a batch's table.
type entry struct {
	file    string // below the batch's folder
	group   string
	labels  []string
	slices  map[string]string
	problem *Problem
}

// readTable reads a batch's table: one entry a file, in the order of the
// files' names. Wrong columns are an error of the whole batch; a bad row is an
// entry with a problem.
func readTable(data []byte, c Config, labels []string) ([]entry, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty: the first line must name the columns")
	}
	if err != nil {
		return nil, fmt.Errorf("its header cannot be read: %w", err)
	}
	at, err := locate(slices.Clone(header), c)
	if err != nil {
		return nil, err
	}
	byFile := map[string]entry{}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is no CSV with as many fields in each line as in the header: %w", err)
		}
		e := c.entry(func(column string) string { return strings.TrimSpace(record[at[column]]) }, labels)
		if e.file == "" || e.file == "." {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("line %d names no file in column %q", line, c.Columns.File)
		}
		if first, twice := byFile[e.file]; twice && !same(first, e) {
			e.problem = problem(NamedTwice, "the table names this file twice, with different fields")
		}
		byFile[e.file] = e
	}
	entries := make([]entry, 0, len(byFile))
	for _, e := range byFile {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.file, b.file) })
	return entries, nil
}

// locate finds the columns that the configuration names.
func locate(header []string, c Config) (map[string]int, error) {
	at := map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, twice := at[name]; twice && name != "" {
			return nil, fmt.Errorf("it has the column %q twice", name)
		}
		at[name] = i
	}
	wanted := []string{c.Columns.File, c.Columns.Labels, c.Columns.Group}
	for _, s := range c.Slices {
		wanted = append(wanted, s.Column)
	}
	slices.Sort(wanted)
	var missing []string
	for _, name := range slices.Compact(wanted) {
		if _, ok := at[name]; !ok {
			missing = append(missing, strconv.Quote(name))
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("it has no column %s; it has %q: correct the table, or data.columns and data.slices in penstock.yaml", strings.Join(missing, ", "), header)
	}
	return at, nil
}

func (c Config) entry(field func(column string) string, labels []string) entry {
	e := entry{
		file:   path.Clean(field(c.Columns.File)),
		group:  field(c.Columns.Group),
		slices: map[string]string{},
	}
	for name, s := range c.Slices {
		e.slices[name] = s.value(field(s.Column))
	}
	e.labels, e.problem = c.labels(field(c.Columns.Labels), labels)
	if e.problem == nil && e.group == "" {
		e.problem = problem(NoGroup, "the column %q is empty", c.Columns.Group)
	}
	return e
}

// labels reads a label cell: the positive labels, sorted.
func (c Config) labels(cell string, known []string) ([]string, *Problem) {
	if cell == "" {
		if c.NoFinding == "" {
			return []string{}, nil
		}
		return nil, problem(NoLabel, "the column %q is empty; %q would mean none", c.Columns.Labels, c.NoFinding)
	}
	found, none := []string{}, false
	for _, l := range strings.Split(cell, c.LabelSeparator) {
		l = strings.TrimSpace(l)
		switch {
		case l == c.NoFinding && l != "":
			none = true
		case slices.Contains(known, l):
			found = append(found, l)
		default:
			return nil, problem(UnknownLabel, "the label %q is not among the labels of penstock.yaml", l)
		}
	}
	if none && len(found) > 0 {
		return nil, problem(Contradiction, "%q stands together with a finding", c.NoFinding)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func (s Slice) value(field string) string {
	if field == "" {
		return Missing
	}
	if len(s.Bands) == 0 {
		return field
	}
	x, err := strconv.ParseFloat(field, 64)
	if err != nil || math.IsNaN(x) {
		return Missing
	}
	bound := func(i int) string { return strconv.FormatFloat(s.Bands[i], 'g', -1, 64) }
	i := 0
	for i < len(s.Bands) && x >= s.Bands[i] {
		i++
	}
	switch i {
	case 0:
		return "<" + bound(0)
	case len(s.Bands):
		return ">=" + bound(i-1)
	}
	return bound(i-1) + ".." + bound(i)
}

func same(a, b entry) bool {
	if a.problem != nil || b.problem != nil {
		return a.problem != nil && b.problem != nil && *a.problem == *b.problem && a.group == b.group
	}
	return a.group == b.group && slices.Equal(a.labels, b.labels) && maps.Equal(a.slices, b.slices)
}
