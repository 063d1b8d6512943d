package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type resolveOptions struct {
	tag     string
	version int
	model   string
	from    cli.StringSlice
}

func resolveCommand() action.Command {
	var o resolveOptions
	return action.Command{
		Name: "resolve", Program: "penstock", Turn: action.KeepsTurn,
		Ends:    func(r verdict.Result) bool { return r.Outputs["serving"] == "true" },
		Summary: "find the digest and the run of a model version",
		Description: `Looks a version up in the model registry: by its number, by a tag
deploy/<project>/v<number>, or by its digest. The answer is what a deployment
goes by: the digest, the key of the run that made the model, whose offline gate
is the evidence, and the number of a new attempt at that run, under which the
deployment keeps its results. With --run-key and --attempt those two are kept as
they are. serving is true where the digest is in production already: then there
is nothing to do.

It reads and changes nothing. A version that is not there, or that was not made
by penstock register, is an error.`,
		Example: "penstock resolve --version 3\npenstock resolve --tag deploy/xray/v3",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tag", Usage: "`TAG` that asks for the deployment, deploy/<project>/v<number>", Destination: &o.tag},
			&cli.IntFlag{Name: "version", Usage: "`NUMBER` of the model version", Destination: &o.version},
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of the bundle", Destination: &o.model},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the bundle"},
			{Name: "dataset", Description: "digest of the data set it was made from"},
			{Name: "version", Description: "number of the model version"},
			{Name: "run_key", Description: "key of the run that made the model"},
			{Name: "attempt", Description: "number of the attempt under which to go on"},
			{Name: "serving", Description: "true where production serves this digest, else false"},
		},
		Environment: append(workspace.StoreVariables(), trackingVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runResolve(ctx, env, o)
		},
	}
}

func runResolve(ctx context.Context, env *action.Env, o resolveOptions) (verdict.Result, error) {
	w, from, err := workspace.OpenWith(ctx, env, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	model, err := workspace.Subject("model", o.model, from)
	if err != nil {
		return verdict.Result{}, err
	}
	number, err := o.number(w.Project.Name, model)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	models, err := openRegistry(env, w)
	if err != nil {
		return verdict.Result{}, err
	}
	version, err := lookUp(ctx, models, model, number)
	if err != nil {
		return verdict.Result{}, err
	}
	champion, err := models.Champion(ctx)
	if err != nil && !errors.Is(err, registry.ErrNoChampion) {
		return verdict.Result{}, err
	}
	key, attempt, err := goOnUnder(ctx, env, w, version)
	if err != nil {
		return verdict.Result{}, err
	}
	return resolved(version, champion.Digest == version.Digest(), key, attempt), nil
}

func resolved(v registry.Version, serving bool, key string, attempt int) verdict.Result {
	r := verdict.Passed("version %d is %s", v.Number, v.Digest())
	if serving {
		r = verdict.Passed("version %d is %s, which production serves already", v.Number, v.Digest())
	}
	name(r, map[string]string{"model": v.Digest(), "dataset": v.Tags[registry.TagDataset]})
	r.Outputs["version"] = strconv.Itoa(v.Number)
	r.Outputs["run_key"] = key
	r.Outputs["attempt"] = strconv.Itoa(attempt)
	r.Outputs["serving"] = strconv.FormatBool(serving)
	return r
}

// deployTag is the form of a tag that asks for a deployment.
var deployTag = regexp.MustCompile(`^deploy/([a-z0-9-]+)/v([1-9][0-9]{0,8})$`)

// number is the version that is asked for, 0 where a digest asks.
func (o resolveOptions) number(project, model string) (int, error) {
	asked := 0
	for _, given := range []bool{o.tag != "", o.version != 0, model != ""} {
		if given {
			asked++
		}
	}
	if asked != 1 {
		return 0, errors.New("say which version in one way: --tag deploy/<project>/v<number>, --version NUMBER, or --model DIGEST")
	}
	if o.tag == "" {
		if o.version < 0 {
			return 0, fmt.Errorf("--version %d: versions count from 1", o.version)
		}
		return o.version, nil
	}
	m := deployTag.FindStringSubmatch(o.tag)
	if m == nil {
		return 0, fmt.Errorf("--tag %q: wanted is deploy/%s/v<number>, with the number of a model version", o.tag, project)
	}
	if m[1] != project {
		return 0, fmt.Errorf("--tag %s is for the project %s, this one is %s", o.tag, m[1], project)
	}
	return strconv.Atoi(m[2])
}

func lookUp(ctx context.Context, models *registry.Registry, model string, number int) (registry.Version, error) {
	if model != "" {
		v, err := models.Of(ctx, model)
		return v, unknownVersion(err)
	}
	v, err := models.Numbered(ctx, number)
	return v, unknownVersion(err)
}

func unknownVersion(err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return verdict.Coded("unknown-version", err)
	}
	return err
}

// goOnUnder says under which run and attempt a deployment of the version keeps
// its results: the caller's, else the next attempt at the run that made it.
func goOnUnder(ctx context.Context, env *action.Env, w *workspace.Workspace, v registry.Version) (key string, attempt int, err error) {
	if env.Common.RunKey != "" {
		return env.Common.RunKey, env.Common.Attempt, nil
	}
	key = v.Tags[registry.TagRunKey]
	if key == "" {
		return "", 0, verdict.Coded("no-run", fmt.Errorf("version %d was registered outside a run: no offline gate's result lies in the bucket to deploy it on; name one with --run-key", v.Number))
	}
	prefix := "runs/" + key + "/"
	results, err := w.Bucket.List(ctx, prefix)
	if err != nil {
		return "", 0, err
	}
	last := 0
	for _, o := range results {
		number, _, _ := strings.Cut(strings.TrimPrefix(o.Key, prefix), "/")
		if n, err := strconv.Atoi(number); err == nil {
			last = max(last, n)
		}
	}
	return key, last + 1, nil
}
