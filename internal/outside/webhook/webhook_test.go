package webhook_test

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

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/line/intake"
	"github.com/penstock-ml/penstock/internal/outside/webhook"
)

var batch = intake.Batch{Key: "k1", Prefix: "raw/a/", Objects: []intake.Object{{Key: "raw/a/1.png", ETag: "e", Size: 3}}}

func serve(t *testing.T, handle http.HandlerFunc) *webhook.Endpoint {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	e, err := webhook.New(s.URL + "/batches")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestABatchIsAskedForAndPutUnderItsKey(t *testing.T) {
	known := map[string]intake.Batch{}
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.URL.Path, "/batches/")
		switch _, there := known[key]; {
		case r.Method == http.MethodPut:
			var b intake.Batch
			if err := json.NewDecoder(r.Body).Decode(&b); err != nil || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("body: %v", err)
			}
			known[key] = b
			w.WriteHeader(http.StatusCreated)
		case !there:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	if has, err := e.Dispatched(t.Context(), "k1"); has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
	if err := e.Dispatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if has, err := e.Dispatched(t.Context(), "k1"); !has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
	if d := cmp.Diff(batch, known["k1"]); d != "" {
		t.Error(d)
	}
}

func TestAnyOtherAnswerIsAnErrorAndNeverKnownOrUnknown(t *testing.T) {
	for _, status := range []int{204, 302, 400, 401, 403, 500, 503} {
		e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			if status != http.StatusNoContent {
				fmt.Fprint(w, "because "+strings.Repeat("x", 1000))
			}
		})
		has, err := e.Dispatched(t.Context(), "k1")
		if has || err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) || len(err.Error()) > 500 {
			t.Errorf("GET answered %d: %v, %v", status, has, err)
		}
		err = e.Dispatch(t.Context(), batch)
		if wrong := status/100 != 2; (err != nil) != wrong || wrong && !strings.Contains(err.Error(), "because") {
			t.Errorf("PUT answered %d: %v", status, err)
		}
	}
}

func TestAPassingErrorIsTriedAgainAndALastingOneEnds(t *testing.T) {
	var calls atomic.Int64
	e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	if err := e.Dispatch(t.Context(), batch); err != nil || calls.Load() != 2 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
	calls.Store(0)
	e = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	})
	if err := e.Dispatch(t.Context(), batch); err == nil || calls.Load() != 3 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}

func TestNobodyThereNamesTheAddressAndTheRemedy(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	e, err := webhook.New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Dispatched(t.Context(), "k1")
	if err == nil || !strings.Contains(err.Error(), s.URL) || !strings.Contains(err.Error(), "--webhook") {
		t.Errorf("error %v", err)
	}
}

func TestACancelledCallEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hold := make(chan struct{})
	e := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(hold) }) // runs before the server waits for its handler
	if err := e.Dispatch(ctx, batch); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestAnAddressThatIsNoURLIsRefused(t *testing.T) {
	for _, a := range []string{"", "host:80", "ftp://host", "http://"} {
		if _, err := webhook.New(a); err == nil {
			t.Errorf("%q is taken", a)
		}
	}
}
