package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// figures are checks for every bound of a model, each exactly at it.
func figures(model string) []verdict.Check {
	var checks []verdict.Check
	for _, b := range bounds {
		if b.model == model {
			checks = append(checks, verdict.Check{Name: b.figure, Observed: verdict.Number(b.value), Unit: "u", N: 5})
		}
	}
	return checks
}

func TestABoundHoldsUpToItselfAndNotBeyond(t *testing.T) {
	for _, beyond := range []bool{false, true} {
		checks := figures("resnet18")
		if beyond {
			for i, b := range bounds[:len(checks)] {
				sign := 1.0
				if b.least {
					sign = -1
				}
				checks[i].Observed = verdict.Number(*checks[i].Observed + sign*0.001)
			}
		}
		b := &serveBench{}
		if err := b.keep("resnet18", checks[:8:8]); err == nil {
			t.Error("bounds that were not measured count as kept")
		}
		b = &serveBench{}
		if err := b.keep("resnet18", checks); err != nil {
			t.Fatal(err)
		}
		for _, row := range b.rows[:8] {
			if row.Holds == nil || *row.Holds == beyond {
				t.Errorf("%s %v, bound %s %v: holds %v", row.Name, row.Value, row.sense(), *row.Bound, row.Holds)
			}
		}
		if err := broken(b.rows); (err != nil) != beyond {
			t.Errorf("%v", err)
		}
	}
}

func TestThePageIsRenewedBetweenTheMarkersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &serveBench{}
	checks := append(figures("xray"),
		verdict.Check{Name: "node-jpeg/difference", Observed: verdict.Number(0.0123)}, verdict.Check{Name: "node-json/difference", Observed: verdict.Number(0.5)},
		verdict.Check{Name: "bare/1/p50", Observed: verdict.Number(3.25)}, verdict.Check{Name: "turbo-jpeg/1/p50", Observed: verdict.Number(7.5)})
	if err := b.keep("xray", checks); err != nil {
		t.Fatal(err)
	}
	report := Report{Stage: "serve", Machine: Machine{CPU: "a processor", Cores: 3}, Rows: b.rows}
	write("# Page\n" + markBegin + "\nold\n" + markEnd + "\nrest\n")
	for range 2 { // the second time changes nothing
		if err := document(path, report, []string{"a note"}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{"# Page\n", "a processor, 3 cores", "- a note", "xray node 0.012\n", "| 1 | turbo-jpeg | 7.5 |", "| 1 | bare | 3.25 |", "at least 2 | yes |", "\nrest\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\nold\n") || strings.Count(text, "bare | 3.25") != 1 {
		t.Errorf("what was there stayed:\n%s", text)
	}
	write("no markers")
	if err := document(path, report, nil); err == nil || !strings.Contains(err.Error(), "bench-serve: begin") {
		t.Errorf("%v", err)
	}
}

func TestSettingsOfPeersKeepToTheCPUs(t *testing.T) {
	for _, cpus := range []int{1, 2, 8} {
		seen := map[string]bool{}
		for _, s := range settingsFor(cpus) {
			seen[s.program] = true
			product := 1
			for i, flag := range s.flags {
				if flag == "--workers" || flag == "--threads" {
					n, err := strconv.Atoi(s.flags[i+1])
					if err != nil {
						t.Fatal(err)
					}
					product *= n
				}
			}
			if product > cpus {
				t.Errorf("%s on %d CPUs", s.text(), cpus)
			}
		}
		for _, p := range programs {
			if !seen[p] {
				t.Errorf("no setting of %s", p)
			}
		}
	}
}

func TestTheBestSettingOfEachProgramIsComparedWith(t *testing.T) {
	one := &peer{setting: setting{"node", []string{"--workers", "1"}}, name: "node1"}
	two := &peer{setting: setting{"node", []string{"--workers", "2"}}, name: "node2"}
	other := &peer{setting: setting{"fastapi", nil}, name: "fastapi3"}
	b := &serveBench{}
	best := b.best("xray", []*peer{one, two, other}, []verdict.Check{
		{Name: "node1-jpeg/8/throughput", Observed: verdict.Number(100)},
		{Name: "node2-jpeg/8/throughput", Observed: verdict.Number(180)},
		{Name: "fastapi3-jpeg/8/throughput", Observed: verdict.Number(90)},
	})
	if best["node"] != two || best["fastapi"] != other {
		t.Errorf("%+v", best)
	}
	if len(b.notes) != 3 || !strings.Contains(b.notes[1], "180 JPEGs a second") || !strings.HasSuffix(b.notes[1], "compared with") || strings.HasSuffix(b.notes[0], "compared with") {
		t.Errorf("%q", b.notes)
	}
}

func TestSwapsAreReadFromTheTestsOwnWords(t *testing.T) {
	rows, err := swapRows("    swaps_test.go:149: 200 swaps: 3872 requests, 0 failed, p50 1.50 ms, p99 29.57 ms; resident memory after swap 20 100 MB, after swap 200 111 MB (+11.0%)\nok\n")
	if err != nil {
		t.Fatal(err)
	}
	holds := map[string]bool{}
	for _, r := range rows {
		if r.Holds != nil {
			holds[r.Name] = *r.Holds
		}
	}
	if len(rows) != 5 || !holds["swaps failed"] || holds["swaps resident_ratio"] || rows[0].Value != 200 {
		t.Errorf("%+v", rows)
	}
	if _, err := swapRows("ok\n"); err == nil {
		t.Error("nothing was taken for figures")
	}
}
