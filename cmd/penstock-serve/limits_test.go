package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

// load has the server load a graph of bundletest.
func (s *server) load(w *world, graph string) {
	s.t.Helper()
	if code, body := s.put(w.publish(graph)); code != 200 {
		s.t.Fatalf("load: %d %s", code, body)
	}
}

// dial opens a bare connection to the public side, for a minute at most.
func (s *server) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() }) // closed already, often
	must(s.t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

func TestSlowSendersAreCutOffAndOthersDoNotNotice(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir(), "--read-timeout", "300ms")
	s.load(w, bundletest.Mean)
	header, body := s.dial(), s.dial()
	_, err := fmt.Fprint(header, "POST /v1/models/test/predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	must(t, err)
	_, err = fmt.Fprint(body, "POST /v1/models/test/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf")
	must(t, err)
	if code, answer := s.predict(bundletest.Picture(t, 9, 9, 9)); code != 200 {
		t.Errorf("beside them: %d %s", code, answer)
	}
	for name, c := range map[string]net.Conn{"header": header, "body": body} {
		answer, err := io.ReadAll(c) // ends when the server hangs up
		if err != nil {
			t.Errorf("a slow %s is not cut off: %v", name, err)
		}
		if strings.Contains(string(answer), " 200 ") || strings.Contains(string(answer), " 500 ") {
			t.Errorf("a slow %s is answered:\n%s", name, answer)
		}
		if name == "body" && !strings.Contains(string(answer), "in the time that the server gives") {
			t.Errorf("a slow body is not told why:\n%s", answer)
		}
	}
	if code, answer := s.predict(bundletest.Picture(t, 9, 9, 9)); code != 200 {
		t.Errorf("after them: %d %s", code, answer)
	}
}

// A run is not bound by the time that its request may take to come.
func TestARequestMayWorkLongerThanItMayTakeToCome(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir(), "--read-timeout", "300ms")
	s.load(w, bundletest.Endless)
	began := time.Now()
	request, err := http.NewRequest("POST", s.public+"/v1/models/test/predict", strings.NewReader(string(bundletest.Picture(t, 30, 30, bundletest.FailsAbove))))
	must(t, err)
	client := http.Client{Timeout: 1500 * time.Millisecond}
	if response, err := client.Do(request); err == nil {
		response.Body.Close()
		t.Errorf("it ended with %s after %s", response.Status, time.Since(began))
	}
}

func TestMoreConnectionsThanAllowedWait(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir(), "--max-connections", "2")
	ask := func(c net.Conn) {
		_, err := fmt.Fprint(c, "GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
	}
	answered := func(c net.Conn) {
		t.Helper()
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || response.StatusCode != 200 {
			t.Errorf("%v, %v", response, err)
		}
	}
	// the client that asked for liveness may still hold one
	first, second := s.dial(), s.dial()
	http.DefaultClient.CloseIdleConnections()
	ask(first)
	answered(first)
	ask(second)
	answered(second)
	third := s.dial()
	ask(third)
	must(t, third.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	if n, err := third.Read(make([]byte, 1)); n != 0 || !os.IsTimeout(err) {
		t.Errorf("a third connection is served: %d bytes, %v", n, err)
	}
	must(t, third.SetReadDeadline(time.Now().Add(time.Minute)))
	must(t, first.Close())
	answered(third)
}

func TestWhatOutlastsTheDrainIsTerminated(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir(), "--drain", "500ms", "--slo", "1h")
	s.load(w, bundletest.Endless)
	status := make(chan int, 1)
	go func() {
		code, _, err := s.try("POST", s.public+"/v1/models/test/predict", bundletest.Picture(t, 30, 30, bundletest.FailsAbove))
		if err != nil {
			code = 0 // the connection was closed
		}
		status <- code
	}()
	s.awaitRun()
	must(t, s.process.Process.Signal(syscall.SIGTERM))
	began := time.Now()
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("still there 30 s after SIGTERM")
	}
	if code := s.process.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.log.String(), "cut off") {
		t.Errorf("exit code %d after %s", code, time.Since(began))
	}
	if code := <-status; code != 503 {
		t.Errorf("the request that was cut off: %d, want 503", code)
	}
}

func TestAClientThatLeavesFreesTheCPU(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir(), "--slo", "1h")
	s.load(w, bundletest.Endless)
	c := s.dial()
	picture := bundletest.Picture(t, 30, 30, bundletest.FailsAbove)
	_, err := fmt.Fprintf(c, "POST /v1/models/test/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(picture), picture)
	must(t, err)
	s.awaitRun()
	must(t, c.Close())
	s.awaitIdle()
	if code, body := s.predict(bundletest.Picture(t, 9, 9, 9)); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}

func TestAModelThatDrainsIsShownInTheMetricsUntilItsLastRequestHasEnded(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir(), "--slo", "1h")
	endless := w.publish(bundletest.Endless)
	if code, body := s.put(endless); code != 200 {
		t.Fatalf("load: %d %s", code, body)
	}
	c := s.dial()
	picture := bundletest.Picture(t, 30, 30, bundletest.FailsAbove)
	_, err := fmt.Fprintf(c, "POST /v1/models/test/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(picture), picture)
	must(t, err)
	s.awaitRun()
	draining := func() bool {
		_, page := s.do("GET", s.admin+"/metrics", nil)
		return strings.Contains(string(page), fmt.Sprintf("penstock_model_draining{digest=%q,model=\"test\",slot=\"canary\"} 1", endless))
	}
	if draining() {
		t.Error("it drains while it answers")
	}
	s.load(w, bundletest.Mean)
	if !draining() {
		t.Error("nothing drains beside the next one")
	}
	must(t, c.Close())
	s.await("the end of the last request", func() bool { return !draining() })
}

// awaitRun waits until a request has its turn, and its model runs.
func (s *server) awaitRun() {
	s.t.Helper()
	s.await("a run", func() bool { return s.running() == 1 })
	before := s.used()
	s.await("its work", func() bool { return s.used() > before+100*time.Millisecond })
}

// awaitIdle waits until no request has a turn, and the server does nothing.
func (s *server) awaitIdle() {
	s.t.Helper()
	s.await("the end of the run", func() bool { return s.running() == 0 })
	s.await("an idle server", func() bool {
		before := s.used()
		time.Sleep(200 * time.Millisecond) // over which it is measured
		return s.used()-before <= 20*time.Millisecond
	})
}

// running is how many requests have their turn.
func (s *server) running() int {
	s.t.Helper()
	_, page := s.do("GET", s.admin+"/metrics", nil)
	_, rest, _ := strings.Cut(string(page), `penstock_queue_running{model="test",slot="canary"} `)
	var n int
	_, err := fmt.Sscan(rest, &n)
	must(s.t, err)
	return n
}

// used is the CPU time that the server has used.
func (s *server) used() (sum time.Duration) {
	s.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	must(s.t, err)
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	for _, f := range fields[11:13] { // user and system time, in hundredths of a second
		var n time.Duration
		_, err := fmt.Sscan(f, &n)
		must(s.t, err)
		sum += n * 10 * time.Millisecond
	}
	return sum
}

func TestWithTokensThePublicSideAsksForOne(t *testing.T) {
	w := newWorld(t)
	const first, second = "token-of-clients-1", "token-of-clients-2"
	w.env = append(w.env, "PENSTOCK_API_TOKEN="+first+","+second)
	s := w.serve(t.TempDir()) // which awaits liveness without a token
	s.load(w, bundletest.Mean)
	for authorization, want := range map[string]int{"": 401, "Bearer " + adminToken: 401, "Bearer " + first: 200, "Bearer " + second: 200} {
		for _, path := range []string{"/v2", "/v2/models/test", "/v1/models/test/predict"} {
			method, body := "GET", io.Reader(nil)
			if strings.HasSuffix(path, "predict") {
				method, body = "POST", strings.NewReader(string(bundletest.Picture(t, 9, 9, 9)))
			}
			request, err := http.NewRequest(method, s.public+path, body)
			must(t, err)
			request.Header.Set("Authorization", authorization)
			response, err := http.DefaultClient.Do(request)
			must(t, err)
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s with %q: %s, want %d", path, authorization, response.Status, want)
			}
			for _, name := range []string{"Penstock-Request-Id", "Server-Timing", "Traceparent"} {
				if response.Header.Get(name) == "" {
					t.Errorf("%s with %q: no %s", path, authorization, name)
				}
			}
		}
	}
	if code, _ := s.do("GET", s.public+"/v2/health/ready", nil); code != 200 {
		t.Errorf("readiness: %d", code)
	}
	s.told("msg=request ", 2)
	if log := s.log.String(); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Error("a token is in the log")
	}
}

func TestWhoHasNoTokenIsCountedAndToldOnEverySide(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "PENSTOCK_API_TOKEN=token-of-clients-1")
	s := w.serve(t.TempDir())
	get := func(url string) {
		t.Helper()
		response, err := http.Get(url)
		must(t, err)
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", url, response.Status)
		}
	}
	for n, c := range []struct{ side, url string }{{"public", s.public + "/v2"}, {"admin", s.admin + "/admin/v1/models"}} {
		get(c.url)
		_, page := s.do("GET", s.admin+"/metrics", nil)
		if line := fmt.Sprintf(`penstock_failures_total{digest="none",kind="denied",model="none",slot="canary"} %d`, n+1); !strings.Contains(string(page), line) {
			t.Errorf("%s: no line %s", c.side, line)
		}
		s.told("side="+c.side+" requests=1", 1)
	}
}

// Another origin's page may not change what is served.
func TestAPageOfAnotherOriginIsCountedAndTold(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir())
	request, err := http.NewRequest("POST", s.admin+"/v2/repository/models/test/unload", nil)
	must(t, err)
	request.Header.Set("Origin", "https://elsewhere.example")
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Error(response.Status)
	}
	if _, page := s.do("GET", s.admin+"/metrics", nil); !strings.Contains(string(page), `penstock_failures_total{digest="none",kind="denied",model="none",slot="canary"} 1`) {
		t.Errorf("it is not counted:\n%s", page)
	}
	s.told(`msg="turned away as a page of another origin" side=admin requests=1`, 1)
}

func TestANewCertificateIsServedWithoutARestart(t *testing.T) {
	w := newWorld(t)
	cert, key, _ := certificateFiles(t)
	s := w.start(t.TempDir(), "--tls-cert", cert, "--tls-key", key)
	shown := func() string {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.public, "http://"), &tls.Config{InsecureSkipVerify: true}) // which certificate it is, is the question
		if err != nil {
			return ""
		}
		defer c.Close()
		return fmt.Sprintf("%x", c.ConnectionState().PeerCertificates[0].Signature)
	}
	var first string
	s.await("a handshake", func() bool { first = shown(); return first != "" })
	must(t, os.WriteFile(key, []byte("no key"), 0o600))
	s.await("the complaint", func() bool { return shown() == first && strings.Contains(s.log.String(), "not used") })
	next, nextKey, _ := certificateFiles(t)
	for from, to := range map[string]string{next: cert, nextKey: key} {
		must(t, os.Rename(from, to))
	}
	s.await("the new certificate", func() bool { now := shown(); return now != "" && now != first })
}
