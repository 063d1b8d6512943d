// Package journal keeps small durable records in a bucket: claims, leases,
// the state of a rollout, the head of the data sets. Every change is a
// conditional PUT, so two writers never both believe that they won, and a
// process killed between two calls leaves either the old record or the new.
package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

var (
	// ErrNotFound means that no object has this key.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the condition of a PUT did not hold: somebody
	// else wrote first.
	ErrConflict = errors.New("conflict: another writer was first")
)

// Condition says when a PUT may take place. The zero value is Always.
type Condition struct {
	absent bool
	etag   string
}

// Always puts without a condition.
func Always() Condition { return Condition{} }

// IfAbsent puts only where no object has the key (If-None-Match: *).
func IfAbsent() Condition { return Condition{absent: true} }

// IfMatch puts only over the version with this ETag (If-Match).
func IfMatch(etag string) Condition { return Condition{etag: etag} }

// Absent tells whether the condition is IfAbsent.
func (c Condition) Absent() bool { return c.absent }

// ETag is the ETag of IfMatch, else empty.
func (c Condition) ETag() string { return c.etag }

// Store is the bucket as the journal sees it. Get answers ErrNotFound, Put
// answers ErrConflict.
type Store interface {
	Get(ctx context.Context, key string) (data []byte, etag string, err error)
	Put(ctx context.Context, key string, data []byte, when Condition) (etag string, err error)
}

// Create writes a record that must not exist yet. It answers ErrConflict where
// it does.
func Create[T any](ctx context.Context, s Store, key string, record T) (etag string, err error) {
	return put(ctx, s, key, record, IfAbsent())
}

// Load reads a record. Unknown fields are an error: the record is of a newer
// version than this program.
func Load[T any](ctx context.Context, s Store, key string) (record T, etag string, err error) {
	data, etag, err := s.Get(ctx, key)
	if err != nil {
		return record, "", fmt.Errorf("read record %s: %w", key, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&record); err != nil {
		return record, "", fmt.Errorf("record %s cannot be understood (written by a newer version, or damaged): %w", key, err)
	}
	return record, etag, nil
}

// Replace writes a record over the version with this ETag; an empty ETag means
// that there must be none.
func Replace[T any](ctx context.Context, s Store, key string, record T, etag string) (string, error) {
	if etag == "" {
		return Create(ctx, s, key, record)
	}
	return put(ctx, s, key, record, IfMatch(etag))
}

// updateTries bounds how often Update starts again after a conflict.
const updateTries = 10

// Update reads the record, or the zero value where there is none, lets change
// alter it and writes it back, and starts again where another writer came
// between. An error of change ends it without writing. The record as written
// is returned.
func Update[T any](ctx context.Context, s Store, key string, change func(*T) error) (T, error) {
	var zero T
	for range updateTries {
		record, etag, err := Load[T](ctx, s, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return zero, err
		}
		if err := change(&record); err != nil {
			return zero, err
		}
		_, err = Replace(ctx, s, key, record, etag)
		if err == nil {
			return record, nil
		}
		if !errors.Is(err, ErrConflict) {
			return zero, err
		}
	}
	return zero, fmt.Errorf("record %s: lost %d races in a row: %w", key, updateTries, ErrConflict)
}

func put[T any](ctx context.Context, s Store, key string, record T, when Condition) (string, error) {
	data, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode record %s: %w", key, err)
	}
	etag, err := s.Put(ctx, key, append(data, '\n'), when)
	if err != nil {
		return "", fmt.Errorf("write record %s: %w", key, err)
	}
	return etag, nil
}
