package bundle

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// Sink is the bucket as Publish sees it.
type Sink interface {
	Upload(ctx context.Context, key, path string) error
	UploadBytes(ctx context.Context, key string, data []byte) error
}

// Source is the bucket as Fetch sees it: an object from an offset on, and the
// size of the whole. Behind the object's end there is nothing to read, which is
// no error.
type Source interface {
	ReaderFrom(ctx context.Context, key string, offset int64) (r io.ReadCloser, size int64, err error)
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
