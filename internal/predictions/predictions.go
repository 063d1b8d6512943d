// Package predictions owns the predictions file: what a model said about every
// example of one split of one data set. It is the evidence; evaluation, gate,
// monitoring and feedback are pure functions of such files.
//
// The file is Parquet with one row an example and these columns:
//
//	id          string                 the manifest's file: the key below raw/
//	group       string                 the unit of splitting, e.g. a patient
//	split       string                 train, val, test, final_eval
//	batch       string                 the batch that brought the example
//	sha256      string                 of the example's original bytes, lower-case hex
//	slices      list<{name, value}>    sorted by name
//	labels      list<boolean>          the truth, in the order of the label names
//	scores      list<float>            what the model said, in the same order
//	latency_ms  double                 of the one inference, in milliseconds
//
// and the file metadata penstock.schema, .dataset, .split, .model, .suite,
// .tool (strings), .labels (a JSON list) and .thresholds (a JSON object).
// Rows are sorted by id: equal rows make equal files, latency apart.
//
// Refused, on writing and on reading: another schema, unknown penstock.*
// metadata, missing digests, no rows, no labels, repeated ids or labels, label
// or score lists of another length than the label names, scores and latencies
// that are not finite, a row of another split than the file's.
package predictions

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Schema is the version of the file. A reader refuses any other.
const Schema = "penstock.predictions/1"

// SuiteSplit is the suite of an ordinary file: all examples of a split, as
// they are. Behavioural suites have names of their own.
const SuiteSplit = "split"

// Meta says what a file's rows are.
type Meta struct {
	Schema     string             // set by Write when empty
	Dataset    string             // digest of the data set, 64 lower-case hex digits
	Split      string             // the split that all rows belong to
	Model      string             // digest of the model's bundle, 64 lower-case hex digits
	Suite      string             // SuiteSplit, or the name of a behavioural suite
	Tool       string             // program and version that wrote the file
	Labels     []string           // label names, in the order of the rows' lists
	Thresholds map[string]float64 // operating threshold by label; may be partial
}

// Row is one example and what the model said about it.
type Row struct {
	ID        string            // the manifest's file, unique in a file
	Group     string            // e.g. the patient; never empty
	Split     string            // as Meta.Split
	Batch     string            // the batch that brought it
	SHA256    string            // of the original bytes, 64 lower-case hex digits
	Slices    map[string]string // slice value by slice name
	Labels    []bool            // one for each of Meta.Labels
	Scores    []float32         // one for each of Meta.Labels, finite
	LatencyMS float64           // milliseconds, finite, not negative
}

// Key is where the predictions of a model on a split of a data set stand in
// the bucket.
func Key(dataset, split, model string) string {
	return "predictions/" + dataset + "/" + split + "/" + model + ".parquet"
}

// Validate refuses metadata that does not say what the rows are.
func (m Meta) Validate() error {
	if m.Schema != Schema {
		return fmt.Errorf("predictions: schema %q, this version reads %q: run predict again with this version", m.Schema, Schema)
	}
	for _, d := range []struct{ name, value string }{{"data set", m.Dataset}, {"model", m.Model}} {
		if !isDigest(d.value) {
			return fmt.Errorf("predictions: the %s's digest is %q, wanted 64 lower-case hex digits", d.name, d.value)
		}
	}
	for _, s := range []struct{ name, value string }{{"split", m.Split}, {"suite", m.Suite}, {"tool", m.Tool}} {
		if s.value == "" {
			return fmt.Errorf("predictions: the metadata name no %s", s.name)
		}
	}
	return m.validateLabels()
}

func (m Meta) validateLabels() error {
	if len(m.Labels) == 0 {
		return fmt.Errorf("predictions: the metadata name no labels")
	}
	known := make(map[string]bool, len(m.Labels))
	for _, l := range m.Labels {
		if l == "" || known[l] {
			return fmt.Errorf("predictions: label %q is empty or named twice", l)
		}
		known[l] = true
	}
	for _, l := range slices.Sorted(maps.Keys(m.Thresholds)) {
		if !known[l] {
			return fmt.Errorf("predictions: a threshold for %q, which is not among the labels", l)
		}
		if !finite(m.Thresholds[l]) {
			return fmt.Errorf("predictions: the threshold of %q is not a finite number", l)
		}
	}
	return nil
}

// Check refuses rows that metadata m does not describe. It wants them sorted
// by id, as Read gives them.
func (m Meta) Check(rows []Row) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("predictions of model %.12s on data set %.12s: no rows in split %s", m.Model, m.Dataset, m.Split)
	}
	for i, r := range rows {
		if i > 0 && cmp.Compare(rows[i-1].ID, r.ID) >= 0 {
			return fmt.Errorf("predictions: example %q stands twice or out of order", r.ID)
		}
		if err := m.checkRow(r); err != nil {
			return fmt.Errorf("predictions: example %q: %w", r.ID, err)
		}
	}
	return nil
}

func (m Meta) checkRow(r Row) error {
	switch {
	case r.ID == "":
		return fmt.Errorf("a row without an id")
	case r.Group == "":
		return fmt.Errorf("no group: intervals resample groups, so every example needs one")
	case r.Split != m.Split:
		return fmt.Errorf("split %q in a file of split %q", r.Split, m.Split)
	case !isDigest(r.SHA256):
		return fmt.Errorf("sha256 is %q, wanted 64 lower-case hex digits", r.SHA256)
	case len(r.Labels) != len(m.Labels):
		return fmt.Errorf("%d label values for %d labels", len(r.Labels), len(m.Labels))
	case len(r.Scores) != len(m.Labels):
		return fmt.Errorf("%d scores for %d labels", len(r.Scores), len(m.Labels))
	case !finite(r.LatencyMS) || r.LatencyMS < 0:
		return fmt.Errorf("latency %v ms is not a finite, non-negative number", r.LatencyMS)
	}
	for i, s := range r.Scores {
		if !finite(float64(s)) {
			return fmt.Errorf("the score of %s is %v: the model's output is not a finite number", m.Labels[i], s)
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func isDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
