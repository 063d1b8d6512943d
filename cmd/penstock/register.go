package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type registerOptions struct {
	model string
	from  cli.StringSlice
}

func registerCommand() action.Command {
	var o registerOptions
	return action.Command{
		Name: "register", Program: "penstock", Turn: action.KeepsTurn,
		Summary: "make a model version of a bundle that passed the offline gate",
		Description: `Creates the version of the registered model in MLflow, tagged with the digests
and the run key, and moves the alias "candidate" to it. A digest that has a
version already keeps it. Takes the passed result of gate --stage offline for
the same digest and nothing less.`,
		Example: "penstock register --from gate-offline.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of the bundle", Destination: &o.model},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the bundle"},
			{Name: "version", Description: "number of the model version"},
		},
		Environment: append(workspace.StoreVariables(), trackingVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runRegister(ctx, env, o)
		},
	}
}

func runRegister(ctx context.Context, env *action.Env, o registerOptions) (verdict.Result, error) {
	w, from, err := workspace.OpenWith(ctx, env, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	model, err := workspace.Subject("model", o.model, from)
	if err != nil {
		return verdict.Result{}, err
	}
	if err := requirePassed(from, "gate", model); err != nil {
		return verdict.Result{}, err
	}
	b, err := bundle.Fetch(ctx, w.Bucket, model, w.Models())
	if err != nil {
		return verdict.Result{}, err
	}
	models, err := openRegistry(env, w)
	if err != nil {
		return verdict.Result{}, err
	}
	source := "s3://" + w.Bucket.Name() + "/models/" + model
	version, err := models.Register(ctx, b, source, env.Common.RunKey)
	if err != nil {
		return verdict.Result{}, err
	}
	r := verdict.Passed("model %s version %d is registered", w.Project.Name, version.Number)
	r.Subjects["model"] = model
	if b.Manifest.Provenance.Dataset != "" {
		r.Subjects["dataset"] = b.Manifest.Provenance.Dataset
	}
	r.Outputs["version"] = strconv.Itoa(version.Number)
	return r, nil
}

// requirePassed refuses to go on without the passed result of a command for
// exactly this model.
func requirePassed(from []verdict.Result, command, model string) error {
	for _, r := range from {
		if r.Command != command {
			continue
		}
		if r.Verdict != verdict.Pass {
			return verdict.Coded("not-passed", fmt.Errorf("the result of %s says %s (%s): only a passed model goes on", command, r.Verdict, r.Reason.Text))
		}
		if model == "" || r.Subjects["model"] != model {
			return verdict.Coded("digest-mismatch", fmt.Errorf("the result of %s is about model %q, not %q", command, r.Subjects["model"], model))
		}
		return nil
	}
	return verdict.Usage(fmt.Errorf("give the passed result of %s by --from", command))
}
