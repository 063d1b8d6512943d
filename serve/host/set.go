package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/penstock-ml/penstock/internal/bundle"
)

// ErrUnknown means that the server was not started for this model name.
var ErrUnknown = errors.New("this server does not serve the model")

// Set is the hosts of one server, by name.
type Set struct {
	hosts    []*Host
	tidy     func(context.Context) // Options.Tidy
	resuming atomic.Bool
	untidy   atomic.Bool // something was loaded
}

// NewSet makes a host for each name; observer gives each its own. The names
// are fixed for the server's life: metrics, queues and state files are theirs.
func NewSet(names []string, stateDir string, load Load, observer func(name string) Observer, log *slog.Logger, o Options) (*Set, error) {
	if len(names) == 0 {
		return nil, errors.New("no model name: give --name")
	}
	s := &Set{tidy: o.Tidy}
	if o.Tidy != nil {
		o.Tidy = s.tidyUp
	}
	for i, name := range names {
		if !bundle.ValidName(name) {
			return nil, fmt.Errorf("model name %q: want letters, digits, dot, dash or underscore, as it stands in URLs", name)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("model name %q is given twice", name)
		}
		s.hosts = append(s.hosts, newHost(name, stateDir, load, observer(name), log, o))
	}
	return s, nil
}

// Names are the model names, in the order in which they were given.
func (s *Set) Names() []string {
	names := make([]string, len(s.hosts))
	for i, h := range s.hosts {
		names[i] = h.name
	}
	return names
}

// Hosts are all hosts, in the same order.
func (s *Set) Hosts() []*Host { return slices.Clone(s.hosts) }

// Host gives the host of a name, or nil.
func (s *Set) Host(name string) *Host {
	i := slices.IndexFunc(s.hosts, func(h *Host) bool { return h.name == name })
	if i < 0 {
		return nil
	}
	return s.hosts[i]
}

func (s *Set) find(name string) (*Host, error) {
	if h := s.Host(name); h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("%w %q: it serves %q", ErrUnknown, name, s.Names())
}

// Status says how a name stands. It answers ErrUnknown.
func (s *Set) Status(name string) (Status, error) {
	h, err := s.find(name)
	if err != nil {
		return Status{}, err
	}
	return h.Status(), nil
}

// Assign is Host.Assign. It answers ErrUnknown.
func (s *Set) Assign(ctx context.Context, name, digest string) (Status, error) {
	h, err := s.find(name)
	if err != nil {
		return Status{}, err
	}
	return h.Assign(ctx, digest)
}

// Unload is Host.Unload. It answers ErrUnknown.
func (s *Set) Unload(ctx context.Context, name string) (Status, error) {
	h, err := s.find(name)
	if err != nil {
		return Status{}, err
	}
	return h.Unload(ctx)
}

// Resume loads what every name served before the restart. One that fails does
// not keep the others, nor does one whose bundle does not come: they may have
// theirs in the cache. For CPUs they wait in FromBucket, where one model opens at
// a time. Nothing is tidied before the last of them has its bundle.
func (s *Set) Resume(ctx context.Context) error {
	s.resuming.Store(true)
	failed := make([]error, len(s.hosts))
	var wg sync.WaitGroup
	for i, h := range s.hosts {
		wg.Go(func() {
			if err := h.Resume(ctx); err != nil {
				failed[i] = fmt.Errorf("model %s: %w", h.name, err)
			}
		})
	}
	wg.Wait()
	s.resuming.Store(false)
	if s.untidy.Swap(false) { // else nothing was loaded, and there may be no cache yet
		s.tidy(ctx)
	}
	return errors.Join(failed...)
}

// tidyUp is the hosts' Options.Tidy. It notes first and looks then, Resume the
// other way round: one of the two tidies.
func (s *Set) tidyUp(ctx context.Context) {
	s.untidy.Store(true)
	if !s.resuming.Load() {
		s.tidy(ctx)
	}
}

// Close closes every host. No model is gone before all are stopped: one that
// tidies would take what another served, and serves again after a restart.
func (s *Set) Close() {
	for _, step := range []func(*Host){(*Host).stop, (*Host).Close} {
		var wg sync.WaitGroup
		for _, h := range s.hosts {
			wg.Go(func() { step(h) })
		}
		wg.Wait()
	}
}
