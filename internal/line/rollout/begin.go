package rollout

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Rollout brings digest to production, or takes up the run that was cut off.
// The first digest ever goes to stable without a judgement, because there is
// nothing to compare it with; the champion's own digest is put right where it
// is not served, and otherwise nothing is done. A rejection is a State, an
// error means that nobody knows; the share is then on its way to 0.
func (l Line) Rollout(ctx context.Context, digest string) (State, error) {
	r, err := l.open(ctx)
	if err != nil {
		return State{}, err
	}
	current := r.record.Current
	if current.Phase != Closed && current.Kind != Rollback && current.Digest == digest {
		r.Say("a %s of %s was cut off in phase %s: it is taken up", current.Kind, short(digest), current.Phase)
		return r.drive(ctx, current, true)
	}
	if err := r.supersede(ctx); err != nil {
		return State{}, err
	}
	champion, err := r.Registry.Champion(ctx)
	switch {
	case errors.Is(err, ErrNoChampion):
		r.Say("nothing was ever promoted: stable loads %s directly", short(digest))
		return r.begin(ctx, Direct, digest, "")
	case err != nil:
		return State{}, err
	case champion.Digest == digest:
		return r.settled(ctx, champion)
	}
	if err := r.comparable(ctx, champion); err != nil {
		return State{}, err
	}
	r.announce()
	return r.begin(ctx, Rollout, digest, champion.Digest)
}

// Rollback brings back what was champion before, without judging it again. It
// is the emergency way: it takes the share from a rollout past its decision.
// Done already, it does nothing.
func (l Line) Rollback(ctx context.Context) (State, error) {
	r, err := l.open(ctx)
	if err != nil {
		return State{}, err
	}
	current := r.record.Current
	switch {
	case current.Phase != Closed && current.Kind == Rollback:
		r.Say("the rollback to %s was cut off in phase %s: it is taken up", short(current.Digest), current.Phase)
		return r.drive(ctx, current, true)
	case current.Phase != Closed && (current.Decided || current.Touched):
		if current.Previous == "" || current.Kind == Direct {
			return State{}, fmt.Errorf("%w: the %s of %s is unfinished; run `penstock rollout --model %s` again", ErrNoWayBack, current.Kind, current.Digest, current.Digest)
		}
		r.Say("the rollout of %s was past its decision: back to %s", short(current.Digest), short(current.Previous))
		return r.preempt(ctx, current.Previous, current.Digest)
	}
	if err := r.supersede(ctx); err != nil {
		return State{}, err
	}
	champion, err := r.Registry.Champion(ctx)
	if err != nil {
		return State{}, err
	}
	current = r.record.Current
	if current.Kind == Rollback && current.Verdict == verdict.Pass && current.Digest == champion.Digest {
		return r.settled(ctx, champion)
	}
	if champion.Previous == "" {
		return State{}, fmt.Errorf("%w: %s is the only version that ever was in production", ErrNoWayBack, champion.Digest)
	}
	return r.begin(ctx, Rollback, champion.Previous, champion.Digest)
}

// begin starts a run, unless another one's lease runs.
func (r *run) begin(ctx context.Context, kind Kind, digest, previous string) (State, error) {
	s := Start(kind, r.Model, digest, previous, r.Plan, r.Now())
	s.RunKey = r.RunKey
	return r.drive(ctx, s, false)
}

// preempt fences the run that is recorded, then takes its lease.
func (r *run) preempt(ctx context.Context, digest, previous string) (State, error) {
	s := Start(Rollback, r.Model, digest, previous, r.Plan, r.Now())
	s.RunKey = r.RunKey
	if err := r.save(ctx, s); err != nil {
		return s, err
	}
	if err := r.patient(ctx, func() error { return r.Router.Release(ctx) }); err != nil {
		return s, err
	}
	return r.drive(ctx, s, false)
}

// supersede closes a run that was cut off before its decision: production
// never knew of it. One past it, or one whose lease still runs, is left alone.
func (r *run) supersede(ctx context.Context) error {
	current := r.record.Current
	now, err := r.Router.Weights(ctx)
	if err != nil {
		return err
	}
	if now.Holder != "" {
		return fmt.Errorf("the share is held by %q: wait for its end, or until its lease runs out: %w", now.Holder, split.ErrHeld)
	}
	if current.Phase == Closed {
		return nil
	}
	if current.Decided || current.Touched {
		command := "rollout --model " + current.Digest
		if current.Kind == Rollback {
			command = "rollback"
		}
		return fmt.Errorf("%w: the %s of %s was cut off in phase %s, stable may serve it: run `penstock %s` again first", ErrUnfinished, current.Kind, current.Digest, current.Phase, command)
	}
	r.Say("the %s of %s was cut off before its decision: closed", current.Kind, short(current.Digest))
	if current.Verdict == "" {
		current.Verdict, current.Reason = verdict.Inconclusive, verdict.Reason{Code: "superseded", Text: "cut off before its decision, then another run began"}
	}
	current.Phase, current.Finished = Closed, r.Now()
	return r.save(ctx, current)
}

// settled is the champion asked for again: done, or put right.
func (r *run) settled(ctx context.Context, champion Champion) (State, error) {
	serving, err := r.Fleet.Serving(ctx, deployment.Stable)
	if err == nil && serving == champion.Digest {
		if err := r.release(ctx); err != nil {
			return State{}, err
		}
		s := Start(Direct, r.Model, champion.Digest, champion.Previous, r.Plan, r.Now())
		s.RunKey, s.Version = r.RunKey, champion.Version
		s, _ = s.close(r.Now(), verdict.Pass, "served", fmt.Sprintf("%s is the champion and stable serves it: nothing to do", champion.Digest))
		return s, nil
	}
	if err != nil && !errors.Is(err, deployment.ErrNothingServed) {
		return State{}, err
	}
	r.Say("stable serves %s instead of the champion %s: it is put right", short(serving), short(champion.Digest))
	return r.begin(ctx, Direct, champion.Digest, champion.Previous)
}

// release gives back a lease that a killed run of ours left.
func (r *run) release(ctx context.Context) error {
	now, err := r.Router.Weights(ctx)
	if err != nil || !now.Owned {
		return err
	}
	return r.Router.Release(ctx)
}

// comparable wants the champion on stable: a canary compared with anything
// else would prove nothing.
func (r *run) comparable(ctx context.Context, champion Champion) error {
	serving, err := r.Fleet.Serving(ctx, deployment.Stable)
	if err != nil && !errors.Is(err, deployment.ErrNothingServed) {
		return err
	}
	if serving != champion.Digest {
		return fmt.Errorf("stable serves %s, the champion is %s: put it right with `penstock deploy --environment production --slot stable --model %s`, then roll out", orNothing(serving), champion.Digest, champion.Digest)
	}
	return nil
}

// announce says beforehand what the plan can find.
func (r *run) announce() {
	for i, percent := range r.Plan.Steps {
		n := stat.DetectionRequests(percent/100, 0.005, 0.05, r.Plan.Errors.Ratio, r.Plan.alphaEach())
		r.Say("step %d, share %g%%: a canary that fails 5%% instead of 0.5%% is found after about %.0f requests of both arms", i+1, percent, n)
	}
}
