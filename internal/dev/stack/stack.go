// Package stack runs, on one laptop, the servers that Penstock stands on:
// MinIO, MLflow, Prometheus, HAProxy with `penstock router`, and penstock-serve
// for staging and for production's two processes. Everything listens on
// loopback and lives in one folder: data, logs, configuration, and a state file
// that says which processes are ours.
//
// A process of ours is known by its pid and start time, and by a variable in
// the environment it was born with. Down ends those and nothing else, also
// after Up or a server crashed; a pid that the kernel gave to a stranger is
// left alone.
//
// Refused: starting beside a busy port, and carrying on with a server that is
// missing or does not become healthy.
package stack

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// DefaultDir is where the stack lives unless told otherwise.
const DefaultDir = ".penstock/stack"

// Slots are the penstock-serve processes: staging, and production's two.
var Slots = []string{"staging", "stable", "canary"}

const (
	healthLimit = 90 * time.Second // of one server, on a cold disk and two busy cores
	stopGrace   = 10 * time.Second // between SIGTERM and SIGKILL
	drain       = 5 * time.Second  // that penstock-serve gives to running requests; less than stopGrace
)

// Options says what to start and where.
type Options struct {
	Dir         string         // the stack's folder; "" is DefaultDir
	Programs    string         // folder of penstock and penstock-serve
	Bucket      string         // the project's bucket, made if missing
	Model       string         // the name that the servers serve
	SLO         time.Duration  // a bucket boundary of the servers' latency histogram
	Ports       map[string]int // by the names of PortNames; what is missing or 0 is chosen
	OnnxRuntime string         // libonnxruntime.so; "" is the cache's
	Logf        func(format string, args ...any)
}

// Stack is what a caller needs to use a running stack.
type Stack struct {
	Dir         string
	Endpoints   Endpoints
	Credentials Credentials
}

// Endpoints are base URLs without a slash at the end.
type Endpoints struct {
	S3           string            `json:"s3"`
	S3Console    string            `json:"s3_console"`
	MLflow       string            `json:"mlflow"`
	Prometheus   string            `json:"prometheus"`
	Production   string            `json:"production"`    // HAProxy: what users call
	ProxyMetrics string            `json:"proxy_metrics"` // HAProxy's statistics and exporter
	Router       string            `json:"router"`
	Servers      map[string]Server `json:"servers"` // by slot
}

// Server is one penstock-serve process.
type Server struct {
	URL   string `json:"url"`
	Admin string `json:"admin"`
}

// Credentials are made at the first Up of a folder and kept in it, readable by
// its owner only.
type Credentials struct {
	AccessKey   string `json:"access_key"`
	SecretKey   string `json:"secret_key"`
	AdminToken  string `json:"admin_token"`
	RouterToken string `json:"router_token"`
}

func newCredentials() Credentials {
	return Credentials{
		AccessKey: "penstock-dev", SecretKey: rand.Text(),
		AdminToken: rand.Text(), RouterToken: rand.Text(),
	}
}

// Env is what programs need to use the stack, as NAME=value.
func (s *Stack) Env() []string {
	return append(s.s3Env(),
		"MLFLOW_TRACKING_URI="+s.Endpoints.MLflow,
		"PENSTOCK_ADMIN_TOKEN="+s.Credentials.AdminToken,
		"PENSTOCK_ROUTER_TOKEN="+s.Credentials.RouterToken,
	)
}

func (s *Stack) s3Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.Credentials.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.Credentials.SecretKey,
		"AWS_REGION=" + region,
		"AWS_ENDPOINT_URL_S3=" + s.Endpoints.S3,
	}
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return o, err
	}
	if o.Programs, err = filepath.Abs(o.Programs); err != nil {
		return o, err
	}
	if o.OnnxRuntime == "" {
		o.OnnxRuntime, err = process.Cached("lib/libonnxruntime.so")
	}
	return o, err
}

// Up brings the stack of the folder up and returns when every server is
// healthy. Servers that run already stay as they are; one that died is started
// again, one that would be started differently now (rebuilt, other options) is
// replaced. When it fails it ends what it started itself.
func Up(ctx context.Context, o Options) (*Stack, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := load(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(o); err != nil {
		return nil, err
	}
	services, err := s.services(o)
	if err != nil {
		return nil, err
	}
	up := upper{state: s, options: o}
	if err := up.all(ctx, services); err != nil {
		up.undo()
		return nil, err
	}
	return s.stack(), nil
}

// upper is one run of Up.
type upper struct {
	state   *state
	options Options
	started []service
}

// all goes through the stages: within one, servers start side by side.
func (u *upper) all(ctx context.Context, stages [][]service) error {
	for _, stage := range stages {
		running := make([]*process.Process, len(stage))
		for i, sv := range stage {
			p, err := u.start(ctx, sv)
			if err != nil {
				return err
			}
			running[i] = p
		}
		for i, sv := range stage {
			if err := u.wait(ctx, sv, running[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts a server that does not run; nil means that it runs already.
func (u *upper) start(ctx context.Context, sv service) (*process.Process, error) {
	form, err := sv.fingerprint()
	if err != nil {
		return nil, err
	}
	rec := u.state.Processes[sv.Name]
	if rec.Fingerprint == form && rec.ID.Alive() && process.Healthy(ctx, sv.health) == nil {
		u.options.Logf("%-14s runs already", sv.Name)
		return nil, nil
	}
	if _, err := u.state.end(sv.Name, stopGrace); err != nil {
		return nil, err
	}
	if err := checkPorts(ctx, sv, u.state.Ports); err != nil {
		return nil, err
	}
	spec := sv.Spec
	spec.Env = append(spec.Env, u.state.mark(sv.Name))
	u.started = append(u.started, sv)
	p, err := process.Start(spec)
	if err != nil {
		return nil, err
	}
	u.state.Processes[sv.Name] = record{ID: p.ID, Fingerprint: form, Log: spec.Log, URL: sv.url, Health: sv.health}
	return p, u.state.save()
}

// wait waits until a server that start started is healthy, and does what must
// be done before others may use it.
func (u *upper) wait(ctx context.Context, sv service, p *process.Process) error {
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	began := time.Now()
	if err := p.WaitHealthy(ctx, sv.health); err != nil {
		return err
	}
	if sv.ready != nil {
		if err := sv.ready(ctx); err != nil {
			return fmt.Errorf("%s: %w", sv.Name, err)
		}
	}
	u.options.Logf("%-14s %s  (%.1f s)", sv.Name, sv.url, time.Since(began).Seconds())
	return nil
}

// undo ends what this run started, newest first. The first error is the one
// that the caller reports; a process that will not end is added to the log.
func (u *upper) undo() {
	for i := len(u.started) - 1; i >= 0; i-- {
		if _, err := u.state.end(u.started[i].Name, stopGrace); err != nil {
			u.options.Logf("%v", err)
		}
	}
	if err := u.state.save(); err != nil {
		u.options.Logf("%v", err)
	}
}
