package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/remote"
	"github.com/penstock-ml/penstock/serve/service"
)

// bright has one positive finding of the bundles of bundletest, which lies on
// the right.
func bright(t *testing.T) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 60, 40))
	for i := range img.Pix {
		img.Pix[i] = 90 + 120*uint8(i%60/30)
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestPositiveFindingsAreExplainedOverThePicture(t *testing.T) {
	cases := map[string]struct {
		change func(*bundle.Manifest)
		method service.Method
		exact  bool
	}{
		"class activation map": {func(*bundle.Manifest) {}, service.CAM, true},
		"a map of its own": {func(m *bundle.Manifest) { // the scores are squashed twice: the map does not give them
			m.Outputs.Activation, m.Labels[1].Threshold = "sigmoid", 0.9
		}, service.OwnMap, false},
		"no map": {func(m *bundle.Manifest) { m.Outputs.Heatmap = "" }, service.Occlusion, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := serveModels(t, options{}, bundletest.New(t, bundletest.Mean, c.change))
			p := decode[api.Prediction](t, w.do("POST", predictPath+"?explain=true", "image/png", bright(t)))
			if len(p.Explanations) != 1 || p.Explanations[0].Label != "Nodule" || !strings.Contains(p.Caveat, "Saporta") {
				t.Fatalf("%+v", p)
			}
			e := p.Explanations[0]
			if e.Method != c.method || e.Exact != c.exact || e.Note != "" {
				t.Errorf("%s, exact %t, note %q", e.Method, e.Exact, e.Note)
			}
			img, err := png.Decode(bytes.NewReader(e.PNG))
			if err != nil || img.Bounds().Dx() != 60 || img.Bounds().Dy() != 40 || e.Width != 60 || e.Height != 40 {
				t.Errorf("overlay %v %v, told %d x %d", img.Bounds(), err, e.Width, e.Height)
			}
			plain := decode[api.Prediction](t, w.do("POST", predictPath, "image/png", bright(t)))
			if plain.Explanations != nil || plain.Caveat != "" || !slices.Equal(plain.Predictions, p.Predictions) {
				t.Errorf("without explain: %+v", plain)
			}
		})
	}
}

func TestHeatMapsComeAsPartsWhereTheyAreAccepted(t *testing.T) {
	w := serve(t, bundletest.Mean)
	a := w.send(header{"Accept": "application/json;q=0.5, multipart/mixed"}, "POST", predictPath+"?explain=true", bright(t))
	media, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || media != "multipart/mixed" {
		t.Fatalf("%s %v", a.header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	next := func(kind string) (string, []byte) {
		t.Helper()
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(part)
		if err != nil || part.Header.Get("Content-Type") != kind {
			t.Fatalf("%v %v", part.Header, err)
		}
		return part.Header.Get("Content-Id"), data
	}
	_, text := next("application/json")
	p := decode[api.Prediction](t, answer{body: text})
	id, picture := next("image/png")
	if len(p.Explanations) != 1 || "<"+p.Explanations[0].Part+">" != id || p.Explanations[0].PNG != nil {
		t.Errorf("%+v, part %s", p.Explanations, id)
	}
	if size, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil || size.Width != 60 {
		t.Errorf("%+v %v", size, err)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("more parts: %v", err)
	}
	for _, accept := range []string{"*/*", "application/json", "multipart/mixed;q=0"} {
		if a := w.send(header{"Accept": accept}, "POST", predictPath+"?explain=true", bright(t)); a.header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept %s: %s", accept, a.header.Get("Content-Type"))
		}
	}
}

// doubles is an Enlarger that answers what it is told.
type doubles struct{ err error }

func (d doubles) Enlarge(_ context.Context, m *model.Model, picture []byte) (*service.Enlargement, error) {
	if d.err != nil {
		return nil, d.err
	}
	return &service.Enlargement{
		Enlarged: service.Enlarged{PNG: picture, Width: 120, Height: 80, Scale: m.Bundle().Manifest.SuperResolution.Scale},
		Phases:   service.Phases{Run: 5 * time.Millisecond, Encode: 7 * time.Millisecond},
	}, nil
}

func TestSuperResolutionAnswersAPicture(t *testing.T) {
	dir := bundletest.NewSuperResolution(t, bundle.ColourRGB)
	w := serveModels(t, options{enlarger: doubles{}}, dir)
	a := w.do("POST", predictPath, "image/png", bright(t))
	if a.status != 200 || a.header.Get("Content-Type") != "image/png" || !bytes.Equal(a.body, bright(t)) {
		t.Fatalf("%d %s", a.status, a.header)
	}
	if a.header.Get(api.ScaleHeader) != "2" || a.header.Get(api.SizeHeader) != "120x80" || a.header.Get(api.DigestHeader) == "" {
		t.Errorf("%s", a.header)
	}
	if timing := a.header.Get("Server-Timing"); !strings.Contains(timing, "run;dur=5.000") || !strings.Contains(timing, "encode;dur=7.000") {
		t.Errorf("Server-Timing %s", timing)
	}
	if a := w.do("POST", predictPath+"?explain=true", "image/png", bright(t)); a.status != 400 {
		t.Errorf("explained: %d", a.status)
	}
	broken := serveModels(t, options{enlarger: doubles{&model.RunError{Err: errors.New("out of memory")}}}, dir)
	if a := broken.do("POST", predictPath, "image/png", bright(t)); a.status != 500 {
		t.Errorf("a fault of the model: %d", a.status)
	}
	without := serveModels(t, options{}, dir)
	if a := without.do("POST", predictPath, "image/png", bright(t)); a.status != 415 {
		t.Errorf("without an enlarger: %d", a.status)
	}
}

func TestTensorModelsTakeNoPictures(t *testing.T) {
	w := serveModels(t, options{}, bundletest.NewTensor(t))
	a := w.do("POST", predictPath, "image/png", bright(t))
	if a.status != 415 || !strings.Contains(string(a.body), "/v2/models/test/infer") {
		t.Errorf("%d %s", a.status, a.body)
	}
	models := decode[api.Models](t, w.do("GET", "/v1/models", "", nil)).Models
	if len(models) != 1 || models[0].Task != bundle.TaskTensor || !models[0].Ready {
		t.Errorf("%+v", models)
	}
}

// fetched is a Fetcher that answers what it is told.
type fetched struct {
	picture []byte
	err     error
}

func (f fetched) Get(_ context.Context, url string) ([]byte, error) {
	if url != "https://pacs.example/1" {
		return nil, fmt.Errorf("asked for %s", url)
	}
	return f.picture, f.err
}

func TestAPictureIsFetchedWhereThatIsSwitchedOn(t *testing.T) {
	dir := bundletest.New(t, bundletest.Mean)
	body := []byte(`{"url": "https://pacs.example/1"}`)
	w := serveModels(t, options{fetcher: fetched{picture: bright(t)}}, dir)
	want := decode[api.Prediction](t, w.do("POST", predictPath, "image/png", bright(t)))
	got := decode[api.Prediction](t, w.do("POST", predictPath, "application/json", body))
	if !slices.Equal(got.Predictions, want.Predictions) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, bad := range []string{
		``, `null`, `{}`, `[]`, `{"url": 3}`, `{"url": null}`, `{"uri": "https://pacs.example/1"}`, `{"url": "https://pacs.example/1"`,
		`{"url": "https://pacs.example/1", "url": "https://pacs.example/1"}`, `{"url": "https://pacs.example/1"} {}`,
		`{"url": "https://pacs.example/1", "more": 1}`, `{"url": {"url": "x"}}`,
	} {
		if a := w.do("POST", predictPath, "application/json", []byte(bad)); a.status != 400 {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
	for reason, status := range map[remote.Reason]int{
		remote.BadURL: 400, remote.NotAllowed: 403, remote.NoPicture: 415, remote.TooLarge: 413, remote.Unreachable: 400,
	} {
		w := serveModels(t, options{fetcher: fetched{err: &remote.Refused{Reason: reason, Text: "no"}}}, dir)
		if a := w.do("POST", predictPath, "application/json", body); a.status != status {
			t.Errorf("%s: %d, want %d", reason, a.status, status)
		}
		if got := w.counts.take(); !strings.HasSuffix(got, "client_error") {
			t.Errorf("%s: counted %s", reason, got)
		}
	}
}

func TestUnknownQueriesAndDeadlinesAreRefused(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for _, query := range []string{"?explian=true", "?explain=yes", "?explain=true&explain=true", "?explain=true&x=1", "?%zz"} {
		if a := w.do("POST", predictPath+query, "image/png", bright(t)); a.status != 400 {
			t.Errorf("%s: %d", query, a.status)
		}
	}
	for _, timeout := range []string{"0", "-1", "+5", "1.5", "1s", "600001", "99999999999999999999"} {
		if a := w.send(header{api.TimeoutHeader: timeout}, "POST", predictPath, bright(t)); a.status != 400 {
			t.Errorf("timeout %s: %d", timeout, a.status)
		}
	}
	if a := w.send(header{api.TimeoutHeader: "600000"}, "POST", predictPath, bright(t)); a.status != 200 {
		t.Errorf("the longest: %d %s", a.status, a.body)
	}
	if a := w.send(header{"Content-Encoding": "gzip"}, "POST", predictPath, bright(t)); a.status != 415 {
		t.Errorf("compressed: %d", a.status)
	}
	if a := w.send(header{"Content-Encoding": "Identity"}, "POST", predictPath, bright(t)); a.status != 200 {
		t.Errorf("not compressed: %d", a.status)
	}
}

// Of two headers of a name, a proxy before the server may have gone by the
// other one.
func TestHeadersThatComeTwiceAreRefused(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for name, c := range map[string]struct {
		values []string
		status int
	}{
		api.TimeoutHeader:                 {[]string{"1000", "2000"}, 400},
		"Inference-Header-Content-Length": {[]string{"10", "10"}, 400},
		"Content-Encoding":                {[]string{"identity", "gzip"}, 415},
	} {
		request, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/v2/models/test/infer", bytes.NewReader(inferBody(1, 0.5, "")))
		if err != nil {
			t.Fatal(err)
		}
		request.Header[name] = c.values
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
}

// far is a Fetcher of a host that does not answer.
type far struct{}

func (far) Get(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestTheSendersDeadlineEndsTheFetchOfAPictureToo(t *testing.T) {
	w := serveModels(t, options{fetcher: far{}}, bundletest.New(t, bundletest.Mean))
	a := w.send(header{"Content-Type": "application/json", api.TimeoutHeader: "50"}, "POST", predictPath, []byte(`{"url": "https://pacs.example/1"}`))
	if a.status != http.StatusGatewayTimeout {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestServerTimingHasEveryPhase(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for path, names := range map[string][]string{
		predictPath:                   {"decode", "resize", "queue", "run", "encode", "total"},
		predictPath + "?explain=true": {"decode", "resize", "queue", "run", "explain", "encode", "total"},
		predictPath + "?nonsense":     {"total"},
	} {
		a := w.do("POST", path, "image/png", bright(t))
		var got []string
		for _, part := range strings.Split(a.header.Get("Server-Timing"), ", ") {
			name, duration, _ := strings.Cut(part, ";dur=")
			got = append(got, name)
			if d, err := time.ParseDuration(duration + "ms"); err != nil || d > 10*time.Second {
				t.Errorf("%s: %s", path, part)
			}
		}
		if !slices.Equal(got, names) {
			t.Errorf("%s: %q, want %q", path, got, names)
		}
	}
	if a := w.do("GET", "/v2/health/live", "", nil); !strings.HasPrefix(a.header.Get("Server-Timing"), "total;dur=") {
		t.Errorf("health: %s", a.header.Get("Server-Timing"))
	}
}

func TestTheTraceGoesOnInTheAnswerAndTheLog(t *testing.T) {
	w := serve(t, bundletest.Mean)
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for sent, goesOn := range map[string]bool{
		"00-" + id + "-" + span + "-01":                      true,
		"00-" + id + "-" + span + "-00":                      true,
		"01-" + id + "-" + span + "-03-more":                 true, // a later version may have more
		"00-" + id + "-" + span + "-01-more":                 false,
		"ff-" + id + "-" + span + "-01":                      false,
		"00-" + strings.ToUpper(id) + "-" + span + "-01":     false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01": false,
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":   false,
		"00-" + id + "-" + span:                              false,
		"nonsense":                                           false,
		"":                                                   false,
	} {
		w.logged.Reset()
		got := strings.Split(w.send(header{"traceparent": sent}, "POST", predictPath, bright(t)).header.Get("traceparent"), "-")
		if len(got) != 4 || (got[1] == id) != goesOn || got[2] == span {
			t.Errorf("%q: %q", sent, got)
			continue
		}
		if goesOn && strings.HasSuffix(sent, "-00") != (got[3] == "00") {
			t.Errorf("%q: flags %s", sent, got[3])
		}
		if log := w.logged.String(); !strings.Contains(log, "trace="+got[1]) || !strings.Contains(log, "outcome=ok") {
			t.Errorf("log: %s", log)
		}
	}
}

func TestLogsHoldNothingOfTheSenders(t *testing.T) {
	w := serve(t, bundletest.Mean)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("SECRETFIELD", "SECRETNAME.png")
	if err == nil {
		_, err = part.Write([]byte("SECRETBYTES"))
	}
	if err := errors.Join(err, form.Close()); err != nil {
		t.Fatal(err)
	}
	w.do("POST", predictPath, form.FormDataContentType(), body.Bytes())
	w.do("POST", "/v1/models/SECRETMODEL/predict?SECRETQUERY=1", "SECRET/TYPE", nil)
	w.do("POST", "/v2/models/test/infer", "application/json", []byte(`{"id":"SECRETID","inputs":[{"name":"SECRETINPUT","datatype":"FP32","shape":[1],"data":[1]}]}`))
	if log := w.logged.String(); strings.Contains(log, "SECRET") || strings.Count(log, "outcome=client_error") != 3 {
		t.Errorf("log: %s", log)
	}
}
