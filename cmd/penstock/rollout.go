package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/line/rollout"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/outside/git"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type rolloutOptions struct {
	lineOptions
	model string
	from  cli.StringSlice
}

// lineOptions are what rollout and rollback have in common.
type lineOptions struct {
	environment string
	repository  string
}

func (o *lineOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "environment", Usage: "`NAME` below environments in penstock.yaml", Value: "production", Destination: &o.environment},
		&cli.StringFlag{Name: "repository", Usage: "`FOLDER` of the git repository that gets the tag", Value: ".", Destination: &o.repository},
	}
}

func lineVariables() []action.Variable {
	return append(append(workspace.StoreVariables(), trackingVariables()...), adminVariable, routerVariable)
}

func lineOutputs() []action.Output {
	return []action.Output{
		{Name: "model", Description: "digest of the bundle"},
		{Name: "previous", Description: "digest on the other side: production before, or the version rolled back"},
		{Name: "version", Description: "number of the model version in production, on pass"},
		{Name: "canary_requests", Description: "requests that the canary answered while it was judged"},
	}
}

func rolloutCommand() action.Command {
	var o rolloutOptions
	return action.Command{
		Name: "rollout", Program: "penstock", Turn: action.EndsTurn,
		Summary: "bring a gated model to production under the eyes of a judge",
		Description: `The canary loads the bundle and takes the shares of rollout.steps, one after
the other. At every look the servers' own counters by digest are compared with
stable's (errors, answers over the slo) by a test that may be asked at any
time. Proven harm, or a canary that does not answer, brings the share to 0 at
once: reject, with reason errors, latency or not-ready. Proof that it is no
worse than the margins, on min_requests at least, promotes: the canary takes
everything, stable loads the bundle, the share returns to 0, the canary slot
keeps the previous version warm, and last the alias production and the tag
model/<name>/v<n> move. No decision until the deadline is inconclusive.

The first model ever goes to stable directly. The champion's own digest is a
pass without work. After a kill, running the same command again goes on from
the record in the bucket.`,
		Example: "penstock rollout --from gate-release.json",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of the bundle", Destination: &o.model},
			action.From(&o.from),
		}, o.flags()...),
		Outputs:     lineOutputs(),
		Environment: lineVariables(),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runRollout(ctx, env, o)
		},
	}
}

func runRollout(ctx context.Context, env *action.Env, o rolloutOptions) (verdict.Result, error) {
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	model, err := releasedModel(ctx, w, o.model, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	line, err := openLine(ctx, env, w, o.lineOptions, "rollout of "+model)
	if err != nil {
		return verdict.Result{}, err
	}
	s, err := line.Rollout(ctx, model)
	if err != nil {
		return verdict.Result{}, codedRollout(err)
	}
	return s.Result(line.Plan)
}

// releasedModel wants the passed result of the release gate for the model.
func releasedModel(ctx context.Context, w *workspace.Workspace, flag string, sources []string) (string, error) {
	model, err := modelOf(ctx, w, flag, sources)
	if err != nil {
		return "", err
	}
	from, err := w.From(ctx, sources)
	if err != nil {
		return "", err
	}
	for _, r := range from {
		if r.Command == "gate" && r.Outputs[gate.StageOutput] == gate.ReleaseName && r.Subjects["model"] == model {
			return model, nil
		}
	}
	return "", verdict.Usage(fmt.Errorf("give the passed result of gate --stage release for %s by --from", model))
}

// codedRollout names the errors that people can do something about.
func codedRollout(err error) error {
	codes := map[error]string{
		rollout.ErrTakenOver: "taken-over", rollout.ErrUnfinished: "unfinished",
		rollout.ErrNoWayBack: "no-previous", split.ErrHeld: "held",
	}
	for kind, code := range codes {
		if errors.Is(err, kind) {
			return verdict.Coded(code, err)
		}
	}
	return err
}

// openLine wires a rollout to routers, servers, registry and repository.
func openLine(ctx context.Context, env *action.Env, w *workspace.Workspace, o lineOptions, owner string) (rollout.Line, error) {
	environment, err := w.Project.Environment(o.environment)
	if err != nil {
		return rollout.Line{}, verdict.Usage(err)
	}
	if len(environment.Routers) == 0 {
		return rollout.Line{}, verdict.Usage(fmt.Errorf("environments.%s.routers: a rollout needs at least one router", o.environment))
	}
	repository := git.Repository{Dir: o.repository}
	if err := repository.Check(ctx); err != nil {
		return rollout.Line{}, verdict.Usage(err)
	}
	models, err := openRegistry(env, w)
	if err != nil {
		return rollout.Line{}, err
	}
	p, client := w.Project, openDeployment(env)
	servers := rollout.Servers{Client: client, Environment: environment, Model: p.Name, SLO: p.SLO.Latency}
	return rollout.Line{
		Model: p.Name, RunKey: env.Common.RunKey, Plan: p.Rollout,
		Router:   rollout.Routers{Client: client, At: environment.Routers, Owner: p.Name + " " + owner, Lease: p.Rollout.Lease},
		Fleet:    servers,
		Meter:    servers,
		Registry: promoter{models: models, repository: repository},
		Store:    w.Bucket, Now: env.Now, Say: env.Logf,
	}, nil
}

// promoter moves the alias first, then lays the tag that records it.
type promoter struct {
	models     *registry.Registry
	repository git.Repository
}

func (p promoter) Champion(ctx context.Context) (rollout.Champion, error) {
	c, err := p.models.Champion(ctx)
	if errors.Is(err, registry.ErrNoChampion) {
		return rollout.Champion{}, errors.Join(rollout.ErrNoChampion, err)
	}
	if err != nil {
		return rollout.Champion{}, err
	}
	champion := rollout.Champion{Digest: c.Digest, Version: strconv.Itoa(c.Version)}
	if c.Previous != nil {
		champion.Previous = c.Previous.Digest
	}
	return champion, nil
}

func (p promoter) Promote(ctx context.Context, digest string) (string, error) {
	promoted, err := p.models.Promote(ctx, digest)
	if err != nil {
		return "", err
	}
	version := strconv.Itoa(promoted.Version)
	name := "model/" + p.models.Model + "/v" + version
	message := fmt.Sprintf("%s version %s\n\nmodel: %s\ndataset: %s\n", p.models.Model, version, digest, promoted.Dataset)
	return version, p.repository.Tag(ctx, name, message, digest)
}
