package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
	"github.com/penstock-ml/penstock/serve/access"
	"github.com/penstock-ml/penstock/serve/admin"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/replay"
	"github.com/penstock-ml/penstock/serve/tile"
)

type runOptions struct {
	engine      engine
	listen      string
	grpcListen  string
	adminListen string
	tls         certificate
	names       cli.StringSlice
	slot        string
	bucket      string
	cache       string
	cached      int // bundles that stay there
	state       string
	slo         time.Duration
	drain       time.Duration
	read        time.Duration
	connections int
	requests    int
	queue       int
	replay      int
	tileMemory  int // MiB
	batch       model.BatchOptions
	decoder     string
	urlHosts    cli.StringSlice
	page        bool
}

// The decoders of --decoder.
const (
	decoderGo    = "go"
	decoderTurbo = "turbo"
)

func runCommand() action.Command {
	var o runOptions
	return action.Command{
		Name: "run", Program: "penstock-serve", Local: true,
		Summary: "serve a model: images in, scores out",
		Description: `The public listener takes PNG and JPEG images at POST
/v1/models/NAME/predict, speaks the Open Inference Protocol over REST (/v2), and
has a page at / to try the models on. A second one speaks the protocol over gRPC
(--grpc-listen). With tokens in PENSTOCK_API_TOKEN both answer those who send
one of them. The admin listener, on loopback or with TLS and the token in
PENSTOCK_ADMIN_TOKEN, is told by penstock deploy which digest to serve, and
gives the metrics. A bundle is fetched from the bucket, verified, run on its
goldens, tried on the requests that came last, and swapped in while requests go
on; one that fails any of this changes nothing. What was served is served again
after a restart.

Who would wait longer than the deadline allows (Penstock-Timeout-Ms, gRPC's own,
else --slo) is refused at once: 429 with Retry-After. The work of a client that
leaves is ended. SIGTERM lets the requests that go on come to their end within
--drain.`,
		Example: `penstock-serve run --name xray --slot stable --bucket xray --state /var/lib/penstock/stable \
  --listen 127.0.0.1:8000 --admin-listen 127.0.0.1:9000
curl -X PUT --json '{"digest": "5f2c..."}' http://127.0.0.1:9000/admin/v1/models/xray
curl --data-binary @chest.png http://127.0.0.1:8000/v1/models/xray/predict`,
		Flags: o.flags(),
		Outputs: []action.Output{
			{Name: "model", Description: "digest that the first --name served at the end; empty where it served none"},
			{Name: "models", Description: "name and digest of every model that was served at the end, one a line"},
		},
		Environment: append(append(workspace.StoreVariables(), engineVariables()...),
			action.Variable{Name: "PENSTOCK_ADMIN_TOKEN", Description: "token of the admin listener; needed off loopback", Secret: true},
			action.Variable{Name: access.Variable, Description: "tokens of the public listener, separated by commas: clients send one of them; none: everybody may", Secret: true}),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			paceCollector(env.Getenv)
			return runServer(ctx, env, o)
		},
	}
}

func (o *runOptions) flags() []cli.Flag {
	return slices.Concat(o.engine.flags(), o.listenerFlags(), o.modelFlags(), o.limitFlags())
}

func (o *runOptions) listenerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "listen", Usage: "public `ADDRESS`", Value: "127.0.0.1:8000", Destination: &o.listen},
		&cli.StringFlag{Name: "grpc-listen", Usage: "public `ADDRESS` of gRPC (default: none)", Destination: &o.grpcListen},
		&cli.StringFlag{Name: "admin-listen", Usage: "admin `ADDRESS`", Value: "127.0.0.1:9000", Destination: &o.adminListen},
		&cli.StringFlag{Name: "tls-cert", Usage: "PEM `FILE` of the certificate of all listeners, read again when it changes; needed off loopback", Destination: &o.tls.cert},
		&cli.StringFlag{Name: "tls-key", Usage: "PEM `FILE` of its key", Destination: &o.tls.key},
		&cli.BoolFlag{Name: "page", Usage: "serve the page at / to try the models on (--page=false: do not)", Value: true, Destination: &o.page},
		&cli.StringSliceFlag{Name: "allow-url-host", Usage: "`HOST[:PORT]` that pictures may be fetched from over https, http://HOST[:PORT] over http; repeatable (default: pictures are not fetched)", Destination: &o.urlHosts},
	}
}

func (o *runOptions) modelFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "name", Usage: "`NAME` of the model, as in the bundles and in the path; repeatable: several models side by side", Required: true, Destination: &o.names},
		&cli.StringFlag{Name: "slot", Usage: "`SLOT` that the metrics name: stable, canary, staging", Required: true, Destination: &o.slot},
		&cli.StringFlag{Name: "bucket", Usage: "`BUCKET` that holds the bundles below models/", Required: true, Destination: &o.bucket},
		&cli.StringFlag{Name: "state", Usage: "`DIR` that remembers what is served; one for each server", Required: true, Destination: &o.state},
		&cli.StringFlag{Name: "cache", Usage: "`DIR` of fetched bundles (default: below PENSTOCK_CACHE)", Destination: &o.cache},
		&cli.IntFlag{Name: "cache-bundles", Usage: "`NUMBER` of bundles that stay in the cache: after a load those that no server uses go, the ones that were not used for longest first; 0: all stay", Value: 8, Destination: &o.cached},
		&cli.IntFlag{Name: "batch-max", Usage: "`NUMBER` of requests that may share a run, where the graph takes several; 1: each runs alone (default: as the provider does best, 1 on CPUs)", Destination: &o.batch.Max},
		&cli.DurationFlag{Name: "batch-delay", Usage: "`DURATION` that a request waits for others to share its run", Value: 2 * time.Millisecond, Destination: &o.batch.Delay},
		&cli.StringFlag{Name: "decoder", Usage: "`DECODER` of pictures: go, or turbo, where it is built in, for grey JPEG by libjpeg-turbo, within one level of it, and grey resizing in C, the same bit by bit", Value: decoderGo, Destination: &o.decoder},
		&cli.IntFlag{Name: "replay", Usage: "`NUMBER` of requests kept in memory, on which a new model is tried before it answers; 0: none", Value: replay.DefaultLimits.Requests, Destination: &o.replay},
	}
}

func (o *runOptions) limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "slo", Usage: "`DURATION` within which answers are wanted: who would wait longer is refused; a boundary of the metrics", Value: 500 * time.Millisecond, Destination: &o.slo},
		&cli.IntFlag{Name: "queue", Usage: "`NUMBER` of requests that may wait for a model; 0: none waits", Value: 512, Destination: &o.queue},
		&cli.IntFlag{Name: "tile-memory", Usage: "`MIB` that the runs of a super-resolution model may take: larger pictures are run in tiles, or refused where the model needs them whole", Value: tile.DefaultMemory >> 20, Destination: &o.tileMemory},
		&cli.IntFlag{Name: "max-requests", Usage: "`NUMBER` of requests that are read, wait or run at a time, over all models", Value: api.DefaultLimits.Requests, Destination: &o.requests},
		&cli.IntFlag{Name: "max-connections", Usage: "`NUMBER` of connections to a public listener at a time; more wait", Value: 1024, Destination: &o.connections},
		&cli.DurationFlag{Name: "read-timeout", Usage: "`DURATION` that a request has to come in whole", Value: 30 * time.Second, Destination: &o.read},
		&cli.DurationFlag{Name: "drain", Usage: "`DURATION` that requests have to end after SIGTERM; what goes on longer is cut off", Value: 30 * time.Second, Destination: &o.drain},
	}
}

// certificate is the files of the flags --tls-cert and --tls-key.
type certificate struct{ cert, key string }

func (c certificate) given() bool { return c.cert != "" }

// guards say who may reach the listeners.
type guards struct {
	admin  admin.Access
	tokens access.Tokens
}

// check refuses what should not be started at all.
func (o *runOptions) check(env *action.Env) (g guards, err error) {
	if (o.tls.cert == "") != (o.tls.key == "") {
		return g, errors.New("--tls-cert and --tls-key belong together")
	}
	if o.slo <= 0 || o.drain <= 0 || o.read <= 0 {
		return g, errors.New("--slo, --drain and --read-timeout must be positive, such as 500ms")
	}
	if o.connections < 1 || o.requests < 1 {
		return g, errors.New("--max-connections and --max-requests must be at least 1")
	}
	if o.queue < 0 || o.replay < 0 || o.cached < 0 {
		return g, errors.New("--queue, --replay and --cache-bundles must not be negative")
	}
	if least := tile.LeastMemory >> 20; o.tileMemory < least {
		return g, fmt.Errorf("--tile-memory %d: want at least %d", o.tileMemory, least)
	}
	if err := o.batch.Validate(); err != nil {
		return g, fmt.Errorf("--batch-max, --batch-delay: %w", err)
	}
	if !slices.Contains([]string{decoderGo, decoderTurbo}, o.decoder) {
		return g, fmt.Errorf("--decoder %q: want %s or %s", o.decoder, decoderGo, decoderTurbo)
	}
	if err := checkPublic("--listen", o.listen, o.tls.given()); err != nil {
		return g, err
	}
	if o.grpcListen != "" {
		if err := checkPublic("--grpc-listen", o.grpcListen, o.tls.given()); err != nil {
			return g, err
		}
	}
	if g.tokens, err = access.ParseTokens(env.Getenv(access.Variable)); err != nil {
		return g, err
	}
	g.admin, err = admin.CheckListener(o.adminListen, env.Getenv("PENSTOCK_ADMIN_TOKEN"), o.tls.given())
	return g, err
}

// checkPublic refuses to carry pictures of patients over a network in the
// clear.
func checkPublic(flag, address string, tls bool) error {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %q: want host:port: %w", flag, address, err)
	}
	ip := net.ParseIP(name)
	if tls || name == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s %s is not on loopback: give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy", flag, address)
}
