package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// childVariable makes the test binary a program that runs one rollout or
// rollback, to be killed.
const childVariable = "PENSTOCK_ROLLOUT_TEST_CHILD"

type childWork struct {
	Addresses addresses
	Rollback  bool
	Digest    string
}

func TestMain(m *testing.M) {
	text := os.Getenv(childVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := child(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(text string) error {
	var work childWork
	if err := json.Unmarshal([]byte(text), &work); err != nil {
		return err
	}
	line := work.Addresses.line("xray test", func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	run := func() (State, error) { return line.Rollout(context.Background(), work.Digest) }
	if work.Rollback {
		run = func() (State, error) { return line.Rollback(context.Background()) }
	}
	s, err := run()
	if err == nil && s.Verdict != verdict.Pass {
		err = fmt.Errorf("verdict %s: %s", s.Verdict, s.Reason.Text)
	}
	return err
}

// TestKilledRolloutIsTakenUp kills the real process before and after each
// write of a new phase, then runs the same command again.
func TestKilledRolloutIsTakenUp(t *testing.T) {
	for _, phase := range []Phase{Prepare, Steps, All, Switch, Return, Keep, Promote, Closed} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/written=%t", phase, after), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				killChildAt(t, w, childWork{Addresses: w.addresses(quick()), Digest: newDigest}, phase, after)
				if slices.Contains(w.moves(), newDigest) && phase != Closed {
					t.Errorf("promoted by the run that was killed in %s", phase)
				}
				again := runChild(t, childWork{Addresses: w.addresses(quick()), Digest: newDigest})
				if err := again.Run(); err != nil {
					t.Fatalf("the second run: %v\n%s", err, again.Stderr)
				}
				wantWorld(t, w, newDigest, newDigest, oldDigest)
				if moves := w.moves(); len(moves) != 1 {
					t.Errorf("alias moved %d times: %v", len(moves), moves)
				}
			})
		}
	}
}

func TestKilledRollbackIsTakenUp(t *testing.T) {
	for _, phase := range []Phase{Prepare, All, Switch, Return, Keep, Promote, Closed} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.champion, w.before = newDigest, oldDigest
			w.slots[deployment.Stable].digest = newDigest
			work := childWork{Addresses: w.addresses(quick()), Rollback: true}
			killChildAt(t, w, work, phase, true)
			again := runChild(t, work)
			if err := again.Run(); err != nil {
				t.Fatalf("the second run: %v\n%s", err, again.Stderr)
			}
			wantWorld(t, w, oldDigest, oldDigest, newDigest)
			if moves := w.moves(); len(moves) != 1 {
				t.Errorf("alias moved %d times: %v", len(moves), moves)
			}
		})
	}
}

func TestShareFallsToZeroWhenTheProcessIsKilledUnderTraffic(t *testing.T) {
	w := newWorld(t)
	killChildAt(t, w, childWork{Addresses: w.addresses(quick()), Digest: newDigest}, Steps, true)
	if _, err := w.keeper.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); w.proxy.share() != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("share %d ten seconds after the kill", w.proxy.share())
		}
	}
	if got := w.serving(deployment.Stable); got != oldDigest {
		t.Errorf("stable serves %s", got)
	}
}

func runChild(t *testing.T, work childWork) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(work)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = &strings.Builder{}
	return cmd
}

// killChildAt runs the work in a process of its own and kills it with SIGKILL
// at the first write of the phase: before the write takes place, or after.
func killChildAt(t *testing.T, w *world, work childWork, phase Phase, after bool) {
	t.Helper()
	cmd := runChild(t, work)
	var done bool
	w.mu.Lock()
	w.onSave = func(s State, written bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if done || s.Phase != phase || written != after {
			return
		}
		done = true
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("kill: %v", err)
		}
	}
	err := cmd.Start() // under the lock, so that the hook sees the process
	w.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !done {
		t.Fatalf("the process ended before phase %s: %v\n%s", phase, err, cmd.Stderr)
	}
	w.onSave = nil
}

// TestSecondProcessTakesOverAndTheFirstLeavesTheShareAlone runs the same
// rollout twice at the same time.
func TestSecondProcessTakesOverAndTheFirstLeavesTheShareAlone(t *testing.T) {
	w := newWorld(t)
	p := quick()
	p.Step = 700 * time.Millisecond
	judging := make(chan struct{})
	var once sync.Once
	w.onSave = func(s State, written bool) {
		if written && s.Phase == Steps && len(s.Errors) > 0 {
			once.Do(func() { close(judging) })
		}
	}
	first := make(chan error, 1)
	line := w.line(p)
	go func() {
		_, err := line.Rollout(t.Context(), newDigest)
		first <- err
	}()
	select {
	case <-judging:
	case <-time.After(20 * time.Second):
		t.Fatal("the first run did not come to judge within 20s")
	}
	if s := rollOut(t, w, p, newDigest); s.Verdict != verdict.Pass {
		t.Errorf("the second run: %+v", s.Reason)
	}
	if err := <-first; !errors.Is(err, ErrTakenOver) {
		t.Errorf("the first run: %v", err)
	}
	wantWorld(t, w, newDigest, newDigest, oldDigest)
	if moves := w.moves(); len(moves) != 1 {
		t.Errorf("alias moved %d times: %v", len(moves), moves)
	}
	drops := 0
	for _, e := range w.effects {
		if e == "share 0" {
			drops++
		}
	}
	if drops != 1 {
		t.Errorf("effects %v: the share fell to 0 on the way", w.effects)
	}
}
