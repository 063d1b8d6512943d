package report

import (
	"fmt"
	"testing"

	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// names are what data brings into a comment. Tests put hostile ones in.
type names struct {
	labels      []string
	slice       string
	value       [2]string
	reason      string
	warning     string
	quarantine  string
	job, text   string
	url, commit string
	stage       string
	code        string
}

func benign() names {
	return names{
		labels: []string{"Atelectasis", "Effusion", "Mass", "Pleural_Thickening"},
		slice:  "sex", value: [2]string{"F", "M"},
		reason: "proven worse than the champion", warning: "the measurement was repeated",
		quarantine: "truncated", job: "lint", text: "4711", url: "https://github.example/o/r/actions/runs/4711",
		commit: "8ce1afc2f3ab4e1c8ce1afc2f3ab4e1c8ce1afc2", stage: "offline", code: "worse",
	}
}

// every puts one string in all places.
func every(s string) names {
	n := names{
		slice: s, value: [2]string{s, s + "2"}, reason: s, warning: s, quarantine: s,
		job: s, text: s, url: s, commit: s, stage: s, code: s,
	}
	for i := range 4 {
		n.labels = append(n.labels, fmt.Sprintf("%s%d", s, i))
	}
	return n
}

func digest(i int) string { return fmt.Sprintf("%064x", i) }

func ci(value, half float64) evaluation.Metric {
	low, high := value-half, value+half
	return evaluation.Metric{Value: &value, Low: &low, High: &high}
}

// reportOf is a report with a champion, a new batch, slices, and a label with
// too little evidence.
func reportOf(n names) *evaluation.Report {
	r := &evaluation.Report{
		Schema: evaluation.Schema, Model: digest(1), Dataset: digest(2), Champion: digest(3), ChampionDataset: digest(4),
		Batch: digest(5), Split: evaluation.TestSplit, Labels: n.labels,
		Settings: evaluation.Settings{Confidence: 0.95, Replicates: 2000, Seed: 1, PositiveGroups: 5, NegativeGroups: 5},
	}
	last := len(n.labels) - 1
	evaluable := n.labels[:last]
	c := &evaluation.Comparison{Rows: 240, Groups: 80, Evaluable: evaluable, Candidate: ci(0.829, 0.02), Champion: ci(0.9, 0.013), Difference: ci(-0.071, 0.015)}
	r.Own = evaluation.Card{Rows: 360, Groups: 120, Evaluable: evaluable, Macro: ci(0.812, 0.02), Brier: ci(0.071, 0.01)}
	for i, name := range n.labels {
		counts := evaluation.Counts{PositiveRows: 30 + i, NegativeRows: 210 - i, PositiveGroups: 12, NegativeGroups: 75}
		if i == last {
			counts = evaluation.Counts{PositiveRows: 3, NegativeRows: 237, PositiveGroups: 1, NegativeGroups: 79}
		}
		champion := 0.95 - 0.02*float64(i)
		c.Labels = append(c.Labels, evaluation.Difference{
			Name: name, Evaluable: i < last, Counts: counts,
			Candidate: ci(champion-0.03*float64(i), 0.03), Champion: ci(champion, 0.03), Difference: ci(-0.03*float64(i), 0.02),
		})
		own := counts
		own.NegativeRows += 120
		r.Own.Labels = append(r.Own.Labels, evaluation.Label{Name: name, Evaluable: i < last, Counts: own, AUROC: ci(champion-0.04, 0.03), Sensitivity: ci(0.7, 0.1), Specificity: ci(0.8, 0.05)})
	}
	for i, value := range n.value {
		c.Slices = append(c.Slices, evaluation.SliceDifference{Name: n.slice, Value: value, Rows: 120, Groups: 40, Evaluable: evaluable, Candidate: ci(0.8, 0.05), Champion: ci(0.8+0.05*float64(i), 0.05), Difference: ci(-0.05*float64(i), 0.04)})
		r.Own.Slices = append(r.Own.Slices, evaluation.Slice{Name: n.slice, Value: value, Rows: 180, Groups: 60, Evaluable: evaluable, Macro: ci(0.8+0.05*float64(i), 0.04)})
	}
	r.Comparison = c
	r.BatchRows = &evaluation.BatchCard{Rows: 120, Groups: 40, Evaluable: evaluable, Candidate: ci(0.81, 0.03), Champion: ci(0.7, 0.04), Difference: ci(0.11, 0.05), Reference: ci(0.9, 0.013), Drop: ci(-0.2, 0.05)}
	return r
}

func first(n names) *evaluation.Report {
	r := reportOf(n)
	r.Champion, r.ChampionDataset, r.Comparison, r.BatchRows = "", "", nil, nil
	return r
}

func check(name string, v verdict.Verdict, required bool, observed float64, unit, wanted string) verdict.Check {
	return verdict.Check{Name: name, Verdict: v, Required: required, Observed: &observed, Unit: unit, Wanted: wanted, N: 240}
}

// factsOf is a comment with everything in it; the gate rejects.
func factsOf(n names) Facts {
	gated := check("compare.macro_auroc.difference", verdict.Reject, true, -0.071, "", "> -0.02 at 0.95")
	gated.Interval = &verdict.Interval{Low: verdict.Number(-0.087), High: verdict.Number(-0.057), Level: 0.9}
	listed := check("compare.auroc.difference."+n.labels[0], verdict.Pass, false, 0.1, "", "")
	share := check("over-slo", verdict.Pass, true, 0, "share", "<= 0.01 of requests over 500ms or failed, shown with confidence 0.99")
	share.Interval = &verdict.Interval{Low: verdict.Number(0), Level: 0.98}
	now := dataset.Dataset{
		Digest: digest(2), Batches: []string{"a", "b"}, Labels: n.labels, Splits: map[string]dataset.Count{},
		Quarantined: []dataset.Quarantined{{Code: n.quarantine}, {Code: n.quarantine}, {Code: "empty"}},
		SetAside:    []string{"x"},
	}
	base := dataset.Dataset{Digest: digest(4), Batches: []string{"a"}, Labels: n.labels, Splits: map[string]dataset.Count{}}
	for i, split := range dataset.Splitting {
		positives, before := map[string]int{}, map[string]int{}
		for k, label := range n.labels {
			positives[label], before[label] = 10*(k+1), 4*(k+2)
		}
		now.Splits[split] = dataset.Count{Rows: 400 - 100*i, Groups: 100 - 20*i, Positives: positives}
		base.Splits[split] = dataset.Count{Rows: 200 - 50*i, Groups: 50 - 10*i, Positives: before}
	}
	data := Compare(now, &base, Champions)
	return Facts{
		Project: "xray", Commit: n.commit, Report: reportOf(n), Data: &data,
		Steps: []Step{
			{Name: "dataset", Verdict: verdict.Pass, Reason: verdict.Reason{Code: "done", Text: n.reason}},
			{Name: "gate-" + n.stage, Verdict: verdict.Reject, Reason: verdict.Reason{Code: n.code, Text: n.reason}, Checks: []verdict.Check{gated, listed}},
			{Name: "loadtest", Verdict: verdict.Pass, Reason: verdict.Reason{Code: "done", Text: "0 of 720 requests missed 500ms"}, Warnings: []string{n.warning}, Checks: []verdict.Check{
				share,
				check("offered-rate", verdict.Pass, true, 59.9956, "1/s", ">= 99% of the schedule's 60/s"),
				check("latency-p50", verdict.Pass, false, 1.46, "ms", "<= 500 ms"),
				check("latency-p99", verdict.Pass, false, 9.06, "ms", "<= 500 ms"),
			}},
			{Name: "register"},
		},
		Jobs:  []Job{{n.job, "success"}},
		Links: []Link{{"run", n.text, n.url}, {"MLflow run", "0d4a9cd4", "http://127.0.0.1:5000/#/runs/0d4a9cd4"}, {"data set", "datasets/" + digest(2), ""}},
	}
}

func TestFixtureReportsAreReports(t *testing.T) {
	for _, r := range []*evaluation.Report{reportOf(benign()), first(benign())} {
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestOverallNeverPassesOnAbsence(t *testing.T) {
	step := func(name string, v verdict.Verdict) Step {
		return Step{Name: name, Verdict: v, Reason: verdict.Reason{Code: name, Text: name}}
	}
	pass := func(name string) Step { return step(name, verdict.Pass) }
	for name, c := range map[string]struct {
		facts Facts
		want  verdict.Verdict
		code  string
	}{
		"nothing":               {Facts{}, verdict.Inconclusive, Nothing},
		"no gate":               {Facts{Steps: []Step{pass("dataset"), pass("evaluate")}}, verdict.Inconclusive, NoGate},
		"the gate passed":       {Facts{Steps: []Step{pass("dataset"), pass("gate-offline")}}, verdict.Pass, "gate-offline"},
		"the last gate speaks":  {Facts{Steps: []Step{pass("gate-offline"), pass("loadtest"), pass("gate-release")}}, verdict.Pass, "gate-release"},
		"a gate without result": {Facts{Steps: []Step{pass("evaluate"), step("gate-offline", "")}}, verdict.Error, NoResult},
		"inconclusive is not a pass": {
			Facts{Steps: []Step{pass("evaluate"), step("gate-offline", verdict.Inconclusive)}}, verdict.Inconclusive, "gate-offline",
		},
		"a rejection explains the missing steps after it": {
			Facts{Steps: []Step{step("gate-offline", verdict.Reject), step("loadtest", "")}, Jobs: []Job{{"gate", "failure"}}}, verdict.Reject, "gate-offline",
		},
		"an error goes before a rejection": {
			Facts{Steps: []Step{step("train", verdict.Error), step("gate-offline", verdict.Reject)}}, verdict.Error, "train",
		},
		"the gate speaks before the load test": {
			Facts{Steps: []Step{step("loadtest", verdict.Reject), step("gate-offline", verdict.Reject)}}, verdict.Reject, "gate-offline",
		},
		"an unknown verdict is an error": {Facts{Steps: []Step{step("gate-offline", "ok")}}, "ok", "gate-offline"},
		"a failed job that left nothing": {
			Facts{Steps: []Step{pass("gate-offline")}, Jobs: []Job{{"loadtest", "failure"}}}, verdict.Error, JobFailed,
		},
		"a cancelled job":        {Facts{Jobs: []Job{{"lint", "success"}, {"test", "cancelled"}}}, verdict.Error, verdict.Cancelled},
		"an unknown job result":  {Facts{Jobs: []Job{{"lint", "fine"}}}, verdict.Error, JobFailed},
		"all jobs were skipped":  {Facts{Jobs: []Job{{"lint", "skipped"}}}, verdict.Inconclusive, Nothing},
		"jobs alone may succeed": {Facts{Jobs: []Job{{"lint", "success"}, {"test", "success"}}}, verdict.Pass, Jobs},
	} {
		if v, reason, _ := c.facts.Overall(); v != c.want || reason.Code != c.code {
			t.Errorf("%s: %s (%s), want %s (%s)", name, v, reason.Code, c.want, c.code)
		}
	}
}

func TestStepsTellNoFilesOfTheDataSetAndRefuseStrangers(t *testing.T) {
	r := verdict.Passed("done")
	r.Command, r.Warnings = "dataset", []string{"1 files are quarantined: john-doe.png"}
	s, err := StepOf(r)
	if err != nil || len(s.Warnings) != 0 {
		t.Errorf("the data set's warnings, which name files, would stand in a comment: %q %v", s.Warnings, err)
	}
	r.Command = "rollout"
	if _, err := StepOf(r); err == nil {
		t.Error("a result that no section tells was taken")
	}
}

// datasetOf is a data set of one batch with the labels of the facts.
func datasetOf(f Facts) dataset.Dataset {
	d := dataset.Dataset{Digest: digest(2), Batches: []string{"a"}, Labels: f.Report.Labels, Splits: map[string]dataset.Count{}}
	for _, split := range dataset.Splitting {
		d.Splits[split] = dataset.Count{Rows: 100, Groups: 25, Positives: map[string]int{f.Report.Labels[0]: 20}}
	}
	return d
}
