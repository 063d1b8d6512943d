package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// called gives a bundle's manifest another name.
func called(name string) func(*bundle.Manifest) {
	return func(m *bundle.Manifest) { m.Name = name }
}

func TestTwoModelsStandSideBySideAndOneIsUnloadedAlone(t *testing.T) {
	w := newWorld(t)
	first, second := w.publish(bundletest.Mean), w.publish(bundletest.Mean, called("other"))
	state := t.TempDir()
	s := w.serve(state, "--name", "other")
	at := func(base, name, rest string) string { return base + name + rest }
	load := func(name, digest string) {
		t.Helper()
		if code, body := s.do("PUT", at(s.admin, "/admin/v1/models/", name), fmt.Appendf(nil, `{"digest":%q}`, digest)); code != 200 {
			t.Fatalf("load %s: %d %s", name, code, body)
		}
	}
	answers := func(name string) (int, string) {
		code, body := s.do("POST", at(s.public, "/v1/models/"+name, "/predict"), bundletest.Picture(t, 9, 9, 9))
		return code, string(body)
	}
	ready := func() int { code, _ := s.do("GET", s.public+"/v2/health/ready", nil); return code }

	load("test", first)
	if code := ready(); code == 200 {
		t.Error("ready with one of two models")
	}
	load("other", second)
	if code := ready(); code != 200 {
		t.Errorf("with both: %d", code)
	}
	for name, digest := range map[string]string{"test": first, "other": second} {
		if code, body := answers(name); code != 200 || !strings.Contains(body, digest) {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, body := answers("third"); code != 404 {
		t.Errorf("third: %d %s", code, body)
	}
	if code, body := s.do("PUT", s.admin+"/admin/v1/models/test", fmt.Appendf(nil, `{"digest":%q}`, second)); code != 422 {
		t.Errorf("a bundle of another name: %d %s", code, body)
	}
	_, page := s.do("GET", s.admin+"/metrics", nil)
	for _, name := range []string{"test", "other"} {
		for _, line := range []string{
			fmt.Sprintf(`penstock_queue_waiting{model="%s",slot="canary"} 0`, name),
			fmt.Sprintf(`model="%s",outcome="ok",slot="canary"} 1`, name),
		} {
			if !strings.Contains(string(page), line) {
				t.Errorf("no line %s", line)
			}
		}
	}
	if code, body := s.do("DELETE", s.admin+"/admin/v1/models/other", nil); code != 200 {
		t.Errorf("unload: %d %s", code, body)
	}
	if code, body := answers("other"); code != 503 {
		t.Errorf("after it was unloaded: %d %s", code, body)
	}
	if code, body := answers("test"); code != 200 {
		t.Errorf("the other one, after that: %d %s", code, body)
	}

	s.kill()
	again := w.serve(state, "--name", "other")
	again.await("the model of before", func() bool {
		code, _ := again.do("GET", again.public+"/v2/models/test/ready", nil)
		return code == 200
	})
	if code, _ := again.do("GET", again.public+"/v2/models/other/ready", nil); code == 200 {
		t.Error("what was unloaded is loaded after a restart")
	}
}

func TestPicturesByURLAreOffUnlessTheirHostIsAllowed(t *testing.T) {
	w := newWorld(t)
	digest := w.publish(bundletest.Mean)
	for _, c := range []struct {
		flags []string
		url   string
		code  int
	}{
		{nil, "https://pictures.example/chest.png", http.StatusUnsupportedMediaType},
		{[]string{"--allow-url-host", "pictures.example"}, "https://elsewhere.example/chest.png", http.StatusForbidden},
		{[]string{"--allow-url-host", "pictures.example"}, "http://127.0.0.1/chest.png", http.StatusForbidden},
		{[]string{"--allow-url-host", "http://localhost"}, "http://localhost/chest.png", http.StatusForbidden}, // by its address
		{[]string{"--allow-url-host", "pictures.example"}, "file:///etc/passwd", http.StatusBadRequest},
	} {
		s := w.serve(t.TempDir(), c.flags...)
		if code, body := s.put(digest); code != 200 {
			t.Fatalf("%d %s", code, body)
		}
		body, err := json.Marshal(map[string]string{"url": c.url})
		must(t, err)
		response, err := http.Post(s.public+"/v1/models/test/predict", "application/json", strings.NewReader(string(body)))
		must(t, err)
		response.Body.Close()
		if response.StatusCode != c.code {
			t.Errorf("%v, %s: %s, want %d", c.flags, c.url, response.Status, c.code)
		}
		s.kill()
	}
	code, out := w.run("run", "--name", "test", "--slot", "s", "--bucket", "none", "--state", t.TempDir(),
		"--listen", "127.0.0.1:"+freePort(t), "--admin-listen", "127.0.0.1:"+freePort(t), "--allow-url-host", "10.0.0.1")
	if code != 2 || !strings.Contains(out, "10.0.0.1") {
		t.Errorf("a private address in the list: exit code %d\n%s", code, out)
	}
}

func TestTheResultNamesEveryModelThatWasServed(t *testing.T) {
	w := newWorld(t)
	first, third := w.publish(bundletest.Mean), w.publish(bundletest.Mean, called("third"))
	file := filepath.Join(w.dir, "result.json")
	s := w.serve(t.TempDir(), "--name", "second", "--name", "third", "--result", file)
	for name, digest := range map[string]string{"test": first, "third": third} {
		if code, body := s.do("PUT", s.admin+"/admin/v1/models/"+name, fmt.Appendf(nil, `{"digest":%q}`, digest)); code != 200 {
			t.Fatalf("load %s: %d %s", name, code, body)
		}
	}
	must(t, s.process.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(time.Minute):
		t.Fatal("still there a minute after SIGTERM")
	}
	data, err := os.ReadFile(file)
	must(t, err)
	r, err := verdict.Decode(data)
	must(t, err)
	if want := "test " + first + "\nthird " + third; r.Subjects["model"] != first || r.Outputs["models"] != want {
		t.Errorf("subjects %v, outputs %q, want the model %s and %q", r.Subjects, r.Outputs, first, want)
	}
}
