package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/dev/logtest"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
	"github.com/penstock-ml/penstock/serve/replay"
)

// awaitLine waits until the log says so, for so many times.
func awaitLine(t *testing.T, log *logtest.Buffer, text string, times int) {
	t.Helper()
	await(t, fmt.Sprintf("%d times %q", times, text), func() bool { return strings.Count(log.String(), text) >= times })
}

// tidied is a set on a bucket, of whose cache keep bundles stay.
func tidied(t *testing.T, keep int) (set *host.Set, shelf bundletest.Shelf, cache string, log *logtest.Buffer) {
	t.Helper()
	shelf, cache, log = bundletest.Shelf{Dir: t.TempDir()}, t.TempDir(), &logtest.Buffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	set, err := host.NewSet([]string{"test", "other"}, t.TempDir(), host.FromBucket(shelf, cache, modeltest.Runtime(t)),
		func(string) host.Observer { return &observer{} }, logger,
		host.Options{Replay: replay.DefaultLimits, Tidy: host.KeepBundles(cache, keep, logger)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set, shelf, cache, log
}

// in gives what is in a directory.
func in(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBundlesThatWereNotUsedForLongestLeaveTheCacheAfterALoad(t *testing.T) {
	set, shelf, cache, log := tidied(t, 2)
	var digests []string
	for i := range 4 {
		digests = append(digests, shelf.Put(t, bundletest.New(t, bundletest.Mean, key(string(rune('a'+i))))))
		assign(t, set, "test", digests[i])
		awaitLine(t, log, "msg=unloaded", i)
	}
	if got, want := in(t, cache), slices.Sorted(slices.Values(digests[2:])); !slices.Equal(got, want) {
		t.Errorf("in the cache: %v, want the last two, %v", got, want)
	}
	for _, digest := range digests[:2] {
		if !strings.Contains(log.String(), "digest="+digest+" bytes=") {
			t.Errorf("it is not told that %s was removed:\n%s", digest, log)
		}
	}
	assign(t, set, "test", digests[0]) // fetched again
	answers(t, set.Host("test"), digests[0])
}

func TestWhatIsServedAndWhatDrainsStaysInTheCache(t *testing.T) {
	set, shelf, cache, log := tidied(t, 1)
	drains, served := shelf.Put(t, bundletest.New(t, bundletest.Mean, key("1"))), shelf.Put(t, bundletest.New(t, bundletest.Mean, key("2")))
	other := shelf.Put(t, bundletest.New(t, bundletest.Mean, named("other")))
	assign(t, set, "test", drains)
	_, release, err := set.Host("test").Use()
	if err != nil {
		t.Fatal(err)
	}
	assign(t, set, "other", other)
	assign(t, set, "test", served)
	if got := in(t, cache); len(got) != 3 {
		t.Errorf("in the cache: %v, want all three", got)
	}
	release()
	awaitLine(t, log, "msg=unloaded", 1)
	if _, err := set.Unload(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	assign(t, set, "test", drains)
	awaitLine(t, log, "msg=unloaded", 3)
	if got := in(t, cache); slices.Contains(got, other) {
		t.Errorf("in the cache: %v, with %s, which was unloaded", got, other)
	}
}

// TestARestartFindsWhatWasServedInTheCache: more models than bundles that stay
// are in use at a time, and at a restart none of them is yet.
func TestARestartFindsWhatWasServedInTheCache(t *testing.T) {
	shelf, cache, state, log := bundletest.Shelf{Dir: t.TempDir()}, t.TempDir(), t.TempDir(), slog.New(slog.DiscardHandler)
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprint("m", i))
	}
	start := func() *host.Set {
		set, err := host.NewSet(names, state, host.FromBucket(shelf, cache, modeltest.Runtime(t)),
			func(string) host.Observer { return &observer{} }, log, host.Options{Tidy: host.KeepBundles(cache, 1, log)})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	set := start()
	for _, name := range names {
		assign(t, set, name, shelf.Put(t, bundletest.New(t, bundletest.Mean, named(name))))
	}
	set.Close()
	if err := os.RemoveAll(shelf.Dir); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		set = start()
		if err := set.Resume(t.Context()); err != nil {
			t.Error(err)
		}
		set.Close()
	}
	unused := filepath.Join(cache, strings.Repeat("0", 64))
	if err := errors.Join(os.Mkdir(unused, 0o755), os.Chtimes(unused, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	set = start()
	defer set.Close()
	if err := set.Resume(t.Context()); err != nil || len(in(t, cache)) != len(names) {
		t.Errorf("%v; in the cache: %v", err, in(t, cache))
	}
}

// The cache is made by the first load.
func TestAStartWithNothingToServeTouchesNoCache(t *testing.T) {
	var s shelf
	tidied := 0
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Tidy: func(context.Context) { tidied++ }})
	if err := set.Resume(t.Context()); err != nil || tidied != 0 {
		t.Errorf("%v, tidied %d times", err, tidied)
	}
	if assign(t, set, "test", s.add(t)); tidied != 1 {
		t.Errorf("tidied %d times after a load", tidied)
	}
}

func TestARefusedBundleDoesNotKeepItsPlaceInTheCache(t *testing.T) {
	set, shelf, cache, _ := tidied(t, 1)
	good := shelf.Put(t, bundletest.New(t, bundletest.Mean))
	assign(t, set, "test", good)
	differs := bundletest.New(t, bundletest.Mean, key("differs"))
	if err := bundle.WriteFloat32(filepath.Join(differs, "golden/0.output.npy"), []int{2}, []float32{1, 1}); err != nil {
		t.Fatal(err)
	}
	failing := shelf.Put(t, bundletest.New(t, bundletest.Failing))
	set.Host("test").Ring().AddPicture(bundletest.Picture(t, 20, 20, 60))
	set.Host("test").Ring().AddPicture(bundletest.Picture(t, 20, 20, 244))
	for _, digest := range []string{shelf.Put(t, differs), failing} { // at the goldens, at the replay
		if _, err := set.Assign(t.Context(), "test", digest); err == nil {
			t.Error("it was not refused")
		}
		if got := in(t, cache); !slices.Equal(got, []string{good}) {
			t.Errorf("in the cache: %v, want %s alone", got, good)
		}
	}
}

func TestACacheThatCannotBePrunedDoesNotFailTheLoad(t *testing.T) {
	shelf, log := bundletest.Shelf{Dir: t.TempDir()}, &logtest.Buffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	elsewhere := filepath.Join(t.TempDir(), "none")
	set, err := host.NewSet([]string{"test"}, t.TempDir(), host.FromBucket(shelf, t.TempDir(), modeltest.Runtime(t)),
		func(string) host.Observer { return &observer{} }, logger, host.Options{Tidy: host.KeepBundles(elsewhere, 1, logger)})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	digest := shelf.Put(t, bundletest.New(t, bundletest.Mean))
	if got := assign(t, set, "test", digest); got.State != host.Ready || got.Serving != digest {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), elsewhere) {
		t.Errorf("it is not told:\n%s", log)
	}
}

// TestABundleThatIsRemovedBeforeItIsOpenedIsNotRefused: an operator's rm is no
// fault of the model, which is fetched again.
func TestABundleThatIsRemovedBeforeItIsOpenedIsNotRefused(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"all of it": os.RemoveAll,
		"the model": func(dir string) error { return os.Remove(filepath.Join(dir, bundle.ModelFile)) },
		"a golden":  func(dir string) error { return os.Remove(filepath.Join(dir, "golden/1.png")) },
	} {
		shelf, cache := bundletest.Shelf{Dir: t.TempDir()}, t.TempDir()
		digest := shelf.Put(t, bundletest.New(t, bundletest.Mean))
		load := host.FromBucket(shelf, cache, modeltest.Runtime(t))
		ctx := host.WithProgress(t.Context(), func(at string) {
			if strings.HasPrefix(at, "opening") {
				if err := remove(filepath.Join(cache, digest)); err != nil {
					t.Error(err)
				}
			}
		})
		if _, err := load(ctx, digest); !errors.Is(err, bundle.ErrUnavailable) || !strings.Contains(err.Error(), cache) {
			t.Errorf("%s: %v", name, err)
		}
		m, err := load(t.Context(), digest)
		if err != nil {
			t.Fatalf("%s: the next load: %v", name, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheCacheIsPrunedWhenTheModelBeforeIsGone(t *testing.T) {
	set, shelf, cache, log := tidied(t, 1)
	drains, served := shelf.Put(t, bundletest.New(t, bundletest.Mean, key("1"))), shelf.Put(t, bundletest.New(t, bundletest.Mean, key("2")))
	assign(t, set, "test", drains)
	_, release, err := set.Host("test").Use()
	if err != nil {
		t.Fatal(err)
	}
	assign(t, set, "test", served)
	if got := in(t, cache); len(got) != 2 {
		t.Errorf("in the cache: %v, want the one that drains too", got)
	}
	release()
	awaitLine(t, log, "removed from the cache", 1)
	if got := in(t, cache); !slices.Equal(got, []string{served}) {
		t.Errorf("in the cache: %v, want %s alone", got, served)
	}
}
