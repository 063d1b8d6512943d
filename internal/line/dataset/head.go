package dataset

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock-ml/penstock/internal/journal"
)

const headKey = "state/datasets/head.json"

// ErrParentMoved means that another data set was accepted since this one was
// made from its parent.
var ErrParentMoved = errors.New("the newest accepted data set is another by now")

// Accepted is the record of the newest accepted data set, the parent of the
// next one. Dataset is empty where none was accepted yet.
type Accepted struct {
	Schema  int    `json:"schema"`
	Dataset string `json:"dataset"`
	Parent  string `json:"parent"`
	RunKey  string `json:"run_key"` // of the run that accepted it
}

// Head reads which data set is the newest accepted one.
func Head(ctx context.Context, store journal.Store) (Accepted, error) {
	head, _, err := readHead(ctx, store)
	return head, err
}

func readHead(ctx context.Context, store journal.Store) (Accepted, string, error) {
	head, etag, err := journal.Load[Accepted](ctx, store, headKey)
	if errors.Is(err, journal.ErrNotFound) {
		return Accepted{}, "", nil
	}
	if err == nil && (head.Schema != Schema || !isDigest(head.Dataset)) {
		err = fmt.Errorf("record %s is of schema %d and names the data set %q; this version reads schema %d", headKey, head.Schema, head.Dataset, Schema)
	}
	return head, etag, err
}

// Accept makes a finished data set the head. It answers ErrParentMoved where
// the head is no longer the data set's parent; a data set that is the head
// already is accepted again without a change.
func Accept(ctx context.Context, store journal.Store, digest, runKey string) error {
	d, err := Describe(ctx, store, digest)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	for {
		head, etag, err := readHead(ctx, store)
		if err != nil {
			return fmt.Errorf("accept data set %s: %w", digest, err)
		}
		if head.Dataset == digest {
			return nil
		}
		if head.Dataset != d.Parent {
			return fmt.Errorf("accept data set %s: %w: %s, and its parent is %q: run its batch %s again on the new parent", digest, ErrParentMoved, head.Dataset, d.Parent, d.Batch)
		}
		next := Accepted{Schema: Schema, Dataset: digest, Parent: d.Parent, RunKey: runKey}
		_, err = journal.Replace(ctx, store, headKey, next, etag)
		if err == nil {
			return nil
		}
		if !errors.Is(err, journal.ErrConflict) {
			return fmt.Errorf("accept data set %s: %w", digest, err)
		}
		// The head changed between: look again. This ends, because a changed
		// head is this data set or no longer its parent.
	}
}

// Refusal records that the run of a batch ended in a rejection: the batch
// stays out until it is readmitted.
type Refusal struct {
	Schema     int    `json:"schema"`
	Batch      string `json:"batch"`
	Dataset    string `json:"dataset"` // the rejected one
	RunKey     string `json:"run_key"`
	Reason     string `json:"reason"`
	Readmitted bool   `json:"readmitted"`
}

func refusalKey(batch string) string { return "state/datasets/refused/" + batch + ".json" }

// Refuse remembers a refused batch.
func Refuse(ctx context.Context, store journal.Store, batch, digest, runKey, reason string) error {
	_, err := journal.Update(ctx, store, refusalKey(batch), func(r *Refusal) error {
		*r = Refusal{Schema: Schema, Batch: batch, Dataset: digest, RunKey: runKey, Reason: reason}
		return nil
	})
	if err != nil {
		return fmt.Errorf("refuse batch %s: %w", batch, err)
	}
	return nil
}

// Refused answers the refusal of a batch that has to stay out, or nil.
func Refused(ctx context.Context, store journal.Store, batch string) (*Refusal, error) {
	r, _, err := journal.Load[Refusal](ctx, store, refusalKey(batch))
	if errors.Is(err, journal.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if r.Readmitted {
		return nil, nil
	}
	return &r, nil
}

// Readmit lets a refused batch in again. A batch that was never refused is an
// error: the key is probably mistyped.
func Readmit(ctx context.Context, store journal.Store, batch string) error {
	_, err := journal.Update(ctx, store, refusalKey(batch), func(r *Refusal) error {
		if r.Batch == "" {
			return errors.New("it was never refused: is the key right?")
		}
		r.Readmitted = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("readmit batch %s: %w", batch, err)
	}
	return nil
}
