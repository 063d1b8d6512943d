package mlflow

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/line/training"
)

// The same contract runs against the real server, and against the real server
// behind a proxy that fails once for each call in every way it can.
func TestContract(t *testing.T) {
	real := servertest.MLflow(t, servertest.MinIO(t))
	for _, way := range []struct {
		name  string
		fault fault
	}{
		{"plain", nil},
		{"first answer is 500", answer(500, "application/json", `{"error_code":"INTERNAL_ERROR","message":"try again"}`)},
		{"first answer is 429 with Retry-After", answer(429, "text/html", "<html>slow down</html>")},
		{"first answer is HTML of a proxy", answer(503, "text/html", "<html><body>no server is available</body></html>")},
		{"first answer is lost after the work was done", lost},
	} {
		t.Run(way.name, func(t *testing.T) {
			uri := real
			if way.fault != nil {
				uri = faulty(t, real, way.fault)
			}
			c := client(t, uri)
			name := fmt.Sprintf("test-%d", counter.Add(1))
			t.Run("run", func(t *testing.T) { contractRun(t, c, name) })
			t.Run("registry", func(t *testing.T) { contractRegistry(t, c, name) })
		})
	}
}

var counter atomic.Int64

func client(t *testing.T, uri string) *Client {
	t.Helper()
	c, err := Open(Credentials{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	c.wait = time.Millisecond
	return c
}

// fault answers in place of the server, or lets it answer and spoils that.
type fault func(w http.ResponseWriter, r *http.Request, server http.Handler)

func answer(status int, kind, body string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", kind)
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func lost(w http.ResponseWriter, r *http.Request, server http.Handler) {
	server.ServeHTTP(httptest.NewRecorder(), r)
	w.WriteHeader(http.StatusBadGateway)
}

// faulty stands before a server and spoils the first call of each kind.
func faulty(t *testing.T, server string, f fault) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }} // the Host header is the server's
	var mu sync.Mutex
	spoiled := map[string]bool{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		kind := r.Method + " " + r.URL.Path
		first := !spoiled[kind]
		spoiled[kind] = true
		mu.Unlock()
		if first {
			f(w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

func contractRun(t *testing.T, c *Client, name string) {
	ctx := t.Context()
	experiment, err := c.Experiment(ctx, name)
	must(t, err)
	again, err := c.Experiment(ctx, name)
	must(t, err)
	if experiment == "" || again != experiment {
		t.Fatalf("experiment %q, then %q: want the same", experiment, again)
	}
	start := time.UnixMilli(1700000000000)
	n := NewRun{
		Experiment: experiment, Name: "first", Start: start,
		Tags: map[string]string{"penstock.run_key": "abc", "penstock.attempt": "1"}, Unique: []string{"penstock.run_key", "penstock.attempt"},
	}
	run, _, err := c.CreateRun(ctx, n)
	must(t, err)
	same, found, err := c.CreateRun(ctx, n)
	must(t, err)
	if !found || same.ID != run.ID {
		t.Fatalf("the same run key made run %s, then %s", run.ID, same.ID)
	}
	all, err := c.SearchRuns(ctx, experiment, "")
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("%d runs, want one: a lost answer must not make a second", len(all))
	}

	var metrics []training.Metric
	for step := range int64(1500) { // more than a batch takes
		metrics = append(metrics, training.Metric{Key: "loss", Value: 1 / float64(step+1), Step: step, Time: start.Add(time.Duration(step) * time.Second)})
	}
	must(t, c.Tracker(run.ID).Log(ctx, metrics))
	params := map[string]string{"long": strings.Repeat("ä", 400)}
	for i := range 120 {
		params[fmt.Sprintf("p%d", i)] = "x"
	}
	must(t, c.LogParams(ctx, run.ID, params))
	must(t, c.SetTags(ctx, run.ID, map[string]string{"penstock.model_digest": "old"}))
	must(t, c.SetTags(ctx, run.ID, map[string]string{"penstock.model_digest": "new"}))
	must(t, c.LogDataset(ctx, run.ID, "xray", strings.Repeat("a", 64), "s3://xray/datasets/aa", "training"))
	must(t, c.UpdateRun(ctx, run.ID, Killed, start.Add(time.Hour)))

	got, err := c.GetRun(ctx, run.ID)
	must(t, err)
	if got.Status != Killed || got.Name != "first" || got.Tags["penstock.model_digest"] != "new" ||
		got.Metrics["loss"] != 1.0/1500 || len(got.Params) != 121 || len(got.Params["long"]) > 500 || !strings.HasSuffix(got.Params["long"], "ä…") {
		t.Errorf("the run came back as %+v", got)
	}
	file := filepath.Join(t.TempDir(), "trainer.log")
	must(t, os.WriteFile(file, []byte("epoch 1\n"), 0o600))
	must(t, c.UploadArtifact(ctx, run, "logs/trainer 1.log", file))
	if body := download(t, c, run, "logs/trainer%201.log"); body != "epoch 1\n" {
		t.Errorf("the artifact came back as %q", body)
	}
}

func download(t *testing.T, c *Client, run Run, path string) string {
	t.Helper()
	u, err := url.Parse(run.ArtifactURI)
	must(t, err)
	var r string
	// the call may be spoiled once, as all others
	for range 2 {
		a, err := c.send(t.Context(), http.MethodGet, "/api/2.0/mlflow-artifacts/artifacts"+u.Path+"/"+path, nil, nil)
		if err == nil {
			return string(a.Body())
		}
		r = err.Error()
	}
	return r
}

func contractRegistry(t *testing.T, c *Client, model string) {
	ctx, r := t.Context(), c.Registry()
	versions, err := r.List(ctx, model)
	must(t, err)
	if len(versions) != 0 {
		t.Fatalf("versions of a model that is not there: %v", versions)
	}
	if _, err := r.Alias(ctx, model, registry.Production); !errors.Is(err, registry.ErrNotFound) {
		t.Fatalf("alias of a model that is not there: %v, want ErrNotFound", err)
	}
	want := registry.Version{Source: "s3://xray/models/aa", Tags: map[string]string{registry.TagDigest: "aa", registry.TagRunKey: "k1"}}
	one, err := r.Create(ctx, model, want)
	must(t, err)
	again, err := r.Create(ctx, model, want)
	must(t, err)
	two, err := r.Create(ctx, model, registry.Version{Source: "s3://xray/models/bb", Tags: map[string]string{registry.TagDigest: "bb"}})
	must(t, err)
	if one.Number != 1 || again.Number != 1 || two.Number != 2 {
		t.Fatalf("versions %d, again %d, then %d: want 1, 1, 2", one.Number, again.Number, two.Number)
	}
	versions, err = r.List(ctx, model)
	must(t, err)
	if len(versions) != 2 {
		t.Fatalf("%d versions, want 2: a lost answer must not make a third", len(versions))
	}
	want.Number = 1
	for _, v := range versions {
		if v.Number == 1 {
			if diff := cmp.Diff(want, v); diff != "" {
				t.Errorf("version 1 came back different (-want +got):\n%s", diff)
			}
		}
	}
	if _, err := r.Alias(ctx, model, registry.Production); !errors.Is(err, registry.ErrNotFound) {
		t.Fatalf("alias that is not there: %v, want ErrNotFound", err)
	}
	for _, number := range []int{1, 2} {
		must(t, r.SetAlias(ctx, model, registry.Production, number))
		got, err := r.Alias(ctx, model, registry.Production)
		must(t, err)
		if got != number {
			t.Errorf("alias names %d, want %d", got, number)
		}
	}
	if err := r.SetAlias(ctx, model, registry.Candidate, 77); err == nil {
		t.Error("an alias was set to a version that is not there")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestErrorsSayWhatWhereAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   []string
	}{
		{"wrong credentials", 401, "Unauthorized", []string{"401", "MLFLOW_TRACKING_USERNAME"}},
		{"host not allowed", 403, "Invalid Host header - possible DNS rebinding attack detected", []string{"403", "--allowed-hosts"}},
		{"a login page", 400, "<html><title>Sign in</title></html>", []string{"400", "<html><title>Sign in", "MLFLOW_TRACKING_URI"}},
		{"MLflow's own", 400, `{"error_code":"INVALID_PARAMETER_VALUE","message":"bad filter"}`, []string{"400", "INVALID_PARAMETER_VALUE", "bad filter", "runs/get"}},
		{"nothing at all", 404, "", []string{"404", "(empty answer)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			defer s.Close()
			_, err := client(t, s.URL).GetRun(t.Context(), "r1")
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range append(c.want, s.URL) {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestAnAnswerThatIsNotMLflowsIsNoEmptyList(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome</html>") }))
	defer s.Close()
	if versions, err := client(t, s.URL).Registry().List(t.Context(), "xray"); err == nil {
		t.Errorf("a web page was read as the list %v", versions)
	}
}

func TestAServerThatStaysBrokenIsGivenUp(t *testing.T) {
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(500)
	}))
	defer s.Close()
	if _, err := client(t, s.URL).GetRun(t.Context(), "r1"); err == nil {
		t.Error("no error")
	}
	if calls.Load() != retries+1 {
		t.Errorf("%d calls, want %d", calls.Load(), retries+1)
	}
}

func TestNoServerNamesTheVariable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	_, err := client(t, s.URL).GetRun(t.Context(), "r1")
	if err == nil || !strings.Contains(err.Error(), "MLFLOW_TRACKING_URI") {
		t.Errorf("%v does not name MLFLOW_TRACKING_URI", err)
	}
	if _, err := CredentialsFromEnv(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "MLFLOW_TRACKING_URI") {
		t.Errorf("%v does not name MLFLOW_TRACKING_URI", err)
	}
}

func TestCancelEndsTheWaitForAServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(503)
		cancel()
	}))
	defer s.Close()
	began := time.Now()
	_, err := client(t, s.URL).GetRun(ctx, "r1")
	if !errors.Is(err, context.Canceled) || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %s, want context.Canceled at once", err, time.Since(began))
	}
}

func TestCredentialsGoOutAsTheServerExpects(t *testing.T) {
	for _, c := range []struct {
		given Credentials
		want  string
	}{
		{Credentials{Username: "u", Password: "p", Token: "t"}, "Basic dTpw"},
		{Credentials{Token: "t"}, "Bearer t"},
		{Credentials{}, ""},
	} {
		var got string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Get("Authorization")
			fmt.Fprint(w, "{}")
		}))
		c.given.URI = s.URL
		open, err := Open(c.given)
		must(t, err)
		_, err = open.GetRun(t.Context(), "r1")
		must(t, err)
		s.Close()
		if got != c.want {
			t.Errorf("%+v sent %q, want %q", c.given, got, c.want)
		}
		if secret := fmt.Sprintf("%v %#v %+v", c.given, c.given, c.given); strings.Contains(secret, "p\"") || strings.Contains(secret, "Token") {
			t.Errorf("credentials are shown: %s", secret)
		}
	}
}
