package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type deployOptions struct {
	environment string
	model       string
	slot        string
	from        cli.StringSlice
}

func deployCommand() action.Command {
	var o deployOptions
	return action.Command{
		Name: "deploy", Program: "penstock", Turn: action.KeepsTurn,
		Summary: "make an environment's servers serve a bundle, by digest",
		Description: `Tells every server of the environment, or of one of its slots, through the
admin listener to load the bundle, and waits until the public side answers with
its digest. A server that serves it already is only asked. A bundle that a
server refuses (goldens that differ, a graph that does not fit) is a reject; the
server then goes on with what it served.

Where routers split users' traffic, this is only a repair: stable takes nothing
but the champion, the canary slot the champion or the version before it. New
models come there by rollout.`,
		Example: "penstock deploy --environment staging --from register.json\npenstock deploy --environment production --slot stable --model $DIGEST",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "environment", Usage: "`NAME` below environments in penstock.yaml", Required: true, Destination: &o.environment},
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of the bundle", Destination: &o.model},
			&cli.StringFlag{Name: "slot", Usage: "only the servers of this `SLOT`", Destination: &o.slot},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: "model", Description: "digest that the servers serve"},
			{Name: "environment", Description: "where"},
		},
		Environment: append(append(workspace.StoreVariables(), trackingVariables()...), adminVariable),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runDeploy(ctx, env, o)
		},
	}
}

func runDeploy(ctx context.Context, env *action.Env, o deployOptions) (verdict.Result, error) {
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	model, err := modelOf(ctx, w, o.model, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	environment, err := w.Project.Environment(o.environment)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	servers, err := environment.Slot(o.slot)
	if err != nil {
		return verdict.Result{}, verdict.Usage(fmt.Errorf("--slot: environment %s: %w", o.environment, err))
	}
	if len(environment.Routers) > 0 {
		if err := onlyRepair(ctx, env, w, model, servers); err != nil {
			return verdict.Result{}, err
		}
	}
	client := openDeployment(env)
	for _, s := range servers {
		env.Logf("deploy: %s (%s) loads %s", s.Slot, s.Admin, model)
		err := client.Load(ctx, s, w.Project.Name, model)
		if errors.Is(err, deployment.ErrRefused) {
			r := verdict.Rejected(deployment.NotReady, "%s", err.Error())
			return deployed(r, model, o.environment), nil
		}
		if err != nil {
			return verdict.Result{}, err
		}
	}
	r := verdict.Passed("%d servers of %s serve %s", len(servers), o.environment, model)
	return deployed(r, model, o.environment), nil
}

func deployed(r verdict.Result, model, environment string) verdict.Result {
	r.Subjects["model"] = model
	r.Outputs["environment"] = environment
	return r
}

// modelOf joins --model with the results given, all of which must have passed.
func modelOf(ctx context.Context, w *workspace.Workspace, flag string, sources []string) (string, error) {
	from, err := w.From(ctx, sources)
	if err != nil {
		return "", err
	}
	for _, r := range from {
		if r.Verdict != verdict.Pass {
			return "", verdict.Coded("not-passed", fmt.Errorf("the result of %s says %s (%s): only a passed model goes on", r.Command, r.Verdict, r.Reason.Text))
		}
	}
	model, err := workspace.Subject("model", flag, from)
	if err != nil {
		return "", err
	}
	if model == "" {
		return "", verdict.Usage(errors.New("which model? give --model DIGEST, or --from a result that names it"))
	}
	return model, nil
}

// onlyRepair keeps users' servers for models that were judged.
func onlyRepair(ctx context.Context, env *action.Env, w *workspace.Workspace, model string, servers []deployment.Server) error {
	models, err := openRegistry(env, w)
	if err != nil {
		return err
	}
	champion, err := models.Champion(ctx)
	if err != nil && !errors.Is(err, registry.ErrNoChampion) {
		return err
	}
	for _, s := range servers {
		before := s.Slot == deployment.Canary && champion.Previous != nil && champion.Previous.Digest == model
		if model != champion.Digest && !before {
			return verdict.Coded("not-judged", fmt.Errorf("%s serves users and %s is not the champion: bring it there with penstock rollout", s.Slot, model))
		}
	}
	return nil
}
