package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/dev/logtest"
	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"penstock-serve": main})
}

const adminToken = "token-of-the-test"

// world is a bucket on a real MinIO, a project file and what the programs need
// in their environment.
type world struct {
	t       *testing.T
	dir     string // working directory with penstock.yaml
	bucket  *objectstore.Bucket
	env     []string
	library string
	batches int
	log     *os.File // of the servers; nil: each keeps its own
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s3 := servertest.MinIO(t)
	w := &world{t: t, dir: t.TempDir(), library: library(t)}
	name := servertest.Bucket(t, s3)
	w.env = append(s3.Env(), "PENSTOCK_ONNXRUNTIME="+w.library, "PENSTOCK_ADMIN_TOKEN="+adminToken,
		"PENSTOCK_CACHE="+filepath.Join(w.dir, "cache"), "PATH="+os.Getenv("PATH"), "HOME="+w.dir)
	credentials, err := objectstore.CredentialsFromEnv(w.getenv)
	must(t, err)
	w.bucket, err = objectstore.Open(credentials, name)
	must(t, err)
	project, err := os.ReadFile("../../examples/xray/penstock.yaml")
	must(t, err)
	text := strings.Replace(string(project), "bucket: xray", "bucket: "+name, 1)
	must(t, os.WriteFile(filepath.Join(w.dir, "penstock.yaml"), []byte(text), 0o644))
	return w
}

func library(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PENSTOCK_ONNXRUNTIME"); path != "" {
		return path
	}
	path, err := process.Cached("lib/libonnxruntime.so")
	must(t, err)
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) getenv(name string) string {
	for _, kv := range w.env {
		if key, value, _ := strings.Cut(kv, "="); key == name {
			return value
		}
	}
	return ""
}

// publish puts a test bundle into the bucket.
func (w *world) publish(graph string, changes ...func(*bundle.Manifest)) string {
	w.t.Helper()
	return w.publishDir(bundletest.New(w.t, graph, changes...))
}

func (w *world) publishDir(dir string) string {
	w.t.Helper()
	digest, err := bundle.Publish(w.t.Context(), w.bucket, dir)
	must(w.t, err)
	return digest
}

// command is penstock-serve with args in the project's folder.
func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "penstock-serve", args...)
	c.Dir, c.Env = w.dir, w.env
	return c
}

// run runs a command to its end.
func (w *world) run(args ...string) (code int, output string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	c := w.command(ctx, args...)
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		w.t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(out)
}

// data is a data set of pictures in the bucket, two in three of them in test.
type data struct {
	digest   string
	pictures map[string][]byte // original bytes by file
}

// upload writes a data set as penstock dataset does: originals, preprocessed
// files, manifest, dataset.json.
func (w *world) upload(spec imaging.Spec, labels ...string) data {
	w.t.Helper()
	d := data{pictures: map[string][]byte{}}
	var rows []dataset.Row
	w.batches++
	for i := range 9 {
		picture := bundletest.Picture(w.t, 30+i, 40, uint8(20*i))
		pixels, err := imaging.Preprocess(picture, spec, imaging.DefaultLimits)
		must(w.t, err)
		processed, err := pixels.PNG()
		must(w.t, err)
		sum := sha256.Sum256(picture)
		row := dataset.Row{
			File: fmt.Sprintf("b1/%d.png", i), SHA256: hex.EncodeToString(sum[:]), Pipeline: spec.Pipeline(),
			Group: fmt.Sprint("p", i/2), Batch: fmt.Sprint("batch ", w.batches), Split: dataset.Test, Slices: map[string]string{"view": "PA"},
		}
		if i%3 == 0 {
			row.Split = dataset.Train
		}
		if i%2 == 0 {
			row.Labels = labels[:1]
		}
		must(w.t, w.bucket.UploadBytes(w.t.Context(), row.Processed(), processed))
		rows = append(rows, row)
		d.pictures[row.File] = picture
	}
	manifest, err := dataset.EncodeManifest(rows)
	must(w.t, err)
	sum := sha256.Sum256(manifest)
	d.digest = hex.EncodeToString(sum[:])
	described, err := json.Marshal(dataset.Dataset{Schema: dataset.Schema, Digest: d.digest, Pipeline: spec.Pipeline(), Labels: labels})
	must(w.t, err)
	must(w.t, w.bucket.UploadBytes(w.t.Context(), "datasets/"+d.digest+"/manifest.jsonl", manifest))
	must(w.t, w.bucket.UploadBytes(w.t.Context(), "datasets/"+d.digest+"/dataset.json", described))
	return d
}

// server is a running penstock-serve run.
type server struct {
	t             *testing.T
	process       *exec.Cmd
	public, admin string
	client        http.Client
	log           logtest.Buffer
	exited        chan struct{}
}

// serve starts penstock-serve run with its state in stateDir.
func (w *world) serve(stateDir string, more ...string) *server {
	w.t.Helper()
	s := w.start(stateDir, more...)
	s.await("liveness", func() bool {
		code, _, err := s.try("GET", s.public+"/v2/health/live", nil)
		return err == nil && code == 200
	})
	return s
}

// start is serve without waiting for an answer.
func (w *world) start(stateDir string, more ...string) *server {
	w.t.Helper()
	s := &server{t: w.t, exited: make(chan struct{}), client: http.Client{Timeout: time.Minute}}
	s.public, s.admin = "http://127.0.0.1:"+freePort(w.t), "http://127.0.0.1:"+freePort(w.t)
	args := append([]string{
		"run", "--listen", strings.TrimPrefix(s.public, "http://"), "--admin-listen", strings.TrimPrefix(s.admin, "http://"),
		"--name", "test", "--slot", "canary", "--bucket", w.bucket.Name(), "--state", stateDir,
	}, more...)
	// not of the test's context: that ends before the clean-up
	s.process = w.command(context.Background(), args...)
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	if w.log != nil {
		s.process.Stdout, s.process.Stderr = w.log, w.log
	}
	must(w.t, s.process.Start())
	go func() { _ = s.process.Wait(); close(s.exited) }() // its state is asked for
	w.t.Cleanup(func() {
		s.kill()
		if w.t.Failed() {
			w.t.Logf("log of penstock-serve:\n%s", &s.log)
		}
	})
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := process.FreePort()
	must(t, err)
	return fmt.Sprint(port)
}

// trust makes the client speak TLS with a server that has a certificate.
func (s *server) trust(roots *x509.CertPool) {
	s.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	s.public, s.admin = strings.Replace(s.public, "http:", "https:", 1), strings.Replace(s.admin, "http:", "https:", 1)
}

// kill is SIGKILL.
func (s *server) kill() {
	s.process.Process.Kill() // an error means that it ended already
	<-s.exited
}

// await polls until ok, or the server is dead, or a minute is over.
func (s *server) await(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-s.exited:
			s.t.Fatalf("waiting for %s: the server ended:\n%s", what, &s.log)
		case <-deadline:
			s.t.Fatalf("waited a minute for %s", what)
		case <-tick.C:
		}
	}
}

// told waits until the log says it so many times: lines come a moment after what
// they tell of.
func (s *server) told(text string, times int) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d times %q in the log", times, text), func() bool { return strings.Count(s.log.String(), text) >= times })
	if n := strings.Count(s.log.String(), text); n > times {
		s.t.Errorf("told %d times of %s, want %d", n, text, times)
	}
}

func (s *server) try(method, url string, body []byte) (int, []byte, error) {
	request, err := http.NewRequest(method, url, bytes.NewReader(body))
	must(s.t, err)
	if strings.HasPrefix(url, s.admin) {
		request.Header.Set("Authorization", "Bearer "+adminToken)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, data, err
}

func (s *server) do(method, url string, body []byte) (int, []byte) {
	s.t.Helper()
	code, data, err := s.try(method, url, body)
	must(s.t, err)
	return code, data
}

// put tells the server to load a digest.
func (s *server) put(digest string) (int, string) {
	s.t.Helper()
	code, body := s.do("PUT", s.admin+"/admin/v1/models/test", fmt.Appendf(nil, `{"digest":%q}`, digest))
	return code, string(body)
}

func (s *server) predict(picture []byte) (int, []byte) {
	s.t.Helper()
	return s.do("POST", s.public+"/v1/models/test/predict", picture)
}
