package page_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/access"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
	"github.com/penstock-ml/penstock/serve/page"
	"github.com/penstock-ml/penstock/serve/service"
	"github.com/penstock-ml/penstock/serve/tile"
)

// fixed is a host whose model never changes.
type fixed struct{ m *model.Model }

func (f fixed) Name() string { return f.m.Name() }
func (f fixed) Use() (*model.Model, func(), error) {
	release, err := f.m.Acquire()
	return f.m, release, err
}

type uncounted struct{}

func (uncounted) Count(metrics.Request) {}

// start serves an X-ray model and one that enlarges.
func start(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(handler(t))
	t.Cleanup(server.Close)
	return server.URL
}

func handler(t *testing.T) http.Handler {
	t.Helper()
	var served []service.Served
	for name, dir := range map[string]string{
		"xray":    bundletest.New(t, bundletest.Mean, named("xray")),
		"enhance": bundletest.NewSuperResolution(t, bundle.ColourRGB, named("enhance")),
	} {
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
		one := service.Served{Host: fixed{m}, Counter: uncounted{}}
		if name == "xray" {
			served = append([]service.Served{one}, served...)
		} else {
			served = append(served, one)
		}
	}
	log := slog.New(slog.DiscardHandler)
	core := service.New(service.Options{Log: log, SLO: time.Second, Strays: uncounted{}, Models: served, Enlarger: tile.New(tile.Bounds{Memory: tile.LeastMemory, Runs: 2})})
	return api.New(api.Options{Service: core, Log: log, Buffers: buffers.New(), Page: true}).Handler()
}

func named(name string) func(*bundle.Manifest) {
	return func(m *bundle.Manifest) { m.Name = name }
}

func TestThePageIsServedUnderAStrictPolicy(t *testing.T) {
	url := start(t)
	inline := regexp.MustCompile(`(?i)<script(>| [^>]*>[^<])|<style|\sstyle=|\son[a-z]+=|javascript:|https?://`)
	for _, f := range page.Files {
		response, err := http.Get(url + strings.TrimSuffix(f.Path, "{$}"))
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(response.Body); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Security-Policy") != page.Policy || body.Len() == 0 {
			t.Errorf("%s: %d, %q", f.Path, response.StatusCode, response.Header.Get("Content-Security-Policy"))
		}
		if found := inline.FindString(strings.ReplaceAll(body.String(), "http://www.w3.org/2000/svg", "")); found != "" {
			t.Errorf("%s holds %q: nothing stands inline, nothing is outside", f.Path, found)
		}
	}
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(page.Policy, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
	if strings.Contains(page.Policy, "unsafe") || strings.Contains(page.Policy, "http") || strings.Contains(page.Policy, "*") {
		t.Errorf("the policy is loose: %s", page.Policy)
	}
}

// picture writes a picture and gives its path.
func picture(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPictureIsChosenByKeyboardAndItsScoresAreShown(t *testing.T) {
	b := open(t, start(t))
	data := bundletest.Picture(t, 240, 180, 150)
	b.choose(picture(t, "chest.png", data))
	b.wait("the scores", `document.querySelectorAll("#rows tr").length === 2 && !document.querySelector("#scores").hidden`)

	pixels, err := imaging.Preprocess(data, bundletest.Spec, imaging.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	scores := bundletest.Scores(pixels)
	var positive []string
	for i, l := range bundletest.Manifest().Labels {
		decision := "negative"
		if float64(scores[i]) >= l.Threshold {
			decision = "positive"
			positive = append(positive, l.Name)
		}
		want := fmt.Sprintf("%s|%.3f|%.3f|%s|%s", l.Name, scores[i], l.Threshold, decision, l.Urgency)
		if got := b.text(fmt.Sprintf(`[...document.querySelectorAll("#rows tr")[%d].children].map((c) => c.textContent).join("|")`, i)); got != want {
			t.Errorf("row %d: %s, want %s", i, got, want)
		}
	}
	if len(positive) == 0 {
		t.Fatal("the picture has no positive finding: the test shows nothing")
	}
	if got := b.text(`document.querySelector("#status").textContent`); !strings.Contains(got, strings.Join(positive, ", ")) {
		t.Errorf("the status says %q", got)
	}
	b.wait("the overlay", `document.querySelector("#layer").naturalWidth === 240 && document.querySelector("#layer").alt.includes("`+positive[0]+`")`)
	for what, is := range map[string]string{
		"caveat":     `document.querySelector("#caveat").textContent.includes("Saporta")`,
		"timings":    `["Decode", "Resize", "Wait", "Run", "Encode", "Whole"].every((name) => document.querySelector("#timings").textContent.includes(name))`,
		"digest":     `/[0-9a-f]{64}/.test(document.querySelector("#provenance").textContent)`,
		"live":       `document.querySelector("#status").getAttribute("aria-live") === "polite" && document.querySelector("#error").getAttribute("role") === "alert"`,
		"labels":     `[...document.querySelectorAll("input, select")].every((i) => i.labels.length === 1)`,
		"no sideway": `document.documentElement.scrollWidth <= document.documentElement.clientWidth`,
	} {
		if b.text(`String(`+is+`)`) != "true" {
			t.Errorf("%s: not so: %s", what, is)
		}
	}
	b.shot("scores")

	before := b.text(`getComputedStyle(document.querySelector("#layer")).opacity`)
	b.focus("opacity")
	b.press("ArrowLeft", 20)
	if after := b.text(`getComputedStyle(document.querySelector("#layer")).opacity`); before != "0.7" || after != "0.5" {
		t.Errorf("the opacity goes from %s to %s", before, after)
	}
	b.clean()
}

func TestAPictureThatIsNoneIsToldAndTheNextOneIsScored(t *testing.T) {
	b := open(t, start(t))
	b.choose(picture(t, "notes.png", []byte("no picture at all")))
	b.wait("the error", `!document.querySelector("#error").hidden && document.querySelector("#error").textContent.includes("PNG or a JPEG")`)
	b.shot("error")
	b.refusals = 1 // the browser tells the console of every 4xx
	b.drop(bundletest.Picture(t, 40, 40, 20))
	b.wait("the scores", `document.querySelector("#error").hidden && document.querySelectorAll("#rows tr").length === 2`)
	b.clean()
}

func TestTheSecondModelEnlarges(t *testing.T) {
	b := open(t, start(t))
	b.focus("model")
	b.press("ArrowDown", 1)
	b.wait("the second model", `document.querySelector("#task").textContent.includes("super-resolution")`)
	b.choose(picture(t, "small.png", bundletest.Picture(t, 120, 90, 100)))
	b.wait("the enlarged picture", `document.querySelector("#layer").naturalWidth === 240 && document.querySelector("#layer").naturalHeight === 180`)
	b.wait("what was done", `document.querySelector("#status").textContent.includes("2 times, to 240 × 180 pixels")`)
	before := b.text(`getComputedStyle(document.querySelector("#layer")).clipPath`)
	b.focus("split")
	b.press("ArrowRight", 10)
	if after := b.text(`getComputedStyle(document.querySelector("#layer")).clipPath`); !strings.Contains(before, "50%") || !strings.Contains(after, "60%") {
		t.Errorf("the split goes from %s to %s", before, after)
	}
	b.shot("enlarged")
	b.clean()
}

func TestATokenIsAskedForWhereOneIsNeeded(t *testing.T) {
	const token = "a-token-that-is-long-enough-0123"
	tokens, err := access.ParseTokens(token)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(tokens.Handler(handler(t), api.OpenPaths()...))
	defer server.Close()
	b := visit(t, server.URL)
	b.wait("the question", `!document.querySelector("#access").hidden && !document.querySelector("#error").hidden`)
	b.focus("token")
	b.do(chromedp.KeyEvent(token))
	b.press("Enter", 1)
	b.wait("the models", models)
	b.choose(picture(t, "chest.png", bundletest.Picture(t, 40, 40, 20)))
	b.wait("the scores", `document.querySelectorAll("#rows tr").length === 2`)
	b.refusals = 1
	b.clean()
}
