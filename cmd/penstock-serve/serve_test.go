package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/predictions"
	"github.com/penstock-ml/penstock/serve/api"
)

func TestServedBytesGiveThePredictedScores(t *testing.T) {
	w := newWorld(t)
	model := w.publish(bundletest.Mean)
	d := w.upload(bundletest.Spec, "Nodule", "Effusion")
	if code, out := w.run("predict", "--model", model, "--dataset", d.digest, "--split", "test"); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	data, _, err := w.bucket.Get(t.Context(), predictions.Key(d.digest, "test", model))
	must(t, err)
	meta, rows, err := predictions.Decode(data)
	must(t, err)
	if meta.Model != model || meta.Dataset != d.digest || len(rows) != 6 || fmt.Sprint(meta.Labels) != "[Nodule Effusion]" || meta.Thresholds["Nodule"] != 0.6 {
		t.Errorf("%+v, %d rows", meta, len(rows))
	}

	s := w.serve(t.TempDir())
	if code, body := s.put(model); code != 200 {
		t.Fatalf("load: %d %s", code, body)
	}
	for _, row := range rows {
		code, body := s.predict(d.pictures[row.ID])
		var p api.Prediction
		if err := json.Unmarshal(body, &p); code != 200 || err != nil {
			t.Fatalf("%s: %d %s", row.ID, code, body)
		}
		for i := range row.Scores {
			if p.Predictions[i].Score != row.Scores[i] {
				t.Errorf("%s, %s: served %v, predicted %v", row.ID, p.Predictions[i].Label, p.Predictions[i].Score, row.Scores[i])
			}
		}
		if want := len(row.ID) > 0 && (row.ID[3]-'0')%2 == 0; row.Labels[0] != want || row.Labels[1] {
			t.Errorf("%s: truth %v", row.ID, row.Labels)
		}
	}
}

func TestAFailedLoadKeepsTheModelThatAnswers(t *testing.T) {
	w := newWorld(t)
	good := w.publish(bundletest.Mean)
	dir := bundletest.New(t, bundletest.Mean)
	must(t, bundle.WriteFloat32(filepath.Join(dir, "golden/0.output.npy"), []int{2}, []float32{0.9, 0.9}))
	wrong := w.publishDir(dir)
	damaged := w.publish(bundletest.Mean, func(m *bundle.Manifest) { m.Provenance.RunKey = "damaged" })
	must(t, w.bucket.UploadBytes(t.Context(), bundle.Key(damaged, "model.onnx"), []byte("rotten")))

	s := w.serve(t.TempDir())
	if code, body := s.predict(bundletest.Picture(t, 9, 9, 9)); code != 503 {
		t.Errorf("without a model: %d %s", code, body)
	}
	if code, body := s.put(good); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for digest, want := range map[string]struct {
		code   int
		reason string
	}{
		wrong: {422, "the bundle is refused"}, damaged: {422, "SHA-256"}, strings.Repeat("0", 64): {503, "not found"},
	} {
		code, body := s.put(digest)
		if code != want.code || !strings.Contains(body, want.reason) || !strings.Contains(body, good) {
			t.Errorf("%.8s: %d %s, want %d, %q and what is served", digest, code, body, want.code, want.reason)
		}
		if code, body := s.predict(bundletest.Picture(t, 9, 9, 9)); code != 200 || !strings.Contains(string(body), good) {
			t.Errorf("after %.8s: %d %s", digest, code, body)
		}
	}
}

func TestAKilledServerServesTheSameModelAgain(t *testing.T) {
	w := newWorld(t)
	digest := w.publish(bundletest.Mean)
	state := t.TempDir()
	first := w.serve(state)
	if code, body := first.put(digest); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	first.kill()
	second := w.serve(state)
	second.await("the model of before", func() bool {
		code, _ := second.do("GET", second.public+"/v2/health/ready", nil)
		return code == 200
	})
	if code, body := second.predict(bundletest.Picture(t, 9, 9, 9)); code != 200 || !strings.Contains(string(body), digest) {
		t.Errorf("%d %s", code, body)
	}
}

func TestAServerKilledInTheMidstOfALoadServesTheOneOrTheOther(t *testing.T) {
	w := newWorld(t)
	serving, next := w.publish(bundletest.Mean), w.publish(bundletest.Heavy)
	state := t.TempDir()
	s := w.serve(state)
	if code, body := s.put(serving); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	picture := bundletest.Picture(t, 9, 9, 9)
	for _, delay := range []time.Duration{0, 5, 15, 40, 100} { // fetch, goldens, swap: wherever it is by then
		answer := make(chan int, 1)
		go func() {
			code, _, _ := s.try("PUT", s.admin+"/admin/v1/models/test", fmt.Appendf(nil, `{"digest":%q}`, next)) // no answer: killed before
			answer <- code
		}()
		time.Sleep(delay * time.Millisecond)
		s.kill()
		done := <-answer == 200
		s = w.serve(state)
		s.await("a model", func() bool {
			code, _ := s.do("GET", s.public+"/v2/health/ready", nil)
			return code == 200
		})
		code, body := s.predict(picture)
		swapped := strings.Contains(string(body), next)
		if code != 200 || !swapped && (done || !strings.Contains(string(body), serving)) {
			t.Errorf("killed after %d ms, the load answered: %t: %d %s", delay, done, code, body)
		}
		if code, body := s.put(next); code != 200 {
			t.Errorf("killed after %d ms, then: %d %s", delay, code, body)
		}
		serving, next = next, serving
	}
}

func TestWithoutTheBucketTheServedModelIsServedAgainAndNothingIsSaidOfAnother(t *testing.T) {
	w := newWorld(t)
	digest, other := w.publish(bundletest.Mean), w.publish(bundletest.Failing)
	state := t.TempDir()
	first := w.serve(state)
	if code, body := first.put(digest); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	first.kill()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3":   "http://127.0.0.1:" + freePort(t), // nobody listens there
		"AWS_SECRET_ACCESS_KEY": "wrong-secret",
	} {
		away := *w
		away.env = append(slices.Clone(w.env), name+"="+value) // the last one counts
		s := away.serve(state)
		s.await("the model of before", func() bool {
			code, _ := s.do("GET", s.public+"/v2/health/ready", nil)
			return code == 200
		})
		code, body := s.put(other)
		if code != 503 || !strings.Contains(body, "models/"+other) || strings.Contains(body, "wrong-secret") {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if code, body := s.predict(bundletest.Picture(t, 9, 9, 9)); code != 200 || !strings.Contains(string(body), digest) {
			t.Errorf("%s: %d %s", name, code, body)
		}
		s.kill()
	}
}

func TestSIGTERMLetsARequestComeToItsEnd(t *testing.T) {
	w := newWorld(t)
	digest := w.publish(bundletest.Mean)
	s := w.serve(t.TempDir())
	if code, body := s.put(digest); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	// a request whose second half is held back; its first half goes out when
	// the server has begun to read
	picture := bundletest.Picture(t, 40, 40, 100)
	reader, writer := io.Pipe()
	request, err := http.NewRequest("POST", s.public+"/v1/models/test/predict", reader)
	must(t, err)
	request.ContentLength = int64(len(picture))
	request.Header.Set("Expect", "100-continue")
	type outcome struct {
		status int
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		response, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}).Do(request)
		if err != nil {
			done <- outcome{err: err}
			return
		}
		response.Body.Close()
		done <- outcome{status: response.StatusCode}
	}()
	half := len(picture) / 2
	_, err = writer.Write(picture[:half])
	must(t, err)

	must(t, s.process.Process.Signal(syscall.SIGTERM))
	s.await("the closed port", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	_, err = writer.Write(picture[half:])
	must(t, err)
	must(t, writer.Close())
	if got := <-done; got.err != nil || got.status != 200 {
		t.Errorf("the request that went on: %+v", got)
	}
	<-s.exited
	if code := s.process.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestTheServersCountersBlameTheModelForItsFaults(t *testing.T) {
	w := newWorld(t)
	digest := w.publish(bundletest.Failing)
	s := w.serve(t.TempDir(), "--slo", "120ms")
	if code, body := s.put(digest); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, c := range []struct {
		picture []byte
		want    int
	}{
		{bundletest.Picture(t, 30, 30, 100), 200},
		{bundletest.Picture(t, 30, 30, bundletest.FailsAbove), 500},
		{bundletest.Picture(t, 30, 30, bundletest.FailsAbove), 500},
		{[]byte("hello"), 415},
	} {
		if code, body := s.predict(c.picture); code != c.want {
			t.Errorf("%d %s, want %d", code, body, c.want)
		}
	}
	_, page := s.do("GET", s.admin+"/metrics", nil)
	for outcome, n := range map[string]int{"ok": 1, "server_error": 2} {
		line := fmt.Sprintf(`penstock_requests_total{digest="%s",model="test",outcome="%s",slot="canary"} %d`, digest, outcome, n)
		if !strings.Contains(string(page), line) {
			t.Errorf("no line %s", line)
		}
	}
	if !strings.Contains(string(page), `slot="canary",le="0.12"} `) {
		t.Error("no boundary at the slo")
	}
}

func TestWithACertificateBothSidesSpeakTLSOnly(t *testing.T) {
	w := newWorld(t)
	digest := w.publish(bundletest.Mean)
	cert, key, roots := certificateFiles(t)
	s := w.start(t.TempDir(), "--tls-cert", cert, "--tls-key", key)
	s.trust(roots)
	s.await("liveness over TLS", func() bool {
		code, _, err := s.try("GET", s.public+"/v2/health/live", nil)
		return err == nil && code == 200
	})
	if code, body := s.put(digest); code != 200 {
		t.Errorf("load: %d %s", code, body)
	}
	for _, address := range []string{s.public, s.admin} {
		response, err := http.Get(strings.Replace(address, "https:", "http:", 1) + "/v2/health/live")
		must(t, err)
		response.Body.Close()
		if response.StatusCode != 400 {
			t.Errorf("%s answers in the clear: %s", address, response.Status)
		}
	}
}

// certificateFiles makes a self-signed certificate of loopback.
func certificateFiles(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	must(t, os.WriteFile(cert, certPEM, 0o644))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return cert, key, roots
}

func TestRunNamesWhatKeepsItFromStarting(t *testing.T) {
	w := newWorld(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer busy.Close()
	free := "127.0.0.1:" + freePort(t)
	base := []string{"run", "--name", "test", "--slot", "s", "--bucket", "none", "--state", t.TempDir()}
	cases := []struct {
		name string
		args []string
		code int
		text string
	}{
		{"busy port", []string{"--listen", busy.Addr().String(), "--admin-listen", free}, 1, "another server on this port"},
		{"admin for the world", []string{"--listen", free, "--admin-listen", ":9000"}, 2, "--tls-cert"},
		{"pictures in the clear", []string{"--listen", "0.0.0.0:80", "--admin-listen", free}, 2, "--tls-cert"},
		{"key without certificate", []string{"--tls-key", "k"}, 2, "belong together"},
		{"no ONNX Runtime", []string{"--onnxruntime", "/nowhere/lib.so"}, 1, "/nowhere/lib.so"},
		{"too many threads", []string{"--threads", "4096"}, 2, "4096 threads"},
		{"bad slo", []string{"--slo", "0s"}, 2, "--slo"},
		{"gRPC in the clear", []string{"--grpc-listen", "0.0.0.0:8001"}, 2, "--grpc-listen"},
		{"no certificate", []string{"--tls-cert", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"}, 1, "/nowhere/cert.pem"},
		{"a name twice", []string{"--name", "test"}, 2, "given twice"},
		{"unknown profile", []string{"--profile", "fast"}, 2, `profile "fast"`},
		{"unknown provider", []string{"--provider", "tpu"}, 2, `provider "tpu"`},
		{"unknown decoder", []string{"--decoder", "best"}, 2, `--decoder "best"`},
		{"decoder that is not built in", []string{"--decoder", "turbo"}, 1, "-tags turbojpeg"},
		{"bad queue", []string{"--queue", "-1"}, 2, "--queue"},
		{"bad number of bundles", []string{"--cache-bundles", "-1"}, 2, "--cache-bundles"},
		{"bad batches", []string{"--batch-max", "-1"}, 2, "--batch-max"},
		{"bad limit", []string{"--max-requests", "0"}, 2, "--max-requests"},
		{"bad host", []string{"--allow-url-host", "*.example.com"}, 2, "*.example.com"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, out := w.run(append(base, c.args...)...)
			if code != c.code || !strings.Contains(out, c.text) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.text, out)
			}
		})
	}
}
