package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
)

type lastCount struct {
	outcome metrics.Outcome
	n       int
}

func (c *lastCount) Count(r metrics.Request) {
	c.outcome = r.Outcome
	c.n++
}

func TestAClientThatGivesUpIsToBlameOnlyWithinTheSlo(t *testing.T) {
	s := New(nil, nil, nil, "v0", 100*time.Millisecond)
	cases := []struct {
		status int
		waited time.Duration
		want   metrics.Outcome
	}{
		{200, time.Second, metrics.OK},
		{400, time.Second, metrics.ClientError},
		{statusGone, 10 * time.Millisecond, metrics.ClientError},
		{statusGone, time.Second, metrics.ServerError},
		{500, 0, metrics.ServerError},
		{503, 0, metrics.ServerError},
	}
	for _, c := range cases {
		if got := s.outcome(c.status, &exchange{began: time.Now().Add(-c.waited)}); got != c.want {
			t.Errorf("status %d after %s: %s, want %s", c.status, c.waited, got, c.want)
		}
	}
}

// broken is a host that panics.
type broken struct{}

func (broken) Name() string                       { return "test" }
func (broken) Use() (*model.Model, func(), error) { panic("a fault of the program") }

func TestAPanicStaysInItsRequestAndIsCounted(t *testing.T) {
	var log strings.Builder
	var count lastCount
	s := New(broken{}, &count, slog.New(slog.NewTextHandler(&log, nil)), "v0", time.Second)
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	for range 2 {
		response, err := http.Post(server.URL+"/v1/models/test/predict", "image/png", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 500 {
			t.Errorf("status %d", response.StatusCode)
		}
	}
	if count.n != 2 || count.outcome != metrics.ServerError {
		t.Errorf("counted %+v", count)
	}
	if !strings.Contains(log.String(), "a fault of the program") {
		t.Errorf("log: %s", &log)
	}
}
