package host_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
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

// TestCloseWaitsForALoadThatCannotBeEnded: a session that is opened cannot be
// ended early, and without ONNX Runtime it breaks the process.
func TestCloseWaitsForALoadThatCannotBeEnded(t *testing.T) {
	var s shelf
	digest, load := s.add(t), s.load(t)
	modeltest.Runtime(t) // outlives the bubble
	synctest.Test(t, func(t *testing.T) {
		var loaded *model.Model
		open, closed, assigned := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		h := host.New("test", t.TempDir(), func(_ context.Context, digest string) (_ *model.Model, err error) {
			<-open
			loaded, err = load(t.Context(), digest)
			return loaded, err
		}, &observer{}, slog.New(slog.DiscardHandler))
		go func() {
			_, err := h.Assign(t.Context(), digest)
			assigned <- err
		}()
		synctest.Wait()
		go func() {
			h.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("it is closed while a model is loaded")
		default:
		}
		close(open)
		if err := <-assigned; err != nil {
			t.Fatal(err)
		}
		<-closed
		if _, err := loaded.Acquire(); !errors.Is(err, model.ErrClosed) {
			t.Errorf("the model that was loaded last: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.Assign(ended, digest); !errors.Is(err, context.Canceled) || serving(t, h) != "" {
			t.Errorf("a load afterwards: %v", err)
		}
	})
}

// TestNoModelIsClosedWhileAnotherIsTidiedUpAfter: the other's bundle would be
// taken from the cache, and missed after the restart.
func TestNoModelIsClosedWhileAnotherIsTidiedUpAfter(t *testing.T) {
	var s shelf
	first, second, other := s.add(t, key("1")), s.add(t, key("2")), s.add(t, named("other"))
	modeltest.Runtime(t) // outlives the bubble
	synctest.Test(t, func(t *testing.T) {
		tidied, goOn, closed := 0, make(chan struct{}), make(chan struct{})
		set, _ := newSet(t, &s, t.TempDir(), host.Options{Tidy: func(context.Context) {
			if tidied++; tidied == 4 { // after three loads
				<-goOn
			}
		}})
		assign(t, set, "other", other)
		assign(t, set, "test", first)
		assign(t, set, "test", second)
		synctest.Wait()
		if tidied != 4 {
			t.Fatalf("tidied %d times, want once more when the first model is gone", tidied)
		}
		go func() {
			set.Close()
			close(closed)
		}()
		synctest.Wait()
		if serving(t, set.Host("other")) != other {
			t.Error("the other is closed meanwhile")
		}
		close(goOn)
		<-closed
		synctest.Wait()
		if tidied != 4 {
			t.Errorf("tidied %d times: closing tidies too", tidied)
		}
	})
}

// TestCloseDoesNotWaitForTheTidyingAfterAModel: another server at work on the
// cache may keep it for longer than a process has to end.
func TestCloseDoesNotWaitForTheTidyingAfterAModel(t *testing.T) {
	var s shelf
	first, second := s.add(t, key("1")), s.add(t, key("2"))
	modeltest.Runtime(t) // outlives the bubble
	synctest.Test(t, func(t *testing.T) {
		tidied := 0
		set, _ := newSet(t, &s, t.TempDir(), host.Options{Tidy: func(ctx context.Context) {
			if tidied++; tidied == 3 { // after two loads
				<-ctx.Done()
			}
		}})
		assign(t, set, "test", first)
		assign(t, set, "test", second)
		synctest.Wait()
		if tidied != 3 {
			t.Fatalf("tidied %d times, want once more when the first model is gone", tidied)
		}
		set.Close() // else the bubble stands still
	})
}
