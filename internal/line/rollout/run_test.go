package rollout

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// quick is a plan that decides within a second under the world's traffic.
func quick() Plan {
	return Plan{
		Steps: []float64{20, 50}, Step: 150 * time.Millisecond, MinRequests: 300, Alpha: 0.02,
		Errors: Bound{Margin: 0.1, Ratio: 1}, Slow: Bound{Margin: 0.1, Ratio: 1},
		Interval: 50 * time.Millisecond, Lease: time.Second, Deadline: 20 * time.Second,
	}
}

func rollOut(t *testing.T, w *world, p Plan, digest string) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := w.line(p).Rollout(ctx, digest)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rollBack(t *testing.T, w *world, p Plan) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := w.line(p).Rollback(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantWorld checks where everything stands after a run.
func wantWorld(t *testing.T, w *world, champion, stable, canary string) {
	t.Helper()
	if got := w.alias(); got != champion {
		t.Errorf("alias names %.3s, want %.3s", got, champion)
	}
	if got := w.serving(deployment.Stable); got != stable {
		t.Errorf("stable serves %.3s, want %.3s", got, stable)
	}
	if got := w.serving(deployment.Canary); got != canary {
		t.Errorf("the canary slot has %.3s, want %.3s", got, canary)
	}
	now, err := w.keeper.Read(t.Context())
	if err != nil || now.CanaryBP != 0 || now.Owner != "" {
		t.Errorf("split %+v, %v, want share 0 and no owner", now, err)
	}
}

func TestRolloutOfHealthyModelEndsWithShareZeroAndMovesTheAliasLast(t *testing.T) {
	w := newWorld(t)
	s := rollOut(t, w, quick(), newDigest)
	if s.Verdict != verdict.Pass || s.Version != "7" {
		t.Fatalf("%s: %+v", s.Verdict, s.Reason)
	}
	wantWorld(t, w, newDigest, newDigest, oldDigest)
	want := []string{"canary loads new", "share 2000", "share 5000", "share 10000", "stable loads new", "share 0", "canary loads old", "promote new"}
	if !slices.Equal(w.effects, want) {
		t.Errorf("effects\n%v\nwant\n%v", w.effects, want)
	}
	r, err := s.Result(quick())
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Join(r.Checks) != verdict.Pass || len(r.Checks) != 4 {
		t.Errorf("checks %+v", r.Checks)
	}
	if h := w.record().History; len(h) != 1 || h[0].Verdict != verdict.Pass {
		t.Errorf("history %+v", h)
	}
}

func TestFirstRolloutLoadsStableDirectly(t *testing.T) {
	w := newWorld(t)
	w.champion, w.slots[deployment.Stable].digest, w.slots[deployment.Canary].digest = "", "", ""
	s := rollOut(t, w, quick(), newDigest)
	if s.Verdict != verdict.Pass || s.Kind != Direct {
		t.Fatalf("%s %s: %+v", s.Kind, s.Verdict, s.Reason)
	}
	wantWorld(t, w, newDigest, newDigest, newDigest)
	if want := []string{"stable loads new", "canary loads new", "promote new"}; !slices.Equal(w.effects, want) {
		t.Errorf("effects %v, want %v", w.effects, want)
	}
}

func TestChampionAlreadyServedIsANoOp(t *testing.T) {
	w := newWorld(t)
	s := rollOut(t, w, quick(), oldDigest)
	if s.Verdict != verdict.Pass || s.Reason.Code != "served" || len(w.effects) != 0 {
		t.Errorf("%s %+v, effects %v", s.Verdict, s.Reason, w.effects)
	}
}

func TestChampionThatStableLostIsPutRightWithoutTraffic(t *testing.T) {
	w := newWorld(t)
	w.before, w.slots[deployment.Stable].digest = newDigest, ""
	s := rollOut(t, w, quick(), oldDigest)
	if s.Verdict != verdict.Pass {
		t.Fatalf("%+v", s.Reason)
	}
	wantWorld(t, w, oldDigest, oldDigest, newDigest)
	for _, e := range w.effects {
		if strings.HasPrefix(e, "share") {
			t.Errorf("effects %v: traffic moved", w.effects)
		}
	}
}

func TestHarmfulCanaryIsRejectedAndProductionIsUnchanged(t *testing.T) {
	cases := []struct {
		name   string
		harm   func(*world)
		reason string
	}{
		{"errors on some requests", func(w *world) { w.rate[newDigest] = 0.2 }, CodeErrors},
		{"errors on all requests", func(w *world) { w.rate[newDigest] = 1 }, CodeErrors},
		{"over the slo", func(w *world) { w.slow[newDigest] = 0.3; w.slow[oldDigest] = 0.01 }, CodeLatency},
		{"goldens differ", func(w *world) { w.bad[newDigest] = true }, CodeNotReady},
		{"dies under traffic", func(w *world) {
			w.onShare = func(bp int) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.slots[deployment.Canary].down = bp > 0
			}
		}, CodeNotReady},
		{"the proxy loses it", func(w *world) {
			w.onShare = func(bp int) {
				w.proxy.mu.Lock()
				defer w.proxy.mu.Unlock()
				w.proxy.down = bp > 0
			}
		}, CodeNotReady},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.harm(w)
			s := rollOut(t, w, quick(), newDigest)
			if s.Verdict != verdict.Reject || s.Reason.Code != c.reason {
				t.Fatalf("%s %+v, want reject %s", s.Verdict, s.Reason, c.reason)
			}
			wantWorld(t, w, oldDigest, oldDigest, oldDigest)
			if len(w.promoted) != 0 {
				t.Errorf("promoted %v", w.promoted)
			}
		})
	}
}

func TestDeadCanaryHostIsARejectionWithAWarning(t *testing.T) {
	w := newWorld(t)
	w.onShare = func(bp int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if bp > 0 {
			w.slots[deployment.Canary].public.Listener.Close()
			w.slots[deployment.Canary].admin.Listener.Close()
		}
		w.slots[deployment.Canary].public.CloseClientConnections()
		w.slots[deployment.Canary].admin.CloseClientConnections()
	}
	s := rollOut(t, w, quick(), newDigest)
	if s.Verdict != verdict.Reject || s.Reason.Code != CodeNotReady || len(s.Warnings) != 1 {
		t.Fatalf("%s %+v, warnings %v", s.Verdict, s.Reason, s.Warnings)
	}
	wantWorld(t, w, oldDigest, oldDigest, newDigest)
}

func TestNoTrafficIsInconclusiveNeverAPass(t *testing.T) {
	w := newWorld(t)
	w.slots[deployment.Canary].down = false
	p := quick()
	p.Deadline = 600 * time.Millisecond
	p.MinRequests = 1 << 30
	s := rollOut(t, w, p, newDigest)
	if s.Verdict != verdict.Inconclusive || s.Reason.Code != verdict.Undecided {
		t.Fatalf("%s %+v", s.Verdict, s.Reason)
	}
	wantWorld(t, w, oldDigest, oldDigest, oldDigest)
}

func TestRollbackAndForwardAgainNeedNoLoadOfTheCanary(t *testing.T) {
	w := newWorld(t)
	rollOut(t, w, quick(), newDigest)
	w.effects = nil
	if s := rollBack(t, w, quick()); s.Verdict != verdict.Pass {
		t.Fatalf("%+v", s.Reason)
	}
	wantWorld(t, w, oldDigest, oldDigest, newDigest)
	want := []string{"share 10000", "stable loads old", "share 0", "canary loads new", "promote old"}
	if !slices.Equal(w.effects, want) {
		t.Errorf("effects %v, want %v", w.effects, want)
	}
	w.effects = nil
	if s := rollBack(t, w, quick()); s.Verdict != verdict.Pass || len(w.effects) != 0 {
		t.Errorf("the second rollback: %+v, effects %v", s.Reason, w.effects)
	}
	if s := rollOut(t, w, quick(), newDigest); s.Verdict != verdict.Pass {
		t.Fatalf("forward again: %+v", s.Reason)
	}
	wantWorld(t, w, newDigest, newDigest, oldDigest)
	if w.effects[0] != "share 2000" {
		t.Errorf("forward again began with %v", w.effects)
	}
}

func TestRollbackWithoutAPreviousVersionIsRefused(t *testing.T) {
	w := newWorld(t)
	if _, err := w.line(quick()).Rollback(t.Context()); !errors.Is(err, ErrNoWayBack) {
		t.Errorf("error %v", err)
	}
}

func TestCancelledRolloutBringsTheShareToZero(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.onShare = func(bp int) {
		if bp == 5000 {
			cancel()
		}
	}
	_, err := w.line(quick()).Rollout(ctx, newDigest)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if got := w.proxy.share(); got != 0 {
		t.Errorf("share %d after the cancel", got)
	}
}

func TestRolloutLeavesAShareThatAnotherHoldsAlone(t *testing.T) {
	w := newWorld(t)
	if _, err := w.keeper.Change(t.Context(), split.Split{CanaryBP: 100, Owner: "somebody", LeaseS: 60}); err != nil {
		t.Fatal(err)
	}
	_, err := w.line(quick()).Rollout(t.Context(), newDigest)
	if !errors.Is(err, split.ErrHeld) {
		t.Fatalf("error %v", err)
	}
	if w.proxy.share() != 100 || len(w.effects) != 0 {
		t.Errorf("share %d, effects %v", w.proxy.share(), w.effects)
	}
}

func TestEmergencyStopAtTheRouterEndsTheRolloutInconclusive(t *testing.T) {
	w := newWorld(t)
	w.onSave = func(s State, after bool) {
		if !after || s.Phase != Steps || len(s.Errors) == 0 {
			return
		}
		now, err := w.keeper.Read(context.Background())
		if err == nil && now.Owner != "" {
			_, err = w.keeper.Change(context.Background(), split.Split{Revision: now.Revision})
		}
		if err != nil {
			t.Errorf("emergency stop: %v", err)
		}
	}
	s := rollOut(t, w, quick(), newDigest)
	if s.Verdict != verdict.Inconclusive || s.Reason.Code != CodeLeaseLost {
		t.Fatalf("%s %+v", s.Verdict, s.Reason)
	}
	wantWorld(t, w, oldDigest, oldDigest, oldDigest)
}

func TestAliasThatCannotMoveIsAnErrorAndTheNextRunEndsIt(t *testing.T) {
	w := newWorld(t)
	w.refuse = func(r *http.Request) int {
		if r.URL.Query().Get("promote") != "" {
			return http.StatusInternalServerError
		}
		return 0
	}
	if _, err := w.line(quick()).Rollout(t.Context(), newDigest); err == nil {
		t.Fatal("no error")
	}
	wantWorld(t, w, oldDigest, newDigest, oldDigest)
	if _, err := w.line(quick()).Rollout(t.Context(), "third"); !errors.Is(err, ErrUnfinished) {
		t.Errorf("another rollout over the unfinished end: %v", err)
	}
	w.refuse = nil
	if s := rollOut(t, w, quick(), newDigest); s.Verdict != verdict.Pass {
		t.Fatalf("%+v", s.Reason)
	}
	wantWorld(t, w, newDigest, newDigest, oldDigest)
}
