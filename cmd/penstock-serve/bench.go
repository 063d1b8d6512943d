package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/measure"
)

type benchOptions struct {
	engine   engine
	dir      string
	peers    cli.StringSlice
	routes   cli.StringSlice
	callers  cli.IntSlice
	duration time.Duration
	round    time.Duration
	goodput  time.Duration
	deadline time.Duration
	price    float64
	picture  string
	side     int
	seed     uint64
	runFlags cli.StringSlice
	also     cli.StringSlice
}

func benchCommand() action.Command {
	var o benchOptions
	return action.Command{
		Name: "bench", Program: "penstock-serve", Local: true,
		Summary: "measure what serving costs over bare ONNX Runtime, and beside other servers",
		Description: `Compares, on this machine and in one interleaved run: ONNX Runtime called
directly, this server over loopback as a process of its own (tensors in binary
and as JSON over REST, raw over gRPC; JPEG pictures), and other servers that
answer the same addresses. In every round each of them is driven for a moment, in
shuffled order, at every number of callers, after a call that does not count.
Before anything is timed their answers are held to those of the bare runs;
answers that differ are an error, and so is any failed request. Intervals
resample rounds. Client and servers share the machine: the client's own CPU time
is told.

A peer answers POST /v2/models/NAME/infer, in binary and as JSON, and POST
/v1/models/NAME/predict with the scores as predictions[].score; a route that it
answers with 404 is left out. Every figure is a check of the result.`,
		Example: `penstock-serve bench --bundle ./bundle
penstock-serve bench --bundle ./bundle --peer node=http://127.0.0.1:7001 --callers 1,8 --hourly-price 0.50`,
		Flags: append(o.engine.flags(),
			&cli.StringFlag{Name: "bundle", Usage: "`DIR` of the bundle, of a multilabel model", Required: true, Destination: &o.dir},
			&cli.StringSliceFlag{Name: "peer", Usage: "another server, as `NAME=URL`; may be given several times", Destination: &o.peers},
			&cli.StringSliceFlag{Name: "route", Usage: "`ROUTE` to measure: binary, json, grpc, jpeg (default: all); may be given several times", Destination: &o.routes},
			&cli.IntSliceFlag{Name: "callers", Usage: "`NUMBERS` of callers in the closed loop, with commas", Value: cli.NewIntSlice(1, 2, 8, 16), Destination: &o.callers},
			&cli.DurationFlag{Name: "duration", Usage: "`DURATION` that each is driven at each number of callers, all rounds together", Value: 3 * time.Second, Destination: &o.duration},
			&cli.DurationFlag{Name: "round", Usage: "`DURATION` of one round", Value: 300 * time.Millisecond, Destination: &o.round},
			&cli.DurationFlag{Name: "goodput", Usage: "`DURATION` of open loops of pictures at twice what closed loops sustain, all rounds together; 0 leaves it out", Value: 5 * time.Second, Destination: &o.goodput},
			&cli.DurationFlag{Name: "deadline", Usage: "`DURATION` within which the open loop wants its answers", Value: 500 * time.Millisecond, Destination: &o.deadline},
			&cli.Float64Flag{Name: "hourly-price", Usage: "`PRICE` of this machine for an hour, for the cost of a million requests", Value: 0.50, Destination: &o.price},
			&cli.StringFlag{Name: "picture", Usage: "JPEG `FILE` to send (default: one is made of a golden)", Destination: &o.picture},
			&cli.IntFlag{Name: "side", Usage: "`PIXELS` of width and height of the grey JPEG that is made", Value: 1024, Destination: &o.side},
			&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` that the order of the rounds is drawn from", Value: 1, Destination: &o.seed},
			&cli.StringSliceFlag{Name: "run-flag", Usage: "`FLAG` for the server under test, as --name=value; may be given several times", Destination: &o.runFlags},
			&cli.StringSliceFlag{Name: "also", Usage: "a further server of this program with flags of its own, as `NAME=FLAGS` with blanks between, such as turbo=--decoder=turbo; may be given several times", Destination: &o.also},
		),
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the bundle"},
			{Name: "picture", Description: "what the JPEG is"},
			{Name: "engine", Description: "version and threads of the bare runs"},
		},
		Environment: engineVariables(),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runBench(ctx, env, o)
		},
	}
}

// check refuses what cannot be measured.
func (o *benchOptions) check() error {
	for _, n := range o.callers.Value() {
		if n < 1 || n > 1024 {
			return fmt.Errorf("--callers %d: want 1 to 1024", n)
		}
	}
	for _, r := range o.routes.Value() {
		if !knownRoute(r) {
			return fmt.Errorf("--route %q: known are %s", r, strings.Join(routeNames, ", "))
		}
	}
	switch {
	case o.round <= 0 || o.duration < 2*o.round:
		return fmt.Errorf("--duration %s holds fewer than two rounds of %s", o.duration, o.round)
	case o.goodput < 0 || o.deadline <= 0 || !(o.price >= 0):
		return errors.New("--goodput and --hourly-price must not be negative, --deadline must be positive")
	case o.side < 16 || o.side > 8192:
		return fmt.Errorf("--side %d: want 16 to 8192 pixels", o.side)
	}
	return nil
}

func runBench(ctx context.Context, env *action.Env, o benchOptions) (r verdict.Result, err error) {
	if err := o.check(); err != nil {
		return r, verdict.Usage(err)
	}
	b, err := bundle.Read(o.dir)
	if err != nil {
		return r, err
	}
	runtime, err := o.engine.start(env)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	work, err := o.workload(b)
	if err != nil {
		return r, err
	}
	bare, err := openBare(runtime, b, work)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, bare.close()) }()
	servers, err := o.startServers(ctx, env, b, runtime)
	defer func() { err = errors.Join(err, servers.stop()) }()
	if err != nil {
		return r, err
	}
	s := &session{env: env, options: o, work: work, bare: bare, servers: servers}
	if err := s.connect(ctx); err != nil {
		return r, err
	}
	r = verdict.Passed("the answers of %d ways to ask are those of ONNX Runtime", len(s.arms)-1)
	r.Subjects["model"] = b.Digest
	r.Outputs["picture"] = work.described
	r.Outputs["engine"] = fmt.Sprintf("ONNX Runtime %s, %s", runtime.Version(), runtime.Plan())
	if err := s.run(ctx); err != nil {
		return r, err
	}
	r.Checks = s.checks
	if !env.Common.JSON {
		err = s.table(env.Stdout)
	}
	return r, err
}

// session is one run of bench.
type session struct {
	env     *action.Env
	options benchOptions
	work    workload
	bare    *bareArm
	arms    []arm // bare first
	runs    []benchRun
	servers ownServers // of this program, the one with --run-flag first
	goodput *measure.Goodput
	checks  []verdict.Check
}

// benchRun is everything measured at one number of callers.
type benchRun struct {
	callers int
	series  []measure.Series // as session.arms
}

// run measures at every number of callers, and then in the open loop.
func (s *session) run(ctx context.Context) error {
	o := s.options
	rounds := int(o.duration / o.round)
	arms := make([]measure.Arm, len(s.arms))
	for i, a := range s.arms {
		arms[i] = measure.Arm{Name: a.name, Caller: a.caller}
	}
	progress := s.env.Progress("bench", len(o.callers.Value())*(rounds+1))
	for _, n := range o.callers.Value() {
		plan := measure.Plan{Callers: n, Rounds: rounds, Length: o.round, Seed: o.seed}
		series, err := measure.Run(ctx, plan, arms, func() { progress.Add(1, fmt.Sprintf("%d callers", n)) })
		if err != nil {
			return err
		}
		s.runs = append(s.runs, benchRun{n, series})
	}
	progress.Finish()
	if err := s.overload(ctx); err != nil {
		return err
	}
	return s.report()
}
