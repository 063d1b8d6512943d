// Package batch owns the gathering of requests that share one run of a model:
// as many as fit, and none waits longer than a maximum delay for company
// (Crankshaw et al., Clipper, 2017). Items go together when their keys are
// equal.
//
// While no run may start, a batch stays open beyond its delay: it could do
// nothing else in that time. A run that fails is repeated item by item, so that
// a bad item fails alone. An item whose caller leaves before the run drops out;
// a run that nobody waits for any longer is cancelled.
package batch

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Options bound a batch. Observe, where given, is told how many items each run
// took.
type Options struct {
	Max     int           // items of a run at most; below 2 there is no batching
	Delay   time.Duration // longest wait of the first item for others
	Observe func(size int)
}

// On tells whether the options ask for batching at all.
func (o Options) On() bool { return o.Max > 1 }

// Validate names the option that is wrong.
func (o Options) Validate() error {
	if o.Max < 0 || o.Max > 1024 {
		return fmt.Errorf("batches of %d: want 0 or 1 (no batching) to 1024", o.Max)
	}
	if o.Delay < 0 || o.Delay > time.Second {
		return fmt.Errorf("a batch delay of %s: want 0 to 1s", o.Delay)
	}
	return nil
}

// Runner runs what was gathered. It owns an item from Do until Drop.
type Runner[I, O any] interface {
	// Turn waits until a run may start; release ends the turn.
	Turn(ctx context.Context) (release func(), err error)
	// Run gives a result for each item, in their order, or an error for all.
	Run(ctx context.Context, items []I) ([]Result[O], error)
	// Drop frees an item that is not needed any more, run or not.
	Drop(item I)
	// Discard frees a result that nobody waits for.
	Discard(value O)
}

// Result is what became of one item. Queue is its waiting for company and for
// the turn; Run leaves it alone.
type Result[O any] struct {
	Value O
	Err   error
	Queue time.Duration
}

// Batcher gathers items. It is safe for concurrent use.
type Batcher[I, O any] struct {
	options Options
	runner  Runner[I, O]
	mu      sync.Mutex
	open    map[string]*group[I, O] // by key: the one that takes further items
}

// New makes a batcher over a runner.
func New[I, O any](o Options, r Runner[I, O]) *Batcher[I, O] {
	return &Batcher[I, O]{options: o, runner: r, open: map[string]*group[I, O]{}}
}

// waiter is an item and its caller.
type waiter[I, O any] struct {
	item   I
	joined time.Time
	result chan Result[O] // takes one without waiting
	gone   bool           // the caller left
}

// group is a batch, gathering or under way. Its fields are the lock's, those of
// its run apart.
type group[I, O any] struct {
	key     string
	waiters []*waiter[I, O]
	present int // waiters that are not gone
	timer   *time.Timer
	start   func()
	cancel  context.CancelFunc
}

// Do runs the item with others of its key and gives its result. It returns as
// soon as ctx ends, with its cause; the item is the runner's in any case.
func (b *Batcher[I, O]) Do(ctx context.Context, key string, item I) Result[O] {
	w := &waiter[I, O]{item: item, joined: time.Now(), result: make(chan Result[O], 1)}
	g := b.join(key, w)
	select {
	case r := <-w.result:
		return r
	case <-ctx.Done():
		b.leave(g, w)
	}
	select {
	case r := <-w.result: // it came at the same time
		return r
	default:
		return Result[O]{Err: context.Cause(ctx), Queue: time.Since(w.joined)}
	}
}

// join puts w into the open group of its key, or opens one. A full one starts
// at once.
func (b *Batcher[I, O]) join(key string, w *waiter[I, O]) *group[I, O] {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.open[key]
	if g == nil {
		ctx, cancel := context.WithCancel(context.Background())
		g = &group[I, O]{key: key, cancel: cancel}
		g.start = func() { b.run(ctx, g) }
		g.timer = time.AfterFunc(b.options.Delay, g.start)
		b.open[key] = g
	}
	g.waiters = append(g.waiters, w)
	if g.present++; g.present >= b.options.Max {
		b.close(g)
	}
	return g
}

// leave marks w's caller as gone; the last one to go ends the group.
func (b *Batcher[I, O]) leave(g *group[I, O], w *waiter[I, O]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.gone = true
	if g.present--; g.present == 0 {
		g.cancel()
		b.close(g)
	}
}

// close lets no further items in, and starts the group unless that was done.
// The caller holds the lock.
func (b *Batcher[I, O]) close(g *group[I, O]) {
	if b.open[g.key] == g {
		delete(b.open, g.key)
	}
	if g.timer.Stop() {
		go g.start()
	}
}

// run waits for the turn, takes who is there by then, and runs them.
func (b *Batcher[I, O]) run(ctx context.Context, g *group[I, O]) {
	defer g.cancel()
	release, err := b.runner.Turn(ctx)
	if err == nil {
		defer release()
	}
	present := b.take(g)
	now := time.Now()
	if err != nil || len(present) == 0 {
		b.fail(present, now, err)
		return
	}
	results, err := b.call(ctx, present)
	if err != nil && (len(present) == 1 || ctx.Err() != nil) {
		b.fail(present, now, err)
		return
	}
	for i, w := range present {
		var r Result[O]
		if err == nil {
			r = results[i]
		} else {
			r = b.alone(ctx, w)
		}
		r.Queue = now.Sub(w.joined)
		b.deliver(w, r)
	}
}

// fail gives everyone the same error.
func (b *Batcher[I, O]) fail(present []*waiter[I, O], now time.Time, err error) {
	for _, w := range present {
		b.deliver(w, Result[O]{Err: err, Queue: now.Sub(w.joined)})
	}
}

// take closes the group and gives its waiters, without those who left.
func (b *Batcher[I, O]) take(g *group[I, O]) []*waiter[I, O] {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.close(g)
	var present []*waiter[I, O]
	for _, w := range g.waiters {
		if w.gone {
			b.runner.Drop(w.item)
		} else {
			present = append(present, w)
		}
	}
	return present
}

// call is one run; a panic in it is its error and nobody else's.
func (b *Batcher[I, O]) call(ctx context.Context, present []*waiter[I, O]) (results []Result[O], err error) {
	defer func() {
		if v := recover(); v != nil {
			results, err = nil, fmt.Errorf("the run broke: %v", v)
		}
	}()
	items := make([]I, len(present))
	for i, w := range present {
		items[i] = w.item
	}
	if b.options.Observe != nil {
		b.options.Observe(len(items))
	}
	results, err = b.runner.Run(ctx, items)
	if err == nil && len(results) != len(items) {
		return nil, fmt.Errorf("a run of %d items gave %d results", len(items), len(results))
	}
	return results, err
}

// alone repeats the run for one item of a batch that failed.
func (b *Batcher[I, O]) alone(ctx context.Context, w *waiter[I, O]) Result[O] {
	results, err := b.call(ctx, []*waiter[I, O]{w})
	if err != nil {
		return Result[O]{Err: err}
	}
	return results[0]
}

// deliver hands a result over and frees what nobody needs any more.
func (b *Batcher[I, O]) deliver(w *waiter[I, O], r Result[O]) {
	b.runner.Drop(w.item)
	b.mu.Lock()
	gone := w.gone
	if !gone {
		w.result <- r
	}
	b.mu.Unlock()
	if gone && r.Err == nil {
		b.runner.Discard(r.Value)
	}
}
