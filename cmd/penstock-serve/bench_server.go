package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/model"
)

// startTerm bounds the start of the server under test.
const startTerm = time.Minute

// serverUnderTest is penstock-serve run as a process of its own.
type serverUnderTest struct {
	name         string
	process      *exec.Cmd
	exited       chan struct{}
	dir          string // its state, the bundle, its log; removed in the end
	public, grpc string // host:port
	admin        string
}

type ownServers []*serverUnderTest

// startServers starts the server under test and those of --also. What was
// started is given back with an error too.
func (o *benchOptions) startServers(ctx context.Context, env *action.Env, b *bundle.Bundle, runtime *model.Runtime) (ownServers, error) {
	first, err := o.startServer(ctx, env, b, runtime, ownName, o.runFlags.Value())
	if err != nil {
		return nil, err
	}
	all := ownServers{first}
	for _, also := range o.also.Value() {
		name, flags, ok := strings.Cut(also, "=")
		if !ok || !all.fresh(name) {
			return all, verdict.Usage(fmt.Errorf("--also %q: want NAME=FLAGS with a name of its own", also))
		}
		s, err := o.startServer(ctx, env, b, runtime, name, strings.Fields(flags))
		if err != nil {
			return all, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// fresh tells whether a further server can have the name.
func (all ownServers) fresh(name string) bool {
	return name != "" && name != bareName && !all.has(name) && !strings.ContainsAny(name, "/ ")
}

// has tells whether the name is one of this program's servers.
func (all ownServers) has(name string) bool {
	return slices.ContainsFunc(all, func(s *serverUnderTest) bool { return s.name == name })
}

func (all ownServers) stop() error {
	var err error
	for _, s := range all {
		err = errors.Join(err, s.stop())
	}
	return err
}

// startServer starts this very program as a server and has it serve the
// bundle. It fetches nothing: the bundle lies in its cache already, so the
// object store that its environment names is never asked.
func (o *benchOptions) startServer(ctx context.Context, env *action.Env, b *bundle.Bundle, runtime *model.Runtime, name string, flags []string) (_ *serverUnderTest, err error) {
	s := &serverUnderTest{name: name, exited: make(chan struct{})}
	if s.dir, err = os.MkdirTemp("", "penstock-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := os.CopyFS(filepath.Join(s.dir, "cache", b.Digest), os.DirFS(b.Dir)); err != nil {
		return nil, err
	}
	for _, address := range []*string{&s.public, &s.admin, &s.grpc} {
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	library, err := model.FindLibrary(o.engine.library, env.Getenv)
	if err != nil {
		return nil, err
	}
	args := []string{
		"run", "--listen", s.public, "--admin-listen", s.admin, "--name", b.Manifest.Name, "--slot", "bench",
		"--bucket", "bench", "--state", filepath.Join(s.dir, "state"), "--cache", filepath.Join(s.dir, "cache"),
		"--threads", strconv.Itoa(runtime.Threads()), "--provider", o.engine.provider, "--device", strconv.Itoa(o.engine.device),
	}
	if o.asks(routeGRPC) {
		args = append(args, "--grpc-listen", s.grpc)
	}
	s.process = exec.Command(program, append(args, flags...)...)
	s.process.Env = []string{
		"PATH=" + env.Getenv("PATH"), "HOME=" + s.dir, "PENSTOCK_ONNXRUNTIME=" + library,
		"AWS_ENDPOINT_URL_S3=http://127.0.0.1:9", "AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none",
	}
	log, err := os.Create(s.logFile())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	go func() { _ = s.process.Wait(); close(s.exited) }() // its state is asked for
	return s, s.load(ctx, b)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (s *serverUnderTest) logFile() string { return filepath.Join(s.dir, "log") }

// load has the server load the bundle, as soon as it listens.
func (s *serverUnderTest) load(ctx context.Context, b *bundle.Bundle) error {
	ctx, cancel := context.WithTimeout(ctx, startTerm)
	defer cancel()
	to := "http://" + s.admin + "/admin/v1/models/" + b.Manifest.Name
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, to, strings.NewReader(`{"digest":"`+b.Digest+`"}`))
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			body, readErr := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode == http.StatusOK && readErr == nil {
				return nil
			}
			return errors.Join(fmt.Errorf("the server under test does not load the bundle: %s: %s", response.Status, bytes.TrimSpace(body)), readErr)
		}
		select {
		case <-s.exited:
			log, readErr := os.ReadFile(s.logFile())
			return errors.Join(fmt.Errorf("the server under test ended at its start:\n%s", log), readErr)
		case <-ctx.Done():
			return fmt.Errorf("the server under test does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the server and removes what it left.
func (s *serverUnderTest) stop() error {
	if s.process != nil && s.process.Process != nil {
		// An error means that it ended by itself.
		_ = s.process.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(10 * time.Second):
			_ = s.process.Process.Kill()
			<-s.exited
		}
	}
	return os.RemoveAll(s.dir)
}
