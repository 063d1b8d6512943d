package bundle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

// faulty is a source with faults: every answer about weights.bin is cut after so
// many bytes.
type faulty struct {
	bundle.Source
	cut  int64
	size int64 // told instead of the real one; 0: the real one

	asked []string // offsets
	read  int64    // bytes
}

var errCut = errors.New("connection reset by peer")

func (f *faulty) ReaderFrom(ctx context.Context, key string, offset int64) (io.ReadCloser, int64, error) {
	r, size, err := f.Source.ReaderFrom(ctx, key, offset)
	if err != nil || !strings.HasSuffix(key, "weights.bin") {
		return r, size, err
	}
	f.asked = append(f.asked, fmt.Sprint(offset))
	if f.size != 0 {
		size = f.size
	}
	return &cutReader{r, f, f.cut}, size, nil
}

type cutReader struct {
	io.ReadCloser
	f    *faulty
	left int64
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.f.read += int64(n)
	return n, err
}

const never = 1 << 40 // bytes after which an answer is cut

// large publishes a bundle with a file of n bytes beside the model.
func large(t *testing.T, to bundle.Sink, n int) (digest string) {
	t.Helper()
	dir := bundletest.New(t, bundletest.Mean)
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7 / 5)
	}
	write(t, dir, "weights.bin", data)
	digest, err := bundle.Publish(t.Context(), to, dir)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// kept is where the beginning of the only file that is on its way lies.
func kept(t *testing.T, cache, digest string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cache, ".fetch-"+digest, "incoming", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("on their way: %v (%v)", files, err)
	}
	return files[0]
}

func TestATransferGoesOnWhereItWasCut(t *testing.T) {
	store := &blobs{dir: t.TempDir()}
	digest := large(t, store, 100_000)
	source := &faulty{Source: store, cut: 40_000}
	if _, err := bundle.Fetch(t.Context(), source, digest, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0", "40000", "80000"}; !slices.Equal(source.asked, want) {
		t.Errorf("asked for %s", source.asked)
	}
}

func TestASilentStoreIsGivenUpAndWhatCameIsKept(t *testing.T) {
	store := &blobs{dir: t.TempDir()}
	digest, cache := large(t, store, 100_000), t.TempDir()
	source := &faulty{Source: onlyFirst{store}, cut: 50_000}
	if _, err := bundle.Fetch(t.Context(), source, digest, cache); !errors.Is(err, bundle.ErrUnavailable) || !errors.Is(err, errGone) {
		t.Fatalf("got %v", err)
	}
	if info, err := os.Stat(kept(t, cache, digest)); err != nil || info.Size() != 50_000 {
		t.Errorf("kept %v (%v)", info, err)
	}
	again := &faulty{Source: store, cut: never}
	if _, err := bundle.Fetch(t.Context(), again, digest, cache); err != nil {
		t.Fatal(err)
	}
	if again.read != 50_000 || again.asked[0] != "50000" {
		t.Errorf("%d bytes, asked for %v", again.read, again.asked)
	}
	if left, err := filepath.Glob(filepath.Join(cache, ".fetch-*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}

// onlyFirst has weights.bin from its first byte only, and fails from others.
type onlyFirst struct{ *blobs }

var errGone = errors.New("no route to host")

func (o onlyFirst) ReaderFrom(ctx context.Context, key string, offset int64) (io.ReadCloser, int64, error) {
	if offset > 0 {
		return nil, 0, errGone
	}
	return o.blobs.ReaderFrom(ctx, key, offset)
}

func TestAWrongBeginningIsReplaced(t *testing.T) {
	store := &blobs{dir: t.TempDir()}
	digest := large(t, store, 100_000)
	data, err := os.ReadFile(store.path(bundle.Key(digest, "weights.bin")))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(data[:50_000])
	changed[17] ^= 1
	for name, beginning := range map[string][]byte{
		"right": data[:50_000], "whole": data, "empty": nil,
		"changed": changed, "too long": make([]byte, 200_000), "whole, and wrong": make([]byte, 100_000),
	} {
		cache := t.TempDir()
		write(t, cache, fmt.Sprintf(".fetch-%s/incoming/%x", digest, sha256.Sum256(data)), beginning)
		if _, err := bundle.Fetch(t.Context(), store, digest, cache); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatRottedInAHalfFetchedBundleIsFetchedAgain(t *testing.T) {
	store := &blobs{dir: t.TempDir()}
	digest, cache := large(t, store, 1000), t.TempDir()
	write(t, cache, ".fetch-"+digest+"/files/"+bundle.ModelFile, []byte("rotten"))
	write(t, cache, ".fetch-"+digest+"/files/golden/stranger.png", []byte("of no bundle"))
	if err := os.Symlink("/etc/hostname", filepath.Join(cache, ".fetch-"+digest, "files", "weights.bin")); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), store, digest, cache); err != nil {
		t.Error(err)
	}
}

func TestBoundsAreKept(t *testing.T) {
	store := &blobs{dir: t.TempDir()}
	digest := large(t, store, 1000)
	cache := t.TempDir()
	huge := &faulty{Source: store, cut: never, size: 1 << 50}
	if _, err := bundle.Fetch(t.Context(), huge, digest, cache); err == nil || errors.Is(err, bundle.ErrUnavailable) || !strings.Contains(err.Error(), "not fetched") {
		t.Errorf("a huge file: %v", err)
	}
	line := strings.Repeat("0", 64) + "  file%07d\n"
	var sums bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&sums, line, i)
	}
	many := bundle.DigestOfSums(sums.Bytes())
	if err := store.UploadBytes(t.Context(), bundle.Key(many, bundle.SumsFile), sums.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), store, many, cache); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("many files: %v", err)
	}
	long := bytes.Repeat([]byte(fmt.Sprintf(line, 1)), 20_000)
	if err := store.UploadBytes(t.Context(), bundle.Key(many, bundle.SumsFile), long); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), store, many, cache); !errors.Is(err, bundle.ErrDigest) || !strings.Contains(err.Error(), "at most") {
		t.Errorf("long sums: %v", err)
	}
	if left, err := os.ReadDir(cache); err != nil || len(left) != 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}

func TestACacheThatFailsSaysNothingOfTheBundle(t *testing.T) {
	store, digest := publish(t)
	file := filepath.Join(t.TempDir(), "file")
	write(t, filepath.Dir(file), "file", nil)
	if _, err := bundle.Fetch(t.Context(), store, digest, filepath.Join(file, "cache")); !errors.Is(err, bundle.ErrUnavailable) || !strings.Contains(err.Error(), "model cache") {
		t.Errorf("got %v", err)
	}
}

func TestAModelThatNobodyOpensIsRefusedAndNotKept(t *testing.T) {
	store, digest := publish(t)
	dir := filepath.Join(store.dir, "models", digest)
	// An upload that went past Publish: the sums are right, the model is not.
	write(t, dir, bundle.ModelFile, bundletest.Header(1))
	if err := os.Remove(filepath.Join(dir, bundle.SumsFile)); err != nil {
		t.Fatal(err)
	}
	sums, err := bundle.SumsOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	forged := bundle.DigestOfSums(sums)
	if err := os.Rename(dir, filepath.Join(store.dir, "models", forged)); err != nil {
		t.Fatal(err)
	}
	if err := store.UploadBytes(t.Context(), bundle.Key(forged, bundle.SumsFile), sums); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	if _, err := bundle.Fetch(t.Context(), store, forged, cache); err == nil || errors.Is(err, bundle.ErrUnavailable) || !strings.Contains(err.Error(), "IR version 1") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(cache); err != nil || len(left) != 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}

// TestAPartThatIsRemovedBeforeItIsInstalledSaysNothingOfTheBundle: somebody
// empties the cache while a bundle is on its way.
func TestAPartThatIsRemovedBeforeItIsInstalledSaysNothingOfTheBundle(t *testing.T) {
	for _, name := range []string{"", bundle.ModelFile, bundle.ManifestFile, "golden/0.png"} {
		store, digest := publish(t)
		cache, verifying := t.TempDir(), 0
		_, err := bundle.FetchTold(t.Context(), store, digest, cache, func(step string, _, _ int64) {
			if step != "verifying" {
				return
			}
			if verifying++; verifying == 2 { // the first is that of a copy in the cache
				if err := os.RemoveAll(filepath.Join(cache, ".fetch-"+digest, "files", name)); err != nil {
					t.Error(err)
				}
			}
		})
		if !errors.Is(err, bundle.ErrUnavailable) {
			t.Errorf("without %q: %v", name, err)
		}
		if _, err := bundle.Fetch(t.Context(), store, digest, cache); err != nil {
			t.Errorf("without %q, the next: %v", name, err)
		}
	}
}
