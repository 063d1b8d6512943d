package journal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Lease is the right of one owner to work on something until a moment. It
// orders the runs of a project and outlives the process that took it, but not
// for longer than its term.
type Lease struct {
	Owner   string    `json:"owner"`
	Expires time.Time `json:"expires"`
}

// ErrHeld means that another owner holds the lease and its term is not over.
var ErrHeld = errors.New("held by another owner")

// Acquire takes or renews the lease at key for owner. It answers ErrHeld,
// wrapped with the holder and the end of its term, where another owner's term
// runs. Of several callers at once exactly one wins.
func Acquire(ctx context.Context, s Store, key, owner string, now time.Time, term time.Duration) (Lease, error) {
	held, etag, err := Load[Lease](ctx, s, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Lease{}, err
	}
	if held.Owner != "" && held.Owner != owner && now.Before(held.Expires) {
		return held, fmt.Errorf("lease %s: %s until %s: %w", key, held.Owner, held.Expires.Format(time.RFC3339), ErrHeld)
	}
	mine := Lease{Owner: owner, Expires: now.Add(term)}
	if _, err := Replace(ctx, s, key, mine, etag); err != nil {
		if errors.Is(err, ErrConflict) {
			return Lease{}, fmt.Errorf("lease %s: taken by another at this moment: %w", key, ErrHeld)
		}
		return Lease{}, err
	}
	return mine, nil
}

// Release ends owner's lease at once. A lease that is another's by now stays.
func Release(ctx context.Context, s Store, key, owner string, now time.Time) error {
	held, etag, err := Load[Lease](ctx, s, key)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if held.Owner != owner {
		return nil
	}
	_, err = Replace(ctx, s, key, Lease{Owner: owner, Expires: now}, etag)
	if errors.Is(err, ErrConflict) {
		return nil // somebody took it over meanwhile: then it is no longer ours
	}
	return err
}
