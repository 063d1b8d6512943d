package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/logtest"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

// hook is the other side of `penstock watch`: it knows a key once it took its
// PUT. hang, if set, holds every PUT, before or after it is taken.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	puts   []string
	hang   string        // "", "before" or "after"
	inside chan struct{} // a PUT hangs
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{inside: make(chan struct{}, 100)}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := path.Base(r.URL.Path)
	h.mu.Lock()
	hang := h.hang
	known := slices.Contains(h.puts, key)
	h.mu.Unlock()
	if r.Method == http.MethodGet {
		if !known {
			w.WriteHeader(http.StatusNotFound)
		}
		return
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		return // the watcher died while it sent
	}
	if hang != "before" {
		h.mu.Lock()
		h.puts = append(h.puts, key)
		h.mu.Unlock()
	}
	if hang != "" {
		h.inside <- struct{}{}
		<-r.Context().Done() // the watcher dies
	}
}

func (h *hook) set(hang string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hang = hang
}

func (h *hook) keys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.puts)
}

// landing is a project with a bucket of a real MinIO.
type landing struct {
	t      *testing.T
	s3     *servertest.S3
	bucket *objectstore.Bucket
	dir    string
	config string
}

func newLanding(t *testing.T, s3 *servertest.S3) *landing {
	t.Helper()
	name, dir := servertest.Bucket(t, s3), t.TempDir()
	bucket, err := objectstore.Open(objectstore.Credentials{
		Endpoint: s3.Endpoint, Region: servertest.Region, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey,
	}, name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../../examples/xray/penstock.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "penstock.yaml")
	text := strings.Replace(string(data), "bucket: xray", "bucket: "+name, 1)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return &landing{t, s3, bucket, dir, config}
}

func (l *landing) upload(key string, data []byte) {
	l.t.Helper()
	if err := l.bucket.UploadBytes(l.t.Context(), key, data); err != nil {
		l.t.Fatal(err)
	}
}

// batch uploads a batch that is complete; its content does not matter.
func (l *landing) batch(name string) {
	l.t.Helper()
	l.upload("raw/"+name+"/1.png", []byte(name))
	l.upload("raw/"+name+"/_SUCCESS", nil)
}

// program is the real penstock, in a process of its own.
func (l *landing) program(args ...string) (*exec.Cmd, *logtest.Buffer) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	l.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "penstock", append(args, "--config", l.config)...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), append(l.s3.Env(), "GITHUB_ACTIONS=", "PENSTOCK_CACHE="+l.dir)...)
	out := &logtest.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// watch starts a resident watcher.
func (l *landing) watch(h *hook) (*exec.Cmd, *logtest.Buffer) {
	l.t.Helper()
	cmd, out := l.program("watch", "--webhook", h.URL, "--interval", "50ms", "--lease", "2s")
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	return cmd, out
}

// run runs a program to its end and wants this exit code.
func (l *landing) run(code int, args ...string) string {
	l.t.Helper()
	cmd, out := l.program(args...)
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		l.t.Fatalf("penstock %s: exit code %d, want %d (%v):\n%s", strings.Join(args, " "), got, code, err, out)
	}
	return out.String()
}

func eventually(t *testing.T, what string, out fmt.Stringer, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about in a minute:\n%s", what, out)
		}
	}
}

// stop ends a process by a signal and answers its exit code; -1 after SIGKILL.
func stop(t *testing.T, cmd *exec.Cmd, signal os.Signal) int {
	t.Helper()
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func TestWatchAsAProcess(t *testing.T) {
	s3 := servertest.MinIO(t)
	for name, test := range map[string]func(*testing.T, *landing){
		"killed before the other side took the batch, it is handed on once": func(t *testing.T, l *landing) { killWatch(t, l, "before", "dispatched") },
		"killed before it was recorded, it is not handed on again":          func(t *testing.T, l *landing) { killWatch(t, l, "after", "recovered") },
		"a resident watcher ends with pass at SIGTERM":                      watchEnds,
		"one pass hands on what is complete and ends":                       watchOnce,
		"an outage of the store is told and survived":                       watchSurvives,
		"bad access and bad usage each say their remedy":                    watchRefuses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newLanding(t, s3))
		})
	}
}

func killWatch(t *testing.T, l *landing, when, then string) {
	h := newHook(t)
	h.set(when)
	l.batch("a")
	first, out := l.watch(h)
	select {
	case <-h.inside:
	case <-time.After(time.Minute):
		t.Fatalf("nothing was handed on:\n%s", out)
	}
	if code := stop(t, first, syscall.SIGKILL); code != -1 {
		t.Fatalf("exit code %d", code)
	}
	h.set("")
	second, out := l.watch(h)
	eventually(t, then, out, func() bool { return strings.Contains(out.String(), "watch: "+then) })
	third, _ := l.watch(h)
	l.batch("b")
	eventually(t, "the next batch", out, func() bool { return len(h.keys()) >= 2 })
	for _, cmd := range []*exec.Cmd{second, third} {
		if code := stop(t, cmd, syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	}
	if keys := h.keys(); len(keys) != 2 || keys[0] == keys[1] {
		t.Errorf("handed on: %v", keys)
	}
}

func watchEnds(t *testing.T, l *landing) {
	h := newHook(t)
	cmd, out := l.watch(h)
	eventually(t, "watching", out, func() bool { return strings.Contains(out.String(), "watching s3://"+l.bucket.Name()+"/raw/") })
	l.batch("a")
	eventually(t, "a dispatch", out, func() bool { return strings.Contains(out.String(), "watch: dispatched raw/a/") })
	if code := stop(t, cmd, syscall.SIGTERM); code != 0 || !strings.Contains(out.String(), "watch: pass (done) 1 batches handed on") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func watchOnce(t *testing.T, l *landing) {
	h := newHook(t)
	l.batch("a")
	l.batch("b")
	l.upload("raw/c/1.png", []byte("c"))
	out := l.run(0, "watch", "--once", "--webhook", h.URL)
	if !strings.Contains(out, "dispatched: 2") || !strings.Contains(out, "watch: waiting raw/c/") || len(h.keys()) != 2 {
		t.Errorf("handed on %v:\n%s", h.keys(), out)
	}
	if out = l.run(0, "watch", "--once", "--webhook", h.URL); !strings.Contains(out, "dispatched: 0") || len(h.keys()) != 2 {
		t.Errorf("handed on %v:\n%s", h.keys(), out)
	}
}

func watchSurvives(t *testing.T, l *landing) {
	h := newHook(t)
	l.s3 = &servertest.S3{Endpoint: newFront(t, l.s3.Endpoint), AccessKey: l.s3.AccessKey, SecretKey: l.s3.SecretKey}
	cmd, out := l.watch(h)
	eventually(t, "the outage", out, func() bool { return strings.Contains(out.String(), "pass failed") })
	l.batch("a")
	eventually(t, "a dispatch", out, func() bool { return strings.Contains(out.String(), "works again") && len(h.keys()) == 1 })
	if code := stop(t, cmd, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// newFront is an address that passes on what comes, but refuses listings from
// the second to the tenth.
func newFront(t *testing.T, endpoint string) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // the signature covers it
	}}
	var mu sync.Mutex
	listings := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("list-type") {
			mu.Lock()
			listings++
			broken := listings > 1 && listings <= 10
			mu.Unlock()
			if broken {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func watchRefuses(t *testing.T, l *landing) {
	h := newHook(t)
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{2, "webhook", []string{"watch", "--once"}},
		{2, "not a URL", []string{"watch", "--once", "--webhook", "somewhere"}},
		{2, "--lease", []string{"watch", "--once", "--webhook", h.URL, "--lease", "1ms"}},
	} {
		if out := l.run(c.code, c.args...); !strings.Contains(out, c.says) {
			t.Errorf("%v does not say %q:\n%s", c.args, c.says, out)
		}
	}
	l.batch("a")
	h.Close()
	if out := l.run(1, "watch", "--once", "--webhook", h.URL); !strings.Contains(out, "is --webhook right?") {
		t.Errorf("%s", out)
	}
	good := l.s3
	l.s3 = &servertest.S3{Endpoint: good.Endpoint, AccessKey: good.AccessKey, SecretKey: "wrong"}
	for _, once := range []string{"--once=true", "--once=false"} {
		if out := l.run(1, "watch", once, "--webhook", h.URL); !strings.Contains(out, "AWS_SECRET_ACCESS_KEY") {
			t.Errorf("%s: %s", once, out)
		}
	}
	l.s3 = &servertest.S3{Endpoint: "http://" + closedPort(t), AccessKey: "a", SecretKey: "b"}
	if out := l.run(1, "watch", "--once", "--webhook", h.URL); !strings.Contains(out, "AWS_ENDPOINT_URL_S3") {
		t.Errorf("%s", out)
	}
}
