package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// TestJudging walks two models through evaluate and both gates on a real
// bucket, and every way a step must refuse what it is given.
func TestJudging(t *testing.T) {
	s3 := servertest.MinIO(t)
	for name, test := range map[string]func(*testing.T, *judgeBench){
		"a first model, a better one, and the release": testTwoModels,
		"a shuffled batch stays out":                   testDataAlarm,
		"what is inconclusive stays in":                testInconclusive,
		"what was let in before stays in":              testLetInBefore,
		"what evaluate refuses":                        testEvaluateRefuses,
		"what the gate refuses":                        testGateRefuses,
		"a comment tells what was judged":              testComment,
	} {
		t.Run(name, func(t *testing.T) { test(t, newJudgeBench(t, s3)) })
	}
}

func testTwoModels(t *testing.T, b *judgeBench) {
	b.predict(oldModel, b.old, both(1.5))
	evaluated, err := b.evaluate(evaluateOptions{model: oldModel, dataset: b.old, batch: oldBatch})
	if err != nil {
		t.Fatal(err)
	}
	if at := evaluated.Outputs[reportAt]; at != "s3://"+b.w.Bucket.Name()+"/runs/run/1/evaluation.json" {
		t.Errorf("the report lies at %s", at)
	}
	first, err := b.gate(gate.Offline, evaluated)
	if err != nil {
		t.Fatal(err)
	}
	if first.Verdict != verdict.Pass || first.Reason.Code != gate.FirstModel || first.Subjects["model"] != oldModel || b.head() != b.old {
		t.Fatalf("first model: %s (%s) %s; head %s", first.Verdict, first.Reason.Code, first.Reason.Text, b.head())
	}
	// The same gate again changes nothing.
	if again, err := b.gate(gate.Offline, evaluated); err != nil || again.Verdict != verdict.Pass {
		t.Fatalf("the gate again: %s, %v", again.Verdict, err)
	}

	offline, err := b.gate(gate.Offline, b.second(both(3), both(1.5)))
	if err != nil {
		t.Fatal(err)
	}
	if offline.Verdict != verdict.Pass || offline.Reason.Code != gate.NonInferior || b.head() != b.new {
		t.Fatalf("better model: %s (%s) %s; head %s", offline.Verdict, offline.Reason.Code, offline.Reason.Text, b.head())
	}
	load := verdict.Passed("fast enough")
	load.Command, load.RunKey, load.Subjects["model"], load.Subjects["dataset"] = "loadtest", "run", newModel, b.old
	release, err := b.gate(gate.ReleaseName, offline, load)
	if err != nil {
		t.Fatal(err)
	}
	if release.Verdict != verdict.Pass || release.Subjects["model"] != newModel || release.Subjects["dataset"] != b.new || release.Outputs["stage"] != gate.ReleaseName {
		t.Errorf("release %s, subjects %v, outputs %v", release.Verdict, release.Subjects, release.Outputs)
	}
	load.Verdict = verdict.Reject
	if release, err = b.gate(gate.ReleaseName, offline, load); err != nil || release.Verdict != verdict.Reject {
		t.Errorf("release with a rejecting load test: %s, %v", release.Verdict, err)
	}
	load.Verdict, load.Subjects["model"] = verdict.Pass, oldModel
	if _, err = b.gate(gate.ReleaseName, offline, load); err == nil || verdict.FromError(err).Reason.Code != gate.WrongEvidence {
		t.Errorf("release on two models: %v", err)
	}
}

func testDataAlarm(t *testing.T, b *judgeBench) {
	if err := dataset.Accept(context.Background(), b.w.Bucket, b.old, "run-1"); err != nil {
		t.Fatal(err)
	}
	champion := map[string]float64{oldBatch: 2, newBatch: 0}
	r, err := b.gate(gate.Offline, b.second(map[string]float64{oldBatch: 1, newBatch: 0}, champion))
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verdict.Reject || r.Reason.Code != gate.DataAlarm || b.head() != b.old {
		t.Fatalf("%s (%s) %s; head %s", r.Verdict, r.Reason.Code, r.Reason.Text, b.head())
	}
	if refusal := b.refused(newBatch); refusal == nil || refusal.Dataset != b.new || !strings.Contains(refusal.Reason, "data alarm") {
		t.Errorf("refusal %+v", refusal)
	}
}

// testLetInBefore: the second attempt at a run whose batch was let in rejects.
func testLetInBefore(t *testing.T, b *judgeBench) {
	for _, digest := range []string{b.old, b.new} {
		if err := dataset.Accept(context.Background(), b.w.Bucket, digest, "run-1"); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.gate(gate.Offline, b.second(both(0.2), both(2)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verdict.Reject || r.Reason.Code != gate.Worse || b.head() != b.new || b.refused(newBatch) != nil {
		t.Fatalf("%s (%s) %s; head %s, refusal %+v", r.Verdict, r.Reason.Code, r.Reason.Text, b.head(), b.refused(newBatch))
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "run run-1 let the batch in already") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func testInconclusive(t *testing.T, b *judgeBench) {
	if err := dataset.Accept(context.Background(), b.w.Bucket, b.old, "run-1"); err != nil {
		t.Fatal(err)
	}
	r, err := b.gate(gate.Offline, b.second(both(0.9), both(1)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verdict.Inconclusive || r.Reason.Code != gate.NotProven || r.ExitCode() != verdict.ExitInconclusive {
		t.Fatalf("%s (%s) %s", r.Verdict, r.Reason.Code, r.Reason.Text)
	}
	if b.head() != b.new || b.refused(newBatch) != nil {
		t.Errorf("head %s, refusal %+v", b.head(), b.refused(newBatch))
	}
}

func testEvaluateRefuses(t *testing.T, b *judgeBench) {
	ctx := context.Background()
	code := func(o evaluateOptions) string {
		t.Helper()
		r, err := b.evaluate(o)
		if err == nil {
			t.Fatalf("%+v: evaluated, %s", o, r.Reason.Text)
		}
		return verdict.FromError(err).Reason.Code
	}
	if got := code(evaluateOptions{model: newModel, dataset: b.new}); got != "no-predictions" {
		t.Errorf("no predictions: %s", got)
	}
	if got := code(evaluateOptions{model: newModel}); got != verdict.BadUsage {
		t.Errorf("no data set: %s", got)
	}
	if got := code(evaluateOptions{model: newModel, dataset: b.new, champion: oldModel}); got != verdict.BadUsage {
		t.Errorf("a champion without a data set: %s", got)
	}
	if _, err := runEvaluate(ctx, b.env, evaluateOptions{model: newModel, dataset: b.new, split: dataset.FinalEval}); verdict.FromError(err).Reason.Code != verdict.BadUsage {
		t.Errorf("final_eval: %v", err)
	}
	// Predictions of the smaller data set under the larger one's key.
	b.predict(newModel, b.old, both(1))
	data, _, err := b.w.Bucket.Get(ctx, predictions.Key(b.old, dataset.Test, newModel))
	if err != nil {
		t.Fatal(err)
	}
	b.put(predictions.Key(b.new, dataset.Test, newModel), data)
	if got := code(evaluateOptions{model: newModel, dataset: b.new}); got != evaluation.BadEvidence {
		t.Errorf("predictions of another data set: %s", got)
	}
	b.put(predictions.Key(b.new, dataset.Test, newModel), data[:len(data)/2])
	if got := code(evaluateOptions{model: newModel, dataset: b.new}); got != evaluation.BadEvidence {
		t.Errorf("half a file: %s", got)
	}
	// A manifest that was changed.
	b.predict(newModel, b.new, both(1))
	b.put("datasets/"+b.new+"/manifest.jsonl", []byte("{}\n"))
	if got := code(evaluateOptions{model: newModel, dataset: b.new}); got != verdict.Failed {
		t.Errorf("a changed manifest: %s", got)
	}
	b.env.Common.RunKey = ""
	if got := code(evaluateOptions{model: newModel, dataset: b.new}); got != verdict.BadUsage {
		t.Errorf("nowhere to put the report: %s", got)
	}
}

func testGateRefuses(t *testing.T, b *judgeBench) {
	evaluated := b.second(both(3), both(1.5))
	refuse := func(what, want string, change func(r *verdict.Result)) {
		t.Helper()
		data, err := evaluated.Encode()
		if err != nil {
			t.Fatal(err)
		}
		changed, err := verdict.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		change(&changed)
		r, err := b.gate(gate.Offline, changed)
		if err == nil || verdict.FromError(err).Reason.Code != want {
			t.Errorf("%s: %s, error %v; wanted the code %s", what, r.Verdict, err, want)
		}
		if b.head() != "" || b.refused(newBatch) != nil {
			t.Errorf("%s: the data were settled all the same", what)
		}
	}
	same := func(*verdict.Result) {}
	refuse("a rejected evaluation", "not-passed", func(r *verdict.Result) { r.Verdict = verdict.Reject })
	refuse("another command", verdict.BadUsage, func(r *verdict.Result) { r.Command = "train" })
	refuse("another model", "digest-mismatch", func(r *verdict.Result) { r.Subjects["model"] = oldModel })
	refuse("another SHA-256", "digest-mismatch", func(r *verdict.Result) { r.Subjects["report"] = oldModel })
	refuse("no SHA-256", gate.WrongEvidence, func(r *verdict.Result) { delete(r.Subjects, "report") })
	refuse("a report outside the bucket", verdict.Failed, func(r *verdict.Result) { r.Outputs[reportAt] = "s3://elsewhere/evaluation.json" })

	b.champion = [2]string{newModel, b.new}
	refuse("a champion that moved", "champion-moved", same)
	b.champion = [2]string{}
	refuse("a champion that is gone", "champion-moved", same)
	b.champion = [2]string{oldModel, b.old}

	key := "runs/run/1/evaluation.json"
	data, _, err := b.w.Bucket.Get(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	b.put(key, bytes.Replace(data, []byte(`"seed": 1`), []byte(`"seed": 2`), 1))
	refuse("a report that was edited", "digest-mismatch", same)
	b.put(key, data)

	// The head moved on since the data set was made: nothing may be lost.
	other := b.dataset("", "batch-three", patients("batch-three", 10))
	if err := dataset.Accept(context.Background(), b.w.Bucket, other, "run-3"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.gate(gate.Offline, evaluated); err == nil || b.head() != other {
		t.Errorf("error %v, head %s", err, b.head())
	}
}
