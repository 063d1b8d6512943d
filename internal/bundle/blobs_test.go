package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

// blobs is a bucket in a directory.
type blobs struct {
	dir  string
	keys []string // in the order of writing
}

func (b *blobs) path(key string) string { return filepath.Join(b.dir, filepath.FromSlash(key)) }

func (b *blobs) UploadBytes(_ context.Context, key string, data []byte) error {
	b.keys = append(b.keys, key)
	if err := os.MkdirAll(filepath.Dir(b.path(key)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.path(key), data, 0o644)
}

func (b *blobs) Upload(ctx context.Context, key, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return b.UploadBytes(ctx, key, data)
}

func (b *blobs) ReaderFrom(_ context.Context, key string, offset int64) (io.ReadCloser, int64, error) {
	data, err := os.ReadFile(b.path(key))
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), int64(len(data)), nil
}

func publish(t *testing.T) (*blobs, string) {
	t.Helper()
	store := &blobs{dir: t.TempDir()}
	digest, err := bundle.Publish(t.Context(), store, bundletest.New(t, bundletest.Mean))
	if err != nil {
		t.Fatal(err)
	}
	return store, digest
}

func TestFetchGivesBackWhatWasPublished(t *testing.T) {
	store, digest := publish(t)
	n := len(store.keys)
	if got := store.keys[n-2:]; !slices.Equal(got, []string{bundle.Key(digest, bundle.ManifestFile), bundle.Key(digest, bundle.SumsFile)}) {
		t.Errorf("written last: %v", got)
	}
	cache := t.TempDir()
	for range 2 { // from the bucket, then from the cache
		b, err := bundle.Fetch(t.Context(), store, digest, cache)
		if err != nil {
			t.Fatal(err)
		}
		if b.Digest != digest || b.Manifest.Name != "test" {
			t.Errorf("got %s %s", b.Digest, b.Manifest.Name)
		}
		if err := os.RemoveAll(store.dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFetchRefusesAHalfUpload(t *testing.T) {
	store, digest := publish(t)
	if err := os.Remove(store.path(bundle.Key(digest, bundle.SumsFile))); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), store, digest, t.TempDir()); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, bundle.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestFetchRefusesChangedFilesAndKeepsNothing(t *testing.T) {
	for _, name := range []string{bundle.ModelFile, bundle.SumsFile, "golden/0.png"} {
		store, digest := publish(t)
		cache := t.TempDir()
		if err := os.WriteFile(store.path(bundle.Key(digest, name)), []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Fetch(t.Context(), store, digest, cache); !errors.Is(err, bundle.ErrDigest) || errors.Is(err, bundle.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
		if left, err := os.ReadDir(cache); err != nil || len(left) != 0 {
			t.Errorf("%s: the cache holds %v (%v)", name, left, err)
		}
	}
}

func TestFetchRemovesWhatNobodyCameBackFor(t *testing.T) {
	store, digest := publish(t)
	cache := t.TempDir()
	for name, age := range map[string]time.Duration{".fetch-old": 8 * 24 * time.Hour, ".fetch-new": time.Hour} {
		write(t, cache, name+"/incoming/x", []byte("a part"))
		when := time.Now().Add(-age)
		for _, path := range []string{"", "incoming", "incoming/x"} {
			if err := os.Chtimes(filepath.Join(cache, name, path), when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := bundle.Fetch(t.Context(), store, digest, cache); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cache, ".fetch-old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old part is still there (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(cache, ".fetch-new")); err != nil {
		t.Errorf("somebody's download was removed: %v", err)
	}
}

func TestFetchReplacesADamagedCopy(t *testing.T) {
	store, digest := publish(t)
	cache := t.TempDir()
	b, err := bundle.Fetch(t.Context(), store, digest, cache)
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.Dir, bundle.ModelFile, []byte("rotten"))
	if _, err := bundle.Fetch(t.Context(), store, digest, cache); err != nil {
		t.Fatal(err)
	}
	if got, err := bundle.DigestDir(b.Dir); err != nil || got != digest {
		t.Errorf("the cached copy has the digest %s (%v)", got, err)
	}
}

func TestFetchRefusesSumsThatLeaveTheDirectory(t *testing.T) {
	line := []byte(strings.Repeat("0", 64) + "  ../../evil\n")
	dir := t.TempDir()
	write(t, dir, "x", line)
	// the digest of exactly these sums, so that only the path is wrong
	sums, err := os.ReadFile(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	digest := bundle.DigestOfSums(sums)
	store := &blobs{dir: t.TempDir()}
	if err := store.UploadBytes(t.Context(), bundle.Key(digest, bundle.SumsFile), sums); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), store, digest, t.TempDir()); err == nil || !strings.Contains(err.Error(), "inside the bundle") {
		t.Errorf("got %v", err)
	}
}

func TestFetchRefusesWhatIsNoDigest(t *testing.T) {
	for _, digest := range []string{"", "latest", "../x", strings.Repeat("A", 64)} {
		if _, err := bundle.Fetch(t.Context(), &blobs{}, digest, t.TempDir()); err == nil {
			t.Errorf("digest %q was taken", digest)
		}
	}
}
