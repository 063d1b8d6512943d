package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/journal"
)

// memory is a store in memory with the semantics of conditional PUT; the same
// behaviour is tested against a real store in outside/objectstore.
type memory struct {
	mu      sync.Mutex
	objects map[string]string
	version int
	etags   map[string]string
}

func newMemory() *memory { return &memory{objects: map[string]string{}, etags: map[string]string{}} }

func (m *memory) Get(_ context.Context, key string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[key]
	if !ok {
		return nil, "", journal.ErrNotFound
	}
	return []byte(data), m.etags[key], nil
}

func (m *memory) Put(_ context.Context, key string, data []byte, when journal.Condition) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, exists := m.objects[key]; (when.Absent() && exists) || (when.ETag() != "" && when.ETag() != m.etags[key]) {
		return "", journal.ErrConflict
	}
	m.version++
	m.objects[key], m.etags[key] = string(data), fmt.Sprint(m.version)
	return m.etags[key], nil
}

type counter struct {
	N int `json:"n"`
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	store := newMemory()
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 8 {
		wg.Go(func() {
			for range 5 {
				_, err := journal.Update(context.Background(), store, "k", func(c *counter) error { c.N++; return nil })
				if err == nil {
					mu.Lock()
					done++
					mu.Unlock()
				} else if !errors.Is(err, journal.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, _, err := journal.Load[counter](context.Background(), store, "k")
	if err != nil || got.N != done || done == 0 {
		t.Errorf("counted %d, %d updates succeeded, %v", got.N, done, err)
	}
}

func TestCreateHasOneWinner(t *testing.T) {
	store := newMemory()
	if _, err := journal.Create(context.Background(), store, "k", counter{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Create(context.Background(), store, "k", counter{2}); !errors.Is(err, journal.ErrConflict) {
		t.Errorf("the second create answered %v", err)
	}
}

func TestAnErrorOfChangeWritesNothing(t *testing.T) {
	store := newMemory()
	refused := errors.New("refused")
	if _, err := journal.Update(context.Background(), store, "k", func(c *counter) error { c.N = 9; return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if _, _, err := store.Get(context.Background(), "k"); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("something was written: %v", err)
	}
}

func TestARecordOfANewerVersionIsRefused(t *testing.T) {
	store := newMemory()
	store.Put(context.Background(), "k", []byte(`{"n":1,"later":true}`), journal.Always())
	if _, _, err := journal.Load[counter](context.Background(), store, "k"); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("read anyway: %v", err)
	}
}

func TestLeaseHasOneHolderUntilItsTermEnds(t *testing.T) {
	ctx, store, now := context.Background(), newMemory(), time.Unix(1000, 0)
	acquire := func(owner string, at time.Time) error {
		_, err := journal.Acquire(ctx, store, "lease", owner, at, time.Minute)
		return err
	}
	if err := acquire("a", now); err != nil {
		t.Fatal(err)
	}
	if err := acquire("b", now.Add(59*time.Second)); !errors.Is(err, journal.ErrHeld) || !strings.Contains(err.Error(), "a until") {
		t.Errorf("b while a holds: %v", err)
	}
	if err := acquire("a", now.Add(30*time.Second)); err != nil {
		t.Errorf("a could not renew: %v", err)
	}
	if err := acquire("b", now.Add(91*time.Second)); err != nil {
		t.Errorf("b could not take over after the term: %v", err)
	}
	if err := journal.Release(ctx, store, "lease", "a", now.Add(92*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := acquire("c", now.Add(93*time.Second)); !errors.Is(err, journal.ErrHeld) {
		t.Errorf("a's late release freed b's lease: %v", err)
	}
	if err := journal.Release(ctx, store, "lease", "b", now.Add(94*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := acquire("c", now.Add(95*time.Second)); err != nil {
		t.Errorf("released, yet: %v", err)
	}
}
