package loadtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/openloop"
	"github.com/penstock-ml/penstock/internal/verdict"
)

const digest = "0000000000000000000000000000000000000000000000000000000000000001"

const goodBody = `{"predictions":[{"label":"Mass","score":0.1},{"label":"Edema","score":0.9}]}`

// quick is a promise that small tests can show on a busy machine.
func quick() SLO {
	return SLO{
		Latency: 10 * time.Second, Objective: 0.9, Confidence: 0.9, Rate: 60, Duration: time.Second,
		Warmup: 200 * time.Millisecond,
	}
}

func picture(t *testing.T) openloop.Image {
	t.Helper()
	var buffer bytes.Buffer
	if err := png.Encode(&buffer, image.NewGray(image.Rect(0, 0, 4, 4))); err != nil {
		t.Fatal(err)
	}
	img, err := openloop.NewImage("a.png", buffer.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func options(t *testing.T, slo SLO, handler http.HandlerFunc) Options {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return Options{
		Target: openloop.Target{URL: server.URL, Model: "xray", Digest: digest, Labels: []string{"Mass", "Edema"}},
		SLO:    slo, Seed: 1, Images: []openloop.Image{picture(t)},
	}
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Penstock-Model-Digest", digest)
	fmt.Fprint(w, body)
}

func judged(t *testing.T, o Options) (Report, verdict.Result) {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	result := Judge(report, o.SLO)
	t.Logf("%s %s: %s", result.Verdict, result.Reason.Code, result.Reason.Text)
	return report, result
}

func TestGoodServerPasses(t *testing.T) {
	var requests, wrong atomic.Int64
	report, result := judged(t, options(t, quick(), func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Method != http.MethodPost || r.URL.Path != "/v1/models/xray/predict" ||
			r.Header.Get("Content-Type") != "image/png" || r.Header.Get("Penstock-Key") == "" {
			wrong.Add(1)
		}
		answer(w, goodBody)
	}))
	if result.Verdict != verdict.Pass {
		t.Fatalf("verdict %s: %s", result.Verdict, result.Reason.Text)
	}
	if wrong.Load() != 0 {
		t.Errorf("%d requests had not the form of the contract", wrong.Load())
	}
	if want := int64(1 + 12 + 60); requests.Load() != want {
		t.Errorf("%d requests arrived, want %d: one cold, 12 of warm-up, 60 measured", requests.Load(), want)
	}
	if report.Begun != 60 || report.Good != 60 || report.Warmup.Sent != 12 || report.Cold.Kind != openloop.Answered {
		t.Errorf("report %+v", report)
	}
}

func TestDelayOf600msBlocksAndStopsEarly(t *testing.T) {
	t.Parallel()
	slo := SLO{Latency: 500 * time.Millisecond, Objective: 0.99, Rate: 50, Duration: time.Minute, Warmup: 100 * time.Millisecond}
	o := options(t, slo, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(600 * time.Millisecond)
		answer(w, goodBody)
	})
	for range 3 {
		report, result := judged(t, o)
		if result.Reason.Code == verdict.Invalid {
			continue // this machine was too busy to tell 600 ms from 500: measure again
		}
		if result.Verdict != verdict.Reject || result.Reason.Code != TooSlow {
			t.Errorf("verdict %s (%s)", result.Verdict, result.Reason.Code)
		}
		if !report.Stopped || report.Begun > report.Planned/2 {
			t.Errorf("stopped %v after %d of %d: the test must end when rejection is certain", report.Stopped, report.Begun, report.Planned)
		}
		if report.Slow == 0 || report.Failed != 0 {
			t.Errorf("%d slow, %d failed: late answers are no failures", report.Slow, report.Failed)
		}
		return
	}
	t.Error("three measurements in a row were bad")
}

func TestFailuresAreCountedByKindAndReject(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server notice that the client left
		<-r.Context().Done()
	}
	cases := []struct {
		name    string
		kind    openloop.Kind
		code    string
		text    string
		handler http.HandlerFunc
	}{
		{"status 500", openloop.BadStatus, Failing, "500: model broke", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "model broke", 500) }},
		{"redirect", openloop.BadStatus, Failing, "302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }},
		{"200 with an error body", openloop.BadBody, Failing, "an error with status 200", func(w http.ResponseWriter, r *http.Request) { answer(w, `{"error":"out of memory"}`) }},
		{"200 with text", openloop.BadBody, Failing, "not a prediction", func(w http.ResponseWriter, r *http.Request) { answer(w, "ok") }},
		{"200 without predictions", openloop.BadBody, Failing, "no prediction", func(w http.ResponseWriter, r *http.Request) { answer(w, `{"predictions":[]}`) }},
		{"a label missing", openloop.BadBody, Failing, "no score for Edema", func(w http.ResponseWriter, r *http.Request) {
			answer(w, `{"predictions":[{"label":"Mass","score":0.1}]}`)
		}},
		{"a score that is null", openloop.BadBody, Failing, "no finite score", func(w http.ResponseWriter, r *http.Request) {
			answer(w, `{"predictions":[{"label":"Mass","score":0.1},{"label":"Edema","score":null}]}`)
		}},
		{"a truncated body", openloop.BadBody, Failing, "unexpected EOF", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			answer(w, goodBody[:20])
		}},
		{"hanging", openloop.TimedOut, TooSlow, "deadline", hang},
		{"hanging in the body", openloop.TimedOut, TooSlow, "deadline", func(w http.ResponseWriter, r *http.Request) {
			answer(w, goodBody[:20])
			w.(http.Flusher).Flush()
			hang(w, r)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			slo := quick()
			slo.Latency, slo.Timeout = 400*time.Millisecond, 800*time.Millisecond
			report, result := judged(t, options(t, slo, c.handler))
			if result.Verdict != verdict.Reject || result.Reason.Code != c.code {
				t.Errorf("verdict %s (%s), want reject (%s)", result.Verdict, result.Reason.Code, c.code)
			}
			if report.Kinds[c.kind] != report.Begun || report.Begun == 0 {
				t.Errorf("kinds %v of %d requests, want all %s", report.Kinds, report.Begun, c.kind)
			}
			if len(report.Examples) == 0 || !strings.Contains(report.Examples[0].Text, c.text) {
				t.Errorf("examples %+v, want %q in the first", report.Examples, c.text)
			}
		})
	}
}

func TestServerThatSwitchesTheModelMidwayIsRejected(t *testing.T) {
	var served atomic.Int64
	report, result := judged(t, options(t, quick(), func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) > 20 {
			w.Header().Set("Penstock-Model-Digest", "ffff")
			fmt.Fprint(w, goodBody)
			return
		}
		answer(w, goodBody)
	}))
	if result.Verdict != verdict.Reject || report.Kinds[openloop.WrongDigest] == 0 {
		t.Errorf("verdict %s, kinds %v", result.Verdict, report.Kinds)
	}
	if !strings.Contains(result.Reason.Text, "answered by ffff") {
		t.Errorf("reason %q does not name the digest that answered", result.Reason.Text)
	}
}

func TestServerThatDiesMidwayIsRejected(t *testing.T) {
	var served atomic.Int64
	report, result := judged(t, options(t, quick(), func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) > 20 {
			panic(http.ErrAbortHandler)
		}
		answer(w, goodBody)
	}))
	if result.Verdict != verdict.Reject || report.Kinds[openloop.Unconnected] == 0 {
		t.Errorf("verdict %s, kinds %v", result.Verdict, report.Kinds)
	}
}

func TestTestThatCannotBeginIsAnErrorAndNoRejection(t *testing.T) {
	other := options(t, quick(), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Penstock-Model-Digest", "ffff")
		fmt.Fprint(w, goodBody)
	})
	gone := options(t, quick(), nil)
	gone.Target.URL = "http://127.0.0.1:1"
	for code, o := range map[string]Options{NotServed: other, Unreachable: gone} {
		_, err := Run(t.Context(), o)
		if err == nil || verdict.FromError(err).Reason.Code != code {
			t.Errorf("got %v, want an error with the code %s", err, code)
		}
	}
}

func TestCancelledTestGivesNoReport(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t, quick(), func(w http.ResponseWriter, r *http.Request) { answer(w, goodBody) })
	o.Tell = func(int, string) { cancel() }
	_, err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) || verdict.FromError(err).Reason.Code != verdict.Cancelled {
		t.Errorf("got %v, want the context's end", err)
	}
}
