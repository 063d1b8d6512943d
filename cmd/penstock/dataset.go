package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/intake"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type datasetOptions struct {
	batch   string
	readmit string
}

func datasetCommand() action.Command {
	var o datasetOptions
	return action.Command{
		Name: "dataset", Program: "penstock", Turn: action.KeepsTurn,
		Ends:    func(r verdict.Result) bool { return r.Reason.Code == "contained" },
		Summary: "make the data set of the newest accepted one and a batch",
		Description: `Reads the batch's table, matches it with the files, quarantines what is bad
with a reason, preprocesses the images with the code that the server uses,
splits by group (an old group stays where it is, new ones go to train, val and
test, final_eval is frozen at the first data set) and writes the manifest, whose
SHA-256 is the data set's digest. A batch that is contained already changes
nothing: the digest of the parent comes out, changed=false and the reason
contained; the run can end there. A batch whose
run ended in a rejection is rejected again, until --readmit lets it in. Without
a batch the newest accepted data set comes out as it is: for a training because
of new code. Where none was accepted yet, dataset and run_key are empty.

The run key is the batch's key; without a batch it is a hash of the data set's
digest, the git commit and penstock.yaml.

The champion is looked up here, at the start of the run, and stands in the
result, so that all later steps speak of the same one.`,
		Example: "penstock dataset --batch 3f1c… --result dataset.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "batch", Usage: "`KEY` of the batch, as watch gave it", Destination: &o.batch},
			&cli.StringFlag{Name: "readmit", Usage: "`KEY` of a refused batch that is to be let in again", Destination: &o.readmit},
		},
		Outputs: []action.Output{
			{Name: "dataset", Description: "digest of the data set; empty where there is none yet"},
			{Name: "parent", Description: "digest of the data set it grew from; empty for the first"},
			{Name: "batch", Description: "key of the batch"},
			{Name: "run_key", Description: "key of the run that this begins"},
			{Name: "changed", Description: "false where all that is usable was there already"},
			{Name: "added", Description: "images that the batch added"},
			{Name: "rows", Description: "images of the data set"},
			{Name: "quarantined", Description: "files of the batch that stay out"},
			{Name: "champion", Description: "digest of the model in production; empty where there is none"},
			{Name: "champion_dataset", Description: "digest of the data set it was made from"},
		},
		Environment: append(workspace.StoreVariables(), trackingVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runDataset(ctx, env, o, registeredChampion)
		},
	}
}

// championLookup answers the model in production and its data set; both are
// empty where nothing was promoted yet.
type championLookup func(ctx context.Context, env *action.Env, w *workspace.Workspace) (model, data string, err error)

func registeredChampion(ctx context.Context, env *action.Env, w *workspace.Workspace) (string, string, error) {
	models, err := openRegistry(env, w)
	if err != nil {
		return "", "", err
	}
	champion, err := models.Champion(ctx)
	if errors.Is(err, registry.ErrNoChampion) {
		return "", "", nil
	}
	return champion.Digest, champion.Dataset, err
}

func runDataset(ctx context.Context, env *action.Env, o datasetOptions, champion championLookup) (verdict.Result, error) {
	key, err := o.key()
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	if key == "" {
		return newestDataset(ctx, env, w, champion)
	}
	record, err := intake.Load(ctx, w.Bucket, key)
	if err != nil {
		return verdict.Result{}, err
	}
	if o.readmit != "" {
		if err := dataset.Readmit(ctx, w.Bucket, key); err != nil {
			return verdict.Result{}, err
		}
	}
	refusal, err := dataset.Refused(ctx, w.Bucket, key)
	if err != nil {
		return verdict.Result{}, err
	}
	if refusal != nil {
		r := verdict.Rejected("refused-before", "batch %s was refused: %s; `penstock dataset --readmit %s` lets it in again", record.Prefix, refusal.Reason, key)
		r.Subjects["batch"] = key
		return r, nil
	}
	model, data, err := champion(ctx, env, w)
	if err != nil {
		return verdict.Result{}, fmt.Errorf("look up the champion: %w", err)
	}
	head, err := dataset.Head(ctx, w.Bucket)
	if err != nil {
		return verdict.Result{}, err
	}
	growth, err := grow(ctx, env, w, record.Batch, head.Dataset)
	r := grown(growth, record.Batch)
	if err != nil {
		return r, err
	}
	name(r, map[string]string{"parent": head.Dataset, "champion": model, "champion_dataset": data})
	r.Outputs["run_key"] = key
	return r, nil
}

// name puts the roles that have a digest into the result.
func name(r verdict.Result, roles map[string]string) {
	for role, digest := range roles {
		if digest != "" {
			r.Subjects[role] = digest
		}
	}
}

// newestDataset is the run without a batch: the head as it is.
func newestDataset(ctx context.Context, env *action.Env, w *workspace.Workspace, champion championLookup) (verdict.Result, error) {
	model, data, err := champion(ctx, env, w)
	if err != nil {
		return verdict.Result{}, fmt.Errorf("look up the champion: %w", err)
	}
	head, err := dataset.Head(ctx, w.Bucket)
	if err != nil {
		return verdict.Result{}, err
	}
	if head.Dataset == "" {
		// A new project pushes its trainer before there are data.
		r := verdict.Passed("no data set was accepted yet: there is nothing to train on until a batch lands")
		r.Reason.Code = "no-dataset"
		r.Outputs["changed"] = "false"
		return r, nil
	}
	described, err := dataset.Describe(ctx, w.Bucket, head.Dataset)
	if err != nil {
		return verdict.Result{}, err
	}
	key, err := keyWithoutBatch(ctx, env, w, head.Dataset)
	if err != nil {
		return verdict.Result{}, err
	}
	rows := 0
	for _, c := range described.Splits {
		rows += c.Rows
	}
	r := verdict.Passed("the newest accepted data set, %d images", rows)
	name(r, map[string]string{"dataset": head.Dataset, "champion": model, "champion_dataset": data})
	maps.Copy(r.Outputs, map[string]string{"changed": "false", "rows": strconv.Itoa(rows), "added": "0", "quarantined": "0", "run_key": key})
	return r, nil
}

// keyWithoutBatch is the run key where no data are new: the same data, code and
// configuration give the same run.
func keyWithoutBatch(ctx context.Context, env *action.Env, w *workspace.Workspace, digest string) (string, error) {
	commit, changes, err := gitCommit(ctx, env, w.Project.Dir)
	if err != nil {
		return "", err
	}
	config, err := os.ReadFile(env.Common.Config)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%q\n%s", digest, commit, changes, config))
	return hex.EncodeToString(sum[:]), nil
}

func (o datasetOptions) key() (string, error) {
	switch {
	case o.batch != "" && o.readmit != "" && o.batch != o.readmit:
		return "", errors.New("--batch and --readmit name two batches: give one of them")
	case o.readmit != "":
		return o.readmit, nil
	}
	return o.batch, nil
}

func grow(ctx context.Context, env *action.Env, w *workspace.Workspace, b intake.Batch, parent string) (dataset.Growth, error) {
	request := dataset.Request{
		Config: w.Project.Data, Labels: w.Project.LabelNames(), Parent: parent,
		Batch:     dataset.Batch{Key: b.Key, Prefix: b.Prefix},
		CreatedBy: env.Common.RunKey, Limits: imaging.DefaultLimits,
	}
	for _, o := range b.Objects {
		request.Batch.Objects = append(request.Batch.Objects, dataset.Object{Key: o.Key, ETag: o.ETag, Size: o.Size})
	}
	var progress *action.Progress
	request.Begin = func(files int) { progress = env.Progress("images", files) }
	request.Step = func() { progress.Add(1, "") }
	growth, err := dataset.Grow(ctx, w.Bucket, request)
	if progress != nil {
		progress.Finish()
	}
	return growth, err
}

func grown(g dataset.Growth, b intake.Batch) verdict.Result {
	rows := 0
	for _, c := range g.Dataset.Splits {
		rows += c.Rows
	}
	r := verdict.Passed("%d images, %d of them from batch %s", rows, g.Added, b.Prefix)
	if !g.Changed {
		r = verdict.Passed("batch %s is contained already: the data set stays as it is", b.Prefix)
		r.Reason.Code = "contained"
	}
	r.Warnings = g.Warnings
	r.Subjects["batch"] = b.Key
	if g.Dataset.Digest != "" {
		r.Subjects["dataset"] = g.Dataset.Digest
	}
	r.Outputs["changed"] = strconv.FormatBool(g.Changed)
	r.Outputs["rows"] = strconv.Itoa(rows)
	r.Outputs["added"] = strconv.Itoa(g.Added)
	r.Outputs["quarantined"] = strconv.Itoa(len(g.Quarantined))
	return r
}
