package dataset

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var proportions = Splits{Train: 0.6, Val: 0.12, Test: 0.18, FinalEval: 0.1, Seed: 1}

// draw makes rows of n groups with one to twelve images each and labels of
// very different frequency. batch names the groups and the contents.
func draw(seed uint64, batch string, n int) []Row {
	r := rand.New(rand.NewPCG(seed, 1))
	rates := map[string]float64{"common": 0.3, "some": 0.1, "few": 0.03, "rare": 0.004}
	var rows []Row
	for g := range n {
		for i := range 1 + r.IntN(12)*r.IntN(2) {
			row := Row{Group: fmt.Sprintf("%s-%d", batch, g), Batch: batch, Labels: []string{}}
			row.File = fmt.Sprintf("%s/%d-%d.png", batch, g, i)
			row.SHA256 = hash([]byte(row.File))
			for _, l := range []string{"common", "few", "rare", "some"} {
				if r.Float64() < rates[l] {
					row.Labels = append(row.Labels, l)
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func splitsOf(t *testing.T, rows []Row) map[string]string {
	t.Helper()
	of := map[string]string{}
	for _, r := range rows {
		if !slices.Contains(Splitting, r.Split) {
			t.Fatalf("%s is in split %q", r.File, r.Split)
		}
		if s := of[r.Group]; s != "" && s != r.Split {
			t.Fatalf("group %s is in %s and in %s", r.Group, s, r.Split)
		}
		of[r.Group] = r.Split
	}
	return of
}

func TestSplitKeepsGroupsWholeAndProportionsAndPrevalence(t *testing.T) {
	for seed := range uint64(20) {
		rows, aside := place(nil, draw(seed, "a", 600), proportions)
		if len(aside) != 0 {
			t.Fatalf("%d rows of a first batch are set aside", len(aside))
		}
		splitsOf(t, rows)
		counts, prevalence, err := count(rows, []string{"common", "some", "few", "rare"})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range Splitting {
			got := float64(counts[s].Rows) / float64(len(rows))
			if math.Abs(got-proportions.of(s)) > 0.01 {
				t.Errorf("seed %d: %s has %.3f of the images, want %.3f", seed, s, got, proportions.of(s))
			}
		}
		if prevalence.Error > 0.015 {
			t.Errorf("seed %d: greatest prevalence error %+v", seed, prevalence)
		}
		checkEvidence(t, rows)
	}
}

// checkEvidence wants the groups with a label in their proportions: intervals
// rest on groups.
func checkEvidence(t *testing.T, rows []Row) {
	t.Helper()
	for _, l := range []string{"common", "some", "few"} {
		with := map[string]map[string]bool{}
		all := map[string]bool{}
		for _, s := range Splitting {
			with[s] = map[string]bool{}
		}
		for _, r := range rows {
			if slices.Contains(r.Labels, l) {
				with[r.Split][r.Group], all[r.Group] = true, true
			}
		}
		for _, s := range Splitting {
			if want := proportions.of(s) * float64(len(all)); math.Abs(float64(len(with[s]))-want) > 4 {
				t.Errorf("%s has %d of %d groups with %s, want %.1f", s, len(with[s]), len(all), l, want)
			}
		}
	}
}

// BenchmarkSplit splits as many patients as ChestX-ray14 has.
func BenchmarkSplit(b *testing.B) {
	rows := draw(1, "a", 30_000)
	for b.Loop() {
		place(nil, rows, proportions)
	}
}

func TestSplitSpreadsRareLabels(t *testing.T) {
	rows := draw(3, "a", 300)
	for i := range rows {
		rows[i].Labels = nil
	}
	groups := map[string]bool{}
	for i := range rows { // ten groups have the label once
		if g := rows[i].Group; !groups[g] && len(groups) < 10 {
			groups[g] = true
			rows[i].Labels = []string{"rare"}
		}
	}
	rows, _ = place(nil, rows, proportions)
	counts, _, err := count(rows, []string{"rare"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Splitting {
		if n := counts[s].Positives["rare"]; n < 1 || n > 6 {
			t.Errorf("%s has %d of ten rare images", s, n)
		}
	}
}

func TestSplitIsStickyAndNeverTouchesFinalEval(t *testing.T) {
	for seed := range uint64(20) {
		first, _ := place(nil, draw(seed, "a", 200), proportions)
		before := splitsOf(t, first)
		second := append(draw(seed+100, "b", 150), draw(seed+200, "a", 200)...) // new groups, and new images of old ones
		for i := range second {
			second[i].SHA256 = hash([]byte(second[i].File + "again"))
			second[i].File = "second/" + second[i].File
		}
		placed, aside := place(first, second, proportions)
		if len(placed)+len(aside) != len(second) {
			t.Fatalf("%d placed and %d aside of %d", len(placed), len(aside), len(second))
		}
		for _, r := range aside {
			if before[r.Group] != FinalEval {
				t.Fatalf("a row of a group in %q is set aside", before[r.Group])
			}
		}
		for _, r := range placed {
			if r.Split == FinalEval {
				t.Fatalf("%s came into final_eval", r.File)
			}
		}
		splitsOf(t, append(slices.Clone(first), placed...))
		checkNewGroups(t, before, placed)
	}
}

// checkNewGroups wants train, val and test in their proportions to each other
// over the images of new groups.
func checkNewGroups(t *testing.T, before map[string]string, placed []Row) {
	t.Helper()
	n := map[string]float64{}
	all := 0.0
	for _, r := range placed {
		if before[r.Group] == "" {
			n[r.Split]++
			all++
		}
	}
	for _, s := range []string{Train, Val, Test} {
		want := proportions.of(s) / 0.9
		if math.Abs(n[s]/all-want) > 0.03 {
			t.Errorf("%s has %.3f of the new groups' images, want %.3f", s, n[s]/all, want)
		}
	}
}

func TestSplitDependsOnTheSeedAndNotOnTheOrderOfRows(t *testing.T) {
	rows := draw(5, "a", 100)
	want, _ := place(nil, rows, proportions)
	manifest, err := EncodeManifest(want)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(10) {
		mixed := slices.Clone(rows)
		rand.New(rand.NewPCG(seed, 2)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		got, _ := place(nil, mixed, proportions)
		again, err := EncodeManifest(got)
		if err != nil {
			t.Fatal(err)
		}
		if hash(again) != hash(manifest) {
			t.Fatal("another order of the rows gives another manifest")
		}
	}
	other := proportions
	other.Seed = 2
	moved, _ := place(nil, rows, other)
	if again, err := EncodeManifest(moved); err != nil || hash(again) == hash(manifest) {
		t.Errorf("another seed gives the same split (%v)", err)
	}
}

func TestManifestIsCanonicalAndEveryByteCounts(t *testing.T) {
	row := Row{
		File: "b/ü&<1>.png", SHA256: "00", Pipeline: "p", Group: "g", Batch: "k", Labels: []string{"A", "B"},
		Slices: map[string]string{"view": "PA", "age": "<40", "sex": "F"}, Split: Train,
	}
	data, err := EncodeManifest([]Row{row, {File: "a", Split: Test}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"file":"a","sha256":"","pipeline":"","group":"","batch":"","labels":[],"slices":{},"split":"test"}
{"file":"b/ü&<1>.png","sha256":"00","pipeline":"p","group":"g","batch":"k","labels":["A","B"],"slices":{"age":"<40","sex":"F","view":"PA"},"split":"train"}
`
	if string(data) != want {
		t.Errorf("manifest:\n%swant:\n%s", data, want)
	}
	back, err := DecodeManifest(data)
	if err != nil || len(back) != 2 || back[1].Slices["age"] != "<40" {
		t.Errorf("%+v, %v", back, err)
	}
	for i := range data {
		changed := slices.Clone(data)
		changed[i] ^= 1
		if hash(changed) == hash(data) {
			t.Fatalf("byte %d does not count", i)
		}
	}
	for _, bad := range []string{"{}\n", `{"split":"holdout"}`, `{"split":"train","new":1}`, "x"} {
		if _, err := DecodeManifest([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a manifest", bad)
		}
	}
}
