package predictions

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

func digest(i int) string {
	return hex.EncodeToString(fmt.Appendf(make([]byte, 0, 32), "%032d", i))
}

func sample(n int) (Meta, []Row) {
	m := Meta{
		Schema: Schema, Dataset: digest(1), Split: "test", Model: digest(2), Suite: SuiteSplit, Tool: "penstock-serve test",
		Labels: []string{"Mass", "Effusion"}, Thresholds: map[string]float64{"Mass": 0.25},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{
			ID: fmt.Sprintf("b1/%05d.png", i), Group: fmt.Sprintf("p%d", i/3), Split: "test", Batch: "b1", SHA256: digest(100 + i),
			Slices: map[string]string{"sex": "F", "age": "40-60", "view": "PA"},
			Labels: []bool{i%2 == 0, i%3 == 0}, Scores: []float32{rng.Float32(), rng.Float32()}, LatencyMS: rng.Float64() * 9,
		}
	}
	rows[0].Slices = map[string]string{}
	return m, rows
}

func TestReadGivesWhatWriteGot(t *testing.T) {
	for _, n := range []int{1, 2, 1023, 1024, 1025, 5000} {
		m, rows := sample(n)
		data, err := Encode(m, rows)
		if err != nil {
			t.Fatal(err)
		}
		gotMeta, gotRows, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, gotMeta); d != "" {
			t.Errorf("%d rows: metadata differ (-wrote +read):\n%s", n, d)
		}
		if d := cmp.Diff(rows, gotRows); d != "" {
			t.Errorf("%d rows: rows differ (-wrote +read):\n%s", n, d)
		}
	}
}

func TestEqualRowsInAnyOrderMakeEqualBytes(t *testing.T) {
	m, rows := sample(300)
	want, err := Encode(m, rows)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5 {
		before := slices.Clone(rows)
		rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		shuffled := slices.Clone(rows)
		for i := range rows { // a map built anew iterates in another order
			rows[i].Slices = maps.Collect(maps.All(rows[i].Slices))
		}
		got, err := Encode(m, rows)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatal("the same rows in another order made another file")
		}
		if !cmp.Equal(rows, shuffled) || cmp.Equal(rows, before) {
			t.Fatal("Write reordered its caller's rows")
		}
	}
}

func TestWriteRefusesWhatIsNoEvidence(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		name   string
		change func(m *Meta, rows *[]Row)
		want   string
	}{
		{"no rows", func(m *Meta, rows *[]Row) { *rows = nil }, "no rows"},
		{"another schema", func(m *Meta, rows *[]Row) { m.Schema = "penstock.predictions/9" }, "this version reads"},
		{"no data set", func(m *Meta, rows *[]Row) { m.Dataset = "" }, "data set's digest"},
		{"a model that is no digest", func(m *Meta, rows *[]Row) { m.Model = strings.ToUpper(digest(2))[:63] + "G" }, "model's digest"},
		{"no split", func(m *Meta, rows *[]Row) { m.Split = "" }, "no split"},
		{"no suite", func(m *Meta, rows *[]Row) { m.Suite = "" }, "no suite"},
		{"no tool", func(m *Meta, rows *[]Row) { m.Tool = "" }, "no tool"},
		{"no labels", func(m *Meta, rows *[]Row) { m.Labels = nil }, "no labels"},
		{"a label twice", func(m *Meta, rows *[]Row) { m.Labels = []string{"Mass", "Mass"} }, "named twice"},
		{"a threshold without a label", func(m *Meta, rows *[]Row) { m.Thresholds = map[string]float64{"Nodule": 1} }, "Nodule"},
		{"a threshold NaN", func(m *Meta, rows *[]Row) { m.Thresholds = map[string]float64{"Mass": math.NaN()} }, "threshold of"},
		{"an id twice", func(m *Meta, rows *[]Row) { (*rows)[1].ID = (*rows)[0].ID }, "twice"},
		{"no id", func(m *Meta, rows *[]Row) { (*rows)[1].ID = "" }, "without an id"},
		{"no group", func(m *Meta, rows *[]Row) { (*rows)[1].Group = "" }, "no group"},
		{"a row of train", func(m *Meta, rows *[]Row) { (*rows)[1].Split = "train" }, `split "train"`},
		{"no content digest", func(m *Meta, rows *[]Row) { (*rows)[1].SHA256 = "" }, "sha256"},
		{"a label missing", func(m *Meta, rows *[]Row) { (*rows)[1].Labels = []bool{true} }, "1 label values for 2"},
		{"a score missing", func(m *Meta, rows *[]Row) { (*rows)[1].Scores = nil }, "0 scores for 2"},
		{"a score NaN", func(m *Meta, rows *[]Row) { (*rows)[1].Scores = []float32{0, nan} }, "score of Effusion"},
		{"a score infinite", func(m *Meta, rows *[]Row) { (*rows)[1].Scores = []float32{float32(math.Inf(-1)), 0} }, "score of Mass"},
		{"a latency NaN", func(m *Meta, rows *[]Row) { (*rows)[1].LatencyMS = math.NaN() }, "latency"},
		{"a latency below zero", func(m *Meta, rows *[]Row) { (*rows)[1].LatencyMS = -1 }, "latency"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, rows := sample(3)
			c.change(&m, &rows)
			var b bytes.Buffer
			err := Write(&b, m, rows)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, wanted one with %q", err, c.want)
			}
			if b.Len() > 0 {
				t.Errorf("%d bytes were written all the same", b.Len())
			}
		})
	}
}

// raw writes records without our checks, as a foreign program might.
func raw[T any](t *testing.T, m Meta, records []T, more ...parquet.WriterOption) []byte {
	t.Helper()
	options, err := m.options()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, append(options, more...)...)
	if _, err := w.Write(records); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadRefusesForeignFiles(t *testing.T) {
	m, rows := sample(3)
	records := func(change func([]record)) []record {
		rs := []record{toRecord(rows[0]), toRecord(rows[1]), toRecord(rows[2])}
		change(rs)
		return rs
	}
	same := func([]record) {}
	newer := m
	newer.Schema = "penstock.predictions/2"
	wide := []struct {
		record
		Extra string `parquet:"extra"`
	}{{record: toRecord(rows[0])}}
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"nothing", "not a Parquet file", nil},
		{"text", "not a Parquet file", []byte("id,group,score\n1,2,3\n")},
		{"another schema", "this version reads", raw(t, newer, records(same))},
		{"unknown metadata", "unknown metadata penstock.activation", raw(t, m, records(same), parquet.KeyValueMetadata("penstock.activation", "x"))},
		{"unreadable labels", "label names", raw(t, m, records(same), parquet.KeyValueMetadata("penstock.labels", "Mass"))},
		{"unreadable thresholds", "thresholds", raw(t, m, records(same), parquet.KeyValueMetadata("penstock.thresholds", ""))},
		{"another column", "columns", raw(t, m, wide)},
		{"a NaN score", "finite", raw(t, m, records(func(rs []record) { rs[1].Scores = []float32{0, float32(math.NaN())} }))},
		{"too few labels", "label values", raw(t, m, records(func(rs []record) { rs[2].Labels = nil }))},
		{"an id twice", "twice", raw(t, m, records(func(rs []record) { rs[1].ID = rs[0].ID }))},
		{"a slice twice", "slice", raw(t, m, records(func(rs []record) { rs[1].Slices = []slice{{"sex", "F"}, {"sex", "M"}} }))},
		{"no rows", "no rows", raw(t, m, []record{})},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got, err := Decode(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, wanted one with %q", err, c.want)
			}
			if got != nil {
				t.Errorf("%d rows were given all the same", len(got))
			}
		})
	}
}

// TestDamagedFilesAreErrors cuts and flips a file in many places. A flip may
// land where it changes nothing that is read; whatever is read without an
// error must have passed the same checks, and nothing may panic.
func TestDamagedFilesAreErrors(t *testing.T) {
	m, rows := sample(200)
	data, err := Encode(m, rows)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(data); n += 37 {
		if _, _, err := Decode(data[:n]); err == nil {
			t.Fatalf("a file cut to %d of %d bytes was read", n, len(data))
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	refused := 0
	for range 2000 {
		bad := bytes.Clone(data)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		gotMeta, got, err := Decode(bad)
		if err != nil {
			refused++
			continue
		}
		if err := gotMeta.Check(got); err != nil {
			t.Fatalf("rows were read that are no evidence: %v", err)
		}
	}
	if refused < 1000 {
		t.Errorf("only %d of 2000 damaged files were refused", refused)
	}
}

func TestKeyIsTheContractsPath(t *testing.T) {
	if got := Key("d", "test", "m"); got != "predictions/d/test/m.parquet" {
		t.Errorf("key %s", got)
	}
}
