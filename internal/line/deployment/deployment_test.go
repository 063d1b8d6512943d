package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/penstock-ml/penstock/internal/line/split"
)

func TestEnvironmentIsRefusedByKey(t *testing.T) {
	good := func() Environment {
		return Environment{
			URL: "http://127.0.0.1:8000",
			Servers: []Server{
				{Slot: Stable, URL: "http://127.0.0.1:8001", Admin: "http://127.0.0.1:9001"},
				{Slot: Canary, URL: "http://127.0.0.1:8002", Admin: "https://gpu.example:9002"},
			},
			Routers: []Router{{URL: "http://localhost:9100"}},
		}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*Environment){
		"servers: ":            func(e *Environment) { e.Servers = nil },
		"servers[0].slot":      func(e *Environment) { e.Servers[0].Slot = "" },
		"servers[0].url":       func(e *Environment) { e.Servers[0].URL = "127.0.0.1:8001" },
		"servers[1].admin":     func(e *Environment) { e.Servers[1].Admin = "http://gpu.example:9002" },
		"servers[0].admin":     func(e *Environment) { e.Servers[0].Admin = "http://user:pass@127.0.0.1:9001" },
		"routers[0].url":       func(e *Environment) { e.Routers[0].URL = "http://10.0.0.1:9100" },
		"url: ":                func(e *Environment) { e.URL = "ftp://127.0.0.1" },
		"routers split":        func(e *Environment) { e.Servers = e.Servers[:1] },
		"servers[1].":          func(e *Environment) { e.Servers[1].URL = e.Servers[0].URL },
		"routers[0].url: \"\"": func(e *Environment) { e.Routers[0].URL = "" },
	}
	for key, spoil := range cases {
		e := good()
		spoil(&e)
		if err := e.Validate(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// fake is one server: its admin and public side, with faults to inject.
type fake struct {
	Server
	t       *testing.T
	status  Status
	served  string
	puts    atomic.Int64
	onPut   func(f *fake, digest string) (int, Status)
	onGet   func(f *fake)
	metrics http.Handler
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t}
	f.onPut = func(f *fake, digest string) (int, Status) {
		f.status, f.served = Status{Digest: digest, State: Ready}, digest
		return http.StatusOK, f.status
	}
	public := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.served == "" {
			http.Error(w, `{"error":"no model"}`, http.StatusServiceUnavailable)
			return
		}
		w.Header().Set(DigestHeader, f.served)
		fmt.Fprintf(w, `{"name":"xray","versions":[%q]}`, f.served)
	}))
	admin := httptest.NewServer(http.HandlerFunc(f.admin))
	t.Cleanup(public.Close)
	t.Cleanup(admin.Close)
	f.Server = Server{Slot: "staging", URL: public.URL, Admin: admin.URL}
	return f
}

func (f *fake) admin(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer secret" {
		http.Error(w, `{"error":"token"}`, http.StatusUnauthorized)
		return
	}
	switch {
	case r.URL.Path == "/metrics":
		f.metrics.ServeHTTP(w, r)
	case r.Method == http.MethodPut:
		f.puts.Add(1)
		var want Status
		if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
			f.t.Error(err)
		}
		code, status := f.onPut(f, want.Digest)
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(status)
	default:
		if f.onGet != nil {
			f.onGet(f)
		}
		json.NewEncoder(w).Encode(f.status)
	}
}

func client() *Client { return New(Tokens{Admin: "secret", Router: "secret"}) }

func TestLoadProvesWhatUsersGetAndRepeatsNothing(t *testing.T) {
	f := newFake(t)
	for range 2 {
		if err := client().Load(t.Context(), f.Server, "xray", "d1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.puts.Load(); got != 1 {
		t.Errorf("%d loads were asked for, want 1", got)
	}
}

func TestLoadWaitsForAServerThatAnswersWhileItLoads(t *testing.T) {
	f := newFake(t)
	f.onPut = func(f *fake, digest string) (int, Status) {
		f.status = Status{Digest: digest, State: Loading}
		looks := 0
		f.onGet = func(f *fake) {
			if looks++; looks == 3 {
				f.status.State, f.served = Ready, digest
			}
		}
		return http.StatusAccepted, f.status
	}
	if err := client().Load(t.Context(), f.Server, "xray", "d1"); err != nil {
		t.Fatal(err)
	}
}

func TestLoadOfARefusedBundleGivesTheServersReason(t *testing.T) {
	cases := map[string]func(f *fake, digest string) (int, Status){
		"at once": func(f *fake, digest string) (int, Status) {
			return http.StatusUnprocessableEntity, Status{Digest: digest, State: Failed, Reason: "goldens differ by 0.3"}
		},
		"later": func(f *fake, digest string) (int, Status) {
			f.status = Status{Digest: digest, State: Failed, Reason: "goldens differ by 0.3"}
			return http.StatusAccepted, Status{Digest: digest, State: Loading}
		},
	}
	for name, put := range cases {
		f := newFake(t)
		f.onPut = put
		err := client().Load(t.Context(), f.Server, "xray", "d1")
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "goldens differ by 0.3") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABundleThatTheServerCannotFetchIsNotRefused(t *testing.T) {
	f := newFake(t)
	f.onPut = func(f *fake, digest string) (int, Status) {
		return http.StatusServiceUnavailable, Status{Digest: digest, State: Failed, Reason: "the bundle cannot be had from the bucket"}
	}
	err := client().Load(t.Context(), f.Server, "xray", "d1")
	if err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "cannot be had from the bucket") {
		t.Errorf("got %v", err)
	}
}

func TestServerThatSaysReadyAndServesAnotherDigestIsNotBelieved(t *testing.T) {
	f := newFake(t)
	f.onPut = func(f *fake, digest string) (int, Status) {
		f.served = "d0"
		return http.StatusOK, Status{Digest: digest, State: Ready}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := client().Load(ctx, f.Server, "xray", "d1"); err == nil {
		t.Error("the load passed")
	}
}

func TestGivingUpIsNotARefusal(t *testing.T) {
	f := newFake(t)
	f.onPut = func(f *fake, digest string) (int, Status) { return http.StatusAccepted, Status{State: Loading} }
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	err := client().Load(ctx, f.Server, "xray", "d1")
	if errors.Is(err, ErrRefused) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestWrongTokenAndDeadServerSayWhatToDo(t *testing.T) {
	f := newFake(t)
	_, err := New(Tokens{Admin: "wrong"}).Status(t.Context(), f.Server, "xray")
	if err == nil || !strings.Contains(err.Error(), "PENSTOCK_ADMIN_TOKEN") {
		t.Errorf("wrong token: %v", err)
	}
	dead := f.Server
	dead.Admin = "http://127.0.0.1:1"
	_, err = client().Status(t.Context(), dead, "xray")
	if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
		t.Errorf("dead server: %v", err)
	}
}

// real metrics, as the server's library writes them.
func realMetrics(t *testing.T, slo float64) http.Handler {
	t.Helper()
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: requestsTotal}, []string{"model", "digest", "slot", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: requestSeconds, Buckets: []float64{0.1, slo, 1}}, []string{"model", "digest", "slot"})
	registry.MustRegister(requests, seconds, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	count := func(model, digest, outcome string, n int, took float64) {
		for range n {
			requests.WithLabelValues(model, digest, "canary", outcome).Inc()
			if outcome != outcomeClient && outcome != outcomeRefused {
				seconds.WithLabelValues(model, digest, "canary").Observe(took)
			}
		}
	}
	count("xray", "d1", "ok", 10, 0.05)
	count("xray", "d1", "ok", 3, 0.7)
	count("xray", "d1", outcomeServer, 2, 0.05)
	count("xray", "d1", outcomeClient, 5, 0.05)
	count("xray", "d1", outcomeRefused, 4, 0)
	count("xray", "d2", "ok", 1, 2)
	count("other", "d1", "ok", 100, 2)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// A refusal is the server's: whoever sheds load would else look better than who
// keeps up.
func TestReadCountsByDigestRefusalsAsErrorsWithoutTheClientsMistakes(t *testing.T) {
	f := newFake(t)
	f.metrics = realMetrics(t, 0.5)
	got, err := client().Read(t.Context(), f.Server, "xray", 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Counts{"d1": {Requests: 19, Errors: 6, Slow: 3}, "d2": {Requests: 1, Slow: 1}}
	if len(got.Digests) != 2 || got.Digests["d1"] != want["d1"] || got.Digests["d2"] != want["d2"] {
		t.Errorf("%+v, want %+v", got.Digests, want)
	}
	if got.Started < 1e9 {
		t.Errorf("process start %v", got.Started)
	}
}

func TestReadRefusesAHistogramWithoutABoundaryAtTheSLO(t *testing.T) {
	f := newFake(t)
	f.metrics = realMetrics(t, 0.4)
	_, err := client().Read(t.Context(), f.Server, "xray", 500*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "no bucket boundary at the slo of 500ms") {
		t.Errorf("error %v", err)
	}
}

func TestReadRefusesAPageThatIsNone(t *testing.T) {
	for _, page := range []string{"", "<html>", "penstock_requests_total 1\n"} {
		f := newFake(t)
		f.metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) })
		if _, err := client().Read(t.Context(), f.Server, "xray", time.Second); err == nil {
			t.Errorf("%q was taken for counters", page)
		}
	}
}

func TestRouterRefusalsComeBackAsWhatTheyMean(t *testing.T) {
	for code, want := range map[string]error{"stale": split.ErrStale, "held": split.ErrHeld, "canary-down": split.ErrCanaryDown} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusConflict)
			json.NewEncoder(w).Encode(split.Refusal{Code: code, Error: "no"})
		}))
		_, err := client().SetSplit(t.Context(), Router{URL: s.URL}, split.Split{})
		s.Close()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestTokenDoesNotFollowARedirect(t *testing.T) {
	var leaked atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(true)
	}))
	defer thief.Close()
	s := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	if _, err := client().Status(t.Context(), Server{Slot: "staging", Admin: s.URL, URL: s.URL}, "xray"); err == nil || leaked.Load() {
		t.Errorf("error %v, followed %t", err, leaked.Load())
	}
}
