// Package split owns the share of traffic that the canary gets on one proxy
// host: who may change it, for how long it holds without being confirmed, and
// that it survives a restart of the proxy or of the router.
//
// State is the pure machine; Keeper lays it down in a file and in the proxy;
// Handler is its wire, GET and PUT /v1/split. A share above 0 always has an
// owner and a lease. When the lease runs out the share goes to 0 and the owner
// is forgotten (a dead-man's switch): that is safe because stable always
// serves. What is refused: a share without an owner, a lease without an end,
// a change on top of a revision that is not the newest.
package split

import (
	"errors"
	"fmt"
	"time"
)

// Full is the share of all traffic, in basis points.
const Full = 10000

// Bounds of a lease. A shorter one would run out between two confirmations of
// a busy owner, a longer one is no dead-man's switch.
const (
	MinLease = time.Second
	MaxLease = 10 * time.Minute
)

var (
	// ErrStale means that the revision of a change is not the newest one:
	// somebody changed the split since it was read.
	ErrStale = errors.New("stale revision")
	// ErrHeld means that another owner's lease runs.
	ErrHeld = errors.New("held by another owner")
	// ErrInvalid means that the change asked for can never be right.
	ErrInvalid = errors.New("invalid split")
	// ErrCanaryDown means that the proxy knows no healthy server behind the
	// canary, so that a share would send users to nobody.
	ErrCanaryDown = errors.New("the proxy has no healthy canary")
)

// Split is the body of GET and PUT /v1/split. LeaseS is, in seconds, the term
// asked for in a PUT and what is left of it in an answer. Revision is, in a
// PUT, the one that the caller read. CanaryUp is set in answers only.
type Split struct {
	CanaryBP int     `json:"canary_bp"`
	Owner    string  `json:"owner"`
	LeaseS   float64 `json:"lease_s"`
	Revision int64   `json:"revision"`
	CanaryUp bool    `json:"canary_up"`
}

// State is what a router remembers, also over a restart.
type State struct {
	CanaryBP int       `json:"canary_bp"`
	Owner    string    `json:"owner"`
	Expires  time.Time `json:"expires"`
	Revision int64     `json:"revision"`
}

// At gives the state as it is at now: with the lease run out the share is 0
// and nobody owns it. The revision moves, so that a late owner is refused.
func (s State) At(now time.Time) State {
	if s.Owner == "" && s.CanaryBP == 0 {
		return s
	}
	if s.Owner != "" && now.Before(s.Expires) {
		return s
	}
	return State{Revision: s.Revision + 1}
}

// Change gives the state after want, asked for at now. Without an owner, want
// must be the share 0: a release, or an emergency stop, which everybody who
// holds the token may do.
func (s State) Change(want Split, now time.Time) (State, error) {
	s = s.At(now)
	if err := want.check(); err != nil {
		return s, err
	}
	if want.Revision != s.Revision {
		return s, fmt.Errorf("%w: the change is based on %d, the newest is %d; read the split again", ErrStale, want.Revision, s.Revision)
	}
	if want.Owner == "" {
		return State{Revision: s.Revision + 1}, nil
	}
	if s.Owner != "" && s.Owner != want.Owner {
		return s, fmt.Errorf("%w: %s until %s", ErrHeld, s.Owner, s.Expires.UTC().Format(time.RFC3339))
	}
	return State{
		CanaryBP: want.CanaryBP, Owner: want.Owner,
		Expires: now.Add(seconds(want.LeaseS)), Revision: s.Revision + 1,
	}, nil
}

func (w Split) check() error {
	switch {
	case w.CanaryBP < 0 || w.CanaryBP > Full:
		return fmt.Errorf("%w: canary_bp %d, wanted 0 to %d basis points", ErrInvalid, w.CanaryBP, Full)
	case w.Owner == "" && w.CanaryBP != 0:
		return fmt.Errorf("%w: a share of %d basis points needs an owner", ErrInvalid, w.CanaryBP)
	case len(w.Owner) > 200:
		return fmt.Errorf("%w: owner of %d bytes, at most 200", ErrInvalid, len(w.Owner))
	case w.Owner != "" && !(w.LeaseS >= MinLease.Seconds() && w.LeaseS <= MaxLease.Seconds()):
		return fmt.Errorf("%w: lease_s %v, wanted %v to %v", ErrInvalid, w.LeaseS, MinLease.Seconds(), MaxLease.Seconds())
	}
	return nil
}

// Split is the state as an answer given at now.
func (s State) Split(now time.Time, canaryUp bool) Split {
	s = s.At(now)
	answer := Split{CanaryBP: s.CanaryBP, Owner: s.Owner, Revision: s.Revision, CanaryUp: canaryUp}
	if s.Owner != "" {
		answer.LeaseS = s.Expires.Sub(now).Seconds()
	}
	return answer
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
