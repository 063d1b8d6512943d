// Package haproxytest runs a real HAProxy before two backends that answer with
// their name, for tests.
package haproxytest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

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

// Proxy is a real HAProxy before two backends that answer with their name.
type Proxy struct {
	Dir    string           // holds everything, the socket "s" among it
	Canary *httptest.Server // the canary's backend
	Client *haproxy.Client

	t       testing.TB
	port    int
	program *exec.Cmd
	log     *os.File
}

// New prepares a HAProxy; Start runs it.
func New(t testing.TB) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &Proxy{t: t, Dir: dir, port: freePort(t)}
	stable := named(t, "stable")
	p.Canary = named(t, "canary")
	text := fmt.Sprintf(configuration, dir, p.port, stable.Listener.Addr(), p.Canary.Listener.Addr())
	if err := os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.log.Close() })
	p.Client, err = haproxy.New(filepath.Join(dir, "s"), p.MapFile(), "canary")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// MapFile is the map that the configuration names.
func (p *Proxy) MapFile() string { return filepath.Join(p.Dir, "split.map") }

// Start runs HAProxy; the map file must be there.
func (p *Proxy) Start() {
	p.t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy"
	}
	p.program = exec.Command(program, "-db", "-f", filepath.Join(p.Dir, "haproxy.cfg"))
	p.program.Stdout, p.program.Stderr = p.log, p.log
	if err := p.program.Start(); err != nil {
		p.t.Fatalf("HAProxy does not start (run make setup): %v", err)
	}
	running := p.program
	p.t.Cleanup(func() {
		_ = running.Process.Kill() // may have ended by the test's own hand
		_ = running.Wait()
	})
	p.Await("HAProxy to see both backends up", func() bool {
		servers, err := p.Client.Servers(p.t.Context())
		if err != nil || len(servers) != 2 {
			return false
		}
		return servers[0].Up && servers[1].Up
	})
}

// Kill ends HAProxy with SIGKILL.
func (p *Proxy) Kill() {
	p.t.Helper()
	if err := p.program.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.program.Wait() // "signal: killed" is what we did
}

// Await waits until a condition holds, fifteen seconds at most.
func (p *Proxy) Await(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(p.log.Name())
			p.t.Fatalf("waited 15s for %s\n%s", what, log)
		}
	}
}

func named(t testing.TB, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Answers asks with n user keys and tells for each whether the canary answered.
func (p *Proxy) Answers(n int) []bool {
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
