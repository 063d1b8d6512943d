package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
)

// Routers moves the share on every proxy host at once. It implements Router.
type Routers struct {
	Client *deployment.Client
	At     []deployment.Router
	Owner  string
	Lease  time.Duration
}

// staleTries bounds how often a change starts again after another one came
// between.
const staleTries = 3

// Weights reads what all routers do.
func (r Routers) Weights(ctx context.Context) (Share, error) {
	var all []split.Split
	for _, at := range r.At {
		now, err := r.Client.Split(ctx, at)
		if err != nil {
			return Share{}, err
		}
		all = append(all, now)
	}
	return r.join(all), nil
}

func (r Routers) join(all []split.Split) Share {
	s := Share{Same: true, Owned: true, CanaryUp: true}
	for i, now := range all {
		s.Same = s.Same && (i == 0 || now.CanaryBP == s.BP)
		s.BP = max(s.BP, now.CanaryBP)
		s.Owned = s.Owned && now.Owner == r.Owner
		s.CanaryUp = s.CanaryUp && now.CanaryUp
		if now.Owner != "" && now.Owner != r.Owner {
			s.Holder = now.Owner
		}
	}
	return s
}

// SetWeights sets the share on every router and takes or renews the lease. A
// rising share stops at the first router that refuses; share 0 is asked of
// all, whatever some say.
func (r Routers) SetWeights(ctx context.Context, bp int) (Share, error) {
	var all []split.Split
	var failed error
	for _, at := range r.At {
		now, err := r.set(ctx, at, split.Split{CanaryBP: bp, Owner: r.Owner, LeaseS: r.Lease.Seconds()})
		if err != nil && bp > 0 {
			return Share{}, err
		}
		failed = errors.Join(failed, err)
		all = append(all, now)
	}
	if failed != nil {
		return Share{}, failed
	}
	return r.join(all), nil
}

// Release sets the share to 0 and gives the lease back, whoever holds it.
func (r Routers) Release(ctx context.Context) error {
	var failed error
	for _, at := range r.At {
		_, err := r.set(ctx, at, split.Split{})
		failed = errors.Join(failed, err)
	}
	return failed
}

// set changes one router on top of what it says now.
func (r Routers) set(ctx context.Context, at deployment.Router, want split.Split) (split.Split, error) {
	for try := 1; ; try++ {
		now, err := r.Client.Split(ctx, at)
		if err != nil {
			return split.Split{}, err
		}
		want.Revision = now.Revision
		now, err = r.Client.SetSplit(ctx, at, want)
		if errors.Is(err, split.ErrStale) && try < staleTries {
			continue
		}
		return now, err
	}
}

// Servers are the inference servers of an environment. They implement Fleet
// and Meter.
type Servers struct {
	Client      *deployment.Client
	Environment deployment.Environment
	Model       string
	SLO         time.Duration
}

// Load makes every server of the slot serve the digest, one after the other.
func (f Servers) Load(ctx context.Context, slot, digest string) error {
	servers, err := f.Environment.Slot(slot)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if err := f.Client.Load(ctx, s, f.Model, digest); err != nil {
			return err
		}
	}
	return nil
}

// Serving gives the digest with which every server of the slot answers users.
func (f Servers) Serving(ctx context.Context, slot string) (string, error) {
	servers, err := f.Environment.Slot(slot)
	if err != nil {
		return "", err
	}
	var serving string
	for i, s := range servers {
		digest, err := f.Client.Serving(ctx, s, f.Model)
		if err != nil {
			return "", err
		}
		if i > 0 && digest != serving {
			return "", fmt.Errorf("the servers of slot %s differ: %s and %s", slot, serving, digest)
		}
		serving = digest
	}
	return serving, nil
}

// Read gives the counters of every server of the slot, by its admin URL.
func (f Servers) Read(ctx context.Context, slot string) (map[string]deployment.Reading, error) {
	servers, err := f.Environment.Slot(slot)
	if err != nil {
		return nil, err
	}
	readings := make(map[string]deployment.Reading, len(servers))
	for _, s := range servers {
		r, err := f.Client.Read(ctx, s, f.Model, f.SLO)
		if err != nil {
			return nil, err
		}
		readings[s.Admin] = r
	}
	return readings, nil
}
