package metrics

import (
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func page(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	data, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// families reads the page as Prometheus would.
func families(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(page(t, m)))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantLines(t *testing.T, m *Metrics, lines ...string) {
	t.Helper()
	got := page(t, m)
	for _, line := range lines {
		if !strings.Contains(got, line+"\n") && !(strings.HasSuffix(line, " ") && strings.Contains(got, "\n"+line)) {
			t.Errorf("no line %s", line)
		}
	}
}

func TestBoundariesHoldTheSloOnce(t *testing.T) {
	for _, slo := range []time.Duration{500 * time.Millisecond, 120 * time.Millisecond, time.Minute, time.Millisecond} {
		got := Boundaries(slo)
		if !slices.Contains(got, slo.Seconds()) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: %v", slo, got)
		}
	}
}

func TestADigestStartsAtZero(t *testing.T) {
	m := New("stable", 500*time.Millisecond)
	m.Model("xray").Serving("d1")
	wantLines(t, m,
		`penstock_requests_total{digest="d1",model="xray",outcome="ok",slot="stable"} 0`,
		`penstock_requests_total{digest="d1",model="xray",outcome="client_error",slot="stable"} 0`,
		`penstock_requests_total{digest="d1",model="xray",outcome="server_error",slot="stable"} 0`,
		`penstock_requests_total{digest="d1",model="xray",outcome="refused",slot="stable"} 0`,
		`penstock_request_seconds_bucket{digest="d1",model="xray",slot="stable",le="0.5"} 0`,
		`penstock_model_loaded{digest="d1",model="xray",slot="stable"} 1`,
		`penstock_loads_total{model="xray",result="failed",slot="stable"} 0`,
		"process_start_time_seconds ",
	)
}

func TestCountsGoToTheDigestThatAnswered(t *testing.T) {
	all := New("stable", 500*time.Millisecond)
	m := all.Model("xray")
	m.Serving("d1")
	m.Count(Request{Digest: "d1", Outcome: OK, Took: 100 * time.Millisecond, Batch: 2, Phases: []Phase{{"run", 90 * time.Millisecond}}})
	m.Count(Request{Digest: "d1", Outcome: ServerError, Kind: "model", Took: time.Second})
	m.Count(Request{Digest: "d1", Outcome: ClientError, Kind: "bad_input", Took: time.Second})
	m.Count(Request{Digest: "d1", Outcome: Refused, Kind: "refused", Took: time.Microsecond})
	m.Serving("d2")
	m.Count(Request{Digest: "d2", Outcome: OK, Took: 500 * time.Millisecond})
	wantLines(t, all,
		`penstock_requests_total{digest="d1",model="xray",outcome="ok",slot="stable"} 1`,
		`penstock_requests_total{digest="d1",model="xray",outcome="client_error",slot="stable"} 1`,
		`penstock_requests_total{digest="d1",model="xray",outcome="server_error",slot="stable"} 1`,
		`penstock_requests_total{digest="d1",model="xray",outcome="refused",slot="stable"} 1`,
		`penstock_failures_total{digest="d1",kind="model",model="xray",slot="stable"} 1`,
		`penstock_failures_total{digest="d1",kind="bad_input",model="xray",slot="stable"} 1`,
		`penstock_request_seconds_bucket{digest="d1",model="xray",slot="stable",le="0.5"} 1`,
		`penstock_request_seconds_count{digest="d1",model="xray",slot="stable"} 2`,
		`penstock_request_seconds_bucket{digest="d2",model="xray",slot="stable",le="0.5"} 1`,
		`penstock_phase_seconds_count{digest="d1",model="xray",phase="run",slot="stable"} 1`,
		`penstock_batch_size_bucket{digest="d1",model="xray",slot="stable",le="1"} 0`,
		`penstock_batch_size_bucket{digest="d1",model="xray",slot="stable",le="2"} 1`,
		`penstock_model_loaded{digest="d2",model="xray",slot="stable"} 1`,
	)
	if got := page(t, all); strings.Contains(got, `penstock_model_loaded{digest="d1"`) {
		t.Error("the digest before still counts as loaded")
	}
}

func TestTwoModelsCountApart(t *testing.T) {
	all := New("stable", time.Second)
	xray, enhance := all.Model("xray"), all.Model("enhance")
	xray.Serving("d1")
	enhance.Serving("d2")
	all.Queue("xray", func() int { return 3 }, func() int { return 2 })
	all.Queue("enhance", func() int { return 0 }, func() int { return 1 })
	xray.Count(Request{Digest: "d1", Outcome: OK})
	enhance.Load(Failed)
	enhance.NotServing()
	wantLines(t, all,
		`penstock_model_loaded{digest="d1",model="xray",slot="stable"} 1`,
		`penstock_requests_total{digest="d2",model="enhance",outcome="ok",slot="stable"} 0`,
		`penstock_queue_waiting{model="xray",slot="stable"} 3`,
		`penstock_queue_running{model="enhance",slot="stable"} 1`,
		`penstock_loads_total{model="enhance",result="failed",slot="stable"} 1`,
		`penstock_loads_total{model="xray",result="failed",slot="stable"} 0`,
	)
	if strings.Contains(page(t, all), `penstock_model_loaded{digest="d2"`) {
		t.Error("an unloaded digest counts as loaded")
	}
}

func TestModelsThatDrainAreCountedByDigest(t *testing.T) {
	all := New("stable", time.Second)
	var now []string
	all.Draining("xray", func() []string { return now })
	all.Draining("enhance", func() []string { return []string{"d7"} })
	now = []string{"d1", "d2", "d1"}
	wantLines(t, all,
		`penstock_model_draining{digest="d1",model="xray",slot="stable"} 2`,
		`penstock_model_draining{digest="d2",model="xray",slot="stable"} 1`,
		`penstock_model_draining{digest="d7",model="enhance",slot="stable"} 1`,
	)
	now = nil
	if strings.Contains(page(t, all), `model="xray"`) {
		t.Error("nothing drains any more")
	}
}

// A rollout compares the digests of its two slots over minutes, a server lives
// for months.
func TestSeriesOfTheLastDigestsAreKeptAndOlderOnesForgotten(t *testing.T) {
	all := New("stable", time.Second)
	m := all.Model("xray")
	for i := range 200 {
		digest := fmt.Sprint("d", i)
		m.Serving("first") // answers again and again: never forgotten
		m.Serving(digest)
		m.Count(Request{Digest: digest, Outcome: ServerError, Kind: "model"})
		m.Count(Request{Digest: "first", Outcome: OK, Batch: 1, Phases: []Phase{{"run", time.Millisecond}}})
	}
	got := families(t, all)
	digests := map[string]bool{}
	for _, name := range []string{"penstock_requests_total", "penstock_failures_total", "penstock_request_seconds", "penstock_phase_seconds", "penstock_batch_size"} {
		for _, series := range got[name].GetMetric() {
			for _, l := range series.GetLabel() {
				if l.GetName() == "digest" {
					digests[l.GetValue()] = true
				}
			}
		}
	}
	if len(digests) != keptDigests || !digests["first"] || !digests["d199"] || !digests["d193"] {
		t.Errorf("kept %v", digests)
	}
	if n := len(got["penstock_model_loaded"].GetMetric()); n != 1 {
		t.Errorf("%d digests are loaded", n)
	}
	wantLines(t, all, `penstock_requests_total{digest="first",model="xray",outcome="ok",slot="stable"} 200`)
}

func TestALateRequestToAForgottenDigestIsCounted(t *testing.T) {
	all := New("stable", time.Second)
	m := all.Model("xray")
	late := Request{Digest: "first", Outcome: OK, Took: time.Millisecond, Batch: 1, Phases: []Phase{{"run", time.Millisecond}}}
	m.Serving("first")
	m.Count(late)
	for i := range keptDigests {
		m.Serving(fmt.Sprint("d", i))
	}
	if strings.Contains(page(t, all), `"first"`) {
		t.Error("not forgotten")
	}
	m.Count(late)
	wantLines(t, all,
		`penstock_requests_total{digest="first",model="xray",outcome="ok",slot="stable"} 1`,
		`penstock_request_seconds_count{digest="first",model="xray",slot="stable"} 1`,
		`penstock_phase_seconds_count{digest="first",model="xray",phase="run",slot="stable"} 1`,
		`penstock_batch_size_count{digest="first",model="xray",slot="stable"} 1`,
	)
}

func TestCountingASuccessAllocatesNothing(t *testing.T) {
	m := New("stable", time.Second).Model("xray")
	m.Serving("d1")
	r := Request{Digest: "d1", Outcome: OK, Took: time.Millisecond, Batch: 1, Phases: []Phase{{"decode", 1}, {"run", time.Millisecond}}}
	if n := testing.AllocsPerRun(100, func() { m.Count(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	m := New("stable", time.Second).Model("xray")
	m.Serving("d1")
	r := Request{Digest: "d1", Outcome: OK, Took: time.Millisecond, Batch: 1, Phases: []Phase{{"decode", 1}, {"resize", 1}, {"queue", 1}, {"run", time.Millisecond}, {"encode", 1}}}
	for b.Loop() {
		m.Count(r)
	}
}

func TestTheDocumentationNamesEveryMetric(t *testing.T) {
	all := New("stable", time.Second)
	m := all.Model("xray")
	m.Serving("d1")
	m.Count(Request{Digest: "d1", Outcome: ServerError, Kind: "model", Batch: 1, Phases: []Phase{{"run", 1}}})
	all.Queue("xray", func() int { return 0 }, func() int { return 0 })
	all.Draining("xray", func() []string { return []string{"d0"} })
	doc := readDoc(t)
	for name, family := range families(t, all) {
		if !strings.HasPrefix(name, "penstock_") {
			continue
		}
		if !strings.Contains(doc, name) {
			t.Errorf("docs/serving.md says nothing of %s", name)
		}
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
}

func readDoc(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/serving.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
