package predictions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// record is a row as Parquet sees it. Slices are a sorted list and not a map,
// whose order the writer would leave to chance.
type record struct {
	ID        string    `parquet:"id"`
	Group     string    `parquet:"group,dict"`
	Split     string    `parquet:"split,dict"`
	Batch     string    `parquet:"batch,dict"`
	SHA256    string    `parquet:"sha256"`
	Slices    []slice   `parquet:"slices,list"`
	Labels    []bool    `parquet:"labels,list"`
	Scores    []float32 `parquet:"scores,list"`
	LatencyMS float64   `parquet:"latency_ms"`
}

type slice struct {
	Name  string `parquet:"name,dict"`
	Value string `parquet:"value,dict"`
}

const prefix = "penstock." // of our keys in the file metadata

// MaxRows bounds how many rows a reader takes into memory.
const MaxRows = 10_000_000

// Write writes the file of rows, sorted by id, to w. Rows and metadata that
// Read would refuse are refused.
func Write(w io.Writer, m Meta, rows []Row) error {
	if m.Schema == "" {
		m.Schema = Schema
	}
	rows = slices.SortedFunc(slices.Values(rows), func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	if err := m.Check(rows); err != nil {
		return err
	}
	options, err := m.options()
	if err != nil {
		return err
	}
	out := parquet.NewGenericWriter[record](w, options...)
	records := make([]record, len(rows))
	for i, r := range rows {
		records[i] = toRecord(r)
	}
	if _, err := out.Write(records); err != nil {
		return fmt.Errorf("predictions: write %d rows: %w", len(rows), err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("predictions: finish the file: %w", err)
	}
	return nil
}

// Encode gives the file of rows as bytes.
func Encode(m Meta, rows []Row) ([]byte, error) {
	var b bytes.Buffer
	if err := Write(&b, m, rows); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Read reads a file of size bytes and gives its rows, sorted by id. It refuses
// what the package comment lists; a damaged file is an error and never a part
// of the rows.
func Read(r io.ReaderAt, size int64) (m Meta, rows []Row, err error) {
	// The Parquet library answers some damaged files with a panic. The file
	// comes from a bucket, so that is an input error, not a bug of ours.
	defer func() {
		if p := recover(); p != nil {
			m, rows, err = Meta{}, nil, fmt.Errorf("predictions: damaged file: %v", p)
		}
	}()
	file, err := parquet.OpenFile(r, size)
	if err != nil {
		return Meta{}, nil, fmt.Errorf("predictions: not a Parquet file, or a damaged one: %w", err)
	}
	m, err = readMeta(file.Metadata().KeyValueMetadata)
	if err != nil {
		return Meta{}, nil, err
	}
	if want := parquet.SchemaOf(record{}); !parquet.EqualNodes(file.Schema(), want) {
		return Meta{}, nil, fmt.Errorf("predictions: the columns are not those of %s", Schema)
	}
	records, err := readRecords(file)
	if err != nil {
		return Meta{}, nil, err
	}
	rows = make([]Row, len(records))
	for i, rec := range records {
		if rows[i], err = fromRecord(rec); err != nil {
			return Meta{}, nil, fmt.Errorf("predictions: example %q: %w", rec.ID, err)
		}
	}
	if err := m.Check(rows); err != nil {
		return Meta{}, nil, err
	}
	return m, rows, nil
}

// Decode reads a file held in memory.
func Decode(data []byte) (Meta, []Row, error) {
	return Read(bytes.NewReader(data), int64(len(data)))
}

func readRecords(file *parquet.File) ([]record, error) {
	n := file.NumRows()
	if n < 0 || n > MaxRows {
		return nil, fmt.Errorf("predictions: the file claims %d rows, the limit is %d", n, MaxRows)
	}
	in := parquet.NewGenericReader[record](file)
	defer in.Close()
	// Appended piece by piece: a damaged count must not reserve memory.
	var records []record
	for {
		part := make([]record, 1024)
		k, err := in.Read(part)
		records = append(records, part[:k]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("predictions: damaged file: %w", err)
		}
		if k == 0 {
			return nil, fmt.Errorf("predictions: damaged file: it ends after %d of %d rows", len(records), n)
		}
	}
	if int64(len(records)) != n {
		return nil, fmt.Errorf("predictions: damaged file: %d of %d rows", len(records), n)
	}
	return records, nil
}

func toRecord(r Row) record {
	rec := record{
		ID: r.ID, Group: r.Group, Split: r.Split, Batch: r.Batch, SHA256: r.SHA256,
		Labels: r.Labels, Scores: r.Scores, LatencyMS: r.LatencyMS,
	}
	for _, name := range slices.Sorted(maps.Keys(r.Slices)) {
		rec.Slices = append(rec.Slices, slice{name, r.Slices[name]})
	}
	return rec
}

func fromRecord(rec record) (Row, error) {
	r := Row{
		ID: rec.ID, Group: rec.Group, Split: rec.Split, Batch: rec.Batch, SHA256: rec.SHA256,
		Labels: rec.Labels, Scores: rec.Scores, LatencyMS: rec.LatencyMS,
		Slices: make(map[string]string, len(rec.Slices)),
	}
	for _, s := range rec.Slices {
		if _, twice := r.Slices[s.Name]; twice {
			return Row{}, fmt.Errorf("slice %q stands twice", s.Name)
		}
		r.Slices[s.Name] = s.Value
	}
	return r, nil
}

// options are the writer's: our metadata, Zstandard, a creator without a
// build's date, so that equal rows make equal bytes.
func (m Meta) options() ([]parquet.WriterOption, error) {
	labels, err := json.Marshal(m.Labels)
	if err != nil {
		return nil, fmt.Errorf("predictions: encode the label names: %w", err)
	}
	if m.Thresholds == nil {
		m.Thresholds = map[string]float64{}
	}
	thresholds, err := json.Marshal(m.Thresholds)
	if err != nil {
		return nil, fmt.Errorf("predictions: encode the thresholds: %w", err)
	}
	options := []parquet.WriterOption{parquet.Compression(&parquet.Zstd), parquet.CreatedBy("penstock", "1", "")}
	for name, value := range map[string]string{
		"schema": m.Schema, "dataset": m.Dataset, "split": m.Split, "model": m.Model,
		"suite": m.Suite, "tool": m.Tool, "labels": string(labels), "thresholds": string(thresholds),
	} {
		options = append(options, parquet.KeyValueMetadata(prefix+name, value))
	}
	return options, nil
}

// readMeta reads our metadata and refuses what this version does not know.
// The schema is looked at first: of a newer file only that can be said.
func readMeta(entries []format.KeyValue) (Meta, error) {
	values := map[string]string{}
	for _, e := range entries {
		if name, ours := strings.CutPrefix(e.Key, prefix); ours {
			values[name] = e.Value
		}
	}
	m := Meta{Schema: values["schema"]}
	if m.Schema != Schema {
		return Meta{}, m.Validate()
	}
	var labels, thresholds string
	into := map[string]*string{
		"schema": &m.Schema, "dataset": &m.Dataset, "split": &m.Split, "model": &m.Model,
		"suite": &m.Suite, "tool": &m.Tool, "labels": &labels, "thresholds": &thresholds,
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if into[name] == nil {
			return Meta{}, fmt.Errorf("predictions: unknown metadata %s%s: the file is of a newer version", prefix, name)
		}
		*into[name] = values[name]
	}
	if err := json.Unmarshal([]byte(labels), &m.Labels); err != nil {
		return Meta{}, fmt.Errorf("predictions: the label names in the metadata cannot be read: %w", err)
	}
	if err := json.Unmarshal([]byte(thresholds), &m.Thresholds); err != nil {
		return Meta{}, fmt.Errorf("predictions: the thresholds in the metadata cannot be read: %w", err)
	}
	return m, m.Validate()
}
