package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// lonely is a world without a bucket: bench needs none.
func lonely(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), library: library(t)}
	w.env = []string{"PENSTOCK_ONNXRUNTIME=" + w.library, "PATH=" + os.Getenv("PATH"), "HOME=" + w.dir}
	return w
}

// benched runs bench for a moment.
func (w *world) benched(more ...string) (code int, output string, r verdict.Result) {
	w.t.Helper()
	file := filepath.Join(w.dir, "bench.json")
	args := append([]string{
		"bench", "--bundle", bundletest.New(w.t, bundletest.Mean), "--callers", "1,3", "--duration", "60ms", "--round", "20ms",
		"--side", "64", "--result", file,
	}, more...)
	code, output = w.run(args...)
	r, err := verdict.Load(file)
	must(w.t, err)
	return code, output, r
}

func TestBenchMeasuresEveryRouteAgainstBareRuns(t *testing.T) {
	w := lonely(t)
	strange := httptest.NewServer(http.NotFoundHandler())
	defer strange.Close()
	code, out, r := w.benched("--side", "1024", "--goodput", "300ms", "--also", "second=--profile=latency", "--peer", "strange="+strange.URL)
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	for _, name := range []string{
		"bare/1/p50", "bare/3/throughput", "penstock-json/1/added_p50", "penstock-binary/1/added_p50", "penstock-grpc/3/added_p99", "second-jpeg/1/p50",
		"penstock-jpeg/3/throughput_ratio", "penstock-jpeg/1/cost", "penstock-jpeg/1/client_cpu", "penstock-json/difference",
		"overload/goodput_share", "overload/accepted_p99",
	} {
		i := slices.IndexFunc(r.Checks, func(c verdict.Check) bool { return c.Name == name })
		if i < 0 || r.Checks[i].Observed == nil || r.Checks[i].N < 1 {
			t.Errorf("no figure %s", name)
		}
	}
	for _, c := range r.Checks {
		if strings.HasSuffix(c.Name, "/throughput") && !(*c.Observed > 0) {
			t.Errorf("%s is %v", c.Name, *c.Observed)
		}
		if strings.Contains(c.Name, "strange") {
			t.Errorf("a peer without routes was measured: %s", c.Name)
		}
	}
	if !strings.Contains(out, "strange answers no jpeg") {
		t.Errorf("nothing is said of the peer:\n%s", out)
	}
}

func TestBenchRefusesAPeerThatComputesSomethingElse(t *testing.T) {
	w := lonely(t)
	wrong := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write([]byte(`{"predictions":[{"score":0.01},{"score":0.99}]}`)) // a client that left
	}))
	defer wrong.Close()
	code, out, r := w.benched("--route", "jpeg", "--goodput", "0", "--peer", "wrong="+wrong.URL)
	if code != 1 || r.Verdict != verdict.Error || !strings.Contains(r.Reason.Text, "wrong-jpeg") || !strings.Contains(r.Reason.Text, "does not compute the same") {
		t.Errorf("exit code %d, %+v\n%s", code, r.Reason, out)
	}
}

func TestBenchRefusesWhatCannotBeMeasured(t *testing.T) {
	w := lonely(t)
	for _, c := range []struct{ flag, value, want string }{
		{"--route", "soap", "binary, json, grpc, jpeg"},
		{"--callers", "0", "1 to 1024"},
		{"--duration", "10ms", "fewer than two rounds"},
		{"--deadline", "0s", "positive"},
		{"--side", "3", "16 to 8192"},
		{"--profile", "fastest", "throughput"},
		{"--threads", "100000", "threads a run"},
		{"--provider", "tpu", "cpu"},
		{"--device", "-1", "device -1"},
	} {
		if code, out, r := w.benched(c.flag, c.value); code != 2 || !strings.Contains(r.Reason.Text, c.want) {
			t.Errorf("%s %s: exit code %d, want 2 and %q:\n%s", c.flag, c.value, code, c.want, out)
		}
	}
}
