package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type evaluateOptions struct {
	model, dataset            string
	champion, championDataset string
	batch, split, report      string
	from                      cli.StringSlice
}

// reportAt is the output that says where the report lies: a path, or an s3://
// URI in the project's bucket. Its SHA-256 is the subject "report".
const reportAt = "report_at"

func evaluateCommand() action.Command {
	var o evaluateOptions
	return action.Command{
		Name: "evaluate", Program: "penstock", Turn: action.KeepsTurn,
		Summary: "measure a model from its predictions, and compare it with the champion",
		Description: `Reads predictions/<data set>/test/<model>.parquet of the candidate, and with a
champion those of both models on both data sets, checks that they cover exactly
the test rows of the manifests, and writes a report: AUROC per label and macro
with group-bootstrap intervals, F1, sensitivity and specificity at the bundle's
thresholds, Brier score, slices, latency; the difference from the champion on
exactly the champion's test rows; and the new batch's test rows by themselves.

It measures and decides nothing: gate does. The policy in penstock.yaml (gate)
says with which confidence, replicates, seed and minima of evidence. The same
predictions give the same report, byte by byte.`,
		Example: `penstock evaluate --from dataset.json --from train.json --report evaluation.json --result evaluate.json
penstock evaluate --model 5d41… --dataset 7c21… --report evaluation.json   # the first model`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of the candidate", Destination: &o.model},
			&cli.StringFlag{Name: "dataset", Usage: "`DIGEST` of the candidate's data set", Destination: &o.dataset},
			&cli.StringFlag{Name: "champion", Usage: "`DIGEST` of the model in production; none for the first model", Destination: &o.champion},
			&cli.StringFlag{Name: "champion-dataset", Usage: "`DIGEST` of the champion's data set, whose test rows decide", Destination: &o.championDataset},
			&cli.StringFlag{Name: "batch", Usage: "`KEY` of the new batch", Destination: &o.batch},
			&cli.StringFlag{Name: "split", Usage: "`NAME` of the split; only test decides", Value: evaluation.TestSplit, Destination: &o.split},
			&cli.StringFlag{Name: "report", Usage: "write the report `FILE` here", Destination: &o.report},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the candidate"},
			{Name: "dataset", Description: "digest of its data set"},
			{Name: "champion", Description: "digest of the champion; empty where there is none"},
			{Name: "champion_dataset", Description: "digest of its data set"},
			{Name: "batch", Description: "key of the new batch; empty where there is none"},
			{Name: "report", Description: "SHA-256 of the report"},
			{Name: reportAt, Description: "where the report lies, a path or s3:// URI"},
			{Name: "macro_auroc", Description: "of the candidate, on its data set's test rows"},
		},
		Environment: workspace.StoreVariables(),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runEvaluate(ctx, env, o)
		},
	}
}

func runEvaluate(ctx context.Context, env *action.Env, o evaluateOptions) (verdict.Result, error) {
	if o.split != evaluation.TestSplit {
		return verdict.Result{}, verdict.Usage(fmt.Errorf("--split %s: only the split %s decides; train and val made the model, final_eval stays closed", o.split, evaluation.TestSplit))
	}
	if o.report == "" && env.Common.RunKey == "" {
		return verdict.Result{}, verdict.Usage(errors.New("say where the report goes: --report FILE, or --run-key KEY for the bucket"))
	}
	w, from, err := workspace.OpenWith(ctx, env, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	if err := o.fill(from); err != nil {
		return verdict.Result{}, err
	}
	in, err := (&evidence{bucket: w.Bucket}).input(ctx, o)
	if err != nil {
		return verdict.Result{}, err
	}
	in.Settings = w.Project.Gate.Settings()
	report, err := evaluation.Evaluate(in)
	if err != nil {
		return verdict.Result{}, err
	}
	return leaveReport(ctx, env, w, o, report)
}

// fill takes digests that no flag names from earlier results.
func (o *evaluateOptions) fill(from []verdict.Result) error {
	for _, s := range []struct {
		role string
		flag *string
	}{
		{"model", &o.model},
		{"dataset", &o.dataset},
		{"champion", &o.champion},
		{"champion_dataset", &o.championDataset},
		{"batch", &o.batch},
	} {
		value, err := workspace.Subject(s.role, *s.flag, from)
		if err != nil {
			return err
		}
		*s.flag = value
	}
	switch {
	case o.model == "" || o.dataset == "":
		return verdict.Usage(errors.New("name the candidate and its data set: --model and --dataset, or --from the results of dataset and train"))
	case (o.champion == "") != (o.championDataset == ""):
		return verdict.Usage(errors.New("--champion and --champion-dataset belong together: give both, or neither for the first model"))
	}
	return nil
}

// evidence reads manifests and predictions from the bucket, each once.
type evidence struct {
	bucket dataset.Reader
	files  map[string]evaluation.Predictions
	rows   map[string][]evaluation.Example
}

func (e *evidence) input(ctx context.Context, o evaluateOptions) (in evaluation.Input, err error) {
	in = evaluation.Input{Model: o.model, Dataset: o.dataset, Batch: o.batch}
	if in.Expected, err = e.examples(ctx, o.dataset); err != nil {
		return in, err
	}
	if in.Candidate, err = e.predictions(ctx, o.model, o.dataset); err != nil {
		return in, err
	}
	if o.champion == "" {
		return in, nil
	}
	c := &evaluation.Champion{Model: o.champion, Dataset: o.championDataset}
	if c.Expected, err = e.examples(ctx, c.Dataset); err != nil {
		return in, fmt.Errorf("the champion's data set: %w", err)
	}
	for _, want := range []struct {
		into           *evaluation.Predictions
		model, dataset string
	}{{&c.Candidate, o.model, c.Dataset}, {&c.Own, c.Model, c.Dataset}, {&c.Here, c.Model, o.dataset}} {
		if *want.into, err = e.predictions(ctx, want.model, want.dataset); err != nil {
			return in, err
		}
	}
	in.Champion = c
	return in, nil
}

// examples are the test rows of a data set's manifest.
func (e *evidence) examples(ctx context.Context, digest string) ([]evaluation.Example, error) {
	if rows, ok := e.rows[digest]; ok {
		return rows, nil
	}
	_, rows, err := dataset.Load(ctx, e.bucket, digest)
	if err != nil {
		return nil, err
	}
	var out []evaluation.Example
	for _, r := range dataset.Select(rows, dataset.Test) {
		out = append(out, evaluation.Example{ID: r.File, SHA256: r.SHA256, Group: r.Group, Batch: r.Batch, Labels: r.Labels})
	}
	if e.rows == nil {
		e.rows = map[string][]evaluation.Example{}
	}
	e.rows[digest] = out
	return out, nil
}

func (e *evidence) predictions(ctx context.Context, model, data string) (evaluation.Predictions, error) {
	key := predictions.Key(data, evaluation.TestSplit, model)
	if p, ok := e.files[key]; ok {
		return p, nil
	}
	content, _, err := e.bucket.Get(ctx, key)
	if errors.Is(err, journal.ErrNotFound) {
		return evaluation.Predictions{}, verdict.Coded("no-predictions", fmt.Errorf("no predictions of model %s on data set %s: run `penstock-serve predict --model %s --dataset %s --split %s`: %w", model, data, model, data, evaluation.TestSplit, err))
	}
	if err != nil {
		return evaluation.Predictions{}, err
	}
	meta, rows, err := predictions.Decode(content)
	if err != nil {
		return evaluation.Predictions{}, verdict.Coded(evaluation.BadEvidence, fmt.Errorf("%s: %w", key, err))
	}
	if e.files == nil {
		e.files = map[string]evaluation.Predictions{}
	}
	p := evaluation.Predictions{Meta: meta, Rows: rows, SHA256: hexSum(content)}
	e.files[key] = p
	return p, nil
}

// leaveReport writes the report where the flags say and makes the result that
// names it by content.
func leaveReport(ctx context.Context, env *action.Env, w *workspace.Workspace, o evaluateOptions, report evaluation.Report) (verdict.Result, error) {
	data, err := report.Encode()
	if err != nil {
		return verdict.Result{}, err
	}
	r := verdict.Passed("%s", summary(report))
	if o.report != "" {
		if err := verdict.WriteFile(o.report, data); err != nil {
			return verdict.Result{}, fmt.Errorf("--report: %w", err)
		}
		r.Outputs[reportAt] = o.report
	}
	if env.Common.RunKey != "" {
		// Not create-once: an attempt that broke after this line writes again,
		// and who reads compares with the SHA-256 in the result.
		key := env.Common.Key("evaluation")
		if _, err := w.Bucket.Put(ctx, key, data, journal.Always()); err != nil {
			return verdict.Result{}, fmt.Errorf("keep the report: %w", err)
		}
		r.Outputs[reportAt] = "s3://" + w.Bucket.Name() + "/" + w.Bucket.Scope() + key
	}
	r.Checks = report.Checks()
	s := report.Settings
	r.Outputs["bootstrap"] = fmt.Sprintf("%d replicates of groups, seed %d, each bound at %g", s.Replicates, s.Seed, s.Confidence)
	for role, value := range map[string]string{
		"model": report.Model, "dataset": report.Dataset, "champion": report.Champion,
		"champion_dataset": report.ChampionDataset, "batch": report.Batch, "report": hexSum(data),
	} {
		if value != "" {
			r.Subjects[role] = value
		}
	}
	if m := report.Own.Macro.Value; m != nil {
		r.Outputs["macro_auroc"] = fmt.Sprintf("%.4f", *m)
	}
	return r, nil
}

// summary is the report in one line.
func summary(r evaluation.Report) string {
	parts := []string{fmt.Sprintf("macro AUROC %s on %d test rows of %d groups, %d of %d labels evaluable",
		span(r.Own.Macro), r.Own.Rows, r.Own.Groups, len(r.Own.Evaluable), len(r.Labels))}
	if c := r.Comparison; c != nil {
		parts = append(parts, fmt.Sprintf("on the champion's %d rows %s, the champion %s, difference %s", c.Rows, span(c.Candidate), span(c.Champion), span(c.Difference)))
	}
	if b := r.BatchRows; b != nil && b.Champion.Value != nil {
		parts = append(parts, fmt.Sprintf("on the batch's %d rows the champion %s", b.Rows, span(b.Champion)))
	}
	return strings.Join(parts, "; ")
}

// span is a metric with its interval for people.
func span(m evaluation.Metric) string {
	switch {
	case m.Value == nil:
		return "unknown"
	case m.Low == nil:
		return fmt.Sprintf("%.3f", *m.Value)
	}
	return fmt.Sprintf("%.3f [%.3f, %.3f]", *m.Value, *m.Low, *m.High)
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
