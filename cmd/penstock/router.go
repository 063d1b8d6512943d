package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/outside/haproxy"
	"github.com/penstock-ml/penstock/internal/verdict"
)

type routerOptions struct {
	listen, mapFile, socket, backend string
	tlsCert, tlsKey                  string
	interval                         time.Duration
}

func routerCommand() action.Command {
	var o routerOptions
	return action.Command{
		Name: "router", Program: "penstock", Local: true,
		Summary: "keep the share of traffic of one proxy host",
		Description: `Resident beside HAProxy. It alone writes the map file that HAProxy splits by and
sets the map of the running proxy over its runtime socket, reading back after
each change. GET and PUT /v1/split read and change the share for those who know
the token. A share above 0 has an owner and a lease: when the lease runs out,
the share goes to 0 and stable serves everything. A restart of HAProxy or of
the router changes nothing. It needs no project file. SIGTERM ends it with pass
and leaves the share to its lease.`,
		Example: "PENSTOCK_ROUTER_TOKEN=… penstock router --listen 127.0.0.1:9100 --map /var/lib/penstock/split.map --socket /run/haproxy/admin.sock",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` to listen at", Required: true, Destination: &o.listen},
			&cli.StringFlag{Name: "map", Usage: "map `FILE`, written as HAProxy's configuration names it", Required: true, Destination: &o.mapFile},
			&cli.StringFlag{Name: "socket", Usage: "`PATH` of HAProxy's runtime socket (level admin)", Required: true, Destination: &o.socket},
			&cli.StringFlag{Name: "canary-backend", Usage: "`NAME` of the canary's backend in HAProxy's configuration", Value: deployment.Canary, Destination: &o.backend},
			&cli.StringFlag{Name: "tls-cert", Usage: "certificate `FILE`; needed off loopback", Destination: &o.tlsCert},
			&cli.StringFlag{Name: "tls-key", Usage: "key `FILE` of the certificate", Destination: &o.tlsKey},
			&cli.DurationFlag{Name: "interval", Usage: "`TIME` between two looks at leases and proxy", Value: 500 * time.Millisecond, Destination: &o.interval},
		},
		Environment: []action.Variable{routerVariable},
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runRouter(ctx, env, o)
		},
	}
}

func runRouter(ctx context.Context, env *action.Env, o routerOptions) (verdict.Result, error) {
	token := env.Getenv(routerVariable.Name)
	if err := o.check(token); err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	proxy, err := haproxy.New(o.socket, o.mapFile, o.backend)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	say := func(format string, args ...any) { env.Logf("router: "+format, args...) }
	keeper, err := split.Open(o.mapFile, proxy, env.Now, say)
	if err != nil {
		return verdict.Result{}, err
	}
	listener, err := o.open(ctx)
	if err != nil {
		return verdict.Result{}, err
	}
	say("listening at %s, map %s", listener.Addr(), o.mapFile)
	server := &http.Server{
		Handler: split.Handler(keeper, token), ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute,
	}
	if err := serve(ctx, server, listener, func(ctx context.Context) { keeper.Run(ctx, o.interval) }); err != nil {
		return verdict.Result{}, err
	}
	return verdict.Passed("the router was told to end"), nil
}

func (o routerOptions) check(token string) error {
	host, _, err := net.SplitHostPort(o.listen)
	secure := o.tlsCert != "" && o.tlsKey != ""
	switch {
	case err != nil:
		return fmt.Errorf("--listen %q: HOST:PORT is wanted: %w", o.listen, err)
	case token == "":
		return errors.New("no token: set " + routerVariable.Name)
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case !secure && !deployment.Loopback(host):
		return fmt.Errorf("--listen %s is not loopback and would show the token to the network: give --tls-cert and --tls-key", o.listen)
	case o.interval < 50*time.Millisecond:
		return fmt.Errorf("--interval %s: at least 50ms", o.interval)
	case !filepath.IsAbs(o.mapFile):
		return fmt.Errorf("--map %s: an absolute path, the very one in HAProxy's configuration", o.mapFile)
	}
	return nil
}

// open binds the address, with TLS where certificates are given.
func (o routerOptions) open(ctx context.Context) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return nil, fmt.Errorf("router: %w (is another router running?)", err)
	}
	if o.tlsCert == "" {
		return listener, nil
	}
	pair, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("router: certificate %s: %w", o.tlsCert, err), listener.Close())
	}
	return tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nil
}

// serve runs a server and what belongs beside it until ctx ends or the server
// breaks, and waits for both.
func serve(ctx context.Context, server *http.Server, listener net.Listener, beside func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		beside(ctx)
	}()
	broken := make(chan error, 1)
	go func() { broken <- server.Serve(listener) }()
	var err error
	select {
	case err = <-broken:
	case <-ctx.Done():
		limited, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer stop()
		err = server.Shutdown(limited)
	}
	cancel()
	<-done
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	return nil
}
