package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/outside/haproxy/haproxytest"
)

// routerProcess is the real program beside a real HAProxy.
type routerProcess struct {
	t     *testing.T
	proxy *haproxytest.Proxy
	at    deployment.Router
	cmd   *exec.Cmd
	log   *os.File
}

func startRouter(t *testing.T, proxy *haproxytest.Proxy, address string) *routerProcess {
	t.Helper()
	r := &routerProcess{t: t, proxy: proxy, at: deployment.Router{URL: "http://" + address}}
	log, err := os.Create(filepath.Join(t.TempDir(), "router.log"))
	if err != nil {
		t.Fatal(err)
	}
	r.log = log
	r.cmd = exec.Command("penstock", "router", "--listen", address, "--map", proxy.MapFile(),
		"--socket", filepath.Join(proxy.Dir, "s"), "--interval", "100ms")
	r.cmd.Env = append(os.Environ(), "PENSTOCK_ROUTER_TOKEN=secret", "GITHUB_ACTIONS=")
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // may have ended by the test's own hand
		_ = r.cmd.Wait()
		log.Close()
	})
	proxy.Await("the router to write its map", func() bool {
		_, err := os.Stat(proxy.MapFile())
		return err == nil
	})
	return r
}

func (r *routerProcess) kill() {
	r.t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	_ = r.cmd.Wait() // "signal: killed" is what we did
}

func (r *routerProcess) read() (now split.Split) {
	r.t.Helper()
	var last error
	r.proxy.Await("the router to answer", func() bool {
		now, last = routerClient().Split(r.t.Context(), r.at)
		if last != nil {
			log, _ := os.ReadFile(r.log.Name())
			r.t.Logf("router: %v\n%s", last, log)
		}
		return last == nil
	})
	return now
}

func routerClient() *deployment.Client {
	return deployment.New(deployment.Tokens{Router: "secret"})
}

func canaryPart(took []bool) float64 {
	n := 0.0
	for _, t := range took {
		if t {
			n++
		}
	}
	return n / float64(len(took))
}

// TestKilledRouterGivesTheShareBackWhenTheLeaseRunsOut kills the router with
// SIGKILL under a share: users notice nothing, the next router knows the
// lease, and without its owner the share goes to 0.
func TestKilledRouterGivesTheShareBackWhenTheLeaseRunsOut(t *testing.T) {
	proxy, address := haproxytest.New(t), closedPort(t)
	r := startRouter(t, proxy, address)
	proxy.Start()
	want := split.Split{CanaryBP: 5000, Owner: "test", LeaseS: 4, Revision: r.read().Revision}
	set, err := routerClient().SetSplit(t.Context(), r.at, want)
	if err != nil {
		t.Fatal(err)
	}
	r.kill()
	if got := canaryPart(proxy.Answers(1000)); got < 0.4 || got > 0.6 {
		t.Errorf("without the router the canary answered %.3f", got)
	}
	r = startRouter(t, proxy, address)
	if now := r.read(); now.CanaryBP != 5000 || now.Owner != "test" || now.Revision != set.Revision || now.LeaseS > 4 {
		t.Errorf("the next router says %+v", now)
	}
	proxy.Await("the lease to run out", func() bool {
		entries, err := proxy.Client.Map(t.Context())
		return err == nil && entries[split.Key] == "0"
	})
	if got := canaryPart(proxy.Answers(200)); got != 0 {
		t.Errorf("after the lease the canary answered %.3f", got)
	}
	if now := r.read(); now.Owner != "" || now.Revision <= set.Revision {
		t.Errorf("after the lease the router says %+v", now)
	}
}

// TestRouterEndsWithPassWhenItIsTold wants SIGTERM to be the normal end.
func TestRouterEndsWithPassWhenItIsTold(t *testing.T) {
	proxy := haproxytest.New(t)
	r := startRouter(t, proxy, closedPort(t))
	proxy.Start()
	r.read()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error(fmt.Errorf("still there after 10s"))
	}
}
