package dataset_test

import (
	"bytes"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/line/dataset"
)

var findings = []string{
	"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis",
	"Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
}

// corpus is the folder of 1,000 NIH radiographs and their table.
func corpus(t *testing.T) (dir string, table [][]string) {
	t.Helper()
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: real radiographs are not tried")
	}
	dir = filepath.Join(root, "xray")
	data, err := os.ReadFile(filepath.Join(dir, "nih64.csv"))
	if err != nil {
		t.Fatalf("PENSTOCK_TEST_DATA is set, but: %v", err)
	}
	table, err = csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return dir, table
}

// realBatch is the upload of the rows whose patient is chosen.
func realBatch(t *testing.T, folder, dir string, table [][]string, chosen func(patient string) bool) *upload {
	t.Helper()
	u := newUpload(folder)
	u.table = []string{strings.Join(table[0], ",")}
	for _, row := range table[1:] {
		if !chosen(row[1]) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, row[0]))
		if err != nil {
			t.Fatal(err)
		}
		u.files[row[0]] = data
		u.table = append(u.table, `"`+strings.Join(row, `","`)+`"`)
	}
	return u
}

func TestRealRadiographsAreSplitByPatientAndStratified(t *testing.T) {
	dir, table := corpus(t)
	var patients []string
	for _, row := range table[1:] {
		patients = append(patients, row[1])
	}
	slices.Sort(patients)
	patients = slices.Compact(patients)
	border := patients[len(patients)*2/3]
	store := bucket(t, servertest.MinIO(t))
	ask := func(u *upload, parent string) dataset.Growth {
		r := request(u.send(t, store), parent)
		r.Config.Columns.Group = "patient_id"
		r.Config.Splits = dataset.Splits{Train: 0.55, Val: 0.15, Test: 0.22, FinalEval: 0.08, Seed: 1}
		r.Config.Slices = map[string]dataset.Slice{"sex": {Column: "sex"}, "age": {Column: "age", Bands: []float64{40, 60}}}
		r.Labels = findings
		return grow(t, store, r)
	}
	first := ask(realBatch(t, "one", dir, table, func(p string) bool { return p < border }), "")
	second := ask(realBatch(t, "two", dir, table, func(p string) bool { return p >= border }), first.Dataset.Digest)
	if n := first.Added + second.Added + len(first.Duplicates) + len(second.Duplicates); n != 1000 || len(first.Quarantined)+len(second.Quarantined) > 0 {
		t.Errorf("%d of 1,000 images; quarantined %v %v", n, first.Quarantined, second.Quarantined)
	}
	for _, d := range []dataset.Dataset{first.Dataset, second.Dataset} {
		all, groups := 0, 0
		for _, c := range d.Splits {
			all += c.Rows
			groups += c.Groups
		}
		t.Logf("%d images of %d patients, greatest prevalence error %+v", all, groups, d.Prevalence)
		if share := float64(d.Splits[dataset.Train].Rows) / float64(all); math.Abs(share-0.57) > 0.04 {
			t.Errorf("train has %.3f of the images", share)
		}
		if d.Prevalence.Error > 0.08 {
			t.Errorf("greatest prevalence error %+v", d.Prevalence)
		}
	}
	if first.Dataset.Splits[dataset.FinalEval].Digest != second.Dataset.Splits[dataset.FinalEval].Digest {
		t.Error("final_eval changed")
	}
}
