package main

import (
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
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// judgeBench is a project in a bucket of a real MinIO: two data sets, the second
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
