package evaluation

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/verdict"
)

func mustEvaluate(t *testing.T, in Input) Report {
	t.Helper()
	r, err := Evaluate(in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestComparisonIsOnTheChampionsRowsAndTheBatchOnItsOwn(t *testing.T) {
	r := mustEvaluate(t, newWorld(80, 40, false).input(1.5, 0.7))
	if r.Own.Rows != 360 || r.Comparison.Rows != 240 || r.BatchRows.Rows != 120 {
		t.Errorf("rows: own %d, comparison %d, batch %d; wanted 360, 240, 120", r.Own.Rows, r.Comparison.Rows, r.BatchRows.Rows)
	}
	if r.Own.Groups != 120 || r.Comparison.Groups != 80 || r.BatchRows.Groups != 40 {
		t.Errorf("groups: own %d, comparison %d, batch %d; wanted 120, 80, 40", r.Own.Groups, r.Comparison.Groups, r.BatchRows.Groups)
	}
	c := r.Comparison
	if d := *c.Candidate.Value - *c.Champion.Value; *c.Difference.Value != d || *c.Difference.Low <= 0 {
		t.Errorf("a much better candidate: difference %v in [%v, %v]", *c.Difference.Value, *c.Difference.Low, *c.Difference.High)
	}
	if len(r.Files) != 4 {
		t.Errorf("%d files named, wanted 4", len(r.Files))
	}
}

// TestIntervalsOfADifferenceArePaired: two models that score alike differ by
// little, though each by itself is uncertain.
func TestIntervalsOfADifferenceArePaired(t *testing.T) {
	in := newWorld(80, 0, false).input(1, 1)
	for _, p := range []*Predictions{&in.Champion.Own, &in.Champion.Here} {
		for i := range p.Rows {
			p.Rows[i].Scores = slices.Clone(in.Champion.Candidate.Rows[i].Scores)
			p.Rows[i].Scores[0] += float32(i%7) * 0.001
		}
	}
	c := mustEvaluate(t, in).Comparison
	alone, paired := *c.Candidate.High-*c.Candidate.Low, *c.Difference.High-*c.Difference.Low
	if paired > alone/5 {
		t.Errorf("difference uncertain by %v, one model alone by %v", paired, alone)
	}
}

func TestLabelsWithoutEvidenceAreListedAndNotAveraged(t *testing.T) {
	own := mustEvaluate(t, newWorld(80, 40, false).input(1.5, 0.7)).Own
	if d := cmp.Diff([]string{"Mass", "Effusion"}, own.Evaluable); d != "" {
		t.Errorf("evaluable (-want +got):\n%s", d)
	}
	if want := (*own.Labels[0].AUROC.Value + *own.Labels[1].AUROC.Value) / 2; *own.Macro.Value != want {
		t.Errorf("macro %v, wanted %v", *own.Macro.Value, want)
	}
	hernia := own.Labels[2]
	if hernia.Evaluable || hernia.PositiveGroups != 1 || hernia.AUROC.Value == nil || hernia.AUROC.Degenerate < 500 {
		t.Errorf("Hernia of one patient: %+v", hernia)
	}
}

func TestMetricsAtTheThresholdAreThoseOfTheConfusionMatrix(t *testing.T) {
	in := newWorld(60, 0, false).input(1.2, 1)
	in.Champion, in.Batch = nil, ""
	own := mustEvaluate(t, in).Own
	var tp, fp, tn, fn, squares float64
	for _, r := range in.Candidate.Rows {
		truth := 0.0
		if r.Labels[0] {
			truth = 1
		}
		squares += (float64(r.Scores[0]) - truth) * (float64(r.Scores[0]) - truth)
		switch found := float64(r.Scores[0]) >= 0.5; {
		case r.Labels[0] && found:
			tp++
		case r.Labels[0]:
			fn++
		case found:
			fp++
		default:
			tn++
		}
	}
	mass := own.Labels[0]
	for name, c := range map[string]struct {
		got  Metric
		want float64
	}{
		"sensitivity": {mass.Sensitivity, tp / (tp + fn)}, "specificity": {mass.Specificity, tn / (tn + fp)},
		"F1": {mass.F1, 2 * tp / (2*tp + fp + fn)}, "Brier": {mass.Brier, squares / float64(len(in.Candidate.Rows))},
	} {
		if math.Abs(*c.got.Value-c.want) > 1e-12 || *c.got.Low > c.want || *c.got.High < c.want {
			t.Errorf("%s %v in [%v, %v], by hand %v", name, *c.got.Value, *c.got.Low, *c.got.High, c.want)
		}
	}
	if h := own.Labels[2]; h.Threshold != nil || h.F1.Value != nil || h.Sensitivity.Value != nil {
		t.Errorf("metrics without a threshold: %+v", h)
	}
}

func TestSlicesPartTheRows(t *testing.T) {
	own := mustEvaluate(t, newWorld(80, 40, false).input(1.5, 0.7)).Own
	if len(own.Slices) != 2 || own.Slices[0].Value != "F" || own.Slices[1].Value != "M" {
		t.Fatalf("slices %+v", own.Slices)
	}
	if own.Slices[0].Rows+own.Slices[1].Rows != own.Rows || own.Slices[0].Macro.Value == nil {
		t.Errorf("slices %+v of %d rows", own.Slices, own.Rows)
	}
}

func TestSlicesOfAComparisonAreThoseOfTheChampionsRowsUnderBothModels(t *testing.T) {
	r := mustEvaluate(t, newWorld(80, 40, false).input(1.5, 0.7))
	c := r.Comparison
	if len(c.Slices) != 2 || c.Slices[0].Value != "F" || c.Slices[1].Value != "M" || c.Slices[0].Rows+c.Slices[1].Rows != c.Rows {
		t.Fatalf("slices %+v of %d rows", c.Slices, c.Rows)
	}
	for _, s := range c.Slices {
		if d := *s.Candidate.Value - *s.Champion.Value; *s.Difference.Value != d || *s.Difference.Low <= 0 {
			t.Errorf("slice %s of a much better candidate: difference %v in [%v, %v]", s.Value, *s.Difference.Value, *s.Difference.Low, *s.Difference.High)
		}
	}
	c.Slices[0].Rows = c.Rows + 1
	if err := r.Validate(); err == nil {
		t.Error("a slice with more rows than the comparison was taken")
	}
}

func TestAShuffledBatchShowsAsACollapseOfTheChampion(t *testing.T) {
	honest := mustEvaluate(t, newWorld(80, 80, false).input(1, 1)).BatchRows
	shuffled := mustEvaluate(t, newWorld(80, 160, true).input(0.4, 1)).BatchRows
	if *honest.Drop.High < -0.02 {
		t.Errorf("an honest batch: drop %v below %v", *honest.Drop.Value, *honest.Drop.High)
	}
	if *shuffled.Drop.High > -0.1 {
		t.Errorf("a shuffled batch: drop %v, upper bound only %v", *shuffled.Drop.Value, *shuffled.Drop.High)
	}
}

func TestTheSameEvidenceGivesTheSameBytes(t *testing.T) {
	var first []byte
	for range 3 {
		data, err := mustEvaluate(t, newWorld(40, 20, false).input(1, 1)).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			t.Fatal("another report from the same evidence")
		}
	}
	in := newWorld(40, 20, false).input(1, 1)
	in.Settings.Seed++
	data, err := mustEvaluate(t, in).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, data) {
		t.Error("the seed does not matter")
	}
}

func TestReportsSurviveTheirFile(t *testing.T) {
	for _, in := range []Input{newWorld(40, 20, false).input(1, 1), newWorld(40, 0, false).input(1, 1)} {
		r := mustEvaluate(t, in)
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got); d != "" {
			t.Errorf("report (-wrote +read):\n%s", d)
		}
	}
}

func TestEvaluateRefusesWhatIsNoEvidence(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*Input)
	}{
		{"nothing", "no rows", func(in *Input) { in.Candidate.Rows = nil }},
		{"no predictions at all", "schema", func(in *Input) { in.Candidate = Predictions{} }},
		{"NaN", "finite", func(in *Input) { in.Champion.Own.Rows[3].Scores[0] = float32(math.NaN()) }},
		{"another model", "predictions of model", func(in *Input) { in.Candidate.Meta.Model = digest(99) }},
		{"another data set", "predictions of model", func(in *Input) { in.Champion.Here.Meta.Dataset = digest(99) }},
		{"swapped files", "predictions of model", func(in *Input) {
			in.Champion.Own, in.Champion.Candidate = in.Champion.Candidate, in.Champion.Own
		}},
		{"a suite", "suite", func(in *Input) { in.Candidate.Meta.Suite = "inverted" }},
		{"split train", "split", func(in *Input) {
			in.Candidate.Meta.Split = "train"
			for i := range in.Candidate.Rows {
				in.Candidate.Rows[i].Split = "train"
			}
		}},
		{"a row missing", "missing", func(in *Input) { in.Candidate.Rows = in.Candidate.Rows[1:] }},
		{"a row too many", "not among", func(in *Input) { in.Champion.Expected = in.Champion.Expected[1:] }},
		{"another content", "content", func(in *Input) { in.Candidate.Rows[2].SHA256 = digest(7) }},
		{"another group", "group", func(in *Input) { in.Candidate.Rows[2].Group = "p9999" }},
		{"another batch", "batch", func(in *Input) { in.Candidate.Rows[2].Batch = "b1x" }},
		{"another truth", "truth", func(in *Input) { in.Champion.Own.Rows[2].Labels[1] = !in.Champion.Own.Rows[2].Labels[1] }},
		{"a label of the truth that no model scores", "does not score", func(in *Input) { in.Expected[0].Labels = append(in.Expected[0].Labels, "Nodule") }},
		{"labels in another order", "cannot be compared", func(in *Input) {
			for _, p := range []*Predictions{&in.Champion.Own, &in.Champion.Here} {
				p.Meta.Labels = []string{"Effusion", "Mass", "Hernia"}
				for i := range p.Rows {
					p.Rows[i].Labels[0], p.Rows[i].Labels[1] = p.Rows[i].Labels[1], p.Rows[i].Labels[0]
				}
			}
		}},
		{"too few replicates", "replicates", func(in *Input) { in.Settings.Replicates = 1999 }},
		{"no confidence", "confidence", func(in *Input) { in.Settings.Confidence = 0 }},
		{"no minimum", "evaluable", func(in *Input) { in.Settings.PositiveGroups = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := newWorld(20, 10, false).input(1, 1)
			c.change(&in)
			_, err := Evaluate(in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, wanted one with %q", err, c.want)
			}
		})
	}
}

func TestScoresThatAreNoProbabilitiesHaveNoBrierScore(t *testing.T) {
	in := newWorld(40, 0, false).input(1, 1)
	in.Champion, in.Batch = nil, ""
	in.Candidate.Rows[0].Scores[0] = 1.5
	own := mustEvaluate(t, in).Own
	if own.Brier.Value != nil || own.Labels[1].Brier.Value != nil || own.Macro.Value == nil {
		t.Errorf("Brier %v and %v, macro AUROC %v", own.Brier.Value, own.Labels[1].Brier.Value, own.Macro.Value)
	}
}

func TestChecksListEveryMetricAndDecideNothing(t *testing.T) {
	r := mustEvaluate(t, newWorld(80, 40, false).input(1.5, 0.7))
	byName := map[string]verdict.Check{}
	for _, c := range r.Checks() {
		if c.Required {
			t.Errorf("%s decides", c.Name)
		}
		if _, twice := byName[c.Name]; twice {
			t.Errorf("%s stands twice", c.Name)
		}
		byName[c.Name] = c
	}
	if verdict.Join(r.Checks()) == verdict.Pass {
		t.Error("the list of metrics passes by itself")
	}
	for name, want := range map[string]verdict.Verdict{
		"compare.macro_auroc.difference": verdict.Pass, "own.macro_auroc": verdict.Pass, "batch.champion_drop": verdict.Pass,
		"own.macro_auroc[sex=F]": verdict.Pass, "own.auroc.Hernia": verdict.Inconclusive, "own.f1.Hernia": verdict.Inconclusive,
		"own.sensitivity.Mass": verdict.Pass, "own.latency.p99": verdict.Pass, "own.brier": verdict.Pass,
	} {
		if c := byName[name]; c.Verdict != want || c.N == 0 {
			t.Errorf("%s: %+v, wanted %s", name, c, want)
		}
	}
	if c := byName["own.macro_auroc"]; c.Interval == nil || math.Abs(c.Interval.Level-0.9) > 1e-9 {
		t.Errorf("interval %+v, wanted the level 0.9 of two bounds at 0.95", c.Interval)
	}
}

func TestDecodeRefusesReportsThatNobodyMade(t *testing.T) {
	good, err := mustEvaluate(t, newWorld(40, 20, false).input(1, 1)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(map[string]any)
	}{
		{"another schema", "schema", func(m map[string]any) { m["schema"] = "penstock.evaluation/2" }},
		{"an unknown field", "newer version", func(m map[string]any) { m["anchor"] = 1 }},
		{"no comparison", "belong together", func(m map[string]any) { delete(m, "comparison") }},
		{"no batch rows", "batch's rows", func(m map[string]any) { delete(m, "batch_rows") }},
		{"no card", "rows", func(m map[string]any) { delete(m, "own") }},
		{"a macro of null", "macro_auroc is missing", func(m map[string]any) { m["own"].(map[string]any)["macro_auroc"] = map[string]any{} }},
		{"a difference of null", "difference_macro_auroc is missing", func(m map[string]any) {
			m["comparison"].(map[string]any)["difference_macro_auroc"] = map[string]any{}
		}},
		{"an AUROC of 2", "between", func(m map[string]any) {
			m["own"].(map[string]any)["macro_auroc"] = map[string]any{"value": 2, "low": 0, "high": 1}
		}},
		{"an interval turned round", "in order", func(m map[string]any) {
			m["own"].(map[string]any)["macro_auroc"] = map[string]any{"value": 0.5, "low": 0.6, "high": 0.4}
		}},
		{"a value without an interval", "no interval", func(m map[string]any) {
			m["comparison"].(map[string]any)["difference_macro_auroc"] = map[string]any{"value": 0.5}
		}},
		{"labels that changed", "labels", func(m map[string]any) { m["labels"] = []string{"Mass"} }},
		{"an evaluable label more", "evaluable", func(m map[string]any) { m["own"].(map[string]any)["evaluable"] = labels }},
		{"another split", "split", func(m map[string]any) { m["split"] = "val" }},
		{"too few replicates", "replicates", func(m map[string]any) { m["settings"].(map[string]any)["replicates"] = 10 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m map[string]any
			if err := json.Unmarshal(good, &m); err != nil {
				t.Fatal(err)
			}
			c.change(m)
			bad, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Decode(bad); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, wanted one with %q", err, c.want)
			}
		})
	}
	if _, err := Decode(append(bytes.Clone(good), good...)); err == nil {
		t.Error("two reports in one file were read")
	}
}
