package metrics

import (
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
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

func TestBoundariesHoldTheSloOnce(t *testing.T) {
	for _, slo := range []time.Duration{500 * time.Millisecond, 120 * time.Millisecond, time.Minute, time.Millisecond} {
		got := Boundaries(slo)
		if !slices.Contains(got, slo.Seconds()) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: %v", slo, got)
		}
	}
}

func TestADigestStartsAtZero(t *testing.T) {
	m := New("xray", "stable", 500*time.Millisecond)
	m.Serving("d1")
	got := page(t, m)
	for _, line := range []string{
		`penstock_requests_total{digest="d1",model="xray",outcome="ok",slot="stable"} 0`,
		`penstock_requests_total{digest="d1",model="xray",outcome="client_error",slot="stable"} 0`,
		`penstock_requests_total{digest="d1",model="xray",outcome="server_error",slot="stable"} 0`,
		`penstock_request_seconds_bucket{digest="d1",model="xray",slot="stable",le="0.5"} 0`,
		`penstock_model_loaded{digest="d1",model="xray",slot="stable"} 1`,
		"process_start_time_seconds ",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no line %s", line)
		}
	}
}

func TestCountsGoToTheDigestThatAnswered(t *testing.T) {
	m := New("xray", "stable", 500*time.Millisecond)
	m.Serving("d1")
	m.Count("d1", OK, 100*time.Millisecond)
	m.Count("d1", ServerError, time.Second)
	m.Count("d1", ClientError, time.Second)
	m.Serving("d2")
	m.Count("d2", OK, 500*time.Millisecond)
	got := page(t, m)
	for _, line := range []string{
		`penstock_requests_total{digest="d1",model="xray",outcome="ok",slot="stable"} 1`,
		`penstock_requests_total{digest="d1",model="xray",outcome="client_error",slot="stable"} 1`,
		`penstock_requests_total{digest="d1",model="xray",outcome="server_error",slot="stable"} 1`,
		`penstock_request_seconds_bucket{digest="d1",model="xray",slot="stable",le="0.5"} 1`,
		`penstock_request_seconds_count{digest="d1",model="xray",slot="stable"} 2`,
		`penstock_request_seconds_bucket{digest="d2",model="xray",slot="stable",le="0.5"} 1`,
		`penstock_model_loaded{digest="d2",model="xray",slot="stable"} 1`,
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(got, `penstock_model_loaded{digest="d1"`) {
		t.Error("the digest before still counts as loaded")
	}
}
