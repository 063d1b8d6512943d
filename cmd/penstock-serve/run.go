package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
	"github.com/penstock-ml/penstock/serve/admin"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
)

type runOptions struct {
	engine      engine
	listen      string
	adminListen string
	tls         certificate
	name, slot  string
	bucket      string
	cache       string
	state       string
	slo         time.Duration
	drain       time.Duration
}

func runCommand() action.Command {
	var o runOptions
	return action.Command{
		Name: "run", Program: "penstock-serve", Local: true,
		Summary: "serve a model: images in, scores out",
		Description: `Answers on two listeners. The public one takes PNG and JPEG images at
POST /v1/models/NAME/predict and speaks the Open Inference Protocol over REST
(/v2). The admin one, on loopback or with TLS and the token in
PENSTOCK_ADMIN_TOKEN, is told by penstock deploy which digest to serve, and
gives the metrics. A bundle is fetched from the bucket, verified, run on its
goldens and swapped in while requests go on; one that fails any of this changes
nothing. What was served is served again after a restart. SIGTERM lets the
requests that go on come to their end.`,
		Example: `penstock-serve run --name xray --slot stable --bucket xray --state /var/lib/penstock/stable \
  --listen 127.0.0.1:8000 --admin-listen 127.0.0.1:9000
curl --data-binary @chest.png http://127.0.0.1:8000/v1/models/xray/predict`,
		Flags: append(o.engine.flags(),
			&cli.StringFlag{Name: "listen", Usage: "public `ADDRESS`", Value: "127.0.0.1:8000", Destination: &o.listen},
			&cli.StringFlag{Name: "admin-listen", Usage: "admin `ADDRESS`", Value: "127.0.0.1:9000", Destination: &o.adminListen},
			&cli.StringFlag{Name: "tls-cert", Usage: "PEM `FILE` of the certificate of both listeners; needed off loopback", Destination: &o.tls.cert},
			&cli.StringFlag{Name: "tls-key", Usage: "PEM `FILE` of its key", Destination: &o.tls.key},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the model, as in the bundles and in the path", Required: true, Destination: &o.name},
			&cli.StringFlag{Name: "slot", Usage: "`SLOT` that the metrics name: stable, canary, staging", Required: true, Destination: &o.slot},
			&cli.StringFlag{Name: "bucket", Usage: "`BUCKET` that holds the bundles below models/", Required: true, Destination: &o.bucket},
			&cli.StringFlag{Name: "state", Usage: "`DIR` that remembers what is served; one for each server", Required: true, Destination: &o.state},
			&cli.StringFlag{Name: "cache", Usage: "`DIR` of fetched bundles (default: below PENSTOCK_CACHE)", Destination: &o.cache},
			&cli.DurationFlag{Name: "slo", Usage: "`DURATION` within which answers are wanted; a boundary of the metrics", Value: 500 * time.Millisecond, Destination: &o.slo},
			&cli.DurationFlag{Name: "drain", Usage: "`DURATION` that requests have to end after SIGTERM", Value: 30 * time.Second, Destination: &o.drain},
		),
		Environment: append(append(workspace.StoreVariables(), engineVariables()...),
			action.Variable{Name: "PENSTOCK_ADMIN_TOKEN", Description: "token of the admin listener; needed off loopback", Secret: true}),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) { return runServer(ctx, env, o) },
	}
}

func runServer(ctx context.Context, env *action.Env, o runOptions) (r verdict.Result, err error) {
	access, err := o.check(env)
	if err != nil {
		return r, verdict.Usage(err)
	}
	load, closeRuntime, err := o.loader(env)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, closeRuntime()) }()

	log := slog.New(slog.NewTextHandler(env.Stderr, nil))
	counted := metrics.New(o.slot, o.slo)
	counters := counted.Model(o.name)
	models := host.New(o.name, o.state, load, counters, log)
	defer models.Close()
	public := api.New(models, counters, log, action.BuildVersion(version), o.slo)
	private := admin.New(models, access, counted.Handler())

	servers, err := listen(log, o.tls,
		endpoint{"public", o.listen, public.Handler()},
		endpoint{"admin", o.adminListen, private.Handler()})
	if err != nil {
		return r, err
	}
	defer servers.close()
	resumed := make(chan struct{})
	go func() {
		defer close(resumed)
		if err := models.Resume(ctx); err != nil {
			log.Error("what was served before the restart is not served", "reason", err)
		}
	}()
	err = servers.wait(ctx)
	public.Drain()
	left := servers.shutdown(o.drain)
	<-resumed // it ends with ctx, or by itself
	if err := errors.Join(err, left); err != nil {
		return r, err
	}
	r = verdict.Passed("served %s until told to stop", o.name)
	if digest := models.Status().Serving; digest != "" {
		r.Subjects["model"] = digest
	}
	return r, nil
}

// check refuses what should not be started at all.
func (o *runOptions) check(env *action.Env) (admin.Access, error) {
	if err := o.tls.check(); err != nil {
		return admin.Access{}, err
	}
	if o.slo <= 0 || o.drain <= 0 {
		return admin.Access{}, errors.New("--slo and --drain must be positive, such as 500ms")
	}
	if err := checkPublic(o.listen, o.tls.given()); err != nil {
		return admin.Access{}, err
	}
	return admin.CheckListener(o.adminListen, env.Getenv("PENSTOCK_ADMIN_TOKEN"), o.tls.given())
}

// loader opens the bucket and ONNX Runtime, and gives the way from a digest to
// a model that is ready.
func (o *runOptions) loader(env *action.Env) (host.Load, func() error, error) {
	credentials, err := objectstore.CredentialsFromEnv(env.Getenv)
	if err != nil {
		return nil, nil, verdict.Coded("credentials", err)
	}
	bucket, err := objectstore.Open(credentials, o.bucket)
	if err != nil {
		return nil, nil, err
	}
	cache := o.cache
	if cache == "" {
		if cache, err = modelCache(env); err != nil {
			return nil, nil, err
		}
	}
	runtime, err := o.engine.start(env)
	if err != nil {
		return nil, nil, err
	}
	load := func(ctx context.Context, digest string) (*model.Model, error) {
		b, err := bundle.Fetch(ctx, bucket, digest, cache)
		if err != nil {
			return nil, err
		}
		return model.Open(ctx, runtime, b)
	}
	return load, runtime.Close, nil
}
