package intake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/intake"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

type lister struct {
	*objectstore.Bucket
	mu   sync.Mutex
	fail int // so many listings fail
}

var errOutage = errors.New("outage")

func (l *lister) List(ctx context.Context, prefix string) ([]intake.Object, error) {
	l.mu.Lock()
	l.fail--
	broken := l.fail >= 0
	l.mu.Unlock()
	if broken {
		return nil, errOutage
	}
	listed, err := l.Bucket.List(ctx, prefix)
	var objects []intake.Object
	for _, o := range listed {
		objects = append(objects, intake.Object{Key: o.Key, ETag: o.ETag, Size: o.Size, Modified: o.Modified})
	}
	return objects, err
}

type receiver struct {
	mu      sync.Mutex
	batches []intake.Batch
	asked   int
	before  func(ctx context.Context, b intake.Batch) error // may refuse or hang
}

func (r *receiver) Dispatched(_ context.Context, key string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return slices.ContainsFunc(r.batches, func(b intake.Batch) bool { return b.Key == key }), nil
}

func (r *receiver) Dispatch(ctx context.Context, b intake.Batch) error {
	if r.before != nil {
		if err := r.before(ctx, b); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, b)
	return nil
}

func (r *receiver) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys []string
	for _, b := range r.batches {
		keys = append(keys, b.Key)
	}
	return keys
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type events struct {
	mu   sync.Mutex
	list []intake.Event
}

func (e *events) tell(event intake.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) kinds() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var kinds []string
	for _, event := range e.list {
		kinds = append(kinds, string(event.Kind))
	}
	return strings.Join(kinds, " ")
}

type site struct {
	bucket *objectstore.Bucket
	to     *receiver
	clock  *clock
	n      int
}

func newSite(b *objectstore.Bucket) *site {
	return &site{bucket: b, to: &receiver{}, clock: &clock{now: time.Now()}}
}

func (s *site) watcher() (*intake.Watcher, *events) {
	s.n++
	told := &events{}
	return &intake.Watcher{
		Raw: "raw/", Settle: time.Hour, Term: time.Minute, Owner: fmt.Sprint("watcher-", s.n),
		Lister: &lister{Bucket: s.bucket}, Store: s.bucket, Dispatcher: s.to, Now: s.clock.Now, Tell: told.tell,
	}, told
}

func (s *site) pass(t *testing.T, want int) {
	t.Helper()
	w, _ := s.watcher()
	handed, err := w.Reconcile(t.Context())
	if err != nil || len(handed) != want {
		t.Fatalf("handed on %d, want %d: %v", len(handed), want, err)
	}
}

type mortal struct {
	journal.Store
	writes int
}

func (m *mortal) Put(ctx context.Context, key string, data []byte, when journal.Condition) (string, error) {
	if m.writes--; m.writes < 0 {
		return "", errors.New("dead")
	}
	return m.Store.Put(ctx, key, data, when)
}

func await(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not come about in 20 s")
		}
	}
}
