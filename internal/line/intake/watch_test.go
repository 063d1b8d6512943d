package intake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/line/intake"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

func TestWatchersOnMinIO(t *testing.T) {
	s3 := servertest.MinIO(t)
	for name, test := range map[string]func(*testing.T, *objectstore.Bucket){
		"a settled batch is handed on once, whatever is repeated":         once,
		"eight watchers at once make one dispatch":                        eight,
		"a claim whose owner died is taken over after its lease":          diedBeforeDispatch,
		"a dispatch that was not recorded is found and not repeated":      diedBeforeRecord,
		"a failed dispatch is told, released and tried again":             failedDispatch,
		"a dispatch of open outcome keeps its claim until the lease ends": openOutcome,
		"a dispatch ends before its lease does":                           slowDispatch,
		"a folder that grew becomes a batch of its own":                   grown,
		"one bad batch does not stop the others":                          oneBad,
		"a record of a newer version is an error and not handed on":       newer,
		"an outage is told, waited for and survived":                      outage,
		"a watcher that is told to end releases the claim it works on":    ended,
		"an unsettled batch is told once and left alone":                  unsettled,
		"a batch that no watcher claimed is unknown, with the remedy":     unknown,
		"of eight that take over an expired claim one dispatches":         takeover,
		"a marker alone is no batch and stray files are told of":          nothingThere,
		"the record names what was claimed, object by object":             record,
		"a passing error of the record after a dispatch repeats nothing":  lostRecord,
	} {
		t.Run(name, func(t *testing.T) {
			b, err := objectstore.Open(objectstore.Credentials{
				Endpoint: s3.Endpoint, Region: servertest.Region, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey,
			}, servertest.Bucket(t, s3))
			if err != nil {
				t.Fatal(err)
			}
			test(t, b)
		})
	}
}

// lister adapts the bucket and may be made to fail.
// receiver is the other side of a dispatcher.
// clock is a time that tests move.
// events keeps what a watcher tells.
// watcher is a new process, as far as the bucket can tell.
func (s *site) upload(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := s.bucket.UploadBytes(t.Context(), "raw/"+n, []byte(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func once(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/labels.csv", "a/_SUCCESS")
	w, told := s.watcher()
	for range 3 {
		if _, err := w.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.pass(t, 0) // another watcher
	s.upload(t, "a/_SUCCESS")
	s.pass(t, 0) // the marker once more
	s.clock.move(time.Hour)
	s.pass(t, 0) // long after the lease
	if keys := s.to.keys(); len(keys) != 1 || told.kinds() != "dispatched" {
		t.Errorf("dispatched %v, told %q", keys, told.kinds())
	}
}

func openOutcome(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	s.to.before = func(context.Context, intake.Batch) error { return fmt.Errorf("%w: cut off", intake.ErrUncertain) }
	first, _ := s.watcher()
	if _, err := first.Reconcile(t.Context()); !errors.Is(err, intake.ErrUncertain) {
		t.Errorf("error %v", err)
	}
	s.to.before = nil
	second, told := s.watcher()
	if handed, err := second.Reconcile(t.Context()); err != nil || len(handed) != 0 || told.kinds() != "busy" {
		t.Errorf("handed on %v, told %q, %v", handed, told.kinds(), err)
	}
	s.clock.move(2 * time.Minute)
	s.pass(t, 1)
}

func record(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/2.png", "a/1.png", "a/_SUCCESS")
	s.pass(t, 1)
	r, err := intake.Load(t.Context(), b, s.to.keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	if r.Prefix != "raw/a/" || len(r.Objects) != 2 || r.Objects[0].Key != "raw/a/1.png" || r.Objects[0].Size != 7 || !r.Dispatched || r.Claims != 1 {
		t.Errorf("%+v", r)
	}
	if intake.Fingerprint(r.Objects) != r.Key {
		t.Error("the record's objects have another fingerprint")
	}
}

func eight(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS", "b/1.png", "b/_SUCCESS")
	var wg sync.WaitGroup
	for range 8 {
		w, _ := s.watcher()
		wg.Go(func() {
			for range 3 {
				if _, err := w.Reconcile(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if keys := s.to.keys(); len(keys) != 2 || keys[0] == keys[1] {
		t.Errorf("dispatched %v", keys)
	}
}

// abandon leaves a claim as a watcher does that is killed while it hands on;
// with received, the other side has the batch already.
func abandon(t *testing.T, s *site, received bool) {
	t.Helper()
	died := errors.New("killed")
	s.to.before = func(_ context.Context, b intake.Batch) error {
		if received {
			s.to.mu.Lock()
			s.to.batches = append(s.to.batches, b)
			s.to.mu.Unlock()
		}
		return died
	}
	w, _ := s.watcher()
	w.Store = &mortal{Store: s.bucket, writes: 1} // the claim, and nothing after it
	if _, err := w.Reconcile(t.Context()); !errors.Is(err, died) {
		t.Fatalf("the watcher did not die: %v", err)
	}
	s.to.before = nil
}

// mortal is a store whose owner dies after some writes.
func diedBeforeDispatch(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	abandon(t, s, false)
	w, told := s.watcher()
	if _, err := w.Reconcile(t.Context()); err != nil || told.kinds() != "busy" {
		t.Fatalf("the lease runs: told %q, %v", told.kinds(), err)
	}
	s.clock.move(61 * time.Second)
	s.pass(t, 1)
	s.pass(t, 0)
	if keys := s.to.keys(); len(keys) != 1 {
		t.Errorf("dispatched %v", keys)
	}
}

func diedBeforeRecord(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	abandon(t, s, true)
	s.clock.move(61 * time.Second)
	w, told := s.watcher()
	if _, err := w.Reconcile(t.Context()); err != nil || told.kinds() != "recovered" {
		t.Fatalf("told %q, %v", told.kinds(), err)
	}
	if keys := s.to.keys(); len(keys) != 1 {
		t.Errorf("dispatched %v", keys)
	}
	asked := s.to.asked
	s.pass(t, 0)
	if s.to.asked != asked {
		t.Error("what is recorded is asked for again")
	}
}

func takeover(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	abandon(t, s, false)
	s.clock.move(61 * time.Second)
	eightMore := make([]*intake.Watcher, 8)
	for i := range eightMore {
		eightMore[i], _ = s.watcher()
	}
	var wg sync.WaitGroup
	for _, w := range eightMore {
		wg.Go(func() {
			if _, err := w.Reconcile(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if keys := s.to.keys(); len(keys) != 1 {
		t.Errorf("dispatched %v", keys)
	}
}

func failedDispatch(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	refusal := errors.New("no room")
	s.to.before = func(context.Context, intake.Batch) error { return refusal }
	w, told := s.watcher()
	if _, err := w.Reconcile(t.Context()); !errors.Is(err, refusal) || !strings.Contains(err.Error(), "raw/a/") {
		t.Fatalf("error %v", err)
	}
	if told.kinds() != "trouble" {
		t.Errorf("told %q", told.kinds())
	}
	s.to.before = nil
	s.clock.move(time.Millisecond)
	s.pass(t, 1) // another watcher, with no wait for the lease
}

func slowDispatch(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	w, _ := s.watcher()
	w.Term = time.Second
	var left time.Duration
	s.to.before = func(ctx context.Context, _ intake.Batch) error {
		end, _ := ctx.Deadline()
		left = time.Until(end)
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := w.Reconcile(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	if left <= 0 || left > 800*time.Millisecond {
		t.Errorf("a dispatch had %s, its lease ran a second", left)
	}
}

func grown(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	s.pass(t, 1)
	s.upload(t, "a/2.png")
	s.pass(t, 0) // newer than the marker: not complete
	s.upload(t, "a/_SUCCESS")
	s.pass(t, 1)
	s.pass(t, 0)
	keys := s.to.keys()
	if len(keys) != 2 || keys[0] == keys[1] || len(s.to.batches[1].Objects) != 2 {
		t.Errorf("dispatched %v", keys)
	}
}

func oneBad(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS", "b/1.png", "b/_SUCCESS", "c/1.png", "c/_SUCCESS")
	s.to.before = func(_ context.Context, b intake.Batch) error {
		if b.Prefix == "raw/b/" {
			return errOutage
		}
		return nil
	}
	w, told := s.watcher()
	handed, err := w.Reconcile(t.Context())
	if !errors.Is(err, errOutage) || len(handed) != 2 || told.kinds() != "dispatched trouble dispatched" {
		t.Errorf("handed on %d, told %q, %v", len(handed), told.kinds(), err)
	}
}

func newer(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	s.pass(t, 1)
	key := "state/batches/" + s.to.keys()[0] + ".json"
	if err := b.UploadBytes(t.Context(), key, []byte(`{"schema":2,"novelty":1}`)); err != nil {
		t.Fatal(err)
	}
	w, _ := s.watcher()
	if _, err := w.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "newer version") || len(s.to.keys()) != 1 {
		t.Errorf("dispatched %v, %v", s.to.keys(), err)
	}
}

func unknown(t *testing.T, b *objectstore.Bucket) {
	_, err := intake.Load(t.Context(), b, "nobody")
	if !errors.Is(err, intake.ErrUnknown) || !strings.Contains(err.Error(), "penstock watch") {
		t.Errorf("error %v", err)
	}
}

func unsettled(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png")
	w, told := s.watcher()
	for range 3 {
		if handed, err := w.Reconcile(t.Context()); len(handed) != 0 || err != nil {
			t.Fatalf("%v, %v", handed, err)
		}
	}
	if told.kinds() != "waiting" {
		t.Errorf("told %q", told.kinds())
	}
	w.Settle = time.Nanosecond // silent for longer than that, by the store's clock
	await(t, func() bool {
		handed, err := w.Reconcile(t.Context())
		return err == nil && len(handed) == 1
	})
}

func nothingThere(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/_SUCCESS", "loose.png")
	w, told := s.watcher()
	if handed, err := w.Reconcile(t.Context()); len(handed) != 0 || err != nil || told.kinds() != "stray waiting" {
		t.Errorf("%v, told %q, %v", handed, told.kinds(), err)
	}
}

func lostRecord(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	w, _ := s.watcher()
	w.Store = &mortal{Store: b, writes: 1}
	if _, err := w.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "record that") {
		t.Fatalf("error %v", err)
	}
	w.Store = b // the same watcher, when the store works again
	if _, err := w.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := intake.Load(t.Context(), b, s.to.keys()[0])
	if len(s.to.keys()) != 1 || err != nil || !r.Dispatched {
		t.Errorf("dispatched %v, %+v, %v", s.to.keys(), r, err)
	}
}

func outage(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	w, told := s.watcher()
	w.Lister.(*lister).fail = 2
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx, 10*time.Millisecond)
	}()
	await(t, func() bool { return strings.HasPrefix(told.kinds(), "trouble trouble dispatched") })
	cancel()
	<-ended
	if len(s.to.keys()) != 1 {
		t.Errorf("dispatched %v", s.to.keys())
	}
}

func ended(t *testing.T, b *objectstore.Bucket) {
	s := newSite(b)
	s.upload(t, "a/1.png", "a/_SUCCESS")
	ctx, cancel := context.WithCancel(t.Context())
	s.to.before = func(ctx context.Context, _ intake.Batch) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	w, _ := s.watcher()
	w.Run(ctx, time.Hour)
	s.to.before = nil
	s.clock.move(time.Millisecond)
	s.pass(t, 1) // with no wait for the lease
}
