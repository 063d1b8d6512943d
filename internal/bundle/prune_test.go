package bundle_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

// cacheVariable makes the test binary another program at the cache: "hold
// STORE DIGEST CACHE" uses a bundle, "remove CACHE" prunes and stops in the
// middle of it. Both say "there" when they are, and then wait to be killed.
const cacheVariable = "BUNDLE_TEST_CACHE"

func atTheCache(job []string) error {
	there := func() {
		fmt.Println("there")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is closed or the program killed
	}
	switch job[0] {
	case "hold":
		if _, err := bundle.Fetch(context.Background(), &blobs{dir: job[1]}, job[2], job[3]); err != nil {
			return err
		}
		there()
	case "remove":
		_, err := bundle.PruneBy(context.Background(), job[1], 0, func(dir string) error {
			if err := os.Remove(filepath.Join(dir, bundle.ModelFile)); err != nil {
				return err
			}
			there()
			return nil
		})
		return err
	}
	return nil
}

// another starts a program at the cache and waits until it is there. Killed, it
// has no time to clean up.
func another(t *testing.T, job ...string) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), cacheVariable+"="+strings.Join(job, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // says that it was killed
		in.Close()
	})
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "there\n" {
		t.Fatalf("it says %q (%v)", line, err)
	}
	return kill
}

// several publishes n bundles.
func several(t *testing.T, n int) (store *blobs, digests []string) {
	t.Helper()
	store = &blobs{dir: t.TempDir()}
	for i := range n {
		dir := bundletest.New(t, bundletest.Mean, func(m *bundle.Manifest) { m.Provenance.RunKey = fmt.Sprint(i) })
		digest, err := bundle.Publish(t.Context(), store, dir)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
	}
	return store, digests
}

func fetch(t *testing.T, store *blobs, digest, cache string) *bundle.Bundle {
	t.Helper()
	b, err := bundle.Fetch(t.Context(), store, digest, cache)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// used says when a bundle of the cache was used last.
func used(t *testing.T, cache, digest string, ago time.Duration) {
	t.Helper()
	when := time.Now().Add(-ago)
	if err := os.Chtimes(filepath.Join(cache, digest), when, when); err != nil {
		t.Fatal(err)
	}
}

func prune(t *testing.T, cache string, keep int) []string {
	t.Helper()
	removed, err := bundle.Prune(t.Context(), cache, keep)
	if err != nil {
		t.Fatal(err)
	}
	digests := make([]string, len(removed))
	for i, r := range removed {
		digests[i] = r.Digest
	}
	return digests
}

func names(t *testing.T, dir string) (names []string) {
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

func TestTheBundlesThatWereNotUsedForLongestGo(t *testing.T) {
	store, digests := several(t, 4)
	cache := t.TempDir()
	for i, digest := range digests {
		fetch(t, store, digest, cache).Release()
		used(t, cache, digest, time.Duration(10-i)*time.Hour)
	}
	write(t, cache, "notes/of-somebody", []byte("of no bundle"))
	fetch(t, store, digests[0], cache).Release() // which makes it the one used last
	size := int64(0)
	for _, name := range []string{bundle.ModelFile, bundle.ManifestFile, "golden/0.png", "golden/0.input.npy", "golden/0.output.npy", "golden/1.png", "golden/1.input.npy", "golden/1.output.npy"} {
		info, err := os.Stat(filepath.Join(cache, digests[1], name))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if got := prune(t, cache, 4); len(got) != 0 {
		t.Errorf("there were no more than may stay, and %v went", got)
	}
	removed, err := bundle.Prune(t.Context(), cache, 2)
	if err != nil || len(removed) != 2 || removed[0] != (bundle.Removed{Digest: digests[1], Bytes: size}) || removed[1].Digest != digests[2] {
		t.Errorf("removed %+v (%v), want %s of %d bytes and %s", removed, err, digests[1], size, digests[2])
	}
	if got, want := names(t, cache), []string{digests[0], digests[3], "notes"}; !slices.Equal(got, sorted(want)) {
		t.Errorf("left: %v, want %v", got, want)
	}
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

func TestWhatIsUsedStaysUntilItIsReleased(t *testing.T) {
	store, digests := several(t, 3)
	cache := t.TempDir()
	fetched := fetch(t, store, digests[0], cache)
	first := fetch(t, store, digests[1], cache)
	cached := fetch(t, store, digests[1], cache) // in use twice
	fetch(t, store, digests[2], cache).Release()
	for _, digest := range digests {
		used(t, cache, digest, time.Hour)
	}
	if got := prune(t, cache, 0); !slices.Equal(got, digests[2:]) {
		t.Errorf("removed %v, want only %v", got, digests[2:])
	}
	first.Release()
	first.Release() // again is no harm
	if got := prune(t, cache, 0); len(got) != 0 {
		t.Errorf("removed %v, which is still used", got)
	}
	fetched.Release()
	cached.Release()
	if got := prune(t, cache, 1); !slices.Equal(got, digests[:1]) {
		t.Errorf("removed %v, want %v, which was released before the other", got, digests[:1])
	}
}

func TestWhatAnotherProgramUsesStaysUntilItIsDead(t *testing.T) {
	store, digests := several(t, 2)
	cache := t.TempDir()
	fetch(t, store, digests[1], cache).Release()
	kill := another(t, "hold", store.dir, digests[0], cache)
	used(t, cache, digests[0], time.Hour)
	if got := prune(t, cache, 1); !slices.Equal(got, digests[1:]) {
		t.Errorf("removed %v, want %v: the other is in use", got, digests[1:])
	}
	kill()
	if got := prune(t, cache, 0); !slices.Equal(got, digests[:1]) {
		t.Errorf("removed %v after its user died", got)
	}
}

func TestWhatIsInUseWhenOthersAreRemovedCountsAsUsed(t *testing.T) {
	store, digests := several(t, 2)
	cache := t.TempDir()
	kill := another(t, "hold", store.dir, digests[0], cache)
	used(t, cache, digests[0], 30*24*time.Hour) // and served ever since
	prune(t, cache, 0)
	kill()
	fetch(t, store, digests[1], cache).Release()
	used(t, cache, digests[1], time.Hour)
	if got := prune(t, cache, 1); !slices.Equal(got, digests[1:]) {
		t.Errorf("removed %v, want %v: the other was in use when its server died", got, digests[1:])
	}
}

func TestARemovalThatIsKilledLeavesNoHalfBundle(t *testing.T) {
	store, digests := several(t, 1)
	for name, next := range map[string]func(cache string){
		"the next fetch": func(cache string) { fetch(t, store, digests[0], cache) },
		"the next prune": func(cache string) { prune(t, cache, 8) },
	} {
		cache := t.TempDir()
		fetch(t, store, digests[0], cache).Release()
		kill := another(t, "remove", cache)
		kill()
		if left := names(t, cache); len(left) != 1 || !strings.HasPrefix(left[0], ".gone-") {
			t.Fatalf("it was not killed in the middle: %v", left)
		}
		next(cache)
		b := fetch(t, store, digests[0], cache)
		if left := names(t, cache); !slices.Equal(left, digests) {
			t.Errorf("%s left %v, want %v", name, left, digests)
		}
		if got, err := bundle.DigestDir(b.Dir); err != nil || got != digests[0] {
			t.Errorf("after %s: %s (%v)", name, got, err)
		}
	}
}

func TestABundleIsFetchedWhileItIsRemoved(t *testing.T) {
	store, digests := several(t, 1)
	cache := t.TempDir()
	fetch(t, store, digests[0], cache).Release()
	another(t, "remove", cache)
	b := fetch(t, store, digests[0], cache)
	if got, err := bundle.DigestDir(b.Dir); err != nil || got != digests[0] {
		t.Errorf("fetched %s (%v)", got, err)
	}
}

func TestFetchAndPruneBesideEachOtherNeverShowHalfABundle(t *testing.T) {
	store, digests := several(t, 2)
	cache := t.TempDir()
	done := make(chan struct{})
	var users, pruning sync.WaitGroup
	for i := range 4 {
		users.Go(func() {
			digest := digests[i%2]
			for range 15 {
				b, err := bundle.Fetch(t.Context(), store, digest, cache)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := bundle.DigestDir(b.Dir); err != nil || got != digest {
					t.Errorf("in use: %s (%v)", got, err)
				}
				b.Release()
			}
		})
	}
	removed := 0
	pruning.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			gone, err := bundle.Prune(t.Context(), cache, 0)
			if err != nil {
				t.Error(err)
				return
			}
			removed += len(gone)
		}
	})
	users.Wait()
	close(done)
	pruning.Wait()
	if removed == 0 {
		t.Error("nothing was removed: that shows nothing")
	}
}

// exclusively locks a directory as Prune does.
func exclusively(t *testing.T, dir string) (unlock func()) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

func TestFetchWaitsForARemovalThatHasBegun(t *testing.T) {
	for name, spoil := range map[string]func(dir string){
		"a sound copy":   func(string) {},
		"a damaged copy": func(dir string) { write(t, dir, bundle.ModelFile, []byte("rotten")) },
	} {
		store, digests := several(t, 1)
		cache := t.TempDir()
		b := fetch(t, store, digests[0], cache)
		b.Release()
		dir := b.Dir
		spoil(dir)
		unlock := exclusively(t, dir)
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := bundle.Fetch(short, store, digests[0], cache); !errors.Is(err, bundle.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		fetched := make(chan error, 1)
		go func() {
			_, err := bundle.Fetch(t.Context(), store, digests[0], cache)
			fetched <- err
		}()
		if err := os.Rename(dir, filepath.Join(cache, ".gone-test")); err != nil {
			t.Fatal(err)
		}
		unlock()
		if err := <-fetched; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := bundle.DigestDir(dir); err != nil || got != digests[0] {
			t.Errorf("%s: fetched %s (%v)", name, got, err)
		}
	}
}

// asked calls then at the first question.
type asked struct {
	*blobs
	then func()
}

func (a *asked) ReaderFrom(ctx context.Context, key string, offset int64) (io.ReadCloser, int64, error) {
	a.then()
	return a.blobs.ReaderFrom(ctx, key, offset)
}

func TestWhatIsFetchedDoesNotComeIntoTheHandsOfARemoval(t *testing.T) {
	store, digests := several(t, 1)
	cache := t.TempDir()
	b := fetch(t, store, digests[0], cache)
	b.Release()
	write(t, b.Dir, bundle.ModelFile, []byte("rotten"))
	unlock := func() {}
	// the removal of the damaged copy begins when the sound one is on its way
	begins := &asked{store, sync.OnceFunc(func() { unlock = exclusively(t, b.Dir) })}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := bundle.Fetch(short, begins, digests[0], cache); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it came to the place of what is removed: %v", err)
	}
	unlock()
	fetch(t, store, digests[0], cache)
	if got, err := bundle.DigestDir(b.Dir); err != nil || got != digests[0] {
		t.Errorf("fetched %s (%v)", got, err)
	}
}

func TestPartsThatNobodyHoldsAndLeftoversGoWithABundleInUse(t *testing.T) {
	store, digests := several(t, 1)
	cache := t.TempDir()
	fetch(t, store, digests[0], cache)
	for name, age := range map[string]time.Duration{
		".fetch-old": 8 * 24 * time.Hour, ".fetch-held": 8 * 24 * time.Hour, ".fetch-new": time.Hour, ".gone-x": 0,
	} {
		write(t, cache, name+"/files/x", []byte("a part"))
		when := time.Now().Add(-age)
		for _, path := range []string{"files/x", "files", ""} {
			if err := os.Chtimes(filepath.Join(cache, name, path), when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer exclusively(t, filepath.Join(cache, ".fetch-held"))()
	prune(t, cache, 1)
	if got, want := names(t, cache), sorted([]string{".fetch-held", ".fetch-new", digests[0]}); !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
}

func TestAPartThatCannotBeLookedAtIsToldAndTheRestGoes(t *testing.T) {
	store, digests := several(t, 1)
	cache := t.TempDir()
	fetch(t, store, digests[0], cache).Release()
	loop := filepath.Join(cache, ".fetch-loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	old := []unix.Timespec{{Sec: 1}, {Sec: 1}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, loop, old, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	removed, err := bundle.Prune(t.Context(), cache, 0)
	if !errors.Is(err, syscall.ELOOP) || !strings.Contains(err.Error(), loop) || len(removed) != 1 {
		t.Errorf("removed %v (%v)", removed, err)
	}
}

func TestWhatCannotBeRemovedIsToldAndTheRestGoes(t *testing.T) {
	store, digests := several(t, 3)
	cache := t.TempDir()
	for i, digest := range digests {
		fetch(t, store, digest, cache).Release()
		used(t, cache, digest, time.Duration(10-i)*time.Hour)
	}
	failure := errors.New("the disk is broken")
	first := true
	removed, err := bundle.PruneBy(t.Context(), cache, 1, func(dir string) error {
		if first {
			first = false
			return failure
		}
		return os.RemoveAll(dir)
	})
	if !errors.Is(err, failure) || !strings.Contains(err.Error(), cache) {
		t.Errorf("got %v", err)
	}
	if len(removed) != 1 || removed[0].Digest != digests[1] {
		t.Errorf("removed %v", removed)
	}
	if got := prune(t, cache, 1); len(got) != 0 || len(names(t, cache)) != 1 {
		t.Errorf("the next removed %v and left %v", got, names(t, cache))
	}
	if _, err := bundle.Prune(t.Context(), filepath.Join(cache, "none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cache that there is not: %v", err)
	}
}

// TestBlameTellsTheBundleFromTheCache: what fails on files that are not those
// any more says nothing of the bundle.
func TestBlameTellsTheBundleFromTheCache(t *testing.T) {
	store, digests := several(t, 1)
	failed := errors.New("cannot be opened")
	for name, c := range map[string]struct {
		change      func(dir, cache string)
		unavailable bool
	}{
		"as it was":       {func(string, string) {}, false},
		"a file less":     {func(dir, _ string) { _ = os.Remove(filepath.Join(dir, bundle.ModelFile)) }, true},
		"a file replaced": {func(dir, _ string) { write(t, dir, bundle.ModelFile, []byte("rotten")) }, true},
		"gone":            {func(dir, _ string) { _ = os.RemoveAll(dir) }, true},
		"gone, and brought again by another": {func(dir, cache string) {
			_ = os.RemoveAll(dir)
			fetch(t, store, digests[0], cache)
		}, true},
	} {
		cache := t.TempDir()
		b := fetch(t, store, digests[0], cache)
		c.change(b.Dir, cache)
		err := b.Blame(failed)
		if !errors.Is(err, failed) || errors.Is(err, bundle.ErrUnavailable) != c.unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
