package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/traffic"
	"github.com/penstock-ml/penstock/internal/verdict"
)

const testedModel = "00000000000000000000000000000000000000000000000000000000000000aa"

// target is a server that answers as testedModel, and a project whose staging
// it is.
type target struct {
	url, config string
}

func newTarget(t *testing.T, bucket string, handler http.HandlerFunc) target {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	data, err := os.ReadFile("../../examples/xray/penstock.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for from, to := range map[string]string{
		"http://127.0.0.1:8001": server.URL,
		"bucket: xray":          "bucket: " + bucket,
		"slo: {":                "slo: {warmup: 100ms, timeout: 20s, ",
		", confidence: 0.95}":   ", confidence: 0.9}",
		"latency: 500ms":        "latency: 10s", // a busy machine must not make the measurement bad
		"objective: 0.98":       "objective: 0.9",
		"rate: 60":              "rate: 50",
		"duration: 12s":         "duration: 1s",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("examples/xray/penstock.yaml no longer holds %q", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	config := filepath.Join(t.TempDir(), "penstock.yaml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return target{server.URL, config}
}

// run runs a command of the program as main does.
func run(t *testing.T, ctx context.Context, environ map[string]string, args ...string) (int, verdict.Result, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "result.json")
	var out, errs bytes.Buffer
	env := &action.Env{
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: time.Now,
		Getenv: func(name string) string { return environ[name] },
	}
	code := program().Main(ctx, append(args, "--result", path), env)
	if code == verdict.ExitUsage {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return code, verdict.Result{}, errs.String() // refused before the command began
		}
	}
	r, err := verdict.Load(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	t.Logf("exit %d: %s (%s): %s", code, r.Verdict, r.Reason.Code, r.Reason.Text)
	return code, r, errs.String()
}

func offline() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
		"PENSTOCK_CACHE": os.TempDir(),
	}
}

func picture(t *testing.T, level uint8) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	img.Set(1, 1, color.Gray{Y: level})
	var buffer bytes.Buffer
	if err := png.Encode(&buffer, img); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func pictures(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.png", i)), picture(t, uint8(i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// predict answers as the server of testedModel would.
func predict(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Penstock-Model-Digest", testedModel)
	labels := "Atelectasis Cardiomegaly Consolidation Edema Effusion Emphysema Fibrosis Hernia Infiltration Mass Nodule Pleural_Thickening Pneumonia Pneumothorax"
	var scores []map[string]any
	for _, label := range strings.Fields(labels) {
		scores = append(scores, map[string]any{"label": label, "score": 0.25})
	}
	json.NewEncoder(w).Encode(map[string]any{"predictions": scores})
}

func TestLoadtestTellsItsVerdictsApartByExitCode(t *testing.T) {
	images := pictures(t, 3)
	cases := []struct {
		name    string
		code    int
		reason  string
		handler http.HandlerFunc
		args    []string
	}{
		{"a good server passes", verdict.ExitPass, "done", predict, nil},
		{"failures reject", verdict.ExitReject, "slo-failures", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "broke", 500) }, nil},
		{"200 with an error rejects", verdict.ExitReject, "slo-failures", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Penstock-Model-Digest", testedModel)
			fmt.Fprint(w, `{"error":"broke"}`)
		}, nil},
		{"another model is an error", verdict.ExitError, "wrong-digest", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Penstock-Model-Digest", "other")
			fmt.Fprint(w, `{"predictions":[{"label":"Mass","score":1}]}`)
		}, nil},
		{"a plan too small is a usage error", verdict.ExitUsage, "usage", predict, []string{"--rate", "2"}},
		{"production is no place for it", verdict.ExitUsage, "usage", predict, []string{"--environment", "production"}},
		{"an unknown environment is a usage error", verdict.ExitUsage, "usage", predict, []string{"--environment", "moon"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			target := newTarget(t, "xray", c.handler)
			args := append([]string{"loadtest", "--config", target.config, "--environment", "staging", "--model", testedModel, "--images", images}, c.args...)
			code, r, _ := run(t, t.Context(), offline(), args...)
			if code != c.code || r.Reason.Code != c.reason {
				t.Errorf("exit %d (%s), want %d (%s)", code, r.Reason.Code, c.code, c.reason)
			}
			if c.code != verdict.ExitUsage && c.code != verdict.ExitError && r.Subjects["model"] != testedModel {
				t.Errorf("the result is about model %q", r.Subjects["model"])
			}
		})
	}
}

func TestLoadtestNamesAServerThatIsNotThere(t *testing.T) {
	target := newTarget(t, "xray", predict)
	data, err := os.ReadFile(target.config)
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + closedPort(t)
	if err := os.WriteFile(target.config, bytes.Replace(data, []byte(target.url), []byte(closed), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	code, r, _ := run(t, t.Context(), offline(), "loadtest", "--config", target.config, "--environment", "staging", "--model", testedModel, "--images", pictures(t, 1))
	if code != verdict.ExitError || r.Reason.Code != "unreachable" || !strings.Contains(r.Reason.Text, closed) {
		t.Errorf("exit %d, %s: %s", code, r.Reason.Code, r.Reason.Text)
	}
}

func TestBadMeasurementIsRepeatedAndTold(t *testing.T) {
	target := newTarget(t, "xray", predict)
	data, err := os.ReadFile(target.config)
	if err != nil {
		t.Fatal(err)
	}
	// No generator keeps within 0.2 ms of its schedule: timers have 1 ms.
	text := strings.NewReplacer("latency: 10s", "latency: 2ms", "objective: 0.9", "objective: 0.5", "duration: 1s", "duration: 500ms").Replace(string(data))
	if err := os.WriteFile(target.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	code, r, prose := run(t, t.Context(), offline(), "loadtest", "--config", target.config, "--environment", "staging", "--model", testedModel, "--images", pictures(t, 1), "--tries", "3")
	if code != verdict.ExitInconclusive || r.Reason.Code != verdict.Invalid {
		t.Fatalf("exit %d (%s): %s", code, r.Reason.Code, r.Reason.Text)
	}
	if len(r.Warnings) != 2 || !strings.Contains(r.Warnings[0], "generator-lag-p99") || strings.Count(prose, "measuring again") != 2 {
		t.Errorf("warnings %q, prose:\n%s", r.Warnings, prose)
	}
}

func TestCancelledLoadtestSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	target := newTarget(t, "xray", func(w http.ResponseWriter, r *http.Request) {
		cancel()
		predict(w, r)
	})
	code, r, _ := run(t, ctx, offline(), "loadtest", "--config", target.config, "--environment", "staging", "--model", testedModel, "--images", pictures(t, 1))
	if code != verdict.ExitError || r.Verdict != verdict.Error || r.Reason.Code != verdict.Cancelled {
		t.Errorf("exit %d, %s (%s)", code, r.Verdict, r.Reason.Code)
	}
}

func TestLoadtestSendsTheOriginalFilesOfTheTestSplit(t *testing.T) {
	s3 := servertest.MinIO(t)
	bucket := servertest.Bucket(t, s3)
	sent := make(chan string, 1000)
	target := newTarget(t, bucket, func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		sent <- sumOf(body.Bytes())
		predict(w, r)
	})
	put := func(key string, data []byte) {
		t.Helper()
		if _, err := s3.Client(t).PutObject(t.Context(), bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var rows []dataset.Row
	test := map[string]bool{}
	for i := range 6 {
		data := picture(t, uint8(i))
		row := dataset.Row{File: fmt.Sprintf("b/%d.png", i), SHA256: sumOf(data), Group: "g", Split: dataset.Train}
		if i < 4 {
			row.Split = dataset.Test
			test[row.SHA256] = true
		}
		put("raw/"+row.File, data)
		rows = append(rows, row)
	}
	manifest, err := dataset.EncodeManifest(rows)
	if err != nil {
		t.Fatal(err)
	}
	digest := sumOf(manifest)
	description, err := json.Marshal(dataset.Dataset{Schema: dataset.Schema, Digest: digest})
	if err != nil {
		t.Fatal(err)
	}
	put("datasets/"+digest+"/manifest.jsonl", manifest)
	put("datasets/"+digest+"/dataset.json", description)
	earlier := filepath.Join(t.TempDir(), "register.json")
	passed := verdict.Passed("registered")
	passed.Command = "register"
	passed.Subjects["model"], passed.Subjects["dataset"] = testedModel, digest
	if err := passed.Save(earlier); err != nil {
		t.Fatal(err)
	}
	histogram := filepath.Join(t.TempDir(), "latency.hlog")
	environ := offline()
	environ["AWS_ENDPOINT_URL_S3"], environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"] = s3.Endpoint, s3.AccessKey, s3.SecretKey

	args := []string{"loadtest", "--config", target.config, "--environment", "staging", "--from", earlier, "--histogram", histogram}
	code, r, _ := run(t, t.Context(), environ, args...)
	if code != verdict.ExitPass || r.Subjects["model"] != testedModel || r.Subjects["dataset"] != digest {
		t.Errorf("exit %d, subjects %v", code, r.Subjects)
	}
	close(sent)
	seen := map[string]bool{}
	for sum := range sent {
		if seen[sum] = true; !test[sum] {
			t.Error("something else than an original file of the test split was sent")
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d different images were sent, the test split has 4", len(seen))
	}
	if data, err := os.ReadFile(histogram); err != nil || !bytes.Contains(data, []byte("HISTF")) {
		t.Errorf("histogram: %v, %.80s", err, data)
	}

	put("raw/b/0.png", picture(t, 99))
	code, r, _ = run(t, t.Context(), environ, args...)
	if code != verdict.ExitError || !strings.Contains(r.Reason.Text, "raw/b/0.png is no longer the file") {
		t.Errorf("a changed original: exit %d: %s", code, r.Reason.Text)
	}
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestSendLiveReportsWhileItRunsAndPassesWhenInterrupted(t *testing.T) {
	target := newTarget(t, "xray", predict)
	path := filepath.Join(t.TempDir(), "live.json")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		for ctx.Err() == nil {
			var seen traffic.Report
			if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &seen) == nil && seen.ByDigest[testedModel] >= 20 {
				interrupt()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	code, r, _ := run(t, ctx, offline(), "send-live", "--config", target.config, "--url", target.url,
		"--images", pictures(t, 3), "--rate", "100", "--users", "50", "--report", path)
	if code != verdict.ExitPass || r.Outputs["failed"] != "0" {
		t.Errorf("exit %d, outputs %v", code, r.Outputs)
	}
	var last traffic.Report
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &last); err != nil {
		t.Fatal(err)
	}
	if !last.Done || last.Sent < 20 || fmt.Sprint(last.Sent) != r.Outputs["sent"] || last.ByDigest[testedModel] != last.Sent {
		t.Errorf("last report %+v, outputs %v", last, r.Outputs)
	}
}

func TestSendLiveWithoutAnyAnswerIsAnError(t *testing.T) {
	code, r, _ := run(t, t.Context(), offline(), "send-live", "--name", "xray", "--url", "http://"+closedPort(t),
		"--images", pictures(t, 1), "--rate", "50", "--duration", "200ms")
	if code != verdict.ExitError || r.Reason.Code != "no-answer" || !strings.Contains(r.Reason.Text, "refused") {
		t.Errorf("exit %d, %s: %s", code, r.Reason.Code, r.Reason.Text)
	}
}

func TestSendLiveCountsFailuresAndStillPasses(t *testing.T) {
	bad := picture(t, 77)
	target := newTarget(t, "xray", func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		if body.ReadFrom(r.Body); bytes.Equal(body.Bytes(), bad) {
			http.Error(w, "broke", 500)
			return
		}
		predict(w, r)
	})
	dir := pictures(t, 2)
	if err := os.WriteFile(filepath.Join(dir, "bad.png"), bad, 0o644); err != nil {
		t.Fatal(err)
	}
	code, r, _ := run(t, t.Context(), offline(), "send-live", "--name", "xray", "--url", target.url,
		"--images", dir, "--rate", "100", "--duration", "300ms")
	if code != verdict.ExitPass || r.Outputs["failed"] == "0" || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "bad.png") {
		t.Errorf("exit %d, outputs %v, warnings %v", code, r.Outputs, r.Warnings)
	}
	if r.Checks[0].Name != "failed-requests" || r.Checks[0].Verdict != verdict.Reject || r.Checks[0].Required {
		t.Errorf("first check %+v", r.Checks[0])
	}
}
