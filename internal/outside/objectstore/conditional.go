package objectstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/penstock-ml/penstock/internal/journal"
)

// CheckConditional finds out whether the store honours conditional PUT, on
// which every claim, lease and head rests: a store that ignores the condition
// answers 200 and would let two writers win. It writes one object below
// state/probe/ and removes it.
func (b *Bucket) CheckConditional(ctx context.Context) (err error) {
	key := "state/probe/" + rand.Text()
	etag, err := b.Put(ctx, key, []byte("first"), journal.IfAbsent())
	if err != nil {
		return fmt.Errorf("conditional PUT (If-None-Match) does not work: %w", err)
	}
	defer func() { err = errors.Join(err, b.Remove(ctx, key)) }()
	if err := b.mustConflict(ctx, key, journal.IfAbsent(), "If-None-Match: *"); err != nil {
		return err
	}
	if err := b.mustConflict(ctx, key, journal.IfMatch("00000000000000000000000000000000"), "If-Match"); err != nil {
		return err
	}
	if _, err := b.Put(ctx, key, []byte("second"), journal.IfMatch(etag)); err != nil {
		return fmt.Errorf("conditional PUT (If-Match with the right ETag) does not work: %w", err)
	}
	return nil
}

func (b *Bucket) mustConflict(ctx context.Context, key string, when journal.Condition, header string) error {
	_, err := b.Put(ctx, key, []byte("refuse me"), when)
	switch {
	case errors.Is(err, journal.ErrConflict):
		return nil
	case err == nil:
		return fmt.Errorf("%s ignores %s on PUT: two watchers could both claim a batch; use a store that honours conditional PUT (MinIO since 2024, AWS S3, versitygw)", b.endpoint, header)
	}
	return fmt.Errorf("conditional PUT (%s) does not work: %w", header, err)
}
