package intake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/journal"
)

// Kind says what a watcher did with a folder.
type Kind string

// Kinds of events.
const (
	Waiting    Kind = "waiting"    // not settled yet
	Dispatched Kind = "dispatched" // handed on now
	Recovered  Kind = "recovered"  // was handed on by one that died before it could record it
	Busy       Kind = "busy"       // another watcher has it
	Stray      Kind = "stray"      // files in no folder
	Trouble    Kind = "trouble"    // an error; it is tried again
)

// Event tells one thing that a watcher did or found.
type Event struct {
	Kind   Kind
	Batch  string // key, where there is one
	Prefix string
	Text   string
}

// Watcher hands on what settles below Raw. Its fields are set once, before
// the first pass.
type Watcher struct {
	Raw    string        // prefix, ends in a slash
	Settle time.Duration // silence that ends a batch without a marker
	Term   time.Duration // how long a claim stands
	Owner  string        // of no other watcher, not even an earlier one of this host

	Lister     Lister
	Store      journal.Store
	Dispatcher Dispatcher
	Now        func() time.Time // leases
	Tell       func(Event)

	told  map[string]string // last event of each folder, so that it is told once
	known map[string]bool   // keys that are dispatched
}

// margin is kept between the end of a dispatch and the end of its lease, for
// clocks that differ.
const margin = 5

// Reconcile makes one pass: it compares the listing with the records and hands
// on what is complete and not yet handed on. It returns the batches handed on
// in this pass. A batch that fails does not stop the others; all errors are
// returned together.
func (w *Watcher) Reconcile(ctx context.Context) ([]Batch, error) {
	objects, err := w.Lister.List(ctx, w.Raw)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", w.Raw, err)
	}
	folders, stray := Folders(w.Raw, objects)
	if len(stray) > 0 {
		w.once(Event{Stray, "", w.Raw, fmt.Sprintf("%d files lie in no batch's folder and are left alone, the first is %s", len(stray), stray[0].Key)})
	}
	var handed []Batch
	var failed []error
	for _, prefix := range slices.Sorted(maps.Keys(folders)) {
		b, err := w.folder(ctx, prefix, folders[prefix])
		if err != nil {
			err = fmt.Errorf("batch %s: %w", prefix, err)
			w.once(Event{Trouble, "", prefix, err.Error()})
			failed = append(failed, err)
		}
		if b != nil {
			handed = append(handed, *b)
		}
		if ctx.Err() != nil {
			return handed, ctx.Err()
		}
	}
	return handed, errors.Join(failed...)
}

// folder looks after one folder. It answers the batch when it was handed on.
func (w *Watcher) folder(ctx context.Context, prefix string, objects []Object) (*Batch, error) {
	kept := content(objects)
	if len(kept) == 0 {
		w.once(Event{Waiting, "", prefix, "the folder has no files but its marker"})
		return nil, nil
	}
	b := Batch{Key: Fingerprint(objects), Prefix: prefix, Objects: kept}
	if w.known[b.Key] {
		return nil, nil
	}
	if wait := Settle(prefix, objects, w.Lister.Now(), w.Settle); wait > 0 {
		w.once(Event{Waiting, b.Key, prefix, fmt.Sprintf("%d files; complete when nothing changes for %s, or with %s%s", len(kept), w.Settle, prefix, Marker)})
		return nil, nil
	}
	now := w.Now()
	record, etag, state, err := claim(ctx, w.Store, b, w.Owner, now, w.Term)
	switch {
	case err != nil:
		return nil, err
	case state == already:
		w.remember(b.Key)
		return nil, nil
	case state == others:
		w.once(Event{Busy, b.Key, prefix, fmt.Sprintf("%s has claimed it until %s", record.Owner, record.Lease.Format(time.RFC3339))})
		return nil, nil
	}
	return w.dispatch(ctx, record, etag, now)
}

// dispatch hands a claimed batch on before its lease is over, unless the other
// side has it already.
func (w *Watcher) dispatch(ctx context.Context, r Record, etag string, claimed time.Time) (*Batch, error) {
	call, cancel := context.WithTimeout(ctx, w.Term-w.Term/margin-w.Now().Sub(claimed))
	defer cancel()
	has, err := w.Dispatcher.Dispatched(call, r.Key)
	if err == nil && !has {
		err = w.Dispatcher.Dispatch(call, r.Batch)
	}
	if errors.Is(err, ErrUncertain) {
		return nil, fmt.Errorf("hand on %s: %w", r.Key, err)
	}
	if err != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Term/margin)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("hand on %s: %w", r.Key, err), giveUp(last, w.Store, r, etag, w.Now()))
	}
	event := Event{Dispatched, r.Key, r.Prefix, fmt.Sprintf("%d files handed on", len(r.Objects))}
	if has {
		event.Kind, event.Text = Recovered, "was handed on already; now it is recorded"
	}
	w.once(event)
	// The fact is recorded even when the watcher is told to end just now.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Term)
	defer cancel()
	if err := done(last, w.Store, r, etag); err != nil {
		return nil, fmt.Errorf("record that %s was handed on (the next pass finds out): %w", r.Key, err)
	}
	w.remember(r.Key)
	return &r.Batch, nil
}

func (w *Watcher) remember(key string) {
	if w.known == nil {
		w.known = map[string]bool{}
	}
	w.known[key] = true
}

// once tells an event unless it was the last one told of this folder.
func (w *Watcher) once(e Event) {
	if w.told == nil {
		w.told = map[string]string{}
	}
	id := string(e.Kind) + e.Batch + e.Text
	if w.told[e.Prefix] != id {
		w.told[e.Prefix] = id
		w.Tell(e)
	}
}

// longestPause is how long a resident watcher waits at most after errors.
const longestPause = 5 * time.Minute

// Run makes passes until ctx ends, one each interval. Errors are told and lead
// to longer pauses; they never end it.
func (w *Watcher) Run(ctx context.Context, interval time.Duration) {
	failures := 0
	for ctx.Err() == nil {
		_, err := w.Reconcile(ctx)
		wait := interval
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			wait = pause(interval, failures)
			w.Tell(Event{Kind: Trouble, Prefix: w.Raw, Text: fmt.Sprintf("pass failed (%d in a row), next in %s: %v", failures, wait.Round(time.Millisecond), err)})
		case failures > 0:
			w.Tell(Event{Kind: Waiting, Prefix: w.Raw, Text: fmt.Sprintf("works again after %d failed passes", failures)})
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// pause doubles with each failure, up to longestPause, with a jitter of a
// quarter so that several watchers do not come back at once.
func pause(interval time.Duration, failures int) time.Duration {
	wait := interval
	for range failures {
		wait = min(2*wait, longestPause)
	}
	return max(interval, wait-time.Duration(rand.Int64N(int64(wait)/4+1)))
}
