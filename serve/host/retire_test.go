package host_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/serve/host"
)

// meeting lets the line of a model that is unloaded and that of one that serves
// go on at the same moment.
type meeting struct {
	slog.Handler
	on      atomic.Bool
	arrived atomic.Int32
}

func (m *meeting) Enabled(context.Context, slog.Level) bool { return true }

func (m *meeting) Handle(_ context.Context, r slog.Record) error {
	if !m.on.Load() || r.Message != "unloaded" && r.Message != "serving" {
		return nil
	}
	m.arrived.Add(1)
	for begin := time.Now(); m.arrived.Load() < 2 && time.Since(begin) < 10*time.Second; { // a sleep would part them
	}
	return nil
}

// TestAnUnloadThatWasGivenUpEndsWhileTheNextModelsAreSwapped: what the unload
// waited for may be over at the moment when another model is retired.
func TestAnUnloadThatWasGivenUpEndsWhileTheNextModelsAreSwapped(t *testing.T) {
	var s shelf
	first, second := s.add(t, key("1")), s.add(t, key("2"))
	m := &meeting{}
	set, err := host.NewSet([]string{"test"}, t.TempDir(), s.load(t), func(string) host.Observer { return &observer{} },
		slog.New(m), host.Options{Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	h := set.Host("test")
	for range 150 {
		assign(t, set, "test", first)
		_, release, err := h.Use()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Unload(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		assign(t, set, "test", second)
		m.arrived.Store(0)
		m.on.Store(true)
		go release()
		assign(t, set, "test", first)
		m.on.Store(false)
		await(t, "all but the first to be gone", func() bool { return len(h.Status().Draining) == 0 })
	}
}
