package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/access"
	"github.com/penstock-ml/penstock/serve/admin"
	"github.com/penstock-ml/penstock/serve/admission"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/logline"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/remote"
	"github.com/penstock-ml/penstock/serve/replay"
	"github.com/penstock-ml/penstock/serve/resample"
	"github.com/penstock-ml/penstock/serve/rpc"
	"github.com/penstock-ml/penstock/serve/service"
	"github.com/penstock-ml/penstock/serve/tile"
	"github.com/penstock-ml/penstock/serve/turbojpeg"
)

func runServer(ctx context.Context, env *action.Env, o runOptions) (r verdict.Result, err error) {
	guards, err := o.check(env)
	if err != nil {
		return r, verdict.Usage(err)
	}
	signal.Ignore(syscall.SIGPIPE) // or who reads the log would take the server with it
	lines := logline.New(env.Stderr)
	defer func() { err = errors.Join(err, closeLog(lines)) }()
	log := slog.New(slog.NewTextHandler(lines, nil))
	secure, err := o.tls.load(log)
	if err != nil {
		return r, err
	}
	runtime, load, err := o.runtime(env)
	if err != nil {
		return r, err
	}
	schedule(runtime.CPUs())
	p, err := o.assemble(runtime, load, log)
	if err != nil {
		return r, errors.Join(err, runtime.Close())
	}
	p.counted.LogLines(lines.Lost)
	defer func() { err = errors.Join(err, p.close()) }()
	servers, err := listen(log, secure != nil, p.sides(guards, secure)...)
	if err != nil {
		return r, err
	}
	defer servers.close()
	p.tell(guards)
	return p.until(ctx, servers)
}

// closeLog writes what waits for the log.
func closeLog(lines *logline.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTerm)
	defer cancel()
	return lines.Close(ctx)
}

// fetchTerm bounds the fetching of a picture, redirects included.
const fetchTerm = 10 * time.Second

// closeTerm is what runs have to end that were terminated.
const closeTerm = 5 * time.Second

// serving is what the listeners stand on.
type serving struct {
	o       runOptions
	log     *slog.Logger
	runtime *model.Runtime
	counted *metrics.Metrics
	strays  *metrics.Model // of what belongs to no model
	models  *host.Set
	core    *service.Service
	fetcher api.Fetcher // nil: pictures are not fetched
}

func (o *runOptions) assemble(runtime *model.Runtime, load host.Load, log *slog.Logger) (*serving, error) {
	p := &serving{o: *o, log: log, runtime: runtime, counted: metrics.New(o.slot, o.slo)}
	p.strays = p.counted.Model(metrics.NoDigest)
	if hosts := o.urlHosts.Value(); len(hosts) > 0 {
		fetcher, err := remote.New(remote.Options{Allowed: hosts, MaxBytes: imaging.DefaultLimits.Bytes, Timeout: fetchTerm})
		if err != nil {
			return nil, verdict.Usage(err)
		}
		p.fetcher = fetcher
	}
	counters := map[string]*metrics.Model{}
	for _, name := range o.names.Value() {
		counters[name] = p.counted.Model(name)
	}
	enlarger := tile.New(tile.Bounds{Memory: int64(o.tileMemory) << 20, Runs: runtime.Callers(), Term: writeTerm * 5 / 6})
	remembered := replay.DefaultLimits
	remembered.Requests = o.replay
	var err error
	p.models, err = host.NewSet(o.names.Value(), o.state, learning(load, enlarger, log), func(name string) host.Observer { return counters[name] }, log,
		host.Options{Replay: remembered, Drain: o.drain, Enlarge: enlarger.Tensors, Tidy: host.KeepBundles(o.cache, o.cached, log)})
	if err != nil {
		return nil, verdict.Usage(err)
	}
	served := make([]service.Served, 0, len(counters))
	for _, h := range p.models.Hosts() {
		p.counted.Draining(h.Name(), func() []string { return h.Status().Draining })
		queue := admission.New(admission.Options{Name: h.Name(), Turns: p.turns(), Depth: o.queue})
		p.counted.Queue(h.Name(), queue.Waiting, queue.AtWork)
		served = append(served, service.Served{Host: h, Counter: counters[h.Name()], Queue: queue, Replay: h.Ring()})
	}
	p.core = service.New(service.Options{
		Log: log, Version: action.BuildVersion(version), SLO: o.slo, Strays: p.strays, Models: served, Enlarger: enlarger,
		Explainers: max(1, runtime.CPUs()/2),
	})
	return p, nil
}

// learning looks at the graphs of super-resolution models when they are loaded,
// and says how their pictures will be run.
func learning(load host.Load, enlarger *tile.Enlarger, log *slog.Logger) host.Load {
	return func(ctx context.Context, digest string) (*model.Model, error) {
		m, err := load(ctx, digest)
		if err != nil || m.Task() != bundle.TaskSuperResolution {
			return m, err
		}
		traits, err := enlarger.Learn(m)
		if err != nil {
			defer m.Bundle().Release()
			return nil, errors.Join(m.Bundle().Blame(err), m.Close())
		}
		log.Info("enlarges", "model", m.Name(), "digest", digest, "scale", traits.Scale, "tiles", traits.String())
		return m, nil
	}
}

// turns is how many requests for a model are at work at a time: one for each
// run, as many as share one, and one more, so that a CPU that gets free between
// two phases of a request finds work. The CPUs themselves are shared out by the
// runtime, over all models.
func (p *serving) turns() int { return p.runtime.Callers()*max(1, p.runtime.Batch().Max) + 1 }

// sides are the listeners, the admin side last.
func (p *serving) sides(g guards, secure *tls.Config) []side {
	limits := api.DefaultLimits
	limits.Requests = p.o.requests
	g.tokens = g.tokens.Telling(p.denied("public"))
	g.admin.Denied = p.denied("admin")
	g.admin.Stranger = p.turnedAway("admin", service.Denied, metrics.ClientError, "as a page of another origin")
	public := api.New(api.Options{
		Service: p.core, Log: p.log, Buffers: p.runtime.Buffers(), Fetcher: p.fetcher, Page: p.o.page, Limits: limits,
		Enter: func(next http.Handler) http.Handler { return g.tokens.Handler(next, api.OpenPaths()...) },
	})
	all := []side{httpSide("public", p.o.listen, p.o.connections, p.o.read, public.Handler(), secure, p.log)}
	if p.o.grpcListen != "" {
		all = append(all, p.grpcSide(g, secure))
	}
	private := admin.New(p.models, g.admin, p.counted.Handler())
	return append(all, httpSide("admin", p.o.adminListen, adminConnections, p.o.read, private.Handler(), secure, p.log))
}

// denied counts those who are turned away on a side for want of a token, and
// tells of them now and then.
func (p *serving) denied(side string) func() {
	return p.turnedAway(side, service.Denied, metrics.ClientError, access.NoToken)
}

// refused does so for the calls of gRPC that end before there is a request to
// log.
func (p *serving) refused(side string) func(service.Kind) {
	crowded := p.turnedAway(side, service.Refused, metrics.Refused, "for want of a place")
	large := p.turnedAway(side, service.TooLarge, metrics.ClientError, "for a message that is too large")
	return func(k service.Kind) {
		if k == service.Refused {
			crowded()
		} else {
			large()
		}
	}
}

func (p *serving) turnedAway(side string, kind service.Kind, outcome metrics.Outcome, why string) func() {
	denials := access.NewDenials(p.log.With("side", side), why)
	return func() {
		p.strays.Count(metrics.Request{Digest: metrics.NoDigest, Outcome: outcome, Kind: string(kind)})
		denials.Add()
	}
}

func (p *serving) grpcSide(g guards, secure *tls.Config) side {
	r := rpc.New(rpc.Options{
		Infer: p.core, Models: p.core, Buffers: p.runtime.Buffers(), Log: p.log, Version: action.BuildVersion(version),
		Limits: oip.DefaultLimits, TLS: secure, Calls: p.o.requests, Bytes: api.DefaultLimits.Bytes, Read: p.o.read, Answer: api.AnswerTerm, Enter: g.tokens.Telling(p.denied("grpc")).Call, Refused: p.refused("grpc"),
	})
	return side{name: "grpc", address: p.o.grpcListen, connections: p.o.connections, serve: r.Serve, drain: r.Drain, stop: r.Stop}
}

// tell says once what this server holds to.
func (p *serving) tell(g guards) {
	p.log.Info("limits", "slo", p.o.slo, "queue", p.o.queue, "turns", p.turns(), "requests", p.o.requests,
		"connections", p.o.connections, "read_timeout", p.o.read, "drain", p.o.drain, "cache_bundles", p.o.cached)
	p.log.Info("serves", "models", p.o.names.Value(), "slot", p.o.slot, "plan", p.runtime.Plan(), "batch_max", p.o.batch.Max, "batch_delay", p.o.batch.Delay,
		"decoder", p.o.decoder, "replay", p.o.replay, "tokens", g.tokens.Needed(), "url_hosts", p.o.urlHosts.Value(), "page", p.o.page)
}

// until serves until ctx ends, then drains.
func (p *serving) until(ctx context.Context, s *servers) (r verdict.Result, err error) {
	resumed := make(chan struct{})
	go func() {
		defer close(resumed)
		if err := p.models.Resume(ctx); err != nil {
			p.log.Error("what was served before the restart is not served", "reason", err)
		}
	}()
	err = s.wait(ctx)
	p.core.Drain()
	p.log.Info("draining", "term", p.o.drain)
	left := s.shutdown(p.o.drain)
	<-resumed // it ends with ctx, or by itself
	if err := errors.Join(err, left); err != nil {
		return r, err
	}
	r = verdict.Passed("served %s until told to stop", strings.Join(p.o.names.Value(), ", "))
	p.name(&r)
	return r, nil
}

// name says in the result what was served at the end: a role has one subject,
// the first model; all stand in an output.
func (p *serving) name(r *verdict.Result) {
	var all []string
	for i, h := range p.models.Hosts() {
		digest := h.Status().Serving
		if digest == "" {
			continue
		}
		if i == 0 {
			r.Subjects["model"] = digest
		}
		all = append(all, h.Name()+" "+digest)
	}
	if len(all) > 0 {
		r.Outputs["models"] = strings.Join(all, "\n")
	}
}

// close unloads the models and ONNX Runtime. A run that cannot be terminated
// does not keep the process: it ends with it.
func (p *serving) close() error {
	unloaded := make(chan struct{})
	go func() {
		p.models.Close()
		close(unloaded)
	}()
	select {
	case <-unloaded:
		return p.runtime.Close()
	case <-time.After(closeTerm):
		return fmt.Errorf("a model was still at work %s after its requests had been cut off: the process ends nevertheless", closeTerm)
	}
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

// runtime opens the bucket and ONNX Runtime, settles where the cache is, and
// gives the way from a digest to a model that is ready.
func (o *runOptions) runtime(env *action.Env) (*model.Runtime, host.Load, error) {
	credentials, err := objectstore.CredentialsFromEnv(env.Getenv)
	if err != nil {
		return nil, nil, verdict.Coded("credentials", err)
	}
	bucket, err := objectstore.Open(credentials, o.bucket)
	if err != nil {
		return nil, nil, err
	}
	if o.cache == "" {
		if o.cache, err = modelCache(env); err != nil {
			return nil, nil, err
		}
	}
	decoder, err := decoderOf(o.decoder)
	if err != nil {
		return nil, nil, err
	}
	runtime, err := o.engine.startWith(env, model.Options{Batch: o.batch, Decoder: decoder})
	if err != nil {
		return nil, nil, err
	}
	return runtime, host.FromBucket(bucket, o.cache, runtime), nil
}

// decoderOf opens a decoder by the name of the flag --decoder.
func decoderOf(name string) (d imaging.Decoder, err error) {
	if name != decoderTurbo {
		return d, nil
	}
	if d.GreyJPEG, err = turbojpeg.Open(); err != nil {
		return d, err
	}
	d.Passes, err = resample.Open()
	return d, err
}
