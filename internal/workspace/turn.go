package workspace

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// The runs of a project go one after the other: a run takes the lease at
// turnKey with its first step and gives it back with its last, or with the
// first step that does not pass. A platform's own queue would drop runs that
// wait. Who dies holds the turn for stepTerm, who loses its next job for
// runTerm.
const (
	turnKey  = "state/turn.json"
	stepTerm = 2 * time.Minute  // while a step runs; renewed every renewal
	renewal  = 30 * time.Second // must fit several times into stepTerm
	runTerm  = 15 * time.Minute // between two steps of a run
	turnPoll = 2 * time.Second  // of who waits
	turnCall = 20 * time.Second // of a call after the work was cancelled
)

// errTurnLost ends a step whose lease another run has by now.
var errTurnLost = errors.New("another run has taken the turn")

// Take waits until it is the turn of env's run. A scope writes no journal and
// disturbs nobody: it has no turn to wait for.
func (Ledger) Take(ctx context.Context, env *action.Env) (context.Context, func(keep bool) error, error) {
	w, err := Open(env)
	if err != nil {
		return nil, nil, err
	}
	if w.Bucket.Scope() != "" {
		return ctx, func(bool) error { return nil }, nil
	}
	t := turn{store: w.Bucket, owner: env.Common.RunKey, now: env.Now}
	if err := t.wait(ctx, env); err != nil {
		return nil, nil, fmt.Errorf("wait for the turn of run %s: %w", t.owner, err)
	}
	ctx, lost := context.WithCancelCause(ctx)
	renewing, stop := context.WithCancel(ctx)
	var renewer sync.WaitGroup
	renewer.Go(func() { t.renew(renewing, lost) })
	return ctx, func(keep bool) error {
		stop()
		renewer.Wait()
		defer lost(nil)
		return t.leave(ctx, keep)
	}, nil
}

// turn is one run's part of the order.
type turn struct {
	store journal.Store
	owner string
	now   func() time.Time
}

func (t turn) wait(ctx context.Context, env *action.Env) error {
	var progress *action.Progress
	for {
		held, err := journal.Acquire(ctx, t.store, turnKey, t.owner, t.now(), stepTerm)
		if err == nil || !errors.Is(err, journal.ErrHeld) {
			return err
		}
		if progress == nil {
			env.Logf("run %.12s has its turn now, this run waits", held.Owner)
			progress = env.Progress("waits", 0)
			defer progress.Finish()
		}
		progress.Add(1, "for run "+held.Owner[:min(12, len(held.Owner))])
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(turnPoll):
		}
	}
}

// renew holds the turn while the step works. An outage of the store is waited
// out: only another run's lease ends the step.
func (t turn) renew(ctx context.Context, lost context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewal):
		}
		_, err := journal.Acquire(ctx, t.store, turnKey, t.owner, t.now(), stepTerm)
		if errors.Is(err, journal.ErrHeld) {
			lost(verdict.Coded("turn-lost", fmt.Errorf("%w: %w", errTurnLost, err)))
			return
		}
	}
}

// leave keeps the turn for the run's next step, or ends it.
func (t turn) leave(ctx context.Context, keep bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnCall)
	defer cancel()
	if !keep {
		return journal.Release(ctx, t.store, turnKey, t.owner, t.now())
	}
	_, err := journal.Acquire(ctx, t.store, turnKey, t.owner, t.now(), runTerm)
	if errors.Is(err, journal.ErrHeld) {
		return nil // the step is done; its successor will wait
	}
	return err
}
