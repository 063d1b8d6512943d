package host_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// shelf is bundles by digest.
type shelf struct {
	mu    sync.Mutex
	dirs  map[string]string
	loads int
}

func (s *shelf) add(t testing.TB, changes ...func(*bundle.Manifest)) string {
	t.Helper()
	return s.addGraph(t, bundletest.Mean, changes...)
}

func (s *shelf) addGraph(t testing.TB, graph string, changes ...func(*bundle.Manifest)) string {
	t.Helper()
	return s.addDir(t, bundletest.New(t, graph, changes...))
}

func (s *shelf) addDir(t testing.TB, dir string) string {
	t.Helper()
	digest, err := bundle.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.dirs == nil {
		s.dirs = map[string]string{}
	}
	s.dirs[digest] = dir
	return digest
}

func (s *shelf) load(t testing.TB) host.Load {
	return func(ctx context.Context, digest string) (*model.Model, error) {
		s.mu.Lock()
		s.loads++
		s.mu.Unlock()
		b, err := bundle.Read(s.dirs[digest])
		if err != nil {
			return nil, err
		}
		return model.Open(ctx, modeltest.Runtime(t), b)
	}
}

type observer struct {
	seen  []string // digests; "" for none
	loads []metrics.Result
}

func (o *observer) Serving(digest string) { o.seen = append(o.seen, digest) }
func (o *observer) NotServing()           { o.seen = append(o.seen, "") }
func (o *observer) Load(r metrics.Result) { o.loads = append(o.loads, r) }

func start(t *testing.T, s *shelf, state string) (*host.Host, *observer) {
	t.Helper()
	o := &observer{}
	h := host.New("test", state, s.load(t), o, slog.New(slog.DiscardHandler))
	t.Cleanup(h.Close)
	return h, o
}

func key(name string) func(*bundle.Manifest) {
	return func(m *bundle.Manifest) { m.Provenance.RunKey = name }
}

func serving(t *testing.T, h *host.Host) string {
	t.Helper()
	m, release, err := h.Use()
	if errors.Is(err, host.ErrNoModel) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	return m.Digest()
}

// same tells whether two are alike but for what drains, which is gone at some
// moment.
func same(x, y host.Status) bool {
	x.Draining, y.Draining = nil, nil
	return reflect.DeepEqual(x, y)
}

func TestAssignSwapsAndIsIdempotent(t *testing.T) {
	var s shelf
	first, second := s.add(t, key("1")), s.add(t, key("2"))
	h, o := start(t, &s, t.TempDir())
	if got := h.Status(); !same(got, host.Status{State: host.Empty}) {
		t.Errorf("at the start: %+v", got)
	}
	for _, digest := range []string{first, first, second, second} {
		got, err := h.Assign(t.Context(), digest)
		if want := (host.Status{Digest: digest, State: host.Ready, Serving: digest}); err != nil || !same(got, want) || !same(h.Status(), want) {
			t.Errorf("got %+v, %v", got, err)
		}
		if serving(t, h) != digest {
			t.Errorf("serves %s", serving(t, h))
		}
	}
	if s.loads != 2 || len(o.seen) != 2 {
		t.Errorf("%d loads, observed %v", s.loads, o.seen)
	}
}

func TestAFailedLoadKeepsWhatIsServedAndSaysWhy(t *testing.T) {
	var s shelf
	good, stranger := s.add(t), s.add(t, func(m *bundle.Manifest) { m.Name = "other" })
	wrong := s.add(t, key("wrong"))
	if err := bundle.WriteFloat32(filepath.Join(s.dirs[wrong], "golden/0.output.npy"), []int{2}, []float32{1, 1}); err != nil {
		t.Fatal(err)
	}
	h, _ := start(t, &s, t.TempDir())
	if _, err := h.Assign(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for digest, text := range map[string]string{
		stranger: `of the model "other"`, wrong: "the bundle is refused", strings.Repeat("0", 64): "empty", "latest": "64",
	} {
		before := h.Status()
		_, err := h.Assign(t.Context(), digest)
		if err == nil || !strings.Contains(err.Error(), text) && text != "empty" {
			t.Errorf("%.12s: %v", digest, err)
		}
		got := h.Status()
		if digest == "latest" {
			if !same(got, before) {
				t.Errorf("a digest that is none changed the status: %+v", got)
			}
		} else if got.State != host.Failed || got.Digest != digest || got.Reason != err.Error() || got.Serving != good {
			t.Errorf("%.12s: %+v", digest, got)
		}
		if serving(t, h) != good {
			t.Errorf("serves %s", serving(t, h))
		}
	}
	if got, err := h.Assign(t.Context(), good); err != nil || got.State != host.Ready || got.Reason != "" {
		t.Errorf("back to the good one: %+v %v", got, err)
	}
}

func TestTheAssignmentSurvivesARestart(t *testing.T) {
	var s shelf
	digest := s.add(t)
	state := t.TempDir()
	h, _ := start(t, &s, state)
	if err := h.Resume(t.Context()); err != nil {
		t.Errorf("without a memory: %v", err)
	}
	if _, err := h.Assign(t.Context(), digest); err != nil {
		t.Fatal(err)
	}
	again, o := start(t, &s, state)
	if err := again.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if serving(t, again) != digest || len(o.seen) != 1 {
		t.Errorf("serves %q, observed %v", serving(t, again), o.seen)
	}
}

// TestARestartDoesNotUndoWhatIsAskedForMeanwhile: who knows that the server is up
// may assign a model before the one of before the restart is loaded.
func TestARestartDoesNotUndoWhatIsAskedForMeanwhile(t *testing.T) {
	var s shelf
	old, asked, state := s.add(t, key("old")), s.add(t, key("asked")), t.TempDir()
	h, _ := start(t, &s, state)
	if _, err := h.Assign(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	load := s.load(t)
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		again := host.New("test", state, func(ctx context.Context, digest string) (*model.Model, error) {
			if digest == asked {
				<-goOn
			}
			return load(ctx, digest)
		}, &observer{}, slog.New(slog.DiscardHandler))
		defer again.Close()
		both := make(chan error, 2)
		go func() {
			_, err := again.Assign(t.Context(), asked)
			both <- err
		}()
		synctest.Wait()
		go func() { both <- again.Resume(t.Context()) }()
		synctest.Wait()
		close(goOn)
		if err := errors.Join(<-both, <-both); err != nil || serving(t, again) != asked {
			t.Errorf("%v; serves %s, not what was asked for since", err, serving(t, again))
		}
	})
}

func TestADamagedMemoryIsSaidAndMended(t *testing.T) {
	for _, damaged := range []string{"{", `{"digest": "5f2c"}`} {
		var s shelf
		digest := s.add(t)
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, "test.json"), []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		h, _ := start(t, &s, state)
		if err := h.Resume(t.Context()); err == nil || h.Status().State != host.Failed || h.Status().Reason != err.Error() {
			t.Errorf("%s: %v %+v", damaged, err, h.Status())
		}
		if _, err := h.Assign(t.Context(), digest); err != nil || h.Resume(t.Context()) != nil {
			t.Errorf("%s: after a new assignment: %v", damaged, err)
		}
	}
}

// TestWhatAKilledWriteLeftGoesAtTheNextStart: the name of what a kill leaves is
// taken from a write that goes on.
func TestWhatAKilledWriteLeftGoesAtTheNextStart(t *testing.T) {
	state, written := t.TempDir(), make(chan error, 1)
	go func() { written <- verdict.WriteFile(filepath.Join(state, "test.json"), make([]byte, 64<<20)) }()
	left := ""
	for left == "" {
		select {
		case err := <-written:
			t.Fatalf("no temporary file was seen (%v)", err)
		default:
		}
		for _, name := range in(t, state) {
			left = name
		}
	}
	if err := errors.Join(<-written, os.Remove(filepath.Join(state, "test.json"))); err != nil {
		t.Fatal(err)
	}
	of := []string{".other.json.7", ".test.json", ".test.json.", ".test.json.7.backup", ".test.json.d", "test.json.7", "x.test.json.7"}
	for _, name := range append(of, left) {
		if err := os.WriteFile(filepath.Join(state, name), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h, _ := start(t, &shelf{}, state)
	if err := h.Resume(t.Context()); err != nil {
		t.Error(err)
	}
	if got := in(t, state); !slices.Equal(got, of) {
		t.Errorf("left after the start: %v, want %v: what %s is goes, and nothing else", got, of, left)
	}
}

func TestWhatCannotBeRememberedIsNotServed(t *testing.T) {
	var s shelf
	digest := s.add(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h, _ := start(t, &s, filepath.Join(file, "state"))
	if _, err := h.Assign(t.Context(), digest); !errors.Is(err, host.ErrMemory) || serving(t, h) != "" {
		t.Errorf("%v, serves %q", err, serving(t, h))
	}
}

func TestASecondAssignWaitsAndFindsItDone(t *testing.T) {
	var s shelf
	digest := s.add(t)
	h, _ := start(t, &s, t.TempDir())
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if got, err := h.Assign(t.Context(), digest); err != nil || got.Serving != digest {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
	wg.Wait()
	if s.loads != 1 {
		t.Errorf("%d loads", s.loads)
	}
}

func TestAnAssignThatIsCancelledWhileItWaitsChangesNothing(t *testing.T) {
	var s shelf
	first, second := s.add(t, key("1")), s.add(t, key("2"))
	entered, leave := make(chan struct{}), make(chan struct{})
	load := s.load(t)
	h := host.New("test", t.TempDir(), func(ctx context.Context, digest string) (*model.Model, error) {
		close(entered)
		<-leave
		return load(ctx, digest)
	}, &observer{}, slog.New(slog.DiscardHandler))
	defer h.Close()
	done := make(chan error, 1)
	go func() { _, err := h.Assign(t.Context(), first); done <- err }()
	<-entered
	if got := h.Status(); !same(got, host.Status{Digest: first, State: host.Loading}) {
		t.Errorf("while loading: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Assign(ctx, second); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(leave)
	if err := <-done; err != nil || serving(t, h) != first {
		t.Errorf("%v, serves %s", err, serving(t, h))
	}
}

func TestTheOldModelAnswersItsLastRequest(t *testing.T) {
	var s shelf
	first, second := s.add(t, key("1")), s.add(t, key("2"))
	h, _ := start(t, &s, t.TempDir())
	if _, err := h.Assign(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	old, release, err := h.Use()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Assign(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Predict(t.Context(), bundletest.Picture(t, 9, 9, 9)); err != nil {
		t.Error(err)
	}
	release()
	h.Close()
	if _, err := old.Acquire(); !errors.Is(err, model.ErrClosed) {
		t.Errorf("the old model is still there: %v", err)
	}
}

func TestAModelThatIsSwappedOutIsShownUntilItsLastRequestHasEnded(t *testing.T) {
	var s shelf
	first, second, third := s.add(t, key("1")), s.add(t, key("2")), s.add(t, key("3"))
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Drain: time.Millisecond}) // which it outlasts
	h := set.Host("test")
	draining := func(want ...string) {
		t.Helper()
		if got := h.Status(); !slices.Equal(got.Draining, want) {
			t.Errorf("draining %q in the state %s, want %q", got.Draining, got.State, want)
		}
	}
	var releases []func()
	for _, digest := range []string{first, second, first} { // the first twice
		assign(t, set, "test", digest)
		_, release, err := h.Use()
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	draining(first, second)
	if got := assign(t, set, "test", third); !slices.Equal(got.Draining, []string{first, second, first}) {
		t.Errorf("the load answers %q", got.Draining)
	}
	if _, err := set.Assign(t.Context(), "test", strings.Repeat("0", 64)); err == nil {
		t.Error("a bundle that there is not is loaded")
	}
	draining(first, second, first)
	releases[0]()
	await(t, "the end of the first", func() bool { return len(h.Status().Draining) == 2 })
	draining(second, first)
	releases[1]()
	releases[2]()
	await(t, "the end of the others", func() bool { return len(h.Status().Draining) == 0 })
	_, release, err := h.Use()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := set.Unload(t.Context(), "test"); err == nil || !slices.Equal(got.Draining, []string{third}) {
		t.Errorf("the unload answers %+v (%v)", got, err)
	}
	release()
	if got, err := set.Unload(t.Context(), "test"); err != nil || len(got.Draining) != 0 {
		t.Errorf("the unload that came to its end answers %+v (%v)", got, err)
	}
}

// await polls until ok, for half a minute.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%s never came", what)
		}
	}
}
