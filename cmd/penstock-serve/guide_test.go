package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

// What docs/serving.md says of the first model is done as it stands there:
// bucket and bundle by curl alone, and the server told.
func TestTheGuidesFirstModelIsServed(t *testing.T) {
	text, err := os.ReadFile("../../docs/serving.md")
	must(t, err)
	example := regexp.MustCompile("(?s)```bash\n(.*?)```").FindSubmatch(text)
	if example == nil {
		t.Fatal("docs/serving.md does not say how a first model is served")
	}
	w := newWorld(t)
	s := w.serve(t.TempDir())
	must(t, os.CopyFS(filepath.Join(w.dir, "bundle"), os.DirFS(bundletest.New(t, bundletest.Mean))))
	must(t, os.WriteFile(filepath.Join(w.dir, ".curlrc"), []byte("header = \"Authorization: Bearer "+adminToken+"\"\n"), 0o600))
	script := strings.NewReplacer(
		"http://127.0.0.1:9000", s.admin, "AWS_ENDPOINT_URL_S3/xray", "AWS_ENDPOINT_URL_S3/"+w.bucket.Name(), "models/xray", "models/test",
		`curl --fail-with-body -sS --aws`, `curl -q --fail-with-body -sS --aws`, // the store has an Authorization of its own
	).Replace(string(example[1]))
	command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	command.Dir, command.Env = w.dir, w.env
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if code, body := s.predict(bundletest.Picture(t, 9, 9, 9)); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}
