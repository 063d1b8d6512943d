package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Sink is the bucket as Publish sees it.
type Sink interface {
	Upload(ctx context.Context, key, path string) error
	UploadBytes(ctx context.Context, key string, data []byte) error
}

// Source is the bucket as Fetch sees it.
type Source interface {
	Get(ctx context.Context, key string) (data []byte, etag string, err error)
	Download(ctx context.Context, key, path string) error
}

// Key is where a file of a bundle lies in the bucket.
func Key(digest, name string) string { return "models/" + digest + "/" + name }

// Publish verifies the bundle in dir and uploads it to models/<digest>/,
// bundle.yaml and then SHA256SUMS last. Doing it again changes nothing: the
// same digest has the same bytes.
func Publish(ctx context.Context, to Sink, dir string) (digest string, err error) {
	b, err := Read(dir)
	if err != nil {
		return "", err
	}
	files, err := sumDir(dir)
	if err != nil {
		return "", err
	}
	sums := formatSums(files)
	if digestOf(sums) != b.Digest {
		return "", fmt.Errorf("bundle %s changed while it was read", dir)
	}
	slices.SortStableFunc(files, func(x, y file) int { return rank(x) - rank(y) })
	for _, f := range files {
		if err := to.Upload(ctx, Key(b.Digest, f.path), b.Path(f.path)); err != nil {
			return "", fmt.Errorf("publish bundle %s: %w", b.Digest, err)
		}
	}
	if err := to.UploadBytes(ctx, Key(b.Digest, SumsFile), sums); err != nil {
		return "", fmt.Errorf("publish bundle %s: %w", b.Digest, err)
	}
	return b.Digest, nil
}

func rank(f file) int {
	if f.path == ManifestFile {
		return 1
	}
	return 0
}

// Fetch brings a bundle to cacheDir/<digest> and verifies every byte of it. A
// sound copy that is there already is used; a damaged one is replaced. What
// cannot be fetched is ErrUnavailable, what is fetched and wrong is not.
func Fetch(ctx context.Context, from Source, digest, cacheDir string) (*Bundle, error) {
	if !ValidDigest(digest) {
		return nil, fmt.Errorf("model digest %q: want 64 hex digits", digest)
	}
	final := filepath.Join(cacheDir, digest)
	if b, err := readDigest(final, digest); err == nil {
		return b, nil
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDigest) {
		return nil, err
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("model cache: %w", err)
	}
	if err := sweep(cacheDir); err != nil {
		return nil, fmt.Errorf("model cache: %w", err)
	}
	part, err := os.MkdirTemp(cacheDir, partPrefix)
	if err != nil {
		return nil, fmt.Errorf("model cache: %w", err)
	}
	defer os.RemoveAll(part)
	if err := download(ctx, from, digest, part); err != nil {
		if !errors.Is(err, ErrDigest) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil, fmt.Errorf("fetch model %s: %w", digest, err)
	}
	if _, err := readDigest(part, digest); err != nil {
		return nil, fmt.Errorf("fetch model %s: %w", digest, err)
	}
	if err := install(part, final, digest); err != nil {
		return nil, err
	}
	return readDigest(final, digest)
}

const (
	partPrefix = ".fetch-"
	partTerm   = 24 * time.Hour // no download takes so long
)

// sweep removes what killed programs left: parts that nobody can be writing
// any more.
func sweep(cacheDir string) error {
	parts, err := filepath.Glob(filepath.Join(cacheDir, partPrefix+"*"))
	if err != nil {
		return err
	}
	for _, part := range parts {
		info, err := os.Stat(part)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another program's, just done
		}
		if err != nil {
			return err
		}
		if time.Since(info.ModTime()) > partTerm {
			if err := os.RemoveAll(part); err != nil {
				return err
			}
		}
	}
	return nil
}

func download(ctx context.Context, from Source, digest, dir string) error {
	sums, _, err := from.Get(ctx, Key(digest, SumsFile))
	if err != nil {
		return err
	}
	if got := digestOf(sums); got != digest {
		return fmt.Errorf("%s in the bucket belongs to %s: %w", SumsFile, got, ErrDigest)
	}
	files, err := parseSums(sums)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := from.Download(ctx, Key(digest, f.path), name); err != nil {
			return err
		}
		sum, err := sumFile(name)
		if err != nil {
			return err
		}
		if sum != f.sum {
			return fmt.Errorf("%s has the SHA-256 %s instead of %s: %w", f.path, sum, f.sum, ErrDigest)
		}
	}
	return nil
}

// readDigest reads a bundle that must have the digest; a directory whose files
// say otherwise is ErrDigest before anything of it is believed.
func readDigest(dir, digest string) (*Bundle, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	got, err := DigestDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", err, ErrDigest)
	}
	if got != digest {
		return nil, fmt.Errorf("%s has the digest %s, not %s: %w", dir, got, digest, ErrDigest)
	}
	return Read(dir)
}

// install moves a verified directory into its place. Where another process was
// first, its copy stays if it is sound.
func install(part, final, digest string) error {
	if err := os.Chmod(part, 0o755); err != nil {
		return fmt.Errorf("model cache: %w", err)
	}
	err := os.Rename(part, final)
	if err == nil {
		return nil
	}
	if _, sound := readDigest(final, digest); sound == nil {
		return nil
	}
	old, tempErr := os.MkdirTemp(filepath.Dir(final), partPrefix)
	if tempErr != nil {
		return fmt.Errorf("model cache: %w", tempErr)
	}
	defer os.RemoveAll(old)
	if moveErr := os.Rename(final, filepath.Join(old, digest)); moveErr != nil {
		return fmt.Errorf("model cache: %w", errors.Join(err, moveErr))
	}
	if err := os.Rename(part, final); err != nil {
		return fmt.Errorf("model cache: %w", err)
	}
	return nil
}
