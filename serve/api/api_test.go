package api_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

const predictPath = "/v1/models/test/predict"

func form(t *testing.T, pictures ...[]byte) (kind string, body []byte) {
	t.Helper()
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	if err := w.WriteField("comment", "left and ignored"); err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures {
		part, err := w.CreateFormFile("image", "chest.png")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), out.Bytes()
}

func TestPredictAnswersTheScoresOfTheBytes(t *testing.T) {
	w := serve(t, bundletest.Mean)
	picture := bundletest.Picture(t, 90, 70, 120)
	pixels, err := imaging.Preprocess(picture, bundletest.Spec, imaging.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	kind, formBody := form(t, picture)
	for _, c := range []struct {
		kind string
		body []byte
	}{{"image/png", picture}, {"", picture}, {"application/x-www-form-urlencoded", picture}, {kind, formBody}} {
		a := w.do("POST", predictPath, c.kind, c.body)
		if a.status != 200 {
			t.Fatalf("%s: %d %s", c.kind, a.status, a.body)
		}
		p := decode[api.Prediction](t, a)
		if p.Model.Digest != w.digest || a.header.Get("Penstock-Model-Digest") != w.digest || p.Model.Name != "test" {
			t.Errorf("answered by %+v, header %s", p.Model, a.header.Get("Penstock-Model-Digest"))
		}
		if p.RequestID == "" || p.RequestID != a.header.Get("Penstock-Request-Id") {
			t.Errorf("request id %q, header %q", p.RequestID, a.header.Get("Penstock-Request-Id"))
		}
		want := bundletest.Scores(pixels)
		for i, l := range bundletest.Manifest().Labels {
			got := p.Predictions[i]
			if diff := got.Score - want[i]; diff > 1e-6 || diff < -1e-6 {
				t.Errorf("%s: %v, want %v", l.Name, got.Score, want[i])
			}
			if got.Label != l.Name || got.Threshold != l.Threshold || got.Urgency != l.Urgency || got.Positive != (float64(got.Score) >= l.Threshold) {
				t.Errorf("got %+v, want the label %+v", got, l)
			}
		}
		if got := w.counts.take(); got != w.digest[:8]+" ok" {
			t.Errorf("counted %s", got)
		}
		if got := w.counts.last.Batch; got != 1 {
			t.Errorf("counted as one of %d in a run", got)
		}
	}
}

// hugePNG is a sound header that announces 40,000 x 40,000 pixels.
func hugePNG() []byte {
	chunk := []byte("IHDR")
	chunk = binary.BigEndian.AppendUint32(chunk, 40000)
	chunk = binary.BigEndian.AppendUint32(chunk, 40000)
	chunk = append(chunk, 8, 0, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	return binary.BigEndian.AppendUint32(append(out, chunk...), crc32.ChecksumIEEE(chunk))
}

func TestBadInputIsTheSendersFault(t *testing.T) {
	w := serve(t, bundletest.Mean)
	picture := bundletest.Picture(t, 90, 70, 120)
	two, twoBody := form(t, picture, picture)
	none, noneBody := form(t)
	cases := []struct {
		name, path, kind string
		body             []byte
		status           int
		text             string
		counted          bool
	}{
		{"nothing", predictPath, "image/png", nil, 400, "no bytes", true},
		{"truncated", predictPath, "image/png", picture[:len(picture)/2], 400, "truncated", true},
		{"40,000 x 40,000", predictPath, "image/png", hugePNG(), 413, "40000 x 40000", true},
		{"too many bytes", predictPath, "image/png", make([]byte, imaging.DefaultLimits.Bytes+1), 413, "bytes", true},
		{"not an image", predictPath, "image/png", []byte("hello"), 415, "PNG or a JPEG", true},
		{"JSON", predictPath, "application/json", []byte(`{"url": "http://x"}`), 415, "does not fetch", true},
		{"type that is none", predictPath, "image/", picture, 400, "Content-Type", true},
		{"two files", predictPath, two, twoBody, 400, "more than one file", true},
		{"no file", predictPath, none, noneBody, 400, "no file", true},
		{"form without boundary", predictPath, "multipart/form-data", picture, 400, "form", true},
		{"another model", "/v1/models/other/predict", "image/png", picture, 404, "other", true},
		{"another address", "/v1/model", "image/png", picture, 404, "no such address", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.counts.take()
			a := w.do("POST", c.path, c.kind, c.body)
			if a.status != c.status {
				t.Errorf("status %d, want %d: %s", a.status, c.status, a.body)
			}
			if e := decode[oip.Error](t, a); !strings.Contains(e.Error, c.text) {
				t.Errorf("error %q, want %q in it", e.Error, c.text)
			}
			counted := w.counts.take()
			if c.counted != strings.HasSuffix(counted, " client_error") {
				t.Errorf("counted %q", counted)
			}
		})
	}
	if a := w.do("POST", predictPath, "image/png", picture); a.status != 200 {
		t.Errorf("the next request: %d %s", a.status, a.body)
	}
}

func TestAFaultOfTheModelIsAServerError(t *testing.T) {
	w := serve(t, bundletest.Failing)
	a := w.do("POST", predictPath, "image/png", bundletest.Picture(t, 30, 30, bundletest.FailsAbove))
	if a.status != 500 || a.header.Get("Penstock-Model-Digest") != w.digest {
		t.Errorf("status %d, digest %s: %s", a.status, a.header.Get("Penstock-Model-Digest"), a.body)
	}
	// What ONNX Runtime says of it is for the log, where the request id leads.
	id := a.header.Get(api.RequestIDHeader)
	if e := decode[oip.Error](t, a); e.Error != "the model failed on this input: the server's log says why, by the request id "+id {
		t.Errorf("error %q", e.Error)
	}
	if log := w.logged.String(); !strings.Contains(log, "request="+id) || !strings.Contains(log, "Gather node") {
		t.Errorf("log: %s", log)
	}
	if got := w.counts.take(); got != w.digest[:8]+" server_error" {
		t.Errorf("counted %s", got)
	}
}

func TestWithoutAModelNothingIsReady(t *testing.T) {
	w := serve(t, "")
	for path, want := range map[string]int{"/v2/health/live": 200, "/v2/health/ready": 503, "/v2/models/test": 503, "/v2/models/test/ready": 503} {
		if a := w.do("GET", path, "", nil); a.status != want {
			t.Errorf("%s: %d, want %d", path, a.status, want)
		}
	}
	a := w.do("POST", predictPath, "image/png", bundletest.Picture(t, 9, 9, 50))
	if a.status != 503 || a.header.Get("Penstock-Model-Digest") != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := w.counts.take(); got != "none server_error" {
		t.Errorf("counted %s", got)
	}
}

func TestDrainingSaysNotReadyAndStillAnswers(t *testing.T) {
	w := serve(t, bundletest.Mean)
	w.core.Drain()
	if a := w.do("GET", "/v2/health/ready", "", nil); a.status != 503 {
		t.Errorf("ready: %d", a.status)
	}
	if a := w.do("POST", predictPath, "image/png", bundletest.Picture(t, 9, 9, 50)); a.status != 200 {
		t.Errorf("predict: %d", a.status)
	}
}

func TestWrongMethodsAreNamed(t *testing.T) {
	w := serve(t, bundletest.Mean)
	a := w.do("GET", predictPath, "", nil)
	if a.status != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("%d, Allow %q", a.status, a.header.Get("Allow"))
	}
	decode[oip.Error](t, a)
}

// The mux of the standard library would redirect them.
func TestCrookedPathsAreNoAddresses(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for _, path := range []string{"//v1/models/test/predict", "/v1/models//predict", "/v1/models/./test/predict", "/v2/../v1/models/test/predict", predictPath + "/"} {
		if a := w.do("POST", path, "image/png", bright(t)); a.status != 404 || decode[oip.Error](t, a).Error == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestWhoMayNotEnterIsAnsweredLikeEverybody(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	nobody := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	}
	server := api.New(api.Options{Service: service.New(service.Options{Log: log}), Log: log, Buffers: buffers.New(), Enter: nobody})
	answer := httptest.NewRecorder()
	server.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/v2", nil))
	for _, name := range []string{api.RequestIDHeader, "Server-Timing", "Traceparent", "X-Content-Type-Options"} {
		if answer.Header().Get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
	if answer.Code != http.StatusUnauthorized {
		t.Errorf("%d", answer.Code)
	}
}

func TestPublicSideHasNoAdminAndNoMetrics(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for _, path := range []string{"/metrics", "/admin/v1/models/test"} {
		if a := w.do("GET", path, "", nil); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

// What they hold is tested in serve/page; that they are as openapi.json says,
// here.
func TestThePageAndTheDocumentAreAnswered(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for _, path := range []string{"/", "/page.css", "/page.js", "/icon.svg", "/openapi.json", "/v1/models"} {
		if a := w.do("GET", path, "", nil); a.status != 200 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	without := httptest.NewServer(api.New(api.Options{Service: w.core, Log: slog.New(slog.DiscardHandler), Buffers: buffers.New()}).Handler())
	defer without.Close()
	w.url = without.URL
	if a := w.do("GET", "/page.js", "", nil); a.status != 404 {
		t.Errorf("switched off: %d", a.status)
	}
	w.do("GET", "/openapi.json", "", nil)
}
