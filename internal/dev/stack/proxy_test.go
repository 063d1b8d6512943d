package stack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/outside/haproxy"
)

// backendServer stands where a penstock-serve process does: what is tested here
// is the proxy's configuration, by a real HAProxy.
type backendServer struct {
	name   string
	addr   string
	ready  atomic.Bool
	server *http.Server
}

func startBackend(t *testing.T, name, addr string) *backendServer {
	t.Helper()
	b := &backendServer{name: name, addr: addr}
	b.ready.Store(true)
	b.start(t)
	t.Cleanup(func() { b.server.Close() })
	return b
}

func (b *backendServer) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/health/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !b.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, b.name) })
	b.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go b.server.Serve(l)
}

// startProxy runs HAProxy with the stack's configuration and a share in basis
// points, in a folder of its own.
func startProxy(t *testing.T, share string) *state {
	t.Helper()
	dir := t.TempDir()
	s, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Ports, err = choosePorts(nil, nil, func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if err := s.makeSocketDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.SocketDir) })
	if err := writeConfig(s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.mapFile(), []byte("canary_bp "+share+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := process.Installed("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	sv := s.haproxy(map[string]string{haproxyName: program})
	sv.DieWithParent = true
	p, err := process.Start(sv.Spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(time.Second) })
	ctx, cancel := context.WithTimeout(t.Context(), healthLimit)
	defer cancel()
	if err := p.WaitHealthy(ctx, sv.health); err != nil {
		t.Fatal(err)
	}
	return s
}

// answers counts who answered n requests, each with the key that key gives.
// Whatever is not a 200 is counted by its status or error.
func answers(t *testing.T, url string, n int, key func(i int) string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for i := range n {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/predict", strings.NewReader("image"))
		if err != nil {
			t.Fatal(err)
		}
		if k := key(i); k != "" {
			req.Header.Set("Penstock-Key", k)
		}
		counts[ask(req)]++
	}
	return counts
}

func ask(req *http.Request) string {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(body)
}

func users(i int) string { return fmt.Sprintf("user-%d", i) }

func TestProxySplitsByKeyAndRaisingTheShareMovesNoKeyBack(t *testing.T) {
	s := startProxy(t, "2000")
	startBackend(t, "stable", s.at("stable"))
	startBackend(t, "canary", s.at("canary"))
	eventuallyHealthy(t, s, "stable", "canary")

	client, err := haproxy.New(s.socket(), s.mapFile(), "canary")
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	var before, after [n]string
	for i := range n {
		before[i] = who(t, s, users(i))
	}
	if err := client.SetMap(t.Context(), "canary_bp", "5000"); err != nil {
		t.Fatal(err)
	}
	first, second := 0, 0
	for i := range n {
		after[i] = who(t, s, users(i))
		if before[i] == "canary" {
			first++
			if after[i] != "canary" {
				t.Errorf("user-%d went back to %s when the share rose", i, after[i])
			}
		}
		if after[i] == "canary" {
			second++
		}
	}
	// Fixed keys, fixed hash: these are exact for ever, the bounds are for readers.
	if first < 150 || first > 250 || second < 450 || second > 550 {
		t.Errorf("canary answered %d of %d at 20%% and %d at 50%%", first, n, second)
	}
	// Without a key, a request is its own user.
	if got := answers(t, s.url("proxy"), 200, func(int) string { return "" }); got["canary"] < 50 || got["stable"] < 50 {
		t.Errorf("without keys: %v", got)
	}
	// An own frontend tells Prometheus.
	if err := process.Healthy(t.Context(), s.url("proxy-metrics")+"/metrics"); err != nil {
		t.Error(err)
	}
}

func who(t *testing.T, s *state, key string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("proxy")+"/predict", strings.NewReader("image"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Penstock-Key", key)
	return ask(req)
}

// eventuallyHealthy waits until HAProxy's checks see the backends up.
func eventuallyHealthy(t *testing.T, s *state, names ...string) {
	t.Helper()
	client, err := haproxy.New(s.socket(), s.mapFile(), "canary")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		servers, err := client.Servers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		up := 0
		for _, server := range servers {
			for _, name := range names {
				if server.Backend == name+"_first" && server.Name == name && server.Up {
					up++
				}
			}
		}
		if up == len(names) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("HAProxy does not see %v up: %+v", names, servers)
		}
	}
}

func TestProxyAnswersWhileOneOfTheTwoProcessesLives(t *testing.T) {
	for _, victim := range []string{"stable", "canary"} {
		t.Run(victim+" goes", func(t *testing.T) {
			s := startProxy(t, "5000")
			servers := map[string]*backendServer{
				"stable": startBackend(t, "stable", s.at("stable")),
				"canary": startBackend(t, "canary", s.at("canary")),
			}
			eventuallyHealthy(t, s, "stable", "canary")
			// Idle, not under way: who is killed in the middle of an answer
			// breaks that one, and no proxy can mend it.
			before := answers(t, s.url("proxy"), 50, users)
			servers[victim].server.Close()
			after := concurrent(t, s, 400)
			if before[victim] == 0 {
				t.Errorf("%s had no traffic before: %v", victim, before)
			}
			other := map[string]string{"stable": "canary", "canary": "stable"}[victim]
			if after[other] != 400 {
				t.Errorf("after %s went: %v; want 400 answers of %s", victim, after, other)
			}
			client, err := haproxy.New(s.socket(), s.mapFile(), "canary")
			if err != nil {
				t.Fatal(err)
			}
			up, err := client.CanaryUp(t.Context())
			if err != nil || up != (victim == "stable") {
				t.Errorf("the router would see the canary up=%t, %v", up, err)
			}
		})
	}
}

func concurrent(t *testing.T, s *state, n int) map[string]int {
	t.Helper()
	var (
		mu    sync.Mutex
		total = map[string]int{}
		wg    sync.WaitGroup
	)
	const workers = 8
	for w := range workers {
		wg.Go(func() {
			counts := answers(t, s.url("proxy"), n/workers, func(i int) string { return users(w*1000 + i) })
			mu.Lock()
			defer mu.Unlock()
			for k, v := range counts {
				total[k] += v
			}
		})
	}
	wg.Wait()
	return total
}

func TestProxySendsNothingToACanaryWithoutAModel(t *testing.T) {
	s := startProxy(t, "10000")
	startBackend(t, "stable", s.at("stable"))
	canary := startBackend(t, "canary", s.at("canary"))
	canary.ready.Store(false)
	eventuallyHealthy(t, s, "stable")
	eventually(t, "the canary is out", func() bool { return who(t, s, "somebody") == "stable" })
	if got := answers(t, s.url("proxy"), 100, users); got["stable"] != 100 {
		t.Errorf("answers %v; want all of stable", got)
	}
	canary.ready.Store(true)
	eventually(t, "the canary is in", func() bool { return who(t, s, "somebody") == "canary" })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within 20 s: %s", what)
		}
	}
}

func TestSocketOfADeepFolderIsShortEnough(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("a-long-name/", 10))
	s, err := load(deep)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.makeSocketDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.SocketDir) })
	if n := len(s.socket()); n > maxSocketPath {
		t.Errorf("socket %s has %d characters", s.socket(), n)
	}
	if strings.HasPrefix(s.SocketDir, deep) {
		t.Errorf("socket %s stands in the deep folder", s.socket())
	}
}
