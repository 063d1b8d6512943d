package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/training"
	"github.com/penstock-ml/penstock/internal/outside/mlflow"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type trainOptions struct {
	dataset string
	set     cli.StringSlice
	timeout time.Duration
	from    cli.StringSlice
}

func trainCommand() action.Command {
	var o trainOptions
	return action.Command{
		Name: "train", Program: "penstock", Turn: action.KeepsTurn,
		Summary: "train a model on a data set and publish it as a bundle",
		Description: `Brings the splits train and val to the local cache, opens a run in MLflow, starts
the project's trainer (train.command of penstock.yaml) in a process group of its
own, and relays what it reports: metrics to MLflow while it runs, progress to
the terminal. What it leaves becomes a model bundle: verified, with goldens,
under its digest in the bucket.

SIGINT and SIGTERM reach the trainer's whole group; it has 7 seconds for a
checkpoint, and the next start with the same data, parameters and code goes on
from there. A cancelled training is an error with the reason "cancelled". The
trainer never sees credentials: its environment is PATH, HOME, LANG, CUDA_*, the
PENSTOCK_* of the contract and the names in train.env.`,
		Example: "penstock train --from dataset.json --result train.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dataset", Usage: "`DIGEST` of the data set", Destination: &o.dataset},
			&cli.StringSliceFlag{Name: "set", Usage: "`NAME=VALUE` in the place of a number or word of train.params; may be given several times", Destination: &o.set},
			&cli.DurationFlag{Name: "timeout", Usage: "lower `TIME` limit than train.timeout", Destination: &o.timeout},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the bundle"},
			{Name: "dataset", Description: "digest of the data set it was made from"},
			{Name: "mlflow_run", Description: "id of the run in MLflow"},
		},
		Environment: append(workspace.StoreVariables(), trackingVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runTrain(ctx, env, o)
		},
	}
}

func runTrain(ctx context.Context, env *action.Env, o trainOptions) (verdict.Result, error) {
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	if err := o.bound(&w.Project.Train); err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	from, err := w.From(ctx, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	digest, err := workspace.Subject("dataset", o.dataset, from)
	if err != nil {
		return verdict.Result{}, err
	}
	if digest == "" {
		return verdict.Result{}, verdict.Usage(errors.New("name the data set: --dataset DIGEST, or --from the result of dataset"))
	}
	client, err := openTracking(env)
	if err != nil {
		return verdict.Result{}, err
	}
	data := dataset.CacheDir(filepath.Join(w.Cache, "datasets"), digest, dataset.Train, dataset.Val)
	rows, err := dataset.Materialize(ctx, w.Bucket, digest, []string{dataset.Train, dataset.Val}, data)
	if err != nil {
		return verdict.Result{}, err
	}
	job, err := newJob(ctx, env, w, digest, data, rows)
	if err != nil {
		return verdict.Result{}, err
	}
	return trackedTraining(ctx, env, w, client, job)
}

// bound lays --set and --timeout over the configuration. Only parameters that
// are there can be set, and the time limit can only become lower.
func (o trainOptions) bound(c *training.Config) error {
	for _, pair := range o.set.Value() {
		name, text, found := strings.Cut(pair, "=")
		if _, known := c.Params[name]; !found || !known {
			return fmt.Errorf("--set %q: NAME=VALUE is wanted, with a name of train.params: %q", pair, slices.Sorted(maps.Keys(c.Params)))
		}
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			value = text // a word
		}
		c.Params[name] = value
	}
	limit := c.WithDefaults().Timeout
	if o.timeout < 0 || o.timeout > limit {
		return fmt.Errorf("--timeout %s: the limit can be lowered only, and train.timeout is %s", o.timeout, limit)
	}
	if o.timeout > 0 {
		c.Timeout = o.timeout
	}
	return nil
}

// trackedTraining runs the job inside a run of MLflow. Whatever happens, the
// run is told how it ended.
func trackedTraining(ctx context.Context, env *action.Env, w *workspace.Workspace, client *mlflow.Client, j training.Job) (verdict.Result, error) {
	run, err := beginRun(ctx, env, w, client, j)
	if err != nil {
		return verdict.Result{}, fmt.Errorf("open the run in MLflow: %w", err)
	}
	r := verdict.Passed("trained on %s", j.Manifest.Provenance.Dataset)
	r.Subjects["dataset"] = j.Manifest.Provenance.Dataset
	r.Outputs["mlflow_run"] = run.ID
	j.Manifest.Provenance.MLflowRun = run.ID
	out, err := train(ctx, env, client, run, j)
	if err == nil {
		_, err = bundle.Publish(ctx, w.Bucket, out.Bundle)
	}
	r.Warnings = append(out.Warnings, endRun(ctx, env, client, run, out, err)...)
	if err != nil {
		return r, err
	}
	r.Reason.Text = fmt.Sprintf("model %s, trained on data set %s", out.Digest, j.Manifest.Provenance.Dataset)
	r.Subjects["model"] = out.Digest
	return r, training.Discard(j)
}

// train runs the job and shows how far it is.
func train(ctx context.Context, env *action.Env, client *mlflow.Client, run mlflow.Run, j training.Job) (training.Outcome, error) {
	var progress *action.Progress
	var told int64
	console := training.Console{
		Output: env.Stderr, Actions: env.InActions(), Now: env.Now,
		Warn: func(text string) { env.Logf("warning: %s", text) },
		Progress: func(e training.Event) {
			if progress == nil {
				progress = env.Progress("train", int(e.Steps))
			}
			progress.Add(int(e.Step-told), "")
			told = e.Step
		},
	}
	out, err := training.Run(ctx, j, client.Tracker(run.ID), console)
	if progress != nil {
		progress.Finish()
	}
	return out, err
}

// Tags of a run in MLflow.
const (
	tagRunKey  = "penstock.run_key"
	tagAttempt = "penstock.attempt"
	tagDataset = "penstock.dataset_digest"
	tagModel   = "penstock.model_digest"
	tagReason  = "penstock.reason"
	tagCommit  = "mlflow.source.git.commit"
)

// beginRun opens the run of this run key and attempt, or goes on with the one
// that an interrupted start left.
func beginRun(ctx context.Context, env *action.Env, w *workspace.Workspace, client *mlflow.Client, j training.Job) (mlflow.Run, error) {
	experiment, err := client.Experiment(ctx, w.Project.Name)
	if err != nil {
		return mlflow.Run{}, err
	}
	p := j.Manifest.Provenance
	key := env.Common.RunKey
	if key == "" {
		key = "manual-" + rand.Text() // every start by hand is a run of its own
	}
	tags := map[string]string{tagRunKey: key, tagAttempt: strconv.Itoa(env.Common.Attempt), tagDataset: p.Dataset, tagCommit: p.GitCommit}
	run, found, err := client.CreateRun(ctx, mlflow.NewRun{
		Experiment: experiment, Name: key[:min(len(key), 12)], Start: env.Now(),
		Tags: tags, Unique: []string{tagRunKey, tagAttempt},
	})
	if err != nil {
		return mlflow.Run{}, err
	}
	if found {
		env.Logf("goes on with run %s of MLflow", run.ID)
		if err := client.UpdateRun(ctx, run.ID, mlflow.Running, time.Time{}); err != nil {
			return mlflow.Run{}, err
		}
	}
	if err := client.LogParams(ctx, run.ID, trackedParams(j.Config)); err != nil {
		return mlflow.Run{}, err
	}
	return run, client.LogDataset(ctx, run.ID, w.Project.Name, p.Dataset, "s3://"+w.Bucket.Name()+"/datasets/"+p.Dataset, "training")
}

func trackedParams(c training.Config) map[string]string {
	params := map[string]string{"seed": strconv.FormatInt(c.WithDefaults().Seed, 10), "command": fmt.Sprint(c.Command)}
	for name, value := range c.Params {
		params[name] = fmt.Sprint(value)
	}
	return params
}

// endTerm bounds what is told to MLflow after a cancel.
const endTerm = 5 * time.Second

// endRun tells MLflow how it ended. What it cannot tell becomes warnings: the
// verdict is about the model.
func endRun(ctx context.Context, env *action.Env, client *mlflow.Client, run mlflow.Run, out training.Outcome, failure error) (warnings []string) {
	status := mlflow.Finished
	tags := map[string]string{tagModel: out.Digest}
	switch {
	case errors.Is(failure, context.Canceled):
		status, tags = mlflow.Killed, map[string]string{tagReason: verdict.Cancelled}
	case failure != nil:
		status, tags = mlflow.Failed, map[string]string{tagReason: failure.Error()}
	}
	if ctx.Err() != nil { // little time is left
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTerm)
		defer cancel()
		ctx = short
	}
	warn := func(what string, err error) {
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("MLflow was not told %s: %v", what, err))
		}
	}
	warn("how the run ended", client.UpdateRun(ctx, run.ID, status, env.Now()))
	warn("the digest and the reason", client.SetTags(ctx, run.ID, tags))
	if out.Log != "" {
		warn("what the trainer said", client.UploadArtifact(ctx, run, "trainer.log", out.Log))
	}
	if out.Bundle != "" {
		warn("the manifest", client.UploadArtifact(ctx, run, bundle.ManifestFile, filepath.Join(out.Bundle, bundle.ManifestFile)))
	}
	return warnings
}
