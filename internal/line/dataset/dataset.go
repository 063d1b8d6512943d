// Package dataset owns the data sets: a data set is its parent plus one batch,
// frozen under the SHA-256 of its manifest.
//
// It reads a batch's table, matches it with the files, quarantines what is bad
// with a reason, preprocesses what is good with the very code the server uses,
// splits by group and keeps every group where it once was. The split is
// stratified over several labels: groups are taken in the order of Sechidis,
// Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data" (2011),
// and each goes where images, groups and labels are best served (assign).
//
// What is refused: a batch without a table, a group torn apart by a split, a
// change of the final evaluation after the first data set, a digest that
// depends on time or on the order of a listing, and a data set that is half
// written: dataset.json is written last, and only once.
package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/journal"
)

// The splits. FinalEval is frozen at the first data set and never decides
// anything before the very end.
const (
	Train     = "train"
	Val       = "val"
	Test      = "test"
	FinalEval = "final_eval"
)

// Splitting lists all splits in their order.
var Splitting = []string{Train, Val, Test, FinalEval}

// Schema is the version of dataset.json. A reader refuses any other.
const Schema = 1

// Row is one example, one line of manifest.jsonl.
type Row struct {
	File     string            `json:"file"`     // key below raw/
	SHA256   string            `json:"sha256"`   // of the original bytes, hex
	Pipeline string            `json:"pipeline"` // of the preprocessed file
	Group    string            `json:"group"`
	Batch    string            `json:"batch"`  // key of the batch that brought it
	Labels   []string          `json:"labels"` // positive ones, sorted
	Slices   map[string]string `json:"slices"`
	Split    string            `json:"split"`
}

// Processed is the key of the preprocessed image, a PNG.
func (r Row) Processed() string { return "processed/" + r.Pipeline + "/" + r.SHA256 + ".png" }

// Dataset is dataset.json: what a data set is, without its rows.
type Dataset struct {
	Schema     int              `json:"schema"`
	Digest     string           `json:"digest"` // SHA-256 of manifest.jsonl
	Parent     string           `json:"parent"` // empty for the first
	Batch      string           `json:"batch"`  // key of the batch that was added
	Batches    []string         `json:"batches"`
	Pipeline   string           `json:"pipeline"`
	Labels     []string         `json:"labels"` // in the order of penstock.yaml
	Slices     []string         `json:"slices"` // names, sorted
	Splits     map[string]Count `json:"splits"`
	Prevalence PrevalenceError  `json:"greatest_prevalence_error"`

	Quarantined []Quarantined `json:"quarantined"` // of this batch
	Duplicates  []Duplicate   `json:"duplicates"`  // of this batch
	SetAside    []string      `json:"set_aside"`   // files of this batch whose group belongs to final_eval

	Source    string `json:"source"`
	Licence   string `json:"licence"`
	CreatedBy string `json:"created_by"` // run key
}

// Count describes one split.
type Count struct {
	Rows      int            `json:"rows"`
	Groups    int            `json:"groups"`
	Positives map[string]int `json:"positives"` // images by label
	Digest    string         `json:"digest"`    // SHA-256 of the split's lines
}

// PrevalenceError is the greatest distance between a label's prevalence in a
// split and in the whole data set.
type PrevalenceError struct {
	Split string  `json:"split"`
	Label string  `json:"label"`
	Error float64 `json:"error"`
}

// Quarantined is a file that stays out, and why.
type Quarantined struct {
	File   string `json:"file"`
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

// Duplicate is a file whose content is there already, as Of.
type Duplicate struct {
	File string `json:"file"`
	Of   string `json:"of"`
}

// Reader reads objects of the bucket; it answers journal.ErrNotFound.
type Reader interface {
	Get(ctx context.Context, key string) (data []byte, etag string, err error)
}

// ErrUnknown means that no finished data set has this digest.
var ErrUnknown = errors.New("no such data set")

// Load reads a finished data set and its rows, sorted by file, and verifies
// that the manifest is what the digest says.
func Load(ctx context.Context, store Reader, digest string) (Dataset, []Row, error) {
	d, err := Describe(ctx, store, digest)
	if err != nil {
		return Dataset{}, nil, err
	}
	data, _, err := store.Get(ctx, manifestKey(digest))
	if err != nil {
		return Dataset{}, nil, fmt.Errorf("data set %s: read its manifest: %w", digest, err)
	}
	if got := hash(data); got != digest {
		return Dataset{}, nil, fmt.Errorf("data set %s is damaged: %s has the SHA-256 %s; restore it, or go back to the parent %s", digest, manifestKey(digest), got, d.Parent)
	}
	rows, err := DecodeManifest(data)
	if err != nil {
		return Dataset{}, nil, fmt.Errorf("data set %s: %w", digest, err)
	}
	return d, rows, nil
}

// Describe reads dataset.json alone.
func Describe(ctx context.Context, store Reader, digest string) (Dataset, error) {
	if !isDigest(digest) {
		return Dataset{}, fmt.Errorf("data set %q: a digest has 64 hexadecimal digits", digest)
	}
	data, _, err := store.Get(ctx, describeKey(digest))
	if errors.Is(err, journal.ErrNotFound) {
		return Dataset{}, fmt.Errorf("data set %s: %w, or it was never finished: run `penstock dataset` for its batch: %w", digest, ErrUnknown, err)
	}
	if err != nil {
		return Dataset{}, fmt.Errorf("data set %s: %w", digest, err)
	}
	var d Dataset
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Dataset{}, fmt.Errorf("data set %s: %s cannot be understood (written by a newer version, or damaged): %w", digest, describeKey(digest), err)
	}
	if d.Schema != Schema || d.Digest != digest {
		return Dataset{}, fmt.Errorf("data set %s: %s is of schema %d and names the digest %q; this version reads schema %d", digest, describeKey(digest), d.Schema, d.Digest, Schema)
	}
	return d, nil
}

func manifestKey(digest string) string { return "datasets/" + digest + "/manifest.jsonl" }
func describeKey(digest string) string { return "datasets/" + digest + "/dataset.json" }

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// EncodeManifest gives the canonical manifest: a JSON line for each row, sorted
// by file, keys in a fixed order, nothing escaped for HTML.
func EncodeManifest(rows []Row) ([]byte, error) {
	sorted := slices.Clone(rows)
	slices.SortFunc(sorted, func(a, b Row) int { return strings.Compare(a.File, b.File) })
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for _, r := range sorted {
		if r.Labels == nil {
			r.Labels = []string{}
		}
		if r.Slices == nil {
			r.Slices = map[string]string{}
		}
		if err := enc.Encode(r); err != nil {
			return nil, fmt.Errorf("encode the manifest's line of %s: %w", r.File, err)
		}
	}
	return buf.Bytes(), nil
}

// DecodeManifest reads a manifest and refuses unknown keys and splits.
func DecodeManifest(data []byte) ([]Row, error) {
	var rows []Row
	line := 0
	for text := range bytes.Lines(data) {
		line++
		var r Row
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("manifest.jsonl line %d: %w", line, err)
		}
		if !slices.Contains(Splitting, r.Split) {
			return nil, fmt.Errorf("manifest.jsonl line %d: unknown split %q", line, r.Split)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// Select gives the rows of some splits, in their order.
func Select(rows []Row, splits ...string) []Row {
	var chosen []Row
	for _, r := range rows {
		if slices.Contains(splits, r.Split) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}
