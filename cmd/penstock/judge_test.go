package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// bench is a project in a bucket of a real MinIO: two data sets, the second
// one the first plus a batch, with predictions that are drawn.
type judgeBench struct {
	t        *testing.T
	env      *action.Env
	w        *workspace.Workspace
	old, new string // data sets
	rows     map[string][]dataset.Row
	champion [2]string // model and data set, as the registry would say
}

const (
	oldModel = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	newModel = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	oldBatch = "batch-one"
	newBatch = "batch-two"
)

const judgeProject = `
project: judged
task: multilabel
data:
  bucket: BUCKET
  raw: raw/
  settle: 1s
  table: labels.csv
  columns: {file: file, labels: labels, group: patient_id}
  label_separator: "|"
  splits: {train: 0.6, val: 0.1, test: 0.2, final_eval: 0.1, seed: 1}
  image: {width: 8, height: 8, channels: 1, filter: bilinear, decoder: go}
  normalise: {scale: 0.004, mean: [0.5], std: [0.25]}
train:
  command: [/bin/true]
  seed: 1
  timeout: 1m
  tolerance: 0.0001
  goldens: 1
  graph: {input: image, scores: scores, activation: none}
labels:
  - {name: Effusion, urgency: urgent}
  - {name: Mass, urgency: routine}
gate:
  confidence: 0.95
  replicates: 2000
  seed: 1
  evidence: {positive_groups: 5, negative_groups: 5, labels: 2, max_degenerate: 0.05}
  bootstrap: {macro_auroc: {at_least: 0.6}}
  compare: {macro_auroc: {margin: 0.02}}
  batch: {max_drop: 0.05, labels: 2, without_evidence: inconclusive}
slo: {latency: 500ms, objective: 0.99, rate: 60, duration: 12s}
rollout:
  steps: [50]
  step: 5s
  interval: 1s
  min_requests: 100
  alpha: 0.01
  errors: {margin: 0.01, ratio: 2}
  slow: {margin: 0.02, ratio: 2}
  lease: 15s
  deadline: 3m
`

func newJudgeBench(t *testing.T, s3 *servertest.S3) *judgeBench {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "penstock.yaml")
	if err := os.WriteFile(config, []byte(strings.Replace(judgeProject, "BUCKET", servertest.Bucket(t, s3), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{
		"AWS_ENDPOINT_URL_S3": s3.Endpoint, "AWS_ACCESS_KEY_ID": s3.AccessKey, "AWS_SECRET_ACCESS_KEY": s3.SecretKey, "PENSTOCK_CACHE": dir,
	}
	b := &judgeBench{t: t, rows: map[string][]dataset.Row{}, env: &action.Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Now: time.Now,
		Getenv: func(name string) string { return environment[name] },
		Common: action.Common{Config: config, RunKey: "run", Attempt: 1},
	}}
	var err error
	if b.w, err = workspace.Open(b.env); err != nil {
		t.Fatal(err)
	}
	first := patients(oldBatch, 80)
	b.old = b.dataset("", oldBatch, first)
	b.new = b.dataset(b.old, newBatch, append(first, patients(newBatch, 60)...))
	return b
}

// patients are test rows of one batch, two for each patient.
func patients(batch string, n int) []dataset.Row {
	rng := rand.New(rand.NewPCG(uint64(len(batch)+n), 1))
	var rows []dataset.Row
	for p := range n {
		labels := []string{}
		for _, l := range []string{"Effusion", "Mass"} {
			if rng.Float64() < 0.4 {
				labels = append(labels, l)
			}
		}
		for i := range 2 {
			file := fmt.Sprintf("raw/%s/%03d-%d.png", batch, p, i)
			rows = append(rows, dataset.Row{
				File: file, SHA256: hexSum([]byte(file)), Pipeline: "p", Group: fmt.Sprintf("%s-%d", batch, p), Batch: batch,
				Labels: labels, Slices: map[string]string{"sex": []string{"F", "M"}[p%2]}, Split: dataset.Test,
			})
		}
	}
	return rows
}

func (b *judgeBench) dataset(parent, batch string, rows []dataset.Row) string {
	b.t.Helper()
	manifest, err := dataset.EncodeManifest(rows)
	if err != nil {
		b.t.Fatal(err)
	}
	digest := hexSum(manifest)
	described, err := json.Marshal(dataset.Dataset{
		Schema: dataset.Schema, Digest: digest, Parent: parent, Batch: batch, Labels: []string{"Effusion", "Mass"},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.put("datasets/"+digest+"/manifest.jsonl", manifest)
	b.put("datasets/"+digest+"/dataset.json", described)
	b.rows[digest] = rows
	return digest
}

func (b *judgeBench) put(key string, data []byte) {
	b.t.Helper()
	if _, err := b.w.Bucket.Put(context.Background(), key, data, journal.Always()); err != nil {
		b.t.Fatal(err)
	}
}

// predict draws predictions that separate by so many standard deviations in
// each batch.
func (b *judgeBench) predict(model, data string, separation map[string]float64) {
	b.t.Helper()
	rng := rand.New(rand.NewPCG(uint64(model[0]), 7))
	var rows []predictions.Row
	for _, r := range b.rows[data] {
		p := predictions.Row{ID: r.File, Group: r.Group, Split: r.Split, Batch: r.Batch, SHA256: r.SHA256, Slices: r.Slices, LatencyMS: 1}
		for _, l := range []string{"Effusion", "Mass"} {
			sick, z := slices.Contains(r.Labels, l), rng.NormFloat64()
			if sick {
				z += separation[r.Batch]
			}
			p.Labels, p.Scores = append(p.Labels, sick), append(p.Scores, float32(1/(1+math.Exp(-z))))
		}
		rows = append(rows, p)
	}
	content, err := predictions.Encode(predictions.Meta{
		Dataset: data, Split: dataset.Test, Model: model, Suite: predictions.SuiteSplit, Tool: "test",
		Labels: []string{"Effusion", "Mass"}, Thresholds: map[string]float64{"Mass": 0.5},
	}, rows)
	if err != nil {
		b.t.Fatal(err)
	}
	b.put(predictions.Key(data, dataset.Test, model), content)
}

func both(x float64) map[string]float64 { return map[string]float64{oldBatch: x, newBatch: x} }

// firstRun evaluates and gates a first model; the second one is compared.
func (b *judgeBench) evaluate(o evaluateOptions) (verdict.Result, error) {
	o.split = evaluation.TestSplit
	r, err := runEvaluate(context.Background(), b.env, o)
	r.Schema, r.Command, r.RunKey = verdict.Schema, "evaluate", b.env.Common.RunKey
	return r, err
}

func (b *judgeBench) gate(stage string, from ...verdict.Result) (verdict.Result, error) {
	b.t.Helper()
	var paths []string
	for i, r := range from {
		path := filepath.Join(b.t.TempDir(), fmt.Sprintf("%d.json", i))
		if err := r.Save(path); err != nil {
			b.t.Fatal(err)
		}
		paths = append(paths, path)
	}
	o := gateOptions{stage: stage, from: *cli.NewStringSlice(paths...)}
	r, err := runGate(context.Background(), b.env, o, func(context.Context, *action.Env, *workspace.Workspace) (string, string, error) {
		return b.champion[0], b.champion[1], nil
	})
	r.Schema, r.Command, r.RunKey = verdict.Schema, "gate", b.env.Common.RunKey
	return r, err
}

func (b *judgeBench) second(candidate, champion map[string]float64) verdict.Result {
	b.t.Helper()
	b.champion = [2]string{oldModel, b.old}
	b.predict(oldModel, b.old, champion)
	b.predict(oldModel, b.new, champion)
	b.predict(newModel, b.old, candidate)
	b.predict(newModel, b.new, candidate)
	r, err := b.evaluate(evaluateOptions{model: newModel, dataset: b.new, champion: oldModel, championDataset: b.old, batch: newBatch})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *judgeBench) head() string {
	b.t.Helper()
	head, err := dataset.Head(context.Background(), b.w.Bucket)
	if err != nil {
		b.t.Fatal(err)
	}
	return head.Dataset
}

func (b *judgeBench) refused(batch string) *dataset.Refusal {
	b.t.Helper()
	refusal, err := dataset.Refused(context.Background(), b.w.Bucket, batch)
	if err != nil {
		b.t.Fatal(err)
	}
	return refusal
}

// TestJudging walks two models through evaluate and both gates on a real
// bucket, and every way a step must refuse what it is given.
func TestJudging(t *testing.T) {
	s3 := servertest.MinIO(t)
	for name, test := range map[string]func(*testing.T, *judgeBench){
		"a first model, a better one, and the release": testTwoModels,
		"a shuffled batch stays out":                   testDataAlarm,
		"what is inconclusive stays in":                testInconclusive,
		"what evaluate refuses":                        testEvaluateRefuses,
		"what the gate refuses":                        testGateRefuses,
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
