package haproxy_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/outside/haproxy"
	"github.com/penstock-ml/penstock/internal/outside/haproxy/haproxytest"
)

func part(took []bool) float64 {
	n := 0
	for _, t := range took {
		if t {
			n++
		}
	}
	return float64(n) / float64(len(took))
}

func keeper(t *testing.T, p *haproxytest.Proxy, now func() time.Time) *split.Keeper {
	t.Helper()
	k, err := split.Open(p.MapFile(), p.Client, now, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func change(t *testing.T, k *split.Keeper, bp int) split.Split {
	t.Helper()
	now, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now, err = k.Change(t.Context(), split.Split{CanaryBP: bp, Owner: "test", LeaseS: 60, Revision: now.Revision})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func TestShareIsWhatWasAskedAndRaisingMovesNoKeyBack(t *testing.T) {
	p := haproxytest.New(t)
	k := keeper(t, p, time.Now)
	p.Start()
	if got := part(p.Answers(500)); got != 0 {
		t.Fatalf("share 0: the canary answered %.3f", got)
	}
	var before []bool
	for _, bp := range []int{500, 2500, 5000} {
		change(t, k, bp)
		now := p.Answers(10000)
		if got, want := part(now), float64(bp)/split.Full; got < want-0.02 || got > want+0.02 {
			t.Errorf("share %d basis points: the canary answered %.4f", bp, got)
		}
		for i := range before {
			if before[i] && !now[i] {
				t.Fatalf("key %d went back to stable when the share rose to %d", i, bp)
			}
		}
		before = now
	}
	change(t, k, split.Full)
	if got := part(p.Answers(500)); got != 1 {
		t.Errorf("share 100%%: the canary answered %.3f", got)
	}
}

func TestShareGoesToZeroWhenTheLeaseRunsOut(t *testing.T) {
	p := haproxytest.New(t)
	var skip atomic.Int64
	k := keeper(t, p, func() time.Time { return time.Now().Add(time.Duration(skip.Load())) })
	p.Start()
	change(t, k, split.Full)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go k.Run(ctx, 50*time.Millisecond)
	if got := part(p.Answers(50)); got != 1 {
		t.Fatalf("the canary answered %.3f before the end of the lease", got)
	}
	skip.Store(int64(61 * time.Second))
	p.Await("the share to go to 0", func() bool {
		entries, err := p.Client.Map(t.Context())
		return err == nil && entries[split.Key] == "0"
	})
	if got := part(p.Answers(200)); got != 0 {
		t.Errorf("the canary answered %.3f after the end of the lease", got)
	}
	now, err := k.Read(t.Context())
	if err != nil || now.Owner != "" || now.CanaryBP != 0 {
		t.Errorf("after the lease: %+v, %v", now, err)
	}
}

func TestShareSurvivesRestartsOfProxyAndRouter(t *testing.T) {
	p := haproxytest.New(t)
	k := keeper(t, p, time.Now)
	p.Start()
	set := change(t, k, 2500)
	p.Kill()
	if _, err := k.Read(t.Context()); err == nil {
		t.Error("a dead proxy was read without an error")
	}
	p.Start()
	if got := part(p.Answers(2000)); got < 0.2 || got > 0.3 {
		t.Errorf("after a restart of the proxy the canary answered %.3f", got)
	}
	again := keeper(t, p, time.Now) // a router that starts anew
	now, err := again.Read(t.Context())
	if err != nil || now.CanaryBP != 2500 || now.Owner != "test" || now.Revision != set.Revision {
		t.Errorf("after a restart of the router: %+v, %v", now, err)
	}
}

func TestShareIsSetRightWhenSomebodyElseMovesTheMap(t *testing.T) {
	p := haproxytest.New(t)
	k := keeper(t, p, time.Now)
	p.Start()
	change(t, k, 2500)
	if err := p.Client.SetMap(t.Context(), split.Key, "9000"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := p.Client.Map(t.Context())
	if err != nil || entries[split.Key] != "2500" {
		t.Errorf("map %v, %v", entries, err)
	}
}

func TestRaiseIsRefusedWhileTheProxySeesNoCanary(t *testing.T) {
	p := haproxytest.New(t)
	k := keeper(t, p, time.Now)
	p.Start()
	p.Canary.Close()
	p.Await("the proxy to see the canary down", func() bool {
		up, err := p.Client.CanaryUp(t.Context())
		return err == nil && !up
	})
	_, err := k.Change(t.Context(), split.Split{CanaryBP: 500, Owner: "test", LeaseS: 60})
	if err == nil || !strings.Contains(err.Error(), split.ErrCanaryDown.Error()) {
		t.Errorf("error %v, want %v", err, split.ErrCanaryDown)
	}
	if got := part(p.Answers(100)); got != 0 {
		t.Errorf("the canary answered %.3f", got)
	}
}

func TestAbsentMapEntryIsAnErrorNotAShare(t *testing.T) {
	p := haproxytest.New(t)
	if err := os.WriteFile(p.MapFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	k := keeper(t, p, time.Now)
	if _, err := k.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "no entry canary_bp") {
		t.Errorf("error %v", err)
	}
}

func TestUnknownMapAndDeadSocketSayWhatToDo(t *testing.T) {
	p := haproxytest.New(t)
	keeper(t, p, time.Now)
	p.Start()
	other, err := haproxy.New(filepath.Join(p.Dir, "s"), p.Dir+"/other.map", "canary")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Map(t.Context()); err == nil || !strings.Contains(err.Error(), "other.map") {
		t.Errorf("unknown map: %v", err)
	}
	if _, err := haproxy.New(strings.Repeat("x", 98), "m", "canary"); err == nil {
		t.Error("a socket path of 98 characters was taken")
	}
	if err := p.Client.SetMap(t.Context(), split.Key, "1; set map x y"); err == nil {
		t.Error("a value that holds another command was taken")
	}
	p.Kill()
	if _, err := p.Client.Map(t.Context()); err == nil || !strings.Contains(err.Error(), "is HAProxy running") {
		t.Errorf("dead socket: %v", err)
	}
}
