// Package evaluation turns predictions into a report: how good a model is on
// its data set's test rows, how it compares with the champion on exactly the
// champion's test rows, and how both do on the rows that the new batch brought.
// It measures and decides nothing; package gate decides.
//
// A report is a pure function of the predictions files and the settings: the
// same files, settings and seed give the same bytes, so that a verdict can be
// recomputed later, anywhere.
//
// Intervals resample groups (patients), not rows, with the same draws for both
// models (cluster bootstrap: Field & Welsh 2007). Each end of an interval is a
// one-sided bound of Settings.Confidence. The macro average is over the
// evaluable labels: those with enough groups that have a positive row and
// enough that have a negative one. All others are listed, never averaged.
// AUROC: Hanley & McNeil 1982; Brier score: Brier 1950.
//
// Refused: predictions of another model, data set or split than asked for,
// rows that are not exactly the test rows of the manifest (id, content, group,
// batch, truth), models with different labels, scores that are not finite,
// splits other than test, and a report of another schema.
package evaluation

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Schema is the version of the report. A reader refuses any other.
const Schema = "penstock.evaluation/1"

// Settings are all the numbers a report depends on beside the predictions.
type Settings struct {
	Confidence     float64 `json:"confidence"` // of each end of each interval, above 0.5
	Replicates     int     `json:"replicates"`
	Seed           uint64  `json:"seed"`
	PositiveGroups int     `json:"positive_groups"` // that make a label evaluable
	NegativeGroups int     `json:"negative_groups"`
}

// Report is the evidence on one model.
type Report struct {
	Schema          string   `json:"schema"`
	Model           string   `json:"model"`                      // digest of the candidate
	Dataset         string   `json:"dataset"`                    // digest of its data set
	Champion        string   `json:"champion,omitempty"`         // empty for the first model ever
	ChampionDataset string   `json:"champion_dataset,omitempty"` // whose test rows decide
	Batch           string   `json:"batch,omitempty"`            // key of the new batch, if there is one
	Split           string   `json:"split"`
	Settings        Settings `json:"settings"`
	Labels          []string `json:"labels"`
	Files           []File   `json:"files"` // the predictions it rests on

	Own        Card        `json:"own"`                  // the candidate on its data set's test rows
	Comparison *Comparison `json:"comparison,omitempty"` // with a champion only
	BatchRows  *BatchCard  `json:"batch_rows,omitempty"` // with a champion and a batch only
}

// File names a predictions file by content.
type File struct {
	Model   string `json:"model"`
	Dataset string `json:"dataset"`
	Split   string `json:"split"`
	SHA256  string `json:"sha256"`
	Rows    int    `json:"rows"`
	Groups  int    `json:"groups"`
	Tool    string `json:"tool"`
}

// Metric is a number with its interval; null where there is none.
type Metric struct {
	Value      *float64 `json:"value"`
	Low        *float64 `json:"low"`
	High       *float64 `json:"high"`
	Degenerate int      `json:"degenerate"` // replicates on which it had no value
}

// Counts is the evidence on one label.
type Counts struct {
	PositiveRows   int `json:"positive_rows"`
	NegativeRows   int `json:"negative_rows"`
	PositiveGroups int `json:"positive_groups"` // groups with a positive row
	NegativeGroups int `json:"negative_groups"` // groups with a negative row
}

// Card is one model on one set of rows.
type Card struct {
	Rows      int        `json:"rows"`
	Groups    int        `json:"groups"`
	Evaluable []string   `json:"evaluable"`   // labels in the macro average
	Macro     Metric     `json:"macro_auroc"` // over the evaluable labels
	Brier     Metric     `json:"brier"`       // mean over all labels; null where scores are no probabilities
	Labels    []Label    `json:"labels"`
	Slices    []Slice    `json:"slices"`
	Latency   []Quantile `json:"latency"`
}

// Label is one label of a card. The threshold is the bundle's; without one the
// three metrics at it are null.
type Label struct {
	Name      string `json:"name"`
	Evaluable bool   `json:"evaluable"`
	Counts
	AUROC       Metric   `json:"auroc"`
	Brier       Metric   `json:"brier"`
	Threshold   *float64 `json:"threshold"`
	F1          Metric   `json:"f1"`
	Sensitivity Metric   `json:"sensitivity"`
	Specificity Metric   `json:"specificity"`
}

// Slice is the part of a card's rows with one value of one slice.
type Slice struct {
	Name      string   `json:"name"`
	Value     string   `json:"value"`
	Rows      int      `json:"rows"`
	Groups    int      `json:"groups"`
	Evaluable []string `json:"evaluable"` // within the slice
	Macro     Metric   `json:"macro_auroc"`
}

// Quantile is one quantile of the latency of single inferences.
type Quantile struct {
	Q           float64  `json:"q"`
	Millisecond float64  `json:"ms"`
	Low         *float64 `json:"low"`
	High        *float64 `json:"high"`
}

// Comparison is candidate and champion on exactly the champion's test rows.
// Differences are candidate minus champion on the same draws.
type Comparison struct {
	Rows       int          `json:"rows"`
	Groups     int          `json:"groups"`
	Evaluable  []string     `json:"evaluable"`
	Candidate  Metric       `json:"candidate_macro_auroc"`
	Champion   Metric       `json:"champion_macro_auroc"`
	Difference Metric       `json:"difference_macro_auroc"`
	Labels     []Difference `json:"labels"`

	// Slices are absent from reports of earlier versions.
	Slices []SliceDifference `json:"slices,omitempty"`
}

// Difference is one label of a comparison.
type Difference struct {
	Name      string `json:"name"`
	Evaluable bool   `json:"evaluable"`
	Counts
	Candidate  Metric `json:"candidate_auroc"`
	Champion   Metric `json:"champion_auroc"`
	Difference Metric `json:"difference_auroc"`
}

// SliceDifference is one slice of a comparison: macro AUROC over the labels
// that are evaluable within the slice.
type SliceDifference struct {
	Name       string   `json:"name"`
	Value      string   `json:"value"`
	Rows       int      `json:"rows"`
	Groups     int      `json:"groups"`
	Evaluable  []string `json:"evaluable"`
	Candidate  Metric   `json:"candidate_macro_auroc"`
	Champion   Metric   `json:"champion_macro_auroc"`
	Difference Metric   `json:"difference_macro_auroc"`
}

// BatchCard is candidate and champion on the test rows that the new batch
// brought. Drop is the champion's macro AUROC there minus on its own test
// rows, over the labels evaluable on both: far below zero it says that the
// batch is not what the champion learned from.
type BatchCard struct {
	Rows       int      `json:"rows"`
	Groups     int      `json:"groups"`
	Evaluable  []string `json:"evaluable"`
	Candidate  Metric   `json:"candidate_macro_auroc"`
	Champion   Metric   `json:"champion_macro_auroc"`
	Difference Metric   `json:"difference_macro_auroc"`
	Reference  Metric   `json:"champion_macro_auroc_on_its_own_rows"`
	Drop       Metric   `json:"champion_drop"`
}

// Encode gives the report as indented JSON, ending in a newline.
func (r Report) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("evaluation: encode the report on %.12s: %w", r.Model, err)
	}
	return append(data, '\n'), nil
}

// Decode reads a report, refuses unknown fields and validates it.
func Decode(data []byte) (Report, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var r Report
	if err := dec.Decode(&r); err != nil {
		return Report{}, fmt.Errorf("evaluation: not a report, or one of a newer version: %w", err)
	}
	if dec.More() {
		return Report{}, fmt.Errorf("evaluation: there is more in the file than one report")
	}
	if err := r.Validate(); err != nil {
		return Report{}, err
	}
	return r, nil
}
