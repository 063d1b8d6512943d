package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/dev/logtest"
	"github.com/penstock-ml/penstock/serve/admission"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
	"github.com/penstock-ml/penstock/serve/service"
)

// counts remembers what was counted.
type counts struct {
	mu   sync.Mutex
	seen []string
	last metrics.Request
}

func (c *counts) Count(r metrics.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = r
	c.seen = append(c.seen, fmt.Sprintf("%.8s %s", r.Digest, r.Outcome))
	if r.Took < 0 || r.Took > time.Minute {
		c.seen = append(c.seen, "took "+r.Took.String())
	}
}

// As a host's observer it hears nothing.
func (c *counts) Serving(string)      {}
func (c *counts) NotServing()         {}
func (c *counts) Load(metrics.Result) {}

func (c *counts) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := strings.Join(c.seen, ", ")
	c.seen = nil
	return all
}

// fixed is a host whose model never changes; nil: none is loaded.
type fixed struct {
	name string
	m    *model.Model
}

func (f fixed) Name() string { return f.name }
func (f fixed) Use() (*model.Model, func(), error) {
	if f.m == nil {
		return nil, nil, host.ErrNoModel
	}
	release, err := f.m.Acquire()
	return f.m, release, err
}

// options of a test's server.
type options struct {
	enlarger service.Enlarger
	fetcher  api.Fetcher
	queue    *admission.Queue // of the first model
	limits   api.Limits
	write    time.Duration // http.Server's WriteTimeout
}

// world is a server with models.
type world struct {
	t      *testing.T
	counts *counts
	logged logtest.Buffer
	core   *service.Service
	url    string
	digest string // of the first model
}

// serve starts a server that serves graph under the name test, or nothing where
// it is empty.
func serve(t *testing.T, graph string) *world {
	t.Helper()
	if graph == "" {
		return start(t, options{}, fixed{name: "test"})
	}
	return serveModels(t, options{}, bundletest.New(t, graph))
}

func serveModels(t *testing.T, o options, dirs ...string) *world {
	t.Helper()
	var hosts []fixed
	for _, dir := range dirs {
		b, err := bundle.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.Open(t.Context(), modeltest.Runtime(t), b)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		hosts = append(hosts, fixed{m.Name(), m})
	}
	return start(t, o, hosts...)
}

func start(t *testing.T, o options, hosts ...fixed) *world {
	t.Helper()
	w := &world{t: t, counts: &counts{}}
	var served []service.Served
	for i, h := range hosts {
		one := service.Served{Host: h, Counter: w.counts}
		if i == 0 {
			one.Queue = o.queue
			if h.m != nil {
				w.digest = h.m.Digest()
			}
		}
		served = append(served, one)
	}
	log := slog.New(slog.NewTextHandler(&w.logged, nil))
	w.core = service.New(service.Options{
		Log: log, Version: "v0", SLO: 500 * time.Millisecond, Strays: w.counts, Models: served, Enlarger: o.enlarger,
	})
	server := httptest.NewUnstartedServer(api.New(api.Options{
		Service: w.core, Log: log, Buffers: buffers.New(), Fetcher: o.fetcher, Page: true, Limits: o.limits,
	}).Handler())
	server.Config.WriteTimeout = o.write
	server.Start()
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (w *world) do(method, path, kind string, body []byte) answer {
	w.t.Helper()
	h := header{}
	if kind != "" {
		h["Content-Type"] = kind
	}
	return w.send(h, method, path, body)
}

type header map[string]string

// send is a request with headers; its answer is held to the OpenAPI document.
func (w *world) send(h header, method, path string, body []byte) answer {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range h {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{response.StatusCode, response.Header, data}
	conform(w.t, method, path, a)
	return a
}

func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return v
}
