package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/access"
	"github.com/penstock-ml/penstock/serve/admin"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/replay"
	"github.com/penstock-ml/penstock/serve/service"
)

func runServer(ctx context.Context, env *action.Env, o runOptions) (r verdict.Result, err error) {
	guards, err := o.check(env)
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
	models, err := host.NewSet([]string{o.name}, o.state, load, func(string) host.Observer { return counters }, log,
		host.Options{Replay: replay.DefaultLimits, Drain: o.drain})
	if err != nil {
		return r, verdict.Usage(err)
	}
	defer models.Close()
	core := service.New(service.Options{
		Log: log, Version: action.BuildVersion(version), SLO: o.slo, Strays: counted.Model("none"),
		Models: []service.Served{{Host: models.Host(o.name), Counter: counters, Replay: models.Host(o.name).Ring()}},
	})
	public := api.New(api.Options{Service: core, Log: log, Buffers: buffers.New(), Page: true})
	private := admin.New(models, guards.admin, counted.Handler())

	secure, err := o.tls.load(log)
	if err != nil {
		return r, err
	}
	servers, err := listen(log, secure != nil,
		httpSide("public", o.listen, o.connections, o.read, guards.tokens.Handler(public.Handler(), api.OpenPaths()...), secure, log),
		httpSide("admin", o.adminListen, adminConnections, o.read, private.Handler(), secure, log))
	if err != nil {
		return r, err
	}
	defer servers.close()
	log.Info("who may", "tokens", guards.tokens.Needed(), "max_connections", o.connections, "read_timeout", o.read, "drain", o.drain)
	resumed := make(chan struct{})
	go func() {
		defer close(resumed)
		if err := models.Resume(ctx); err != nil {
			log.Error("what was served before the restart is not served", "reason", err)
		}
	}()
	err = servers.wait(ctx)
	core.Drain()
	left := servers.shutdown(o.drain)
	<-resumed // it ends with ctx, or by itself
	if err := errors.Join(err, left); err != nil {
		return r, err
	}
	r = verdict.Passed("served %s until told to stop", o.name)
	if digest := models.Host(o.name).Status().Serving; digest != "" {
		r.Subjects["model"] = digest
	}
	return r, nil
}

// load gives the config of the listeners; nil without a certificate.
func (c certificate) load(log *slog.Logger) (*tls.Config, error) {
	if !c.given() {
		return nil, nil
	}
	loaded, err := access.LoadCertificate(c.cert, c.key, log)
	if err != nil {
		return nil, err
	}
	return loaded.Config(), nil
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
	return host.FromBucket(bucket, cache, runtime), runtime.Close, nil
}
