package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/intake"
	"github.com/penstock-ml/penstock/internal/outside/github"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/outside/webhook"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type watchOptions struct {
	once     bool
	webhook  string
	workflow string
	ref      string
	interval time.Duration
	lease    time.Duration
}

func watchCommand() action.Command {
	var o watchOptions
	return action.Command{
		Name: "watch", Program: "penstock",
		Summary: "hand every complete batch on, exactly once",
		Description: `Lists what lies below data.raw, waits until a folder is complete (a _SUCCESS
marker newer than its other files, or no change for data.settle), claims it in
the bucket and hands its batch key on, either to a workflow or to a webhook.
--workflow dispatches the workflow of GITHUB_REPOSITORY with the inputs batch
and run_key, unless a run named "train KEY" is there; its run-name must be so.
--webhook asks GET URL/KEY whether the key is known (200 or 404), and PUT
URL/KEY takes the batch as JSON. Any number of watchers may run; a crash at any
point loses nothing and repeats nothing. A folder that changes after it was
handed on becomes a batch with a key of its own. Without --once it stays until
SIGTERM, which ends it with pass; an outage of store, GitHub or webhook is told
and waited for.`,
		Example: "penstock watch --once --workflow train.yml\npenstock watch --webhook http://127.0.0.1:8080/batches",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "workflow", Usage: "hand batches on by dispatching this workflow `FILE`, such as train.yml", Destination: &o.workflow},
			&cli.StringFlag{Name: "ref", Usage: "`BRANCH` on which the workflow runs (default: the repository's default branch)", Destination: &o.ref},
			&cli.StringFlag{Name: "webhook", Usage: "hand batches on to this `URL`", Destination: &o.webhook},
			&cli.BoolFlag{Name: "once", Usage: "make one pass and end", Destination: &o.once},
			&cli.DurationFlag{Name: "interval", Usage: "`TIME` between two passes", Value: 10 * time.Second, Destination: &o.interval},
			&cli.DurationFlag{Name: "lease", Usage: "`TIME` for which a claim stands; a batch whose watcher died is taken over after it", DefaultText: "1m, with --workflow 5m", Destination: &o.lease},
		},
		Outputs: []action.Output{
			{Name: "batches", Description: "keys of the batches handed on, one a line"},
			{Name: "dispatched", Description: "how many they are"},
		},
		Environment: append(workspace.StoreVariables(), githubVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runWatch(ctx, env, o)
		},
	}
}

func runWatch(ctx context.Context, env *action.Env, o watchOptions) (verdict.Result, error) {
	if err := o.complete(); err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	receiver, err := openReceiver(env, o)
	if err != nil {
		return verdict.Result{}, err
	}
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	owner, err := watcherName()
	if err != nil {
		return verdict.Result{}, err
	}
	var keys []string
	watcher := &intake.Watcher{
		Raw: w.Project.Data.Raw, Settle: w.Project.Data.Settle, Term: o.lease, Owner: owner,
		Lister: lister{w.Bucket}, Store: w.Bucket, Dispatcher: receiver, Now: env.Now,
		Tell: func(e intake.Event) {
			if e.Kind == intake.Dispatched || e.Kind == intake.Recovered {
				keys = append(keys, e.Batch)
			}
			env.Logf("%s", eventLine(e))
		},
	}
	if err := watch(ctx, env, w.Bucket, watcher, o); err != nil {
		return watched(keys), err
	}
	return watched(keys), nil
}

// complete fills in what depends on where batches go, and refuses what does
// not fit together.
func (o *watchOptions) complete() error {
	shortest := time.Second
	switch {
	case (o.workflow == "") == (o.webhook == ""):
		return errors.New("give either --workflow or --webhook: where shall batches go?")
	case o.webhook != "" && o.ref != "":
		return errors.New("--ref belongs to --workflow: a webhook has no branch")
	case o.workflow != "" && (!strings.HasSuffix(o.workflow, ".yml") && !strings.HasSuffix(o.workflow, ".yaml") || strings.Contains(o.workflow, "/")):
		return fmt.Errorf("--workflow %q: name the file below .github/workflows, such as train.yml", o.workflow)
	case o.workflow != "":
		shortest = github.ShortestLease
	}
	if o.lease == 0 {
		o.lease = max(shortest, time.Minute)
	}
	if o.interval <= 0 || o.lease < shortest {
		return fmt.Errorf("--interval %s, --lease %s: the interval is above zero, the lease at least %s", o.interval, o.lease, shortest)
	}
	return nil
}

// openReceiver opens what takes the batches.
func openReceiver(env *action.Env, o watchOptions) (intake.Dispatcher, error) {
	if o.webhook != "" {
		endpoint, err := webhook.New(o.webhook)
		return endpoint, verdict.Usage(err)
	}
	client, err := openGitHub(env)
	if err != nil {
		return nil, err
	}
	return github.NewBatches(client, o.workflow, o.ref), nil
}

// watch makes one pass or stays. That a resident watcher is told to end is no
// error.
func watch(ctx context.Context, env *action.Env, bucket *objectstore.Bucket, w *intake.Watcher, o watchOptions) error {
	if o.once {
		if err := bucket.CheckConditional(ctx); err != nil {
			return err
		}
		_, err := w.Reconcile(ctx)
		return err
	}
	for {
		err := bucket.CheckConditional(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, objectstore.ErrUnreachable) {
			return err
		}
		env.Logf("watch: %v; again in %s", err, o.interval)
		select {
		case <-ctx.Done():
		case <-time.After(o.interval):
		}
	}
	env.Logf("watch: watching s3://%s/%s every %s", bucket.Name(), w.Raw, o.interval)
	w.Run(ctx, o.interval)
	return nil
}

func watched(keys []string) verdict.Result {
	r := verdict.Passed("%d batches handed on", len(keys))
	r.Outputs["dispatched"] = strconv.Itoa(len(keys))
	r.Outputs["batches"] = strings.Join(keys, "\n")
	return r
}

func eventLine(e intake.Event) string {
	parts := []string{"watch:", string(e.Kind), e.Prefix}
	if e.Batch != "" {
		parts = append(parts, e.Batch)
	}
	return strings.Join(parts, " ") + ": " + strings.ReplaceAll(e.Text, "\n", "; ")
}

// watcherName is of this process alone, so that a restarted watcher never
// takes the claim of the one before for its own.
func watcherName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this host: %w", err)
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:8]), nil
}

// lister shows the bucket as intake wants it.
type lister struct{ *objectstore.Bucket }

func (l lister) List(ctx context.Context, prefix string) ([]intake.Object, error) {
	listed, err := l.Bucket.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	objects := make([]intake.Object, 0, len(listed))
	for _, o := range listed {
		objects = append(objects, intake.Object{Key: o.Key, ETag: o.ETag, Size: o.Size, Modified: o.Modified})
	}
	return objects, nil
}
