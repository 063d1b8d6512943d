package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/api"
)

const guide = "../../docs/serving.md"

// The examples of docs/serving.md are run as they stand, by curl, against a
// server with the two models that they name.
func TestTheExamplesOfTheGuideWork(t *testing.T) {
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(examples) < 7 {
		t.Fatalf("%s has %d examples", guide, len(examples))
	}
	w := serveModels(t, options{fetcher: fetched{picture: bright(t)}, enlarger: doubles{}},
		bundletest.New(t, bundletest.Mean, func(m *bundle.Manifest) { m.Name = "xray" }),
		bundletest.NewSuperResolution(t, bundle.ColourRGB, func(m *bundle.Manifest) { m.Name = "enhance" }))
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"chest.png": bright(t), "small.png": bright(t),
		".curlrc": []byte("fail-with-body\nsilent\nshow-error\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, example := range examples {
		script := strings.ReplaceAll(example[1], "http://127.0.0.1:8000", w.url)
		command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		command.Dir = dir
		command.Env = append(os.Environ(), "CURL_HOME="+dir)
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s%v\n%s", example[1], err, out)
		}
	}
	if got := w.counts.take(); strings.Contains(got, "error") || strings.Count(got, "ok") < 9 {
		t.Errorf("counted %s", got)
	}
	var p api.Prediction
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if err := json.Unmarshal(read("answer.json"), &p); err != nil || len(p.Predictions) != 2 {
		t.Errorf("%v %+v", err, p)
	}
	if !bytes.HasPrefix(read("large.png"), []byte("\x89PNG")) || !bytes.Contains(read("answer.bin"), []byte(`"binary_data_size":8`)) {
		t.Errorf("%q", read("answer.bin"))
	}
}

func TestTheGuidesLimitsAreTheCodes(t *testing.T) {
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	i, o, l := imaging.DefaultLimits, oip.DefaultLimits, api.DefaultLimits
	for _, want := range []string{
		fmt.Sprintf("%d MiB, %d million pixels, sides of at most %v to 1, %d MiB to decode", i.Bytes>>20, i.Pixels/1e6, i.Aspect, i.Memory>>20),
		fmt.Sprintf("%d MiB, %d tensors, %d million elements, JSON %d deep; %d MiB of JSON before bytes", o.Bytes>>20, o.Tensors, o.Elements>>20, o.Depth, o.Header>>20),
		fmt.Sprintf("`--max-requests` (%d), %d GiB of bodies", l.Requests, l.Bytes>>30),
		fmt.Sprintf("1 to %d", api.MaxTimeout),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q", guide, want)
		}
	}
}
