package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
	"github.com/penstock-ml/penstock/serve/access"
	"github.com/penstock-ml/penstock/serve/admin"
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
	read        time.Duration
	connections int
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
		Flags: o.flags(),
		Environment: append(append(workspace.StoreVariables(), engineVariables()...),
			action.Variable{Name: "PENSTOCK_ADMIN_TOKEN", Description: "token of the admin listener; needed off loopback", Secret: true},
			action.Variable{Name: access.Variable, Description: "tokens of the public listener, separated by commas: clients send one of them; none: everybody may", Secret: true}),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) { return runServer(ctx, env, o) },
	}
}

func (o *runOptions) flags() []cli.Flag {
	return append(o.engine.flags(),
		&cli.StringFlag{Name: "listen", Usage: "public `ADDRESS`", Value: "127.0.0.1:8000", Destination: &o.listen},
		&cli.StringFlag{Name: "admin-listen", Usage: "admin `ADDRESS`", Value: "127.0.0.1:9000", Destination: &o.adminListen},
		&cli.StringFlag{Name: "tls-cert", Usage: "PEM `FILE` of the certificate of all listeners, read again when it changes; needed off loopback", Destination: &o.tls.cert},
		&cli.StringFlag{Name: "tls-key", Usage: "PEM `FILE` of its key", Destination: &o.tls.key},
		&cli.StringFlag{Name: "name", Usage: "`NAME` of the model, as in the bundles and in the path", Required: true, Destination: &o.name},
		&cli.StringFlag{Name: "slot", Usage: "`SLOT` that the metrics name: stable, canary, staging", Required: true, Destination: &o.slot},
		&cli.StringFlag{Name: "bucket", Usage: "`BUCKET` that holds the bundles below models/", Required: true, Destination: &o.bucket},
		&cli.StringFlag{Name: "state", Usage: "`DIR` that remembers what is served; one for each server", Required: true, Destination: &o.state},
		&cli.StringFlag{Name: "cache", Usage: "`DIR` of fetched bundles (default: below PENSTOCK_CACHE)", Destination: &o.cache},
		&cli.DurationFlag{Name: "slo", Usage: "`DURATION` within which answers are wanted; a boundary of the metrics", Value: 500 * time.Millisecond, Destination: &o.slo},
		&cli.DurationFlag{Name: "drain", Usage: "`DURATION` that requests have to end after SIGTERM; what goes on longer is cut off", Value: 30 * time.Second, Destination: &o.drain},
		&cli.DurationFlag{Name: "read-timeout", Usage: "`DURATION` that a request has to come in whole", Value: 30 * time.Second, Destination: &o.read},
		&cli.IntFlag{Name: "max-connections", Usage: "`NUMBER` of connections to a public listener at a time", Value: 1024, Destination: &o.connections},
	)
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
	if o.connections < 1 {
		return g, errors.New("--max-connections must be at least 1")
	}
	if err := checkPublic("--listen", o.listen, o.tls.given()); err != nil {
		return g, err
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
