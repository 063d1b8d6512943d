// Package hub is the stand-in for GitHub on a laptop and in tests: real HTTP on
// loopback with GitHub's own paths and answers below /api/v3, a git remote that
// people push to, and the part of Actions that decides what runs when. It owns
// the `on:` filters' consequences, the queue, concurrency groups, tokens that
// end with their run, deployments of jobs with an environment, artifacts, and a
// page that shows all of it. What a run does is not its business: an executor
// is injected (internal/dev/actrun).
//
// It can misbehave on demand (PUT /_hub/faults), so that clients are tried
// against 429, secondary limits, lost answers and the rest.
//
// Known to differ from GitHub: runs are queued whole, so a label without a
// runner holds up the run and not one job, concurrency groups of single jobs
// are not enforced, a run has one token with the most that any job asks for,
// and "re-run failed jobs" runs all jobs again.
//
// Refused: names and paths it does not know (404 that says so), requests
// without credentials, and hosts other than its own (DNS rebinding).
package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

// Execute runs one workflow run and tells what happens; internal/dev/actrun.Run
// is the real one. Cancelling ctx cancels the run.
type Execute func(ctx context.Context, s actrun.Spec, tell func(actrun.Event)) (actrun.Result, error)

// Options say what a hub is.
type Options struct {
	Dir     string // everything it keeps: bare repositories, hub.json, logs, artifacts
	Address string // "" is 127.0.0.1:0; loopback only

	Login string            // the administrator; "" is "maintainer"
	Token string            // the administrator's; "" makes one and keeps it in Dir/token
	Users map[string]string // token -> login of others: they write to their own repositories only
	Apps  map[int64]string  // GitHub App: id -> public key in PEM

	Execute      Execute
	Hook         string            // job-started hook of self-hosted runners
	Act          string            // path of act; "" is the one in PENSTOCK_CACHE
	Labels       []string          // of the self-hosted runner: self-hosted, penstock, gpu, …
	Parallel     int               // runs at the same time; 0 is 2
	LocalActions map[string]string // owner/name[/path] without ref -> folder that stands in for it
	Env          map[string]string // what every step sees besides GITHUB_*
	Secrets      map[string]string // of every repository; forks get none
	Vars         map[string]string
	Schedules    bool // start scheduled workflows by the clock; else Tick and Schedule do
	NoCheckout   bool // Spec.Dir stays empty: for executors that run nothing

	// Answered hears of every answer of the API: tests hold them to GitHub's
	// description. path is without /api/v3.
	Answered func(method, path string, status int, body []byte)

	Mermaid string           // path of mermaid.min.js; "" shows diagrams as code
	Now     func() time.Time // nil is time.Now
	Logf    func(format string, args ...any)
}

// Hub is a running stand-in.
type Hub struct {
	URL   string // http://127.0.0.1:port: GITHUB_SERVER_URL
	Token string // the administrator's

	opt     Options
	server  *http.Server
	handler http.Handler
	pages   *pages
	done    chan struct{} // the server has ended
	kept    chan struct{} // the snapshot is no longer written
	closing sync.Once
	closed  error // what Close gave
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup // executors

	pushing sync.Mutex // one push at a time; taken before mu

	mu        sync.Mutex // all below
	state     *state
	live      map[int64]*liveRun // runs in progress, by id
	grants    []grantedToken     // tokens of installations
	faults    []*fault
	files     map[string][]workflowFile // workflows of a commit: repository and SHA
	tables    map[string]refTable       // refs, by repository
	downloads map[string]download
	heads     map[string]any // short shapes of commits: repository and SHA
	logs      map[int64]*runLog
	watch     chan struct{} // closed and made anew at every change
	dirty     bool
}

// liveRun is what a run has only while it is in progress.
type liveRun struct {
	token  string
	cancel context.CancelFunc
	told   bool // the run was cancelled by somebody
}

// Start starts a hub; Close or the end of ctx ends it. What was in progress when
// the hub of this folder ended is cancelled, what was queued runs.
func Start(ctx context.Context, opt Options) (*Hub, error) {
	if opt.Execute == nil {
		return nil, errors.New("hub: Options.Execute is missing: give actrun.Run")
	}
	setDefaults(&opt)
	dir, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("hub: folder: %w", err)
	}
	opt.Dir = dir
	for _, sub := range []string{"git", "runs", "logs", "artifacts", "assets"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("hub: folder: %w", err)
		}
	}
	h := &Hub{
		opt: opt, live: map[int64]*liveRun{}, files: map[string][]workflowFile{}, heads: map[string]any{}, downloads: map[string]download{}, tables: map[string]refTable{}, logs: map[int64]*runLog{},
		watch: make(chan struct{}), done: make(chan struct{}), kept: make(chan struct{}),
	}
	if h.Token, err = h.administrator(); err != nil {
		return nil, err
	}
	if err := h.installStandIns(); err != nil {
		return nil, err
	}
	if h.pages, err = newPages(); err != nil {
		return nil, err
	}
	if err := h.load(); err != nil {
		return nil, err
	}
	listener, err := listen(ctx, opt.Address)
	if err != nil {
		return nil, err
	}
	h.URL = "http://" + listener.Addr().String()
	h.ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	h.handler = h.routes()
	h.server = &http.Server{Handler: h.handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: discardLog()}
	go h.serve(listener)
	go h.keepSnapshot()
	if opt.Schedules {
		go h.keepSchedules()
	}
	context.AfterFunc(ctx, func() { _ = h.Close() }) // Close's error is the caller's of Close
	h.mu.Lock()
	h.advance()
	h.mu.Unlock()
	return h, nil
}

func setDefaults(opt *Options) {
	if opt.Address == "" {
		opt.Address = "127.0.0.1:0"
	}
	if opt.Login == "" {
		opt.Login = "maintainer"
	}
	if opt.Parallel == 0 {
		opt.Parallel = 2
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logf == nil {
		opt.Logf = func(string, ...any) {}
	}
}

// listen refuses addresses that others can reach: the hub runs what it is told.
func listen(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("hub: address %q: %w", address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("hub: address %q is not loopback: use 127.0.0.1:PORT", address)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	return listener, nil
}

func (h *Hub) serve(listener net.Listener) {
	defer close(h.done)
	if err := h.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		h.opt.Logf("hub: %v", err)
	}
}

// Close cancels what runs, waits for it, and writes the snapshot. It may be
// called more than once.
func (h *Hub) Close() error {
	h.closing.Do(func() {
		h.stop()
		h.running.Wait()
		err := h.server.Close()
		<-h.done
		<-h.kept
		h.mu.Lock()
		defer h.mu.Unlock()
		h.closed = errors.Join(err, h.closeLogs(), h.save())
	})
	return h.closed
}

// API is GITHUB_API_URL.
func (h *Hub) API() string { return h.URL + "/api/v3" }

// GitURL is what people push to. Credentials are any user name and a token.
func (h *Hub) GitURL(owner, repo string) string { return h.URL + "/" + owner + "/" + repo + ".git" }

// now is the hub's clock, as GitHub tells time.
func (h *Hub) now() time.Time { return h.opt.Now().UTC().Truncate(time.Second) }

// changed marks the state as changed and wakes all who wait for a change. The
// caller holds the lock.
func (h *Hub) changed() {
	h.dirty = true
	close(h.watch)
	h.watch = make(chan struct{})
}

// id is the next number that identifies something.
func (h *Hub) id() int64 {
	h.state.LastID++
	return h.state.LastID
}
