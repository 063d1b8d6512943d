package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
)

const (
	oldDigest = "old0000000000000000000000000000000000000000000000000000000000000"
	newDigest = "new0000000000000000000000000000000000000000000000000000000000000"
)

// world is everything around a rollout, spoken to over HTTP: two servers with
// traffic, a router (the real handler before a proxy in memory), a store with
// conditional PUT, and a registry. Faults are injected here.
type world struct {
	t      testing.TB
	mu     sync.Mutex
	slots  map[string]*slot
	keeper *split.Keeper
	proxy  *memoryProxy

	router, store, registry *httptest.Server

	objects  map[string][]byte
	etags    map[string]int
	champion string
	before   string
	promoted []string // every change of the alias, in order
	effects  []string // what was done to servers and routers, in order

	rate    map[string]float64 // failures of a digest, 0 to 1
	slow    map[string]float64
	bad     map[string]bool                    // digests that servers refuse
	onSave  func(State, bool)                  // before (false) and after (true) a record is written
	onShare func(bp int)                       // after the share was changed
	refuse  func(r *http.Request) (status int) // of the registry; 0: none
}

type slot struct {
	name          string
	digest        string
	down          bool
	started       float64
	counts        map[string]deployment.Counts
	frac          map[string][3]float64
	public, admin *httptest.Server
}

// memoryProxy is HAProxy's map without HAProxy.
type memoryProxy struct {
	mu    sync.Mutex
	value string
	down  bool
	dead  bool
}

func (p *memoryProxy) Map(context.Context) (map[string]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, errors.New("proxy is dead")
	}
	return map[string]string{split.Key: p.value}, nil
}

func (p *memoryProxy) SetMap(_ context.Context, _, value string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.value = value
	return nil
}

func (p *memoryProxy) CanaryUp(context.Context) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.down, nil
}

func (p *memoryProxy) share() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	bp, _ := strconv.Atoi(p.value) // the keeper writes numbers only
	return bp
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, slots: map[string]*slot{}, objects: map[string][]byte{}, etags: map[string]int{},
		rate: map[string]float64{}, slow: map[string]float64{}, bad: map[string]bool{},
		champion: oldDigest, proxy: &memoryProxy{value: "0"},
	}
	for i, name := range []string{deployment.Stable, deployment.Canary} {
		s := &slot{name: name, digest: oldDigest, started: float64(100 + i), counts: map[string]deployment.Counts{}, frac: map[string][3]float64{}}
		w.slots[name] = s
		s.public = w.serve(func(rw http.ResponseWriter, r *http.Request) { w.servePublic(s, rw) })
		s.admin = w.serve(func(rw http.ResponseWriter, r *http.Request) { w.serveAdmin(s, rw, r) })
	}
	keeper, err := split.Open(filepath.Join(t.TempDir(), "split.map"), w.proxy, time.Now, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	w.keeper = keeper
	handler := split.Handler(keeper, "secret")
	w.router = w.serve(func(rw http.ResponseWriter, r *http.Request) {
		before := w.proxy.share()
		handler.ServeHTTP(rw, r)
		if now := w.proxy.share(); now != before {
			w.effect("share %d", now)
			if w.onShare != nil {
				w.onShare(now)
			}
		}
	})
	w.store = w.serve(w.serveStore)
	w.registry = w.serve(w.serveRegistry)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.traffic(ctx) })
	running.Go(func() { keeper.Run(ctx, 50*time.Millisecond) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return w
}

func (w *world) serve(h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) effect(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.effects = append(w.effects, fmt.Sprintf(format, args...))
}

// traffic adds 2,000 requests a second, split as the proxy is told, with the
// failures and slowness of the digest that answers, without randomness.
func (w *world) traffic(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		part := float64(w.proxy.share()) / split.Full
		w.mu.Lock()
		w.slots[deployment.Canary].add(10*part, w)
		w.slots[deployment.Stable].add(10*(1-part), w)
		w.mu.Unlock()
	}
}

// add counts n requests; what is less than one waits for the next time.
func (s *slot) add(n float64, w *world) {
	if s.down || s.digest == "" {
		return
	}
	f, c := s.frac[s.digest], s.counts[s.digest]
	for i, more := range []float64{n, n * w.rate[s.digest], n * w.slow[s.digest]} {
		f[i] += more
		whole := uint64(f[i])
		f[i] -= float64(whole)
		switch i {
		case 0:
			c.Requests += whole
		case 1:
			c.Errors += whole
		case 2:
			c.Slow += whole
		}
	}
	s.frac[s.digest], s.counts[s.digest] = f, c
}

func (w *world) servePublic(s *slot, rw http.ResponseWriter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.down || s.digest == "" {
		http.Error(rw, "no model", http.StatusServiceUnavailable)
		return
	}
	rw.Header().Set(deployment.DigestHeader, s.digest)
	rw.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(rw, `{"name":"xray","versions":[%q]}`, s.digest)
}

func (w *world) serveAdmin(s *slot, rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.URL.Path == "/metrics" {
		s.metrics(rw)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPut {
		var want deployment.Status
		if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		w.effects = append(w.effects, s.name+" loads "+want.Digest[:3])
		if w.bad[want.Digest] {
			json.NewEncoder(rw).Encode(deployment.Status{Digest: want.Digest, State: deployment.Failed, Reason: "goldens differ"})
			return
		}
		s.digest = want.Digest
	}
	json.NewEncoder(rw).Encode(deployment.Status{Digest: s.digest, State: deployment.Ready})
}

func (s *slot) metrics(w io.Writer) {
	fmt.Fprintf(w, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %g\n", s.started)
	fmt.Fprintln(w, "# TYPE penstock_requests_total counter")
	for d, c := range s.counts {
		l := fmt.Sprintf(`model="xray",digest=%q,slot=%q`, d, s.name)
		fmt.Fprintf(w, "penstock_requests_total{%s,outcome=\"ok\"} %d\n", l, c.Requests-c.Errors)
		fmt.Fprintf(w, "penstock_requests_total{%s,outcome=\"server_error\"} %d\n", l, c.Errors)
		fmt.Fprintf(w, "penstock_requests_total{%s,outcome=\"client_error\"} 7\n", l)
	}
	fmt.Fprintln(w, "# TYPE penstock_request_seconds histogram")
	for d, c := range s.counts {
		l := fmt.Sprintf(`model="xray",digest=%q,slot=%q`, d, s.name)
		fmt.Fprintf(w, "penstock_request_seconds_bucket{%s,le=\"0.5\"} %d\n", l, c.Requests-c.Slow)
		fmt.Fprintf(w, "penstock_request_seconds_bucket{%s,le=\"+Inf\"} %d\n", l, c.Requests)
		fmt.Fprintf(w, "penstock_request_seconds_sum{%s} 1\npenstock_request_seconds_count{%s} %d\n", l, l, c.Requests)
	}
}

func (w *world) serveStore(rw http.ResponseWriter, r *http.Request) {
	key := r.URL.Path[1:]
	if r.Method == http.MethodGet {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, there := w.objects[key]; !there {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("ETag", strconv.Itoa(w.etags[key]))
		rw.Write(w.objects[key])
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.saving(record.Current, false)
	w.mu.Lock()
	match, tag := r.Header.Get("If-Match"), strconv.Itoa(w.etags[key])
	if (match != "" && match != tag) || (match == "" && w.etags[key] != 0) {
		w.mu.Unlock()
		rw.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	w.etags[key]++
	w.objects[key] = data
	rw.Header().Set("ETag", strconv.Itoa(w.etags[key]))
	w.mu.Unlock()
	w.saving(record.Current, true)
}

func (w *world) saving(s State, written bool) {
	w.mu.Lock()
	hook := w.onSave
	w.mu.Unlock()
	if hook != nil {
		hook(s, written)
	}
}

func (w *world) serveRegistry(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		if status := w.refuse(r); status != 0 {
			rw.WriteHeader(status)
			return
		}
	}
	if digest := r.URL.Query().Get("promote"); digest != "" && digest != w.champion {
		w.before, w.champion = w.champion, digest
		w.promoted = append(w.promoted, digest)
		w.effects = append(w.effects, "promote "+digest[:3])
	}
	json.NewEncoder(rw).Encode(Champion{Digest: w.champion, Previous: w.before})
}

func (w *world) record() Record {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var r Record
	if data := w.objects[Key("xray")]; data != nil {
		if err := json.Unmarshal(data, &r); err != nil {
			w.t.Fatal(err)
		}
	}
	return r
}

func (w *world) serving(slot string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots[slot].digest
}

// moves are the changes of the alias so far.
func (w *world) moves() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.promoted)
}

func (w *world) alias() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.champion
}
