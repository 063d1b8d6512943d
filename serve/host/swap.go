package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/replay"
)

// replace loads, rehearses and swaps. It wants the turn.
func (h *Host) replace(ctx context.Context, digest string) (*replay.Report, error) {
	before, err := replay.Resident()
	if err != nil {
		return nil, err
	}
	next, err := h.load(ctx, digest)
	if err != nil {
		return nil, err
	}
	report, err := h.rehearse(ctx, next, before)
	if err != nil {
		return report, errors.Join(err, discard(next))
	}
	// Before the swap: what answers must also answer after a restart.
	if err := h.state.remember(digest); err != nil {
		return report, errors.Join(err, discard(next))
	}
	h.observer.Serving(digest)
	previous := h.exchange(next, Status{Digest: digest, State: Ready, Serving: digest, Replay: report})
	h.observer.Load(metrics.Loaded)
	h.log.Info("serving", "model", h.name, "digest", digest, "golden_difference", next.GoldenDifference(),
		"placement", next.Placement(), "heatmap_method", next.Heatmap().Method)
	h.retire(previous)
	return report, nil
}

// rehearse looks at a candidate beside what is served. Without requests to go
// by there is no report.
func (h *Host) rehearse(ctx context.Context, next *model.Model, before int) (*replay.Report, error) {
	if next.Name() != h.name {
		return nil, fmt.Errorf("the bundle %s is of the model %q, here it was asked for as %q", next.Digest(), next.Name(), h.name)
	}
	inputs := h.ring.Inputs()
	if len(inputs) == 0 {
		return nil, nil
	}
	incumbent, release, err := h.Use()
	if errors.Is(err, ErrNoModel) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer release()
	Progress(ctx, fmt.Sprintf("replaying the last %d requests", len(inputs)))
	report, err := replay.Run(ctx, runner{next, h.options.Enlarge}, runner{incumbent, h.options.Enlarge}, inputs, h.options.Replay.Term)
	after, residentErr := replay.Resident()
	report.Memory, report.Resident = after-before, after
	h.log.Info("replayed", "model", h.name, "digest", next.Digest(), "inputs", report.Inputs, "replayed", report.Replayed, "errors", report.Errors,
		"p50_ms", report.P50, "p95_ms", report.P95, "incumbent_p50_ms", report.Before50, "incumbent_p95_ms", report.Before95,
		"difference_max", report.Max, "difference_mean", report.Mean, "memory_bytes", report.Memory)
	return &report, errors.Join(err, residentErr)
}

// exchange puts a model, or none, in the place of the one that answers, which
// is then retired.
func (h *Host) exchange(next *model.Model, s Status) (previous *model.Model) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current != nil {
		h.draining = append(h.draining, h.current.Digest())
	}
	previous, h.current, h.status = h.current, next, s
	return previous
}

// gone takes a model that is closed from those that drain.
func (h *Host) gone(digest string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.draining, digest); i >= 0 {
		h.draining = slices.Delete(h.draining, i, i+1)
	}
}

// retire closes a model in the background, after its last request.
func (h *Host) retire(m *model.Model) {
	if m == nil {
		return
	}
	gone := make(chan struct{})
	h.mu.Lock()
	before := h.retired
	h.retired = gone
	h.mu.Unlock()
	go func() {
		defer close(gone)
		h.closeAfterLast(m)
		go h.tidyLater() // not here: an unload has the turn and waits for this
		<-before
	}()
}

// tidyLater tidies what could not go while it drained. It waits for the turn,
// which who closes keeps: what is served until then stays. Closing ends it.
func (h *Host) tidyLater() {
	if h.options.Tidy == nil {
		return
	}
	leave, err := h.enter(h.life)
	if err != nil {
		return // closed
	}
	defer leave()
	h.options.Tidy(h.life)
}

// closeAfterLast closes a model after its last request.
func (h *Host) closeAfterLast(m *model.Model) {
	late := time.AfterFunc(h.options.Drain, func() {
		h.log.Warn("requests still hold a model that answers no more: its memory comes back when they end, until then its status names it",
			"model", h.name, "digest", m.Digest(), "since", h.options.Drain)
	})
	defer late.Stop()
	if err := discard(m); err != nil {
		h.log.Error("not unloaded", "model", h.name, "digest", m.Digest(), "reason", err)
		return
	}
	h.gone(m.Digest())
	h.log.Info("unloaded", "model", h.name, "digest", m.Digest())
}

// allGone is closed when every model that was retired until now is gone.
func (h *Host) allGone() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.retired
}

// Unload takes the model out of service, for restarts too, waits until the
// requests that go on have ended, and gives its memory back. Requests that come
// meanwhile find no model. Where they do not end within the options' drain, or
// before ctx does, that is an error, the state stays unloading, and the memory
// comes back when they do end. What the ring remembers is forgotten.
func (h *Host) Unload(ctx context.Context) (Status, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return h.Status(), err
	}
	defer leave()
	if err := h.state.remember(""); err != nil {
		return h.Status(), err
	}
	last := h.exchange(nil, Status{State: Unloading})
	h.observer.NotServing()
	h.ring.Clear()
	if err := h.drain(ctx, last); err != nil {
		h.set(Status{State: Unloading, Reason: err.Error()})
		return h.Status(), err
	}
	h.ring.Clear() // the last requests came in while it drained
	if last != nil {
		h.observer.Load(metrics.Unloaded)
	}
	h.set(Status{State: Unloaded})
	return h.Status(), nil
}

// drain waits until the last model and those that were swapped out before it
// are gone. It wants the turn: nothing is retired meanwhile.
func (h *Host) drain(ctx context.Context, last *model.Model) error {
	ctx, cancel := context.WithTimeout(ctx, h.options.Drain)
	defer cancel()
	h.retire(last)
	select {
	case <-h.allGone():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("model %s: requests that it took still go on: its memory comes back when they end (%w)", h.name, ctx.Err())
	}
}

// stop waits for the turn and keeps it.
func (h *Host) stop() {
	h.closing.Do(func() {
		h.endLife()
		h.turn <- struct{}{}
	})
}

// Close waits for the load and the requests that go on and unloads everything:
// after it ONNX Runtime may be unloaded. Nothing can be loaded any more. The
// memory over a restart stays.
func (h *Host) Close() {
	h.stop()
	h.retire(h.exchange(nil, h.Status()))
	<-h.allGone()
	h.ring.Clear()
}
