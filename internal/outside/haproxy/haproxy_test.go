package haproxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/outside/haproxy"
)

const configuration = `
global
  stats socket %[1]s/s mode 600 level admin
  maxconn 512
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
frontend users
  bind 127.0.0.1:%[2]d
  http-request set-var(txn.key) req.hdr(penstock-key)
  http-request set-var(txn.key) uuid unless { var(txn.key) -m found }
  http-request set-var(txn.bp) str(canary_bp),map_str_int(%[1]s/split.map,0)
  http-request set-var(txn.b) var(txn.key),xxh32,mod(10000)
  use_backend canary if { var(txn.b),sub(txn.bp) lt 0 } { nbsrv(canary) gt 0 }
  default_backend stable
backend stable
  server stable %[3]s check inter 100ms fall 2 rise 1
backend canary
  server canary %[4]s check inter 100ms fall 2 rise 1
`

// proxy is a real HAProxy before two backends that answer with their name.
type proxy struct {
	t       *testing.T
	dir     string
	port    int
	canary  *httptest.Server
	program *exec.Cmd
	log     *os.File
	client  *haproxy.Client
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &proxy{t: t, dir: dir, port: freePort(t)}
	stable := named(t, "stable")
	p.canary = named(t, "canary")
	text := fmt.Sprintf(configuration, dir, p.port, stable.Listener.Addr(), p.canary.Listener.Addr())
	if err := os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.log.Close() })
	p.client, err = haproxy.New(filepath.Join(dir, "s"), p.mapFile(), "canary")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *proxy) mapFile() string { return filepath.Join(p.dir, "split.map") }

// start runs HAProxy; the map file must be there.
func (p *proxy) start() {
	p.t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy"
	}
	p.program = exec.Command(program, "-db", "-f", filepath.Join(p.dir, "haproxy.cfg"))
	p.program.Stdout, p.program.Stderr = p.log, p.log
	if err := p.program.Start(); err != nil {
		p.t.Fatalf("HAProxy does not start (run make setup): %v", err)
	}
	running := p.program
	p.t.Cleanup(func() {
		_ = running.Process.Kill() // may have ended by the test's own hand
		_ = running.Wait()
	})
	p.await("HAProxy to see both backends up", func() bool {
		servers, err := p.client.Servers(p.t.Context())
		if err != nil || len(servers) != 2 {
			return false
		}
		return servers[0].Up && servers[1].Up
	})
}

func (p *proxy) kill() {
	p.t.Helper()
	if err := p.program.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.program.Wait() // "signal: killed" is what we did
}

func (p *proxy) await(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(p.log.Name())
			p.t.Fatalf("waited 15s for %s\n%s", what, log)
		}
	}
}

func named(t *testing.T, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// answers asks with n user keys and tells for each whether the canary answered.
func (p *proxy) answers(n int) []bool {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	took := make([]bool, n)
	for i := range took {
		r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", p.port), nil)
		if err != nil {
			p.t.Fatal(err)
		}
		r.Header.Set("Penstock-Key", fmt.Sprintf("user-%d", i))
		resp, err := client.Do(r)
		if err != nil {
			p.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			p.t.Fatalf("request %d: %s, %v", i, resp.Status, err)
		}
		took[i] = string(body) == "canary"
	}
	return took
}

func part(took []bool) float64 {
	n := 0
	for _, t := range took {
		if t {
			n++
		}
	}
	return float64(n) / float64(len(took))
}

func (p *proxy) keeper(now func() time.Time) *split.Keeper {
	p.t.Helper()
	k, err := split.Open(p.mapFile(), p.client, now, p.t.Logf)
	if err != nil {
		p.t.Fatal(err)
	}
	return k
}

func change(t *testing.T, k *split.Keeper, bp int) split.Split {
	t.Helper()
	now, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now, err = k.Change(t.Context(), split.Split{CanaryBP: bp, Owner: "test", LeaseS: 60, Revision: now.Revision})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func TestShareIsWhatWasAskedAndRaisingMovesNoKeyBack(t *testing.T) {
	p := startProxy(t)
	k := p.keeper(time.Now)
	p.start()
	if got := part(p.answers(500)); got != 0 {
		t.Fatalf("share 0: the canary answered %.3f", got)
	}
	var before []bool
	for _, bp := range []int{500, 2500, 5000} {
		change(t, k, bp)
		now := p.answers(10000)
		if got, want := part(now), float64(bp)/split.Full; got < want-0.02 || got > want+0.02 {
			t.Errorf("share %d basis points: the canary answered %.4f", bp, got)
		}
		for i := range before {
			if before[i] && !now[i] {
				t.Fatalf("key %d went back to stable when the share rose to %d", i, bp)
			}
		}
		before = now
	}
	change(t, k, split.Full)
	if got := part(p.answers(500)); got != 1 {
		t.Errorf("share 100%%: the canary answered %.3f", got)
	}
}

func TestShareGoesToZeroWhenTheLeaseRunsOut(t *testing.T) {
	p := startProxy(t)
	var skip atomic.Int64
	k := p.keeper(func() time.Time { return time.Now().Add(time.Duration(skip.Load())) })
	p.start()
	change(t, k, split.Full)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go k.Run(ctx, 50*time.Millisecond)
	if got := part(p.answers(50)); got != 1 {
		t.Fatalf("the canary answered %.3f before the end of the lease", got)
	}
	skip.Store(int64(61 * time.Second))
	p.await("the share to go to 0", func() bool {
		entries, err := p.client.Map(t.Context())
		return err == nil && entries[split.Key] == "0"
	})
	if got := part(p.answers(200)); got != 0 {
		t.Errorf("the canary answered %.3f after the end of the lease", got)
	}
	now, err := k.Read(t.Context())
	if err != nil || now.Owner != "" || now.CanaryBP != 0 {
		t.Errorf("after the lease: %+v, %v", now, err)
	}
}

func TestShareSurvivesRestartsOfProxyAndRouter(t *testing.T) {
	p := startProxy(t)
	k := p.keeper(time.Now)
	p.start()
	set := change(t, k, 2500)
	p.kill()
	if _, err := k.Read(t.Context()); err == nil {
		t.Error("a dead proxy was read without an error")
	}
	p.start()
	if got := part(p.answers(2000)); got < 0.2 || got > 0.3 {
		t.Errorf("after a restart of the proxy the canary answered %.3f", got)
	}
	again := p.keeper(time.Now) // a router that starts anew
	now, err := again.Read(t.Context())
	if err != nil || now.CanaryBP != 2500 || now.Owner != "test" || now.Revision != set.Revision {
		t.Errorf("after a restart of the router: %+v, %v", now, err)
	}
}

func TestShareIsSetRightWhenSomebodyElseMovesTheMap(t *testing.T) {
	p := startProxy(t)
	k := p.keeper(time.Now)
	p.start()
	change(t, k, 2500)
	if err := p.client.SetMap(t.Context(), split.Key, "9000"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := p.client.Map(t.Context())
	if err != nil || entries[split.Key] != "2500" {
		t.Errorf("map %v, %v", entries, err)
	}
}

func TestRaiseIsRefusedWhileTheProxySeesNoCanary(t *testing.T) {
	p := startProxy(t)
	k := p.keeper(time.Now)
	p.start()
	p.canary.Close()
	p.await("the proxy to see the canary down", func() bool {
		up, err := p.client.CanaryUp(t.Context())
		return err == nil && !up
	})
	_, err := k.Change(t.Context(), split.Split{CanaryBP: 500, Owner: "test", LeaseS: 60})
	if err == nil || !strings.Contains(err.Error(), split.ErrCanaryDown.Error()) {
		t.Errorf("error %v, want %v", err, split.ErrCanaryDown)
	}
	if got := part(p.answers(100)); got != 0 {
		t.Errorf("the canary answered %.3f", got)
	}
}

func TestAbsentMapEntryIsAnErrorNotAShare(t *testing.T) {
	p := startProxy(t)
	if err := os.WriteFile(p.mapFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	k := p.keeper(time.Now)
	if _, err := k.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "no entry canary_bp") {
		t.Errorf("error %v", err)
	}
}

func TestUnknownMapAndDeadSocketSayWhatToDo(t *testing.T) {
	p := startProxy(t)
	p.keeper(time.Now)
	p.start()
	other, err := haproxy.New(filepath.Join(p.dir, "s"), p.dir+"/other.map", "canary")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Map(t.Context()); err == nil || !strings.Contains(err.Error(), "other.map") {
		t.Errorf("unknown map: %v", err)
	}
	if _, err := haproxy.New(strings.Repeat("x", 98), "m", "canary"); err == nil {
		t.Error("a socket path of 98 characters was taken")
	}
	if err := p.client.SetMap(t.Context(), split.Key, "1; set map x y"); err == nil {
		t.Error("a value that holds another command was taken")
	}
	p.kill()
	if _, err := p.client.Map(t.Context()); err == nil || !strings.Contains(err.Error(), "is HAProxy running") {
		t.Errorf("dead socket: %v", err)
	}
}
