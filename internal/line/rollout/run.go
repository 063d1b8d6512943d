package rollout

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
)

// Router moves the share. SetWeights takes or renews the lease and answers
// split.ErrHeld where another's runs; Release ends any lease, at share 0.
type Router interface {
	Weights(ctx context.Context) (Share, error)
	SetWeights(ctx context.Context, bp int) (Share, error)
	Release(ctx context.Context) error
}

// Fleet is the servers by slot. Load returns when the slot answers users with
// the digest, deployment.ErrRefused where it will not. Loading what is served
// does nothing.
type Fleet interface {
	Load(ctx context.Context, slot, digest string) error
	Serving(ctx context.Context, slot string) (digest string, err error)
}

// Meter reads the servers' counters.
type Meter interface {
	Read(ctx context.Context, slot string) (map[string]deployment.Reading, error)
}

// Registry knows and moves the alias production, and lays the tag. Champion
// answers ErrNoChampion before the first promotion. Promote may be called
// again for what it has promoted.
type Registry interface {
	Champion(ctx context.Context) (Champion, error)
	Promote(ctx context.Context, digest string) (version string, err error)
}

// Champion is the digest under the alias production, its version, and the
// digest before it.
type Champion struct {
	Digest, Previous, Version string
}

var (
	// ErrNoChampion means that nothing was ever promoted.
	ErrNoChampion = errors.New("no champion")
	// ErrTakenOver means that another process drives this model's rollout now.
	ErrTakenOver = errors.New("another process took the rollout over")
	// ErrUnfinished means that another run has to be ended first.
	ErrUnfinished = errors.New("another run is unfinished")
	// ErrNoWayBack means that there is nothing to roll back to.
	ErrNoWayBack = errors.New("no previous version to go back to")
)

// Line is what a run works on.
type Line struct {
	Model    string
	RunKey   string
	Plan     Plan
	Router   Router
	Fleet    Fleet
	Meter    Meter
	Registry Registry
	Store    journal.Store
	Now      func() time.Time
	Say      func(format string, args ...any)
}

// Key is the place of a model's record.
func Key(model string) string { return "state/rollouts/" + model + ".json" }

// run is one process's drive through a state.
type run struct {
	Line
	record Record
	etag   string
}

func (l Line) open(ctx context.Context) (*run, error) {
	record, etag, err := journal.Load[Record](ctx, l.Store, Key(l.Model))
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return &run{Line: l, record: Record{Schema: recordSchema, Current: State{Phase: Closed}}}, nil
	case err != nil:
		return nil, err
	case record.Schema != recordSchema:
		return nil, fmt.Errorf("record %s has schema %d, this version reads %d", Key(l.Model), record.Schema, recordSchema)
	}
	return &run{Line: l, record: record, etag: etag}, nil
}

// save keeps a state. Of two processes that drive the same model the one that
// finds the record changed leaves.
func (r *run) save(ctx context.Context, s State) error {
	next := r.record.with(s)
	etag, err := journal.Replace(ctx, r.Store, Key(r.Model), next, r.etag)
	if errors.Is(err, journal.ErrConflict) {
		return fmt.Errorf("%w: %w", ErrTakenOver, err)
	}
	if err != nil {
		return err
	}
	r.record, r.etag = next, etag
	return nil
}

// drive runs the machine until it stops or something breaks. However it ends
// early, the share goes back to stable: by our own hand, or, should that fail
// too, by the lease.
func (r *run) drive(ctx context.Context, s State, resumed bool) (State, error) {
	said := len(s.Events)
	if !resumed {
		said = 0
	}
	s, err := r.loop(ctx, s, resumed, said)
	if err == nil {
		if err := r.Router.Release(ctx); err != nil {
			r.Say("the lease of the share could not be given back, it runs out by itself: %s", err)
		}
		return s, nil
	}
	if !errors.Is(err, ErrTakenOver) && !errors.Is(err, split.ErrHeld) {
		r.withdraw(context.WithoutCancel(ctx), s)
	}
	return s, err
}

func (r *run) loop(ctx context.Context, s State, resumed bool, said int) (State, error) {
	o, err := r.observe(ctx, s)
	if err != nil {
		return s, err
	}
	if resumed {
		s = Resume(s, o, r.Plan, r.Now())
	}
	if err := r.save(ctx, s); err != nil {
		return s, err
	}
	for looks := 0; ; looks++ {
		next, act := Advance(s, o, r.Plan, r.Now())
		if !reflect.DeepEqual(next, s) {
			if err := r.save(ctx, next); err != nil {
				return s, err
			}
		}
		said = r.tell(next, said, looks)
		s = next
		if act.Do == Stop {
			return s, nil
		}
		done, err := r.perform(ctx, s, act)
		if err != nil {
			return s, err
		}
		if o, err = r.observe(ctx, s); err != nil {
			return s, err
		}
		o.Refused, o.Promoted = done.refused, done.version
	}
}

// tellEvery is the number of looks between two lines about the counters.
const tellEvery = 5

// tell says what is new, and now and then how the arms stand.
func (r *run) tell(s State, said, looks int) int {
	fresh := min(max(len(s.Events)-said, 0), len(s.Events))
	for _, e := range s.Events[len(s.Events)-fresh:] {
		r.Say("%s: %s", s.Kind, e.Text)
	}
	if s.Phase == Steps && fresh == 0 && looks%tellEvery == 0 {
		here := s.Strata[len(s.Strata)-1]
		r.Say("%s: step %d of %d, share %g%%: canary %s; stable %s; the canary answered %d of %d", s.Kind, s.Step+1, len(r.Plan.Steps),
			float64(here.ShareBP)/100, counts(here.Canary), counts(here.Stable), s.Total().Canary.Requests, r.Plan.MinRequests)
	}
	return len(s.Events)
}

func counts(c deployment.Counts) string {
	return fmt.Sprintf("%d requests, %d errors, %d over the slo", c.Requests, c.Errors, c.Slow)
}

// short is a digest as prose shows it; records and results have all of it.
func short(digest string) string {
	if digest == "" {
		return "nothing"
	}
	return digest[:min(12, len(digest))]
}

// outcome is what an action left to be observed.
type outcome struct {
	refused string
	version string
}

func (r *run) perform(ctx context.Context, s State, act Action) (outcome, error) {
	switch act.Do {
	case Wait:
		return outcome{}, r.wait(ctx)
	case SetShare:
		return outcome{}, r.setShare(ctx, act.ShareBP)
	case Load:
		return r.load(ctx, s, act)
	case Finish:
		version, err := r.Registry.Promote(ctx, s.Digest)
		return outcome{version: version}, err
	}
	return outcome{}, fmt.Errorf("rollout: unknown action %q", act.Do)
}

func (r *run) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.Plan.Interval):
		return nil
	}
}

// setShare is patient: a router or proxy that restarts comes back within the
// lease. A canary that the proxy does not see is left to the next look.
func (r *run) setShare(ctx context.Context, bp int) error {
	err := r.patient(ctx, func() error {
		_, err := r.Router.SetWeights(ctx, bp)
		return err
	})
	if errors.Is(err, split.ErrCanaryDown) {
		return r.wait(ctx)
	}
	return err
}

// patient repeats a call to the routers for as long as the lease lasts.
func (r *run) patient(ctx context.Context, call func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := call()
		for _, final := range []error{split.ErrHeld, split.ErrCanaryDown, split.ErrInvalid} {
			if errors.Is(err, final) {
				return struct{}{}, backoff.Permanent(err)
			}
		}
		return struct{}{}, err
	}, backoff.WithBackOff(shortBackOff()), backoff.WithMaxElapsedTime(r.Plan.Lease))
	return err
}

func shortBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, time.Second
	return b
}

// load brings a digest to a slot and keeps the lease alive meanwhile. A lease
// that cannot be kept ends the load.
func (r *run) load(ctx context.Context, s State, act Action) (outcome, error) {
	r.Say("%s: %s loads %s", s.Kind, act.Slot, short(act.Digest))
	var held Share
	err := r.patient(ctx, func() (err error) {
		held, err = r.Router.Weights(ctx)
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	loading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var renewing sync.WaitGroup
	if held.Owned {
		renewing.Go(func() { r.renew(loading, cancel, held.BP) })
	}
	err = r.Fleet.Load(loading, act.Slot, act.Digest)
	lost := context.Cause(loading)
	cancel(nil)
	renewing.Wait()
	switch {
	case errors.Is(err, deployment.ErrRefused):
		return outcome{refused: err.Error()}, nil
	case err != nil && lost != nil:
		return outcome{}, lost
	case err != nil && (s.Phase == Keep || s.Phase == Restore):
		// A slot without traffic that cannot be reached is a warning: it must
		// keep neither a promotion nor a rejection from its end.
		return outcome{refused: err.Error()}, nil
	}
	return outcome{}, err
}

func (r *run) renew(ctx context.Context, cancel context.CancelCauseFunc, bp int) {
	tick := time.NewTicker(r.Plan.Lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := r.patient(ctx, func() error {
			_, err := r.Router.SetWeights(ctx, bp)
			return err
		})
		if err != nil && ctx.Err() == nil && !errors.Is(err, split.ErrCanaryDown) {
			cancel(fmt.Errorf("the lease of the share could not be kept: %w", err))
			return
		}
	}
}

// observe looks at everything that the phase needs, at the same time, so that
// one server that hangs does not cost the lease.
func (r *run) observe(ctx context.Context, s State) (Observation, error) {
	var o Observation
	var shareErr error
	limited, cancel := context.WithTimeout(ctx, r.Plan.Lease/2)
	defer cancel()
	var looking sync.WaitGroup
	looking.Go(func() { o.Share, shareErr = r.hold(ctx) })
	looking.Go(func() { o.Canary = r.arm(limited, deployment.Canary) })
	looking.Go(func() { o.Stable = r.arm(limited, deployment.Stable) })
	var canaryErr, stableErr error
	if s.Phase == Steps {
		looking.Go(func() { o.CanaryCounters, canaryErr = r.Meter.Read(limited, deployment.Canary) })
		looking.Go(func() { o.StableCounts, stableErr = r.Meter.Read(limited, deployment.Stable) })
	}
	looking.Wait()
	if err := ctx.Err(); err != nil {
		return o, err
	}
	for _, err := range []error{canaryErr, stableErr} {
		if err != nil {
			r.Say("%s: no counters at this look: %s", s.Kind, err)
		}
	}
	return o, shareErr
}

// hold reads the share and renews the lease where it is ours.
func (r *run) hold(ctx context.Context) (Share, error) {
	var now Share
	err := r.patient(ctx, func() (err error) {
		if now, err = r.Router.Weights(ctx); err != nil || !now.Owned || !now.Same {
			return err
		}
		renewed, err := r.Router.SetWeights(ctx, now.BP)
		if errors.Is(err, split.ErrHeld) {
			now.Owned = false
			return nil
		}
		if err == nil {
			now = renewed
		}
		return err
	})
	return now, err
}

func (r *run) arm(ctx context.Context, slot string) Arm {
	digest, err := r.Fleet.Serving(ctx, slot)
	if err != nil {
		return Arm{Trouble: err.Error()}
	}
	return Arm{Serving: digest}
}

// withdrawTime bounds the way out after an error or a signal.
const withdrawTime = 10 * time.Second

// withdraw brings the share to 0 with the last breath. Where no router
// answers, the canary is told to serve what stable serves, so that whatever
// share is left does no harm.
func (r *run) withdraw(ctx context.Context, s State) {
	ctx, cancel := context.WithTimeout(ctx, withdrawTime)
	defer cancel()
	err := r.Router.Release(ctx)
	if err == nil {
		r.Say("%s: stopped in phase %s, the share is 0; run the command again to go on", s.Kind, s.Phase)
		return
	}
	r.Say("%s: stopped in phase %s and the share could not be set to 0, it goes there when the lease of %s runs out: %s", s.Kind, s.Phase, r.Plan.Lease, err)
	if (s.Phase != Steps && s.Phase != Retreat) || s.Previous == "" || s.Kind != Rollout {
		return
	}
	if err := r.Fleet.Load(ctx, deployment.Canary, s.Previous); err != nil {
		r.Say("%s: the canary could not be brought back to %s either: %s", s.Kind, short(s.Previous), err)
	}
}
