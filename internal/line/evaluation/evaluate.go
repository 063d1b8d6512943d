package evaluation

import (
	"fmt"
	"slices"

	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// TestSplit is the one split that evaluation reads: train and val made the
// model and its thresholds, and final_eval decides nothing before the end.
const TestSplit = "test"

// Reason codes of refused evidence.
const (
	BadEvidence   = "bad-evidence"   // predictions that are not what was asked for
	LabelsChanged = "labels-changed" // candidate and champion have other labels
)

// Predictions is a predictions file as it was read.
type Predictions struct {
	Meta   predictions.Meta
	Rows   []predictions.Row
	SHA256 string // of the file
}

// Example is a test row as the data set's manifest has it.
type Example struct {
	ID     string // the manifest's file
	SHA256 string
	Group  string
	Batch  string
	Labels []string // positive ones
}

// Input is everything a report is made of.
type Input struct {
	Settings  Settings
	Model     string      // digest of the candidate
	Dataset   string      // digest of its data set
	Batch     string      // key of the new batch; empty where there is none
	Expected  []Example   // the data set's test rows
	Candidate Predictions // the candidate on them
	Champion  *Champion   // nil for the first model ever
}

// Champion is the model to compare with.
type Champion struct {
	Model     string      // digest
	Dataset   string      // digest of the data set whose test rows decide
	Expected  []Example   // its test rows
	Candidate Predictions // the candidate on them
	Own       Predictions // the champion on them
	Here      Predictions // the champion on the candidate's data set
}

// Evaluate makes the report, or refuses the evidence.
func Evaluate(in Input) (Report, error) {
	if err := in.Settings.validate(); err != nil {
		return Report{}, err
	}
	if err := in.check(); err != nil {
		return Report{}, verdict.Coded(BadEvidence, err)
	}
	r := Report{
		Schema: Schema, Model: in.Model, Dataset: in.Dataset, Batch: in.Batch, Split: TestSplit,
		Settings: in.Settings, Labels: in.Candidate.Meta.Labels, Files: []File{in.Candidate.file()},
	}
	var err error
	if r.Own, err = in.Settings.card(in.Candidate); err != nil {
		return Report{}, fmt.Errorf("evaluation of %.12s: %w", in.Model, err)
	}
	if in.Champion != nil {
		if err := in.addChampion(&r); err != nil {
			return Report{}, err
		}
	}
	return r, r.Validate()
}

func (in Input) addChampion(r *Report) (err error) {
	c := in.Champion
	if !slices.Equal(c.Own.Meta.Labels, in.Candidate.Meta.Labels) {
		return verdict.Coded(LabelsChanged, fmt.Errorf("evaluation: the candidate scores the labels %q, the champion %q: they cannot be compared", in.Candidate.Meta.Labels, c.Own.Meta.Labels))
	}
	r.Champion, r.ChampionDataset = c.Model, c.Dataset
	r.Files = append(r.Files, c.Candidate.file(), c.Own.file(), c.Here.file())
	if r.Comparison, err = in.Settings.compare(c.Candidate, c.Own); err != nil {
		return fmt.Errorf("comparison of %.12s with the champion %.12s: %w", in.Model, c.Model, err)
	}
	if in.Batch != "" {
		if r.BatchRows, err = in.Settings.batchRows(in.Batch, in.Candidate, c.Here, c.Own); err != nil {
			return fmt.Errorf("rows of batch %s: %w", in.Batch, err)
		}
	}
	return nil
}

func (s Settings) validate() error {
	switch {
	case !(s.Confidence > 0.5 && s.Confidence < 1):
		return fmt.Errorf("evaluation: confidence %v is not above 0.5 and below 1", s.Confidence)
	case s.Replicates < stat.MinReplicates:
		return fmt.Errorf("evaluation: %d replicates, at least %d are needed", s.Replicates, stat.MinReplicates)
	case s.PositiveGroups < 1 || s.NegativeGroups < 1:
		return fmt.Errorf("evaluation: at least 1 positive and 1 negative group make a label evaluable, not %d and %d", s.PositiveGroups, s.NegativeGroups)
	}
	return nil
}

// check refuses files that are not what their place says, or that do not
// cover exactly the rows they should.
func (in Input) check() error {
	type wanted struct {
		file           Predictions
		model, dataset string
		expected       []Example
	}
	files := []wanted{{in.Candidate, in.Model, in.Dataset, in.Expected}}
	if c := in.Champion; c != nil {
		files = append(files,
			wanted{c.Candidate, in.Model, c.Dataset, c.Expected},
			wanted{c.Own, c.Model, c.Dataset, c.Expected},
			wanted{c.Here, c.Model, in.Dataset, in.Expected})
	}
	for _, w := range files {
		place := predictions.Key(w.dataset, TestSplit, w.model)
		m := w.file.Meta
		if err := m.Check(w.file.Rows); err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		if m.Model != w.model || m.Dataset != w.dataset || m.Split != TestSplit || m.Suite != predictions.SuiteSplit {
			return fmt.Errorf("%s holds predictions of model %s on data set %s, split %s, suite %s", place, m.Model, m.Dataset, m.Split, m.Suite)
		}
		if err := covers(w.file, w.expected); err != nil {
			return fmt.Errorf("%s: %w: run predict again", place, err)
		}
	}
	return nil
}

// covers wants exactly the expected rows, with the same content, group, batch
// and truth.
func covers(f Predictions, expected []Example) error {
	byID := make(map[string]Example, len(expected))
	for _, e := range expected {
		byID[e.ID] = e
	}
	known := make(map[string]bool, len(f.Meta.Labels))
	for _, l := range f.Meta.Labels {
		known[l] = true
	}
	for _, r := range f.Rows {
		e, ok := byID[r.ID]
		if !ok {
			return fmt.Errorf("the row %q is not among the manifest's %d test rows", r.ID, len(expected))
		}
		if e.SHA256 != r.SHA256 || e.Group != r.Group || e.Batch != r.Batch {
			return fmt.Errorf("the row %q has another content, group or batch than in the manifest", r.ID)
		}
		for _, l := range e.Labels {
			if !known[l] {
				return fmt.Errorf("the row %q is positive for %q, which the model does not score", r.ID, l)
			}
		}
		for k, l := range f.Meta.Labels {
			if r.Labels[k] != slices.Contains(e.Labels, l) {
				return fmt.Errorf("the row %q has another truth for %q than the manifest", r.ID, l)
			}
		}
	}
	if len(f.Rows) != len(byID) {
		return fmt.Errorf("%d of the manifest's %d test rows are missing", len(byID)-len(f.Rows), len(byID))
	}
	return nil
}

func (p Predictions) file() File {
	return File{
		Model: p.Meta.Model, Dataset: p.Meta.Dataset, Split: p.Meta.Split, SHA256: p.SHA256,
		Rows: len(p.Rows), Groups: numbered(p)[0].present(), Tool: p.Meta.Tool,
	}
}
