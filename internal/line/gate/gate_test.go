package gate

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// policy is the one that examples/xray uses, with a label that must hold and a
// bound for the first model.
func policy() Policy {
	return Policy{
		Confidence: 0.95, Replicates: 2000, Seed: 1,
		Evidence:  Evidence{PositiveGroups: 10, NegativeGroups: 10, Labels: 2, MaxDegenerate: 0.05},
		Bootstrap: &Bootstrap{MacroAUROC: &AtLeast{0.6}},
		Compare:   Compare{MacroAUROC: Margin{0.02}},
		Batch:     &Batch{MaxDrop: 0.05, Labels: 2, WithoutEvidence: List},
	}
}

var labelNames = []string{"Mass", "Effusion", "Hernia"}

func metric(v, low, high float64) evaluation.Metric {
	return evaluation.Metric{Value: &v, Low: &low, High: &high}
}

// around is a metric whose bounds lie so far from it.
func around(v, half float64) evaluation.Metric { return metric(v, v-half, v+half) }

var enough, few = evaluation.Counts{PositiveRows: 40, NegativeRows: 60, PositiveGroups: 20, NegativeGroups: 30}, evaluation.Counts{PositiveRows: 2, NegativeRows: 98, PositiveGroups: 2, NegativeGroups: 48}

// firstModel is the report on a model without a champion.
func firstModel(macro evaluation.Metric) evaluation.Report {
	r := evaluation.Report{
		Schema: evaluation.Schema, Model: "m", Dataset: "d", Split: "test", Settings: policy().Settings(), Labels: labelNames,
		Own: evaluation.Card{Rows: 100, Groups: 50, Evaluable: []string{"Mass", "Effusion"}, Macro: macro},
	}
	for _, name := range labelNames {
		l := evaluation.Label{Name: name, Counts: enough, Evaluable: true, AUROC: around(0.7, 0.1)}
		if name == "Hernia" {
			l.Counts, l.Evaluable = few, false
		}
		r.Own.Labels = append(r.Own.Labels, l)
	}
	return r
}

// against is the report on a model with a champion and a new batch.
func against(difference, drop evaluation.Metric) evaluation.Report {
	r := firstModel(around(0.7, 0.05))
	r.Champion, r.ChampionDataset, r.Batch = "c", "cd", "b2"
	r.Comparison = &evaluation.Comparison{
		Rows: 100, Groups: 50, Evaluable: []string{"Mass", "Effusion"},
		Candidate: around(0.7, 0.05), Champion: around(0.68, 0.05), Difference: difference,
	}
	for _, name := range labelNames {
		l := evaluation.Difference{Name: name, Counts: enough, Evaluable: true, Difference: around(0, 0.01)}
		if name == "Hernia" {
			l.Counts, l.Evaluable = few, false
		}
		r.Comparison.Labels = append(r.Comparison.Labels, l)
	}
	r.BatchRows = &evaluation.BatchCard{
		Rows: 60, Groups: 30, Evaluable: []string{"Mass", "Effusion"},
		Candidate: around(0.7, 0.05), Champion: around(0.68, 0.05), Reference: around(0.68, 0.05), Drop: drop,
	}
	return r
}

// good are differences of a candidate and a batch that pass.
func good() evaluation.Report { return against(around(0.05, 0.01), around(0, 0.04)) }

func degenerate(m evaluation.Metric, n int) evaluation.Metric {
	m.Degenerate = n
	return m
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy func(*Policy)
		report func() evaluation.Report
		want   verdict.Verdict
		code   string
	}{
		// The first model.
		{"first model above the minimum", nil, func() evaluation.Report { return firstModel(around(0.7, 0.05)) }, verdict.Pass, FirstModel},
		{"first model around the minimum", nil, func() evaluation.Report { return firstModel(around(0.62, 0.05)) }, verdict.Inconclusive, NotProven},
		{"first model below the minimum", nil, func() evaluation.Report { return firstModel(around(0.5, 0.05)) }, verdict.Reject, BelowMinimum},
		{"first model without a minimum asked for", func(p *Policy) { p.Bootstrap.MacroAUROC = nil }, func() evaluation.Report { return firstModel(around(0.5, 0.1)) }, verdict.Pass, FirstModel},
		{"first model on too few labels", nil, func() evaluation.Report {
			r := firstModel(around(0.7, 0.05))
			r.Own.Labels[1].Counts, r.Own.Labels[1].Evaluable, r.Own.Evaluable = few, false, []string{"Mass"}
			return r
		}, verdict.Inconclusive, NoEvidence},
		{"first model, no label evaluable", func(p *Policy) { p.Bootstrap.MacroAUROC = nil }, func() evaluation.Report {
			r := firstModel(evaluation.Metric{})
			for i := range r.Own.Labels {
				r.Own.Labels[i].Counts, r.Own.Labels[i].Evaluable = few, false
			}
			r.Own.Evaluable = nil
			return r
		}, verdict.Inconclusive, NoEvidence},
		{"first model, too many degenerate replicates", nil, func() evaluation.Report { return firstModel(degenerate(around(0.7, 0.05), 101)) }, verdict.Inconclusive, NoEvidence},
		{"first model, as many degenerate replicates as allowed", nil, func() evaluation.Report { return firstModel(degenerate(around(0.7, 0.05), 100)) }, verdict.Pass, FirstModel},

		// Against the champion: the trials' numbers first.
		{"an honest second batch", nil, good, verdict.Pass, NonInferior},
		{"a shuffled batch, the mildest seen", nil, func() evaluation.Report { return against(around(-0.036, 0.012), around(-0.2, 0.05)) }, verdict.Reject, DataAlarm},
		{"a shuffled batch, the worst seen", nil, func() evaluation.Report { return against(around(-0.113, 0.02), around(-0.2, 0.05)) }, verdict.Reject, DataAlarm},
		{"worse, with a batch like any other", nil, func() evaluation.Report { return against(around(-0.036, 0.012), around(0, 0.04)) }, verdict.Reject, Worse},
		{"as good as the champion", nil, func() evaluation.Report { return against(around(0, 0.015), around(0, 0.04)) }, verdict.Pass, NonInferior},
		{"the champion again", nil, func() evaluation.Report { return against(around(0, 0), around(0, 0.04)) }, verdict.Pass, NonInferior},
		{"slightly worse, proven within the margin", nil, func() evaluation.Report { return against(around(-0.01, 0.005), around(0, 0.04)) }, verdict.Pass, NonInferior},
		{"better, but nobody can tell", nil, func() evaluation.Report { return against(around(0.02, 0.06), around(0, 0.04)) }, verdict.Inconclusive, NotProven},
		{"worse, but nobody can tell", nil, func() evaluation.Report { return against(around(-0.05, 0.06), around(0, 0.04)) }, verdict.Inconclusive, NotProven},
		{"exactly at the margin", nil, func() evaluation.Report { return against(metric(0, -0.02, 0.02), around(0, 0.04)) }, verdict.Inconclusive, NotProven},
		{"too few labels to compare", nil, func() evaluation.Report {
			r := good()
			r.Comparison.Labels[0].Counts, r.Comparison.Labels[0].Evaluable, r.Comparison.Evaluable = few, false, []string{"Effusion"}
			return r
		}, verdict.Inconclusive, NoEvidence},
		{"too few labels, and the batch is wrong", nil, func() evaluation.Report {
			r := against(around(0.05, 0.01), around(-0.2, 0.05))
			r.Comparison.Labels[0].Counts, r.Comparison.Labels[0].Evaluable, r.Comparison.Evaluable = few, false, []string{"Effusion"}
			return r
		}, verdict.Reject, DataAlarm},
		{"degenerate replicates of the difference", nil, func() evaluation.Report { return against(degenerate(around(0.05, 0.01), 500), around(0, 0.04)) }, verdict.Inconclusive, NoEvidence},
		{"no replicate has a value", nil, func() evaluation.Report {
			v := 0.05
			return against(evaluation.Metric{Value: &v, Degenerate: 2000}, around(0, 0.04))
		}, verdict.Inconclusive, NoEvidence},

		// Labels that must hold.
		{"a required label holds", requireLabel("Mass"), good, verdict.Pass, NonInferior},
		{"a required label is worse", requireLabel("Mass"), func() evaluation.Report {
			r := good()
			r.Comparison.Labels[0].Difference = around(-0.2, 0.05)
			return r
		}, verdict.Reject, Worse},
		{"a required label is uncertain", requireLabel("Mass"), func() evaluation.Report {
			r := good()
			r.Comparison.Labels[0].Difference = around(-0.1, 0.2)
			return r
		}, verdict.Inconclusive, NotProven},
		{"a required label is not evaluable", requireLabel("Hernia"), good, verdict.Inconclusive, NoEvidence},
		{"a label that nobody requires is worse", nil, func() evaluation.Report {
			r := good()
			r.Comparison.Labels[0].Difference = around(-0.2, 0.05)
			return r
		}, verdict.Pass, NonInferior},

		// The data alarm.
		{"a fall within what is allowed", nil, func() evaluation.Report { return against(around(0.05, 0.01), around(-0.06, 0.02)) }, verdict.Pass, NonInferior},
		{"a fall beyond, though the candidate is better", nil, func() evaluation.Report { return against(around(0.05, 0.01), around(-0.1, 0.04)) }, verdict.Reject, DataAlarm},
		{"no alarm asked for", func(p *Policy) { p.Batch = nil }, func() evaluation.Report { return against(around(0.05, 0.01), around(-0.3, 0.04)) }, verdict.Pass, NonInferior},
		{"too few batch rows, listed", nil, withoutBatchEvidence, verdict.Pass, NonInferior},
		{"too few batch rows, held", func(p *Policy) { p.Batch.WithoutEvidence = HoldVerdict }, withoutBatchEvidence, verdict.Inconclusive, NoEvidence},
		{"degenerate replicates of the fall, held", func(p *Policy) { p.Batch.WithoutEvidence = HoldVerdict }, func() evaluation.Report {
			return against(around(0.05, 0.01), degenerate(around(-0.3, 0.04), 1999))
		}, verdict.Inconclusive, NoEvidence},
		{"no new batch", nil, func() evaluation.Report {
			r := good()
			r.Batch, r.BatchRows = "", nil
			return r
		}, verdict.Pass, NonInferior},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := policy()
			if c.policy != nil {
				c.policy(&p)
			}
			d, err := Decide(p, c.report())
			if err != nil {
				t.Fatal(err)
			}
			if d.Verdict != c.want || d.Reason.Code != c.code {
				t.Errorf("%s (%s) %s; wanted %s (%s)", d.Verdict, d.Reason.Code, d.Reason.Text, c.want, c.code)
			}
			if d.Reason.Text == "" {
				t.Error("a verdict without a reason that people can read")
			}
			if verdict.Join(d.Checks) != d.Verdict {
				t.Errorf("the checks join to %s, the verdict is %s", verdict.Join(d.Checks), d.Verdict)
			}
		})
	}
}

func requireLabel(name string) func(*Policy) {
	return func(p *Policy) { p.Compare.Labels = map[string]Margin{name: {0.1}} }
}

func withoutBatchEvidence() evaluation.Report {
	r := good()
	r.BatchRows = &evaluation.BatchCard{}
	return r
}

func TestDecideAnswersAnErrorWhereNothingIsKnown(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name, want string
		policy     func(*Policy)
		report     func(*evaluation.Report)
	}{
		{"no policy", "confidence", func(p *Policy) { *p = Policy{} }, nil},
		{"no report", "schema", nil, func(r *evaluation.Report) { *r = evaluation.Report{} }},
		{"another schema", "schema", nil, func(r *evaluation.Report) { r.Schema = "penstock.evaluation/0" }},
		{"another split", "split", nil, func(r *evaluation.Report) { r.Split = "val" }},
		{"no champion and no section bootstrap", "bootstrap", func(p *Policy) { p.Bootstrap = nil }, func(r *evaluation.Report) {
			r.Champion, r.ChampionDataset, r.Comparison, r.BatchRows = "", "", nil, nil
		}},
		{"a champion without a comparison", "belong together", nil, func(r *evaluation.Report) { r.Comparison = nil }},
		{"a batch without its rows", "batch", nil, func(r *evaluation.Report) { r.BatchRows = nil }},
		{"another seed", "evaluate again", func(p *Policy) { p.Seed = 2 }, nil},
		{"other minima of evidence", "evaluate again", func(p *Policy) { p.Evidence.PositiveGroups = 30 }, nil},
		{"a required label that nobody knows", "Nodule", requireLabel("Nodule"), nil},
		{"a difference of NaN", "between", nil, func(r *evaluation.Report) { r.Comparison.Difference.Value = &nan }},
		{"a bound of NaN", "between", nil, func(r *evaluation.Report) { r.Comparison.Difference.Low = &nan }},
		{"no difference", "missing", nil, func(r *evaluation.Report) { r.Comparison.Difference = evaluation.Metric{} }},
		{"one bound only", "no interval", nil, func(r *evaluation.Report) { r.Comparison.Difference.High = nil }},
		{"no fall", "champion_drop is missing", nil, func(r *evaluation.Report) { r.BatchRows.Drop = evaluation.Metric{} }},
		{"a label's difference missing", "missing", requireLabel("Mass"), func(r *evaluation.Report) { r.Comparison.Labels[0].Difference = evaluation.Metric{} }},
		{"no macro", "missing", nil, func(r *evaluation.Report) { r.Own.Macro = evaluation.Metric{} }},
		{"a label called evaluable that is not", "contradict", nil, func(r *evaluation.Report) { r.Comparison.Labels[2].Evaluable = true }},
		{"labels left out", "labels", nil, func(r *evaluation.Report) { r.Comparison.Labels = r.Comparison.Labels[:2] }},
		{"no rows", "rows", nil, func(r *evaluation.Report) { r.Comparison.Rows = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, r := policy(), good()
			if c.policy != nil {
				c.policy(&p)
			}
			if c.report != nil {
				c.report(&r)
			}
			d, err := Decide(p, r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, wanted one with %q", err, c.want)
			}
			if d.Verdict != "" {
				t.Errorf("a verdict %q all the same", d.Verdict)
			}
		})
	}
}

// TestAWorseCandidateNeverGetsABetterVerdict lowers what a candidate shows,
// one number at a time, in random reports under random policies.
func TestAWorseCandidateNeverGetsABetterVerdict(t *testing.T) {
	rank := map[verdict.Verdict]int{verdict.Pass: 2, verdict.Inconclusive: 1, verdict.Reject: 0}
	rng := rand.New(rand.NewPCG(8, 8))
	draw := func(scale float64) evaluation.Metric {
		v := (rng.Float64() - 0.5) * scale
		return degenerate(metric(v, v-rng.Float64()*0.05, v+rng.Float64()*0.05), rng.IntN(2)*rng.IntN(300))
	}
	lower := func(m evaluation.Metric, by float64) evaluation.Metric {
		out := metric(*m.Value-by, *m.Low-by, *m.High-by)
		out.Degenerate = m.Degenerate
		return out
	}
	seen := map[verdict.Verdict]int{}
	for range 3000 {
		p := policy()
		p.Compare.MacroAUROC.Margin = 0.01 + 0.05*rng.Float64()
		if rng.IntN(2) == 0 {
			requireLabel("Mass")(&p)
		}
		better := against(draw(0.15), draw(0.2))
		better.Comparison.Labels[0].Difference = draw(0.4)
		worse, by := better, rng.Float64()*0.1
		comparison := *better.Comparison
		comparison.Difference = lower(comparison.Difference, by)
		comparison.Labels = append([]evaluation.Difference{}, comparison.Labels...)
		comparison.Labels[0].Difference = lower(comparison.Labels[0].Difference, by)
		worse.Comparison = &comparison
		a, err := Decide(p, better)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Decide(p, worse)
		if err != nil {
			t.Fatal(err)
		}
		if rank[b.Verdict] > rank[a.Verdict] {
			t.Fatalf("lower by %v: %s (%s) after %s (%s)", by, b.Verdict, b.Reason.Text, a.Verdict, a.Reason.Text)
		}
		seen[a.Verdict]++

		first, lowered := firstModel(lower(draw(0.3), -0.6)), evaluation.Report{}
		lowered = first
		lowered.Own.Macro = lower(first.Own.Macro, by)
		c, err := Decide(p, first)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Decide(p, lowered)
		if err != nil {
			t.Fatal(err)
		}
		if rank[d.Verdict] > rank[c.Verdict] {
			t.Fatalf("first model lower by %v: %s after %s", by, d.Verdict, c.Verdict)
		}
	}
	for v := range rank {
		if seen[v] < 100 {
			t.Errorf("only %d of the candidates got %s", seen[v], v)
		}
	}
}

func TestOnlyRequiredChecksDecide(t *testing.T) {
	d, err := Decide(policy(), good())
	if err != nil {
		t.Fatal(err)
	}
	required := map[string]bool{}
	for _, c := range d.Checks {
		if c.Required {
			required[c.Name] = true
		}
	}
	for _, name := range []string{"compare.evidence", "compare.macro_auroc.difference", "batch.champion_drop"} {
		if !required[name] {
			t.Errorf("%s does not decide", name)
		}
		delete(required, name)
	}
	if len(required) > 0 {
		t.Errorf("%v decide too", required)
	}
}
