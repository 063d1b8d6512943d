package host_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/replay"
)

// named gives a bundle the name of another model.
func named(name string) func(*bundle.Manifest) {
	return func(m *bundle.Manifest) { m.Name = name }
}

func newSet(t *testing.T, s *shelf, state string, o host.Options) (*host.Set, map[string]*observer) {
	t.Helper()
	observers := map[string]*observer{"test": {}, "other": {}}
	set, err := host.NewSet([]string{"test", "other"}, state, s.load(t), func(name string) host.Observer { return observers[name] },
		slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set, observers
}

func assign(t *testing.T, set *host.Set, name, digest string) host.Status {
	t.Helper()
	status, err := set.Assign(t.Context(), name, digest)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func TestModelsStandSideBySideAndOverARestart(t *testing.T) {
	var s shelf
	one, two := s.add(t), s.add(t, named("other"))
	state := t.TempDir()
	set, observers := newSet(t, &s, state, host.Options{})
	assign(t, set, "test", one)
	assign(t, set, "other", two)
	if _, err := set.Assign(t.Context(), "other", one); err == nil || !strings.Contains(err.Error(), `model "test"`) {
		t.Errorf("a bundle of another model: %v", err)
	}
	if serving(t, set.Host("test")) != one || serving(t, set.Host("other")) != two {
		t.Error("another model is served")
	}
	if got := observers["other"].loads; len(got) != 2 || got[1] != metrics.Failed {
		t.Errorf("observed %v", got)
	}
	again, _ := newSet(t, &s, state, host.Options{})
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if serving(t, again.Host("test")) != one || serving(t, again.Host("other")) != two {
		t.Error("after the restart another model is served")
	}
}

func TestOneThatDoesNotResumeDoesNotKeepTheOthers(t *testing.T) {
	var s shelf
	two := s.add(t, named("other"))
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "test.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	set, _ := newSet(t, &s, state, host.Options{})
	assign(t, set, "other", two)
	again, _ := newSet(t, &s, state, host.Options{})
	if err := again.Resume(t.Context()); err == nil || !strings.Contains(err.Error(), "model test") {
		t.Errorf("got %v", err)
	}
	if serving(t, again.Host("other")) != two {
		t.Error("the other is not served")
	}
}

// A bucket that gives no answer gives none for a long time.
func TestOneWhoseBundleDoesNotComeDoesNotKeepTheOthers(t *testing.T) {
	var s shelf
	one, two := s.add(t), s.add(t, named("other"))
	state := t.TempDir()
	set, _ := newSet(t, &s, state, host.Options{})
	assign(t, set, "test", one)
	assign(t, set, "other", two)
	load := s.load(t)
	again, err := host.NewSet([]string{"test", "other"}, state, func(ctx context.Context, digest string) (*model.Model, error) {
		if digest == one {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return load(ctx, digest)
	}, func(string) host.Observer { return &observer{} }, slog.New(slog.DiscardHandler), host.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resumed := make(chan error, 1)
	go func() { resumed <- again.Resume(ctx) }()
	await(t, "the other model", func() bool { return again.Host("other").Status().State == host.Ready })
	cancel()
	if err := <-resumed; err == nil || !strings.Contains(err.Error(), "model test") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownAndDoubleNamesAreRefused(t *testing.T) {
	var s shelf
	set, _ := newSet(t, &s, t.TempDir(), host.Options{})
	_, statusErr := set.Status("stranger")
	_, assignErr := set.Assign(t.Context(), "stranger", strings.Repeat("a", 64))
	_, unloadErr := set.Unload(t.Context(), "stranger")
	for _, err := range []error{statusErr, assignErr, unloadErr} {
		if !errors.Is(err, host.ErrUnknown) {
			t.Errorf("got %v", err)
		}
	}
	for _, names := range [][]string{nil, {"a", "a"}, {"../a"}} {
		if _, err := host.NewSet(names, t.TempDir(), nil, func(string) host.Observer { return nil }, nil, host.Options{}); err == nil {
			t.Errorf("%q was taken", names)
		}
	}
}

func TestUnloadIsRememberedAndForgetsTheRequests(t *testing.T) {
	var s shelf
	one := s.add(t)
	state := t.TempDir()
	set, observers := newSet(t, &s, state, host.Options{Replay: replay.DefaultLimits})
	assign(t, set, "test", one)
	h := set.Host("test")
	h.Ring().AddPicture([]byte("a picture"))
	status, err := set.Unload(t.Context(), "test")
	if err != nil || !reflect.DeepEqual(status, host.Status{State: host.Unloaded}) {
		t.Errorf("%+v %v", status, err)
	}
	if _, _, err := h.Use(); !errors.Is(err, host.ErrNoModel) {
		t.Errorf("it still answers: %v", err)
	}
	if h.Ring().Len() != 0 {
		t.Error("requests are remembered")
	}
	if o := observers["test"]; o.seen[len(o.seen)-1] != "" || o.loads[len(o.loads)-1] != metrics.Unloaded {
		t.Errorf("observed %+v", o)
	}
	again, _ := newSet(t, &s, state, host.Options{})
	if err := again.Resume(t.Context()); err != nil || again.Host("test").Status().State != host.Unloaded {
		t.Errorf("after the restart: %v %+v", err, again.Host("test").Status())
	}
	if assign(t, again, "test", one).Serving != one {
		t.Error("it cannot be loaded again")
	}
}

func TestUnloadWaitsForTheLastRequestWithinItsBound(t *testing.T) {
	var s shelf
	one := s.add(t)
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Drain: 50 * time.Millisecond})
	assign(t, set, "test", one)
	_, release, err := set.Host("test").Use()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // asked again, it still goes on
		status, err := set.Unload(t.Context(), "test")
		if !errors.Is(err, context.DeadlineExceeded) || status.State != host.Unloading || status.Reason == "" {
			t.Errorf("%+v %v", status, err)
		}
	}
	release()
	if status, err := set.Unload(t.Context(), "test"); err != nil || status.State != host.Unloaded {
		t.Errorf("%+v %v", status, err)
	}
}

func TestTheLastRequestsAreReplayedOnTheCandidate(t *testing.T) {
	var s shelf
	one, two := s.add(t, key("1")), s.add(t, key("2"))
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Replay: replay.DefaultLimits})
	if got := assign(t, set, "test", one); got.Replay != nil {
		t.Errorf("replayed %+v before there was anything", got.Replay)
	}
	for i := range 5 {
		set.Host("test").Ring().AddPicture(bundletest.Picture(t, 20, 20, uint8(40*i)))
	}
	got := assign(t, set, "test", two).Replay
	if got == nil || got.Inputs != 5 || got.Replayed != 5 || got.Errors != 0 || got.Max != 0 || got.P50 <= 0 || got.Before50 <= 0 || got.Resident <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestTensorsAreReplayedToo(t *testing.T) {
	var s shelf
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Replay: replay.DefaultLimits})
	assign(t, set, "test", s.add(t, key("1")))
	data := make([]float32, 64)
	for i := range data {
		data[i] = float32(i) / 64
	}
	input := oip.Tensor{Name: "input", Datatype: oip.FP32, Shape: []int64{1, 1, 8, 8}, Data: oip.Bytes(data)}
	set.Host("test").Ring().AddTensors([]oip.Tensor{input}, []string{"scores"})
	set.Host("test").Ring().AddTensors([]oip.Tensor{input}, nil)
	if got := assign(t, set, "test", s.add(t, key("2"))).Replay; got == nil || got.Replayed != 2 || got.Errors != 0 || got.Unlike != 0 || got.Max != 0 {
		t.Errorf("%+v", got)
	}
}

func TestPicturesOfSuperResolutionAreReplayedByWhoEnlarges(t *testing.T) {
	var s shelf
	asked := 0
	enlarge := func(_ context.Context, m *model.Model, picture []byte) ([]oip.Tensor, error) {
		asked++
		return []oip.Tensor{{Name: "image", Datatype: oip.UINT8, Shape: []int64{1}, Data: picture[:1]}}, nil
	}
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Replay: replay.DefaultLimits, Enlarge: enlarge})
	assign(t, set, "test", s.addDir(t, bundletest.NewSuperResolution(t, bundle.ColourGrey)))
	set.Host("test").Ring().AddPicture(bundletest.Picture(t, 9, 9, 90))
	next := s.addDir(t, bundletest.NewSuperResolution(t, bundle.ColourGrey, key("2")))
	if got := assign(t, set, "test", next).Replay; got == nil || got.Replayed != 1 || got.Max != 0 || asked != 2 {
		t.Errorf("%+v, asked %d times", got, asked)
	}
}

func TestUnloadGivesItsMemoryBack(t *testing.T) {
	var s shelf
	heavy := s.addGraph(t, bundletest.Heavy)
	set, _ := newSet(t, &s, t.TempDir(), host.Options{})
	cycle := func() (loaded, unloaded int) {
		assign(t, set, "test", heavy)
		loaded = resident(t)
		if _, err := set.Unload(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		return loaded, resident(t)
	}
	_, before := cycle() // the first pays for what ONNX Runtime keeps for good
	loaded, after := cycle()
	gain := loaded - before
	if gain < 15<<20 || after-before > gain/10+1<<20 {
		t.Errorf("%d MB before, %d loaded, %d unloaded", before>>20, loaded>>20, after>>20)
	}
}

func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory() // Go's own heap is not the question
	bytes, err := replay.Resident()
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func TestACandidateThatFailsTheReplayIsNotServed(t *testing.T) {
	var s shelf
	one, digest := s.add(t), s.addGraph(t, bundletest.Failing)
	set, observers := newSet(t, &s, t.TempDir(), host.Options{Replay: replay.DefaultLimits})
	assign(t, set, "test", one)
	set.Host("test").Ring().AddPicture(bundletest.Picture(t, 20, 20, 60))
	set.Host("test").Ring().AddPicture(bundletest.Picture(t, 20, 20, 244)) // brighter than it stands
	status, err := set.Assign(t.Context(), "test", digest)
	if !errors.Is(err, replay.ErrRefused) || status.State != host.Failed || status.Serving != one || status.Replay == nil || status.Replay.Errors != 1 {
		t.Errorf("%+v %v", status, err)
	}
	if serving(t, set.Host("test")) != one || len(observers["test"].seen) != 1 {
		t.Error("it is served")
	}
}

func TestACandidateThatDoesNotEndIsCutOffAndNotServed(t *testing.T) {
	var s shelf
	one, endless := s.add(t), s.addGraph(t, bundletest.Endless)
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Replay: replay.Limits{Requests: 2, Bytes: 1 << 20, Term: 1500 * time.Millisecond}})
	assign(t, set, "test", one)
	set.Host("test").Ring().AddPicture(bundletest.Picture(t, 20, 20, 244)) // brighter than it ends
	if status, err := set.Assign(t.Context(), "test", endless); !errors.Is(err, replay.ErrRefused) || status.Serving != one {
		t.Errorf("%+v %v", status, err)
	}
	answers(t, set.Host("test"), one)
}

func TestALoadSaysWhatItIsAt(t *testing.T) {
	reached, leave := make(chan struct{}), make(chan struct{})
	load := func(ctx context.Context, _ string) (*model.Model, error) {
		host.Progress(ctx, "fetching model.onnx: 1 of 9 MB")
		close(reached)
		<-leave
		return nil, errors.New("no such bundle")
	}
	h := host.New("test", t.TempDir(), load, &observer{}, slog.New(slog.DiscardHandler))
	defer h.Close()
	done := make(chan error, 1)
	go func() { _, err := h.Assign(t.Context(), strings.Repeat("a", 64)); done <- err }()
	<-reached
	if got := h.Status(); got.State != host.Loading || got.Progress != "fetching model.onnx: 1 of 9 MB" {
		t.Errorf("%+v", got)
	}
	close(leave)
	if err := <-done; err == nil || h.Status().Progress != "" {
		t.Errorf("%v %+v", err, h.Status())
	}
	host.Progress(t.Context(), "of no load") // changes nothing and does not panic
}
