package objectstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/journal"
)

func conditionIsAConflict(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	etag := put(t, b, "k", "one")
	_, err := b.Put(t.Context(), "k", []byte("two"), journal.IfAbsent())
	wants(t, err, journal.ErrConflict, "/k")
	second, err := b.Put(t.Context(), "k", []byte("two"), journal.IfMatch(etag))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Put(t.Context(), "k", []byte("three"), journal.IfMatch(etag))
	wants(t, err, journal.ErrConflict)
	data, got, err := b.Get(t.Context(), "k")
	if string(data) != "two" || got != second || err != nil {
		t.Errorf("%q, %q, %v", data, got, err)
	}
}

func removedIsAConflict(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	etag := put(t, b, "k", "one")
	if err := b.Remove(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	_, err := b.Put(t.Context(), "k", []byte("two"), journal.IfMatch(etag))
	wants(t, err, journal.ErrConflict)
}

func oneWriterWins(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	etag := put(t, b, "match", "zero")
	for key, when := range map[string]journal.Condition{"absent": journal.IfAbsent(), "match": journal.IfMatch(etag)} {
		errs := make(chan error, 32)
		for i := range cap(errs) {
			go func() {
				_, err := b.Put(t.Context(), key, fmt.Append(nil, i), when)
				errs <- err
			}()
		}
		won := 0
		for range cap(errs) {
			switch err := <-errs; {
			case err == nil:
				won++
			case !errors.Is(err, journal.ErrConflict):
				t.Errorf("%s: %v", key, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d writers won", key, won)
		}
	}
}

func leases(t *testing.T, s3 *servertest.S3) {
	b, now := fresh(t, s3), time.Now()
	errs := make(chan error, 16)
	for i := range cap(errs) {
		go func() {
			_, err := journal.Acquire(t.Context(), b, "state/lease.json", fmt.Sprint("owner", i), now, time.Minute)
			errs <- err
		}()
	}
	won := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			won++
		} else if !errors.Is(err, journal.ErrHeld) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Fatalf("%d owners hold the lease", won)
	}
	if _, err := journal.Acquire(t.Context(), b, "state/lease.json", "late", now.Add(2*time.Minute), time.Minute); err != nil {
		t.Errorf("the lease is over and cannot be taken: %v", err)
	}
}

func updates(t *testing.T, s3 *servertest.S3) {
	type counter struct {
		N int `json:"n"`
	}
	b := fresh(t, s3)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := journal.Update(t.Context(), b, "state/n.json", func(c *counter) error { c.N++; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, _, err := journal.Load[counter](t.Context(), b, "state/n.json")
	if c.N != 4 || err != nil {
		t.Errorf("%d updates are kept, %v", c.N, err)
	}
}

func newerRecord(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	put(t, b, "state/n.json", `{"n": 1, "novelty": true}`)
	_, _, err := journal.Load[struct {
		N int `json:"n"`
	}](t.Context(), b, "state/n.json")
	if err == nil || !strings.Contains(err.Error(), "novelty") || !strings.Contains(err.Error(), "state/n.json") {
		t.Errorf("error %v", err)
	}
}
