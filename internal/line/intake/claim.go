package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-ml/penstock/internal/journal"
)

// Schema is the version of a batch's record.
const Schema = 1

// Record is what stands in the bucket about a batch, at state/batches/<key>.json.
type Record struct {
	Schema int `json:"schema"`
	Batch
	Owner      string    `json:"owner"`      // the watcher that claimed it last
	Lease      time.Time `json:"lease"`      // until then nobody else may dispatch
	Claims     int       `json:"claims"`     // 1, or more after takeovers
	Dispatched bool      `json:"dispatched"` // the other side has it
}

// ErrUnknown means that no watcher ever claimed a batch with this key.
var ErrUnknown = errors.New("no such batch")

func recordKey(key string) string { return "state/batches/" + key + ".json" }

// Load reads the record of a batch.
func Load(ctx context.Context, store journal.Store, key string) (Record, error) {
	r, _, err := journal.Load[Record](ctx, store, recordKey(key))
	if errors.Is(err, journal.ErrNotFound) {
		return r, fmt.Errorf("batch %q: %w: `penstock watch --once` claims what lies below the raw prefix: %w", key, ErrUnknown, err)
	}
	if err == nil && (r.Schema != Schema || r.Key != key) {
		err = fmt.Errorf("record %s is of schema %d and names the batch %q; this version reads schema %d", recordKey(key), r.Schema, r.Key, Schema)
	}
	return r, err
}

// claimed is what an attempt to claim found.
type claimed int

const (
	mine    claimed = iota // dispatch it
	others                 // somebody else's lease runs
	already                // dispatched before
)

// claim takes a batch for owner until now+term, or tells who has it. Of many
// callers at once exactly one gets mine.
func claim(ctx context.Context, store journal.Store, b Batch, owner string, now time.Time, term time.Duration) (Record, string, claimed, error) {
	key := recordKey(b.Key)
	r, etag, err := journal.Load[Record](ctx, store, key)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		r, etag = Record{Schema: Schema, Batch: b}, ""
	case err != nil:
		return r, "", others, err
	case r.Dispatched:
		return r, etag, already, nil
	case r.Owner != owner && now.Before(r.Lease):
		return r, etag, others, nil
	}
	r.Owner, r.Lease, r.Claims = owner, now.Add(term).UTC(), r.Claims+1
	etag, err = journal.Replace(ctx, store, key, r, etag)
	if !errors.Is(err, journal.ErrConflict) {
		return r, etag, mine, err
	}
	// Another watcher was first, or this is our own PUT, sent again because
	// its answer was lost: the record tells.
	r, etag, err = journal.Load[Record](ctx, store, key)
	switch {
	case err != nil:
		return r, "", others, err
	case r.Dispatched:
		return r, etag, already, nil
	case r.Owner == owner:
		return r, etag, mine, nil
	}
	return r, etag, others, nil
}

// done records that a claimed batch was handed on. Whoever holds the record by
// now, the fact is the same.
func done(ctx context.Context, store journal.Store, r Record, etag string) error {
	r.Dispatched = true
	_, err := journal.Replace(ctx, store, recordKey(r.Key), r, etag)
	if !errors.Is(err, journal.ErrConflict) {
		return err
	}
	_, err = journal.Update(ctx, store, recordKey(r.Key), func(r *Record) error {
		r.Dispatched = true
		return nil
	})
	return err
}

// giveUp ends our lease, so that the next watcher need not wait for its end. A
// record that is somebody else's by now stays as it is.
func giveUp(ctx context.Context, store journal.Store, r Record, etag string, now time.Time) error {
	r.Lease = now.UTC()
	_, err := journal.Replace(ctx, store, recordKey(r.Key), r, etag)
	if errors.Is(err, journal.ErrConflict) {
		return nil
	}
	return err
}
