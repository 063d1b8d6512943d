package admission

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var background = context.Background()

func enter(t *testing.T, q *Queue, within time.Duration) *Turn {
	t.Helper()
	turn, err := try(q, within)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// try enters with a deadline at which the work would end.
func try(q *Queue, within time.Duration) (*Turn, error) {
	deadline := time.Now().Add(within)
	ctx, cancel := context.WithDeadline(background, deadline)
	defer cancel()
	return q.Enter(ctx, deadline)
}

// learn makes the queue know a service time without variation.
func learn(t *testing.T, q *Queue, service time.Duration) {
	t.Helper()
	for range 40 {
		turn := enter(t, q, time.Hour)
		time.Sleep(service)
		turn.Leave(true)
	}
}

func wantRefused(t *testing.T, err error, reason Reason) *Refused {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || r.Reason != reason || r.RetryAfter <= 0 || r.Queue != "xray" {
		t.Fatalf("%+v (%v), want a refusal for %q", r, err, reason)
	}
	return r
}

func TestWithoutAnEstimateEverybodyIsLetInUntilTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 1, Depth: 2})
		first := enter(t, q, time.Second)
		var entered []*Turn
		var mu sync.Mutex
		for range 2 {
			go func() {
				turn, err := q.Enter(background, time.Now().Add(time.Second))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				entered = append(entered, turn)
				mu.Unlock()
			}()
		}
		synctest.Wait()
		if q.AtWork() != 1 || q.Waiting() != 2 {
			t.Errorf("%d at work, %d waiting", q.AtWork(), q.Waiting())
		}
		_, err := q.Enter(background, time.Now().Add(time.Second))
		wantRefused(t, err, Full)
		time.Sleep(50 * time.Millisecond)
		first.Leave(true)
		first.Leave(true) // nothing more
		synctest.Wait()
		if len(entered) != 1 || entered[0].Waited() != 50*time.Millisecond || q.AtWork() != 1 {
			t.Fatalf("%d let in, %d at work", len(entered), q.AtWork())
		}
		entered[0].Leave(true)
		synctest.Wait()
		entered[1].Leave(true)
	})
}

func TestARequestThatWouldBeLateIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 2, Depth: 100})
		learn(t, q, 100*time.Millisecond)
		_, err := try(q, 50*time.Millisecond)
		if r := wantRefused(t, err, Deadline); r.RetryAfter > 60*time.Millisecond {
			t.Errorf("it misses by 50ms, but shall come back in %s", r.RetryAfter)
		}
		a, b := enter(t, q, 150*time.Millisecond), enter(t, q, 150*time.Millisecond)
		// both turns are held for 100 ms more, then it needs 100 ms itself
		_, err = q.Enter(background, time.Now().Add(140*time.Millisecond))
		wantRefused(t, err, Deadline)
		done := make(chan error, 1)
		go func() {
			turn, err := q.Enter(background, time.Now().Add(250*time.Millisecond))
			if err == nil {
				turn.Leave(true)
			}
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		a.Leave(true)
		b.Leave(true)
		if err := <-done; err != nil {
			t.Errorf("there was time enough: %v", err)
		}
	})
}

func TestARequestThatIsOnlyWantedInTimeIsRefusedWhereItHadToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 1, Depth: 10})
		learn(t, q, 100*time.Millisecond)
		turn, err := q.Enter(background, time.Now().Add(50*time.Millisecond))
		if err != nil {
			t.Fatalf("it begins at once, and late is better than never: %v", err)
		}
		_, err = q.Enter(background, time.Now().Add(50*time.Millisecond))
		wantRefused(t, err, Deadline)
		turn.Leave(true)
	})
}

func TestARequestWhoseDeadlinePassesInTheQueueIsRefusedThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 1, Depth: 10})
		turn := enter(t, q, time.Second)
		began := time.Now()
		_, err := q.Enter(background, began.Add(100*time.Millisecond))
		wantRefused(t, err, Deadline)
		_, err = try(q, 200*time.Millisecond)
		wantRefused(t, err, Deadline)
		if waited := time.Since(began); waited != 300*time.Millisecond || q.Waiting() != 0 {
			t.Errorf("after %s, %d waiting", waited, q.Waiting())
		}
		turn.Leave(true)
		enter(t, q, time.Second).Leave(true)
	})
}

func TestAClientThatLeavesFreesItsPlaceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 1, Depth: 1})
		turn := enter(t, q, time.Second)
		gone := errors.New("the client went away")
		ctx, leave := context.WithCancelCause(background)
		done := make(chan error)
		go func() {
			_, err := q.Enter(ctx, time.Time{})
			done <- err
		}()
		synctest.Wait()
		leave(gone)
		if err := <-done; !errors.Is(err, gone) {
			t.Errorf("%v", err)
		}
		if q.Waiting() != 0 {
			t.Errorf("%d waiting", q.Waiting())
		}
		if _, err := q.Enter(ctx, time.Time{}); !errors.Is(err, gone) {
			t.Errorf("let in after it had left: %v", err)
		}
		turn.Leave(true)
		if q.AtWork() != 0 {
			t.Errorf("%d at work", q.AtWork())
		}
	})
}

func TestAnIdleServerTriesAgainAfterItWasTooSlowForEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 2, Depth: 10})
		learn(t, q, 3*time.Second)
		_, err := try(q, 500*time.Millisecond)
		wantRefused(t, err, Deadline)
		time.Sleep(staleTerm + time.Millisecond)
		probe := enter(t, q, 500*time.Millisecond)
		_, err = try(q, 500*time.Millisecond)
		wantRefused(t, err, Deadline) // one is enough to know
		time.Sleep(10 * time.Millisecond)
		probe.Leave(true)
		enter(t, q, 500*time.Millisecond).Leave(true)
	})
}

// A machine that stands still makes long the turns at hand, and a burst of what
// came meanwhile. Once it goes on, all of that can be done in time.
func TestWhatCameWhileTheMachineStoodStillIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 3, Depth: 512})
		work := func(took time.Duration) error {
			turn, err := q.Enter(t.Context(), time.Now().Add(500*time.Millisecond))
			if err != nil {
				return err
			}
			time.Sleep(took)
			turn.Leave(true)
			return nil
		}
		burst := func(n int, took time.Duration) {
			t.Helper()
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					if err := work(took); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		for range 100 {
			burst(1, time.Millisecond)
		}
		for range 5 {
			burst(3, 2*time.Second)
			burst(300, time.Millisecond)
		}
	})
}

func TestTurnsThatOnlyFailForTheirLengthCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 1, Depth: 10})
		learn(t, q, 100*time.Millisecond)
		enter(t, q, time.Second).Leave(false) // a picture that cannot be read, at once
		if q.service.mean != 100*time.Millisecond {
			t.Errorf("a failure at once made the mean %s", q.service.mean)
		}
		for range 20 {
			turn, err := try(q, 400*time.Millisecond)
			if err != nil {
				wantRefused(t, err, Deadline)
				return
			}
			time.Sleep(400 * time.Millisecond) // cut at its deadline
			turn.Leave(false)
		}
		t.Error("the queue never learned that nothing makes its deadline")
	})
}

// Many schedules of clients that come, wait, leave and give up: no turn is ever
// lost or given twice, and no turn is free while somebody waits.
func TestNoTurnIsLostWhateverTheSchedule(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 4))
			o := Options{Name: "xray", Turns: 1 + random.IntN(4), Depth: random.IntN(6)}
			q := New(o)
			check := func() {
				synctest.Wait()
				work, waiting := q.AtWork(), q.Waiting()
				if work > o.Turns || waiting > o.Depth || waiting > 0 && work < o.Turns {
					t.Fatalf("seed %d: %d of %d turns held, %d of %d places taken", seed, work, o.Turns, waiting, o.Depth)
				}
			}
			var clients sync.WaitGroup
			outcomes := make(chan error, 100)
			for range cap(outcomes) {
				c := client{
					within: time.Duration(random.IntN(60)) * time.Millisecond, service: time.Duration(random.IntN(20)) * time.Millisecond,
					patience: time.Duration(1+random.IntN(40)) * time.Millisecond, ok: random.IntN(5) > 0,
				}
				clients.Go(func() { outcomes <- c.visit(q) })
				if random.IntN(2) == 0 {
					time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
					check()
				}
			}
			clients.Wait()
			check()
			if len(outcomes) != cap(outcomes) || q.AtWork() != 0 || q.Waiting() != 0 {
				t.Fatalf("seed %d: %d outcomes, %d still at work, %d still waiting", seed, len(outcomes), q.AtWork(), q.Waiting())
			}
			for range o.Turns { // all turns are there
				if _, err := q.Enter(background, time.Time{}); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

// client is one request: what it allows, what it costs, when its sender loses
// patience.
type client struct {
	within, service, patience time.Duration
	ok                        bool
}

func (c client) visit(q *Queue) error {
	ctx, cancel := context.WithTimeout(background, c.patience)
	defer cancel()
	turn, err := q.Enter(ctx, time.Now().Add(c.within))
	if err != nil {
		return err
	}
	defer turn.Leave(c.ok)
	select {
	case <-time.After(c.service):
	case <-ctx.Done():
	}
	return ctx.Err()
}

func TestTurnsAreGivenInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 1, Depth: 20})
		held := enter(t, q, time.Second)
		order := make(chan int, 20)
		for i := range cap(order) {
			go func() {
				turn, err := q.Enter(background, time.Time{})
				if err != nil {
					t.Error(err)
				}
				order <- i
				turn.Leave(true)
			}()
			synctest.Wait()
		}
		held.Leave(true)
		for i := range cap(order) {
			if got := <-order; got != i {
				t.Fatalf("number %d came when number %d was due", got, i)
			}
		}
	})
}

func BenchmarkEnterAndLeave(b *testing.B) {
	q := New(Options{Name: "xray", Turns: 2, Depth: 64})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if turn, err := q.Enter(background, time.Now().Add(time.Hour)); err == nil {
				turn.Leave(true)
			}
		}
	})
}
