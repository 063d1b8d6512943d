package batch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/serve/batch"
)

var errBad = errors.New("bad item in the batch")

// fake doubles numbers. Odd ones in a batch of several break its run; alone
// they fail by themselves. A turn needs a token, where there are any.
type fake struct {
	tokens chan struct{} // nil: always free
	runs   chan []int    // told of every run
	hold   chan struct{} // a run waits for it, where given

	mu                 sync.Mutex
	dropped, discarded []int
}

func newFake() *fake { return &fake{runs: make(chan []int, 1000)} }

func (f *fake) Turn(ctx context.Context) (func(), error) {
	if f.tokens == nil {
		return func() {}, nil
	}
	select {
	case f.tokens <- struct{}{}:
		return func() { <-f.tokens }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (f *fake) Run(ctx context.Context, items []int) ([]batch.Result[int], error) {
	f.runs <- slices.Clone(items)
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	results := make([]batch.Result[int], len(items))
	for i, v := range items {
		switch {
		case v == 13:
			panic("thirteen")
		case v%2 == 1:
			return nil, errBad
		}
		results[i].Value = 2 * v
	}
	return results, nil
}

func (f *fake) Drop(item int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = append(f.dropped, item)
}

func (f *fake) Discard(value int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.discarded = append(f.discarded, value)
}

// freed waits until so many items were dropped.
func (f *fake) freed(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		got := len(f.dropped)
		f.mu.Unlock()
		if got == want {
			return
		}
		if got > want || time.Now().After(deadline) {
			t.Fatalf("%d items were dropped, want %d", got, want)
		}
	}
}

// all runs the items at the same time and gives their results in order.
func all(b *batch.Batcher[int, int], ctx context.Context, items ...int) []batch.Result[int] {
	results := make([]batch.Result[int], len(items))
	var wg sync.WaitGroup
	for i, v := range items {
		wg.Go(func() { results[i] = b.Do(ctx, "key", v) })
	}
	wg.Wait()
	return results
}

func TestAFullBatchRunsTogetherAtOnce(t *testing.T) {
	f := newFake()
	var sizes []int
	b := batch.New(batch.Options{Max: 4, Delay: time.Hour, Observe: func(n int) { sizes = append(sizes, n) }}, f)
	for i, r := range all(b, t.Context(), 2, 4, 6, 8) {
		if r.Err != nil || r.Value != 4*(i+1) {
			t.Errorf("item %d: %+v", i, r)
		}
	}
	if got := len(<-f.runs); got != 4 || len(f.runs) != 0 || fmt.Sprint(sizes) != "[4]" {
		t.Errorf("a run of %d, %d more, observed %v", got, len(f.runs), sizes)
	}
	f.freed(t, 4)
}

func TestAnItemWaitsNoLongerThanTheDelay(t *testing.T) {
	b := batch.New(batch.Options{Max: 4, Delay: 20 * time.Millisecond}, newFake())
	r := b.Do(t.Context(), "key", 2)
	if r.Err != nil || r.Value != 4 || r.Queue < 15*time.Millisecond || r.Queue > 2*time.Second {
		t.Errorf("got %+v", r)
	}
}

func TestABadItemFailsAlone(t *testing.T) {
	f := newFake()
	b := batch.New(batch.Options{Max: 5, Delay: time.Hour}, f)
	for i, r := range all(b, t.Context(), 2, 3, 4, 13, 6) {
		switch bad := i == 1 || i == 3; {
		case bad && r.Err == nil:
			t.Errorf("item %d: no error", i)
		case i == 1 && !errors.Is(r.Err, errBad):
			t.Errorf("item %d: %v", i, r.Err)
		case !bad && (r.Err != nil || r.Value != []int{4, 0, 8, 0, 12}[i]):
			t.Errorf("item %d: %+v", i, r)
		}
	}
	f.freed(t, 5)
}

func TestItemsOfOtherKeysGoApart(t *testing.T) {
	f := newFake()
	b := batch.New(batch.Options{Max: 2, Delay: time.Hour}, f)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if r := b.Do(t.Context(), fmt.Sprint(i%4), 10*i); r.Err != nil || r.Value != 20*i {
				t.Errorf("item %d: %+v", i, r)
			}
		})
	}
	wg.Wait()
	for range 4 {
		if run := <-f.runs; len(run) != 2 || run[0]/10%4 != run[1]/10%4 {
			t.Errorf("a run of %v", run)
		}
	}
}

func TestABatchGrowsWhileItsTurnIsNotThere(t *testing.T) {
	f := newFake()
	f.tokens = make(chan struct{}, 1)
	f.tokens <- struct{}{} // taken by somebody else
	b := batch.New(batch.Options{Max: 8, Delay: 0}, f)
	done := make(chan []batch.Result[int])
	go func() { done <- all(b, t.Context(), 2, 4, 6) }()
	go func() { done <- all(b, t.Context(), 8, 10) }()
	time.Sleep(50 * time.Millisecond) // all have joined; if not, there are two runs
	<-f.tokens
	<-done
	<-done
	if run := <-f.runs; len(run) < 2 {
		t.Errorf("a run of %v: it did not wait for its turn", run)
	}
}

func TestWhoLeavesBeforeTheRunDropsOut(t *testing.T) {
	f := newFake()
	f.tokens = make(chan struct{}, 1)
	f.tokens <- struct{}{}
	b := batch.New(batch.Options{Max: 8, Delay: 0}, f)
	stays := make(chan batch.Result[int])
	go func() { stays <- b.Do(t.Context(), "key", 2) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r := b.Do(ctx, "key", 4); !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Errorf("got %+v", r)
	}
	<-f.tokens
	if r := <-stays; r.Err != nil || r.Value != 4 {
		t.Errorf("got %+v", r)
	}
	f.freed(t, 2)
	for len(f.runs) > 0 {
		if run := <-f.runs; slices.Contains(run, 4) {
			t.Errorf("a run of %v", run)
		}
	}
}

func TestWhoLeavesDuringTheRunReturnsAtOnceAndItsResultIsFreed(t *testing.T) {
	f := newFake()
	f.hold = make(chan struct{})
	b := batch.New(batch.Options{Max: 2, Delay: time.Hour}, f)
	stays := make(chan batch.Result[int])
	go func() { stays <- b.Do(t.Context(), "key", 2) }()
	ctx, cancel := context.WithCancelCause(t.Context())
	left := make(chan batch.Result[int])
	go func() { left <- b.Do(ctx, "key", 4) }()
	<-f.runs
	gone := errors.New("the client is gone")
	cancel(gone)
	if r := <-left; !errors.Is(r.Err, gone) {
		t.Errorf("got %+v", r)
	}
	close(f.hold)
	if r := <-stays; r.Err != nil || r.Value != 4 {
		t.Errorf("got %+v", r)
	}
	f.freed(t, 2)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		discarded := slices.Clone(f.discarded)
		f.mu.Unlock()
		if slices.Equal(discarded, []int{8}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("discarded %v, want [8]", discarded)
		}
	}
}

func TestARunThatNobodyWaitsForIsCancelled(t *testing.T) {
	f := newFake()
	f.hold = make(chan struct{}) // for ever
	b := batch.New(batch.Options{Max: 2, Delay: time.Hour}, f)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-f.runs; cancel() }()
	for i, r := range all(b, ctx, 2, 4) {
		if !errors.Is(r.Err, context.Canceled) {
			t.Errorf("item %d: %+v", i, r)
		}
	}
	f.freed(t, 2)
	// one that leaves before anything started
	if r := b.Do(ctx, "key", 6); !errors.Is(r.Err, context.Canceled) {
		t.Errorf("got %+v", r)
	}
	f.freed(t, 3)
}

func TestUnderLoadEveryItemGetsItsOwnResult(t *testing.T) {
	f := newFake()
	f.runs = make(chan []int, 100_000)
	f.tokens = make(chan struct{}, 2)
	b := batch.New(batch.Options{Max: 7, Delay: time.Millisecond}, f)
	var wg sync.WaitGroup
	for user := range 16 {
		wg.Go(func() {
			for i := range 200 {
				v := user*1000 + i
				ctx, cancel := context.WithCancel(t.Context())
				if i%17 == 0 {
					cancel()
				}
				r := b.Do(ctx, fmt.Sprint(v%3), v)
				cancel()
				switch {
				case errors.Is(r.Err, context.Canceled) && i%17 == 0:
				case v%2 == 1 && v != 13 && !errors.Is(r.Err, errBad), v%2 == 0 && (r.Err != nil || r.Value != 2*v):
					t.Errorf("%d: %+v", v, r)
				}
			}
		})
	}
	wg.Wait()
	f.freed(t, 16*200)
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, o := range []batch.Options{{Max: -1}, {Max: 5000}, {Max: 2, Delay: -1}, {Max: 2, Delay: time.Minute}} {
		if o.Validate() == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if o := (batch.Options{Max: 8, Delay: time.Millisecond}); o.Validate() != nil || !o.On() || (batch.Options{Max: 1}).On() {
		t.Errorf("%+v", o)
	}
}
