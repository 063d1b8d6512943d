package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
	"github.com/penstock-ml/penstock/serve/model"
)

type predictOptions struct {
	engine   engine
	models   cli.StringSlice
	datasets cli.StringSlice
	split    string
	size     int
	from     cli.StringSlice
}

func predictCommand() action.Command {
	var o predictOptions
	return action.Command{
		Name: "predict", Program: "penstock-serve", Turn: action.KeepsTurn,
		Summary: "run models on a split of data sets and keep what they say",
		Description: `Writes predictions/<data set>/<split>/<model>.parquet to the bucket for every
model on every data set, which penstock evaluate reads. With --from, the
subjects of earlier results join in: model and champion, dataset and
champion_dataset. A file is created once and never changed; one that is there
already is left alone, so a second call does nothing.`,
		Example: "penstock-serve predict --from dataset.json --from train.json --split test",
		Flags: append(o.engine.flags(),
			&cli.StringSliceFlag{Name: "model", Usage: "`DIGEST` of a bundle; may be given several times", Destination: &o.models},
			&cli.StringSliceFlag{Name: "dataset", Usage: "`DIGEST` of a data set; may be given several times", Destination: &o.datasets},
			&cli.StringFlag{Name: "split", Usage: "`SPLIT` to run: train, val, test, final_eval", Value: dataset.Test, Destination: &o.split},
			&cli.IntFlag{Name: "batch-size", Usage: "`NUMBER` of images that go through the model together", Value: 32, Destination: &o.size},
			action.From(&o.from),
		),
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the bundle, where there is one candidate"},
			{Name: "dataset", Description: "digest of the data set, where there is one"},
			{Name: "predictions", Description: "keys of the predictions files, one a line"},
		},
		Environment: append(workspace.StoreVariables(), engineVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runPredict(ctx, env, o)
		},
	}
}

// roles of the subjects that predict takes from earlier results.
var (
	modelRoles   = []string{"model", "champion"}
	datasetRoles = []string{"dataset", "champion_dataset"}
)

func runPredict(ctx context.Context, env *action.Env, o predictOptions) (r verdict.Result, err error) {
	if o.size < 1 {
		return r, verdict.Usage(fmt.Errorf("--batch-size %d: at least 1 image goes through the model at a time", o.size))
	}
	w, from, err := workspace.OpenWith(ctx, env, o.from.Value())
	if err != nil {
		return r, err
	}
	subjects := map[string]string{}
	models, err := gather("--model", o.models.Value(), modelRoles, from, subjects)
	if err != nil {
		return r, err
	}
	datasets, err := gather("--dataset", o.datasets.Value(), datasetRoles, from, subjects)
	if err != nil {
		return r, err
	}
	runtime, err := o.engine.start(env)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	p := predictor{env: env, w: w, runtime: runtime, split: o.split, size: o.size}
	var keys []string
	for _, digest := range models {
		made, err := p.model(ctx, digest, datasets)
		if err != nil {
			return r, err
		}
		keys = append(keys, made...)
	}
	r = verdict.Passed("%d of %d predictions files are new", p.written, len(keys))
	r.Subjects = subjects
	r.Outputs["predictions"] = strings.Join(keys, "\n")
	return r, nil
}

// gather joins the digests of a flag with the subjects of earlier results, and
// notes the roles that are known: a single flag stands for the first role.
func gather(flag string, digests, roles []string, from []verdict.Result, subjects map[string]string) ([]string, error) {
	all := slices.Clone(digests)
	for _, role := range roles {
		digest, err := workspace.Subject(role, "", from)
		if err != nil {
			return nil, err
		}
		if digest != "" {
			subjects[role] = digest
			all = append(all, digest)
		}
	}
	if len(all) == 0 {
		return nil, verdict.Usage(fmt.Errorf("nothing to predict: give %s, or a result that names its %s by --from", flag, roles[0]))
	}
	if subjects[roles[0]] == "" && len(digests) == 1 {
		subjects[roles[0]] = digests[0]
	}
	var once []string
	for _, digest := range all {
		if !bundle.ValidDigest(digest) {
			return nil, verdict.Usage(fmt.Errorf("%s %q: a digest has 64 lower-case hex digits", flag, digest))
		}
		if !slices.Contains(once, digest) {
			once = append(once, digest)
		}
	}
	return once, nil
}

// predictor runs models on data sets.
type predictor struct {
	env     *action.Env
	w       *workspace.Workspace
	runtime *model.Runtime
	split   string
	size    int
	written int
}

// model runs one model on all data sets; it is loaded only where something is
// missing.
func (p *predictor) model(ctx context.Context, digest string, datasets []string) (keys []string, err error) {
	b, err := bundle.Fetch(ctx, p.w.Bucket, digest, p.w.Models())
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, ds := range datasets {
		keys = append(keys, predictions.Key(ds, p.split, digest))
		there, err := p.there(ctx, b, ds)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, ds)
		}
	}
	if len(missing) == 0 {
		return keys, nil
	}
	m, err := model.Open(ctx, p.runtime, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	for _, ds := range missing {
		if err := p.predict(ctx, m, ds); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
