package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Bounds of what is fetched: a bundle comes from a bucket that others write.
const (
	maxSums  = 1 << 20 // bytes of SHA256SUMS
	maxFiles = 4096
	maxBytes = 16 << 30 // of a bundle
)

// Fetch brings a bundle to cacheDir/<digest> and verifies every byte of it. A
// sound copy that is there already is used; a damaged one is replaced. What
// came before an interruption, be it kill -9, is kept and continued by the next
// Fetch. Several programs may share a cache: one fetches a digest, the others
// wait for it. What cannot be fetched is ErrUnavailable, what is fetched and
// wrong is not, and leaves nothing. Prune leaves the bundle alone until it is
// released, or this process has ended.
func Fetch(ctx context.Context, from Source, digest, cacheDir string) (*Bundle, error) {
	return FetchTold(ctx, from, digest, cacheDir, func(string, int64, int64) {})
}

// FetchTold is Fetch that tells which step it is at, and of how many bytes of
// the file at hand how many are done; a size of 0 is unknown.
func FetchTold(ctx context.Context, from Source, digest, cacheDir string, tell func(step string, done, size int64)) (*Bundle, error) {
	if !ValidDigest(digest) {
		return nil, fmt.Errorf("model digest %q: want 64 hex digits", digest)
	}
	tell("verifying", 0, 0)
	final := filepath.Join(cacheDir, digest)
	if b, err := openCached(ctx, final, digest); b != nil || err != nil {
		return b, err
	}
	b, err := fetchInto(ctx, from, digest, final, tell)
	if err != nil {
		if b != nil {
			b.Release()
		}
		return nil, fmt.Errorf("fetch model %s: %w", digest, err)
	}
	return b, nil
}

func fetchInto(ctx context.Context, from Source, digest, final string, tell func(string, int64, int64)) (*Bundle, error) {
	cacheDir := filepath.Dir(final)
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, cache(err)
	}
	_ = sweep(cacheDir, os.RemoveAll) // what stays does not keep others from coming; Prune tells of it
	part, err := openPart(ctx, cacheDir, digest, func() { tell("waiting for another program that fetches it", 0, 0) })
	if err != nil {
		return nil, cache(err)
	}
	defer part.close()
	// Another program may have brought it meanwhile.
	if b, err := openCached(ctx, final, digest); b != nil || err != nil {
		return b, errors.Join(err, part.remove())
	}
	b, err := (&fetch{from, digest, part, tell}).run(ctx, final)
	if err != nil && (!errors.Is(err, ErrUnavailable) || errors.Is(err, errCache)) {
		err = errors.Join(err, part.remove()) // nothing of it is worth continuing, or the disk is full
	}
	return b, err
}

// errCache means that the cache itself fails.
var errCache = errors.New("model cache")

// cache is the error of the cache's disk, which says nothing of the bundle.
func cache(err error) error { return fmt.Errorf("%w: %w: %w", ErrUnavailable, errCache, err) }

// openCached gives a sound copy, in use, and nil and no error where there is
// none.
func openCached(ctx context.Context, dir, digest string) (*Bundle, error) {
	lock, err := shareDir(ctx, dir)
	if lock == nil || err != nil {
		return nil, err
	}
	b, err := readDigest(dir, digest)
	if err == nil {
		return b.use(lock), nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDigest) {
		err = nil
	}
	return nil, errors.Join(err, lock.Close())
}

// readDigest reads a bundle that must have the digest; a directory whose files
// say otherwise is ErrDigest before anything of it is believed.
func readDigest(dir, digest string) (*Bundle, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, cache(err)
	}
	got, err := DigestDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", err, ErrDigest)
	}
	if got != digest {
		return nil, fmt.Errorf("%s has the digest %s, not %s: %w", dir, got, digest, ErrDigest)
	}
	return read(dir, digest)
}

// fetch is one bundle on its way.
type fetch struct {
	from   Source
	digest string
	part   *part
	tell   func(step string, done, size int64)
}

func (f *fetch) run(ctx context.Context, final string) (*Bundle, error) {
	files, err := f.sums(ctx)
	if err != nil {
		return nil, err
	}
	left := int64(maxBytes)
	for _, file := range files {
		size, err := f.file(ctx, file, left)
		if err != nil {
			return nil, err
		}
		left -= size
	}
	if err := f.part.prune(files); err != nil {
		return nil, cache(err)
	}
	f.tell("verifying", 0, 0)
	b, err := readDigest(f.part.files(), f.digest)
	if err != nil {
		return nil, f.blame(err, files)
	}
	lock, err := f.part.install(ctx, final)
	if err != nil {
		return nil, err
	}
	b.Dir = final
	return b.use(lock), nil
}

// blame is the error of a bundle that came whole: the cache's where a file of it
// is gone or changed since.
func (f *fetch) blame(err error, files []file) error {
	for _, file := range files {
		if size, lost := f.part.verified(file); lost != nil || size < 0 {
			return cache(errors.Join(err, lost))
		}
	}
	return err
}

// sums brings the list of files, which the digest is of.
func (f *fetch) sums(ctx context.Context) ([]file, error) {
	f.tell("fetching "+SumsFile, 0, 0)
	r, size, err := f.from.ReaderFrom(ctx, Key(f.digest, SumsFile), 0)
	if err != nil {
		return nil, unavailable(err)
	}
	defer r.Close()
	if size > maxSums {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read: %w", SumsFile, size, maxSums, ErrDigest)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxSums))
	if err != nil {
		return nil, unavailable(err)
	}
	if got := digestOf(data); got != f.digest {
		return nil, fmt.Errorf("%s in the bucket belongs to %s: %w", SumsFile, got, ErrDigest)
	}
	files, err := parseSums(data)
	if err == nil && len(files) > maxFiles {
		err = fmt.Errorf("%s names %d files, at most %d are fetched", SumsFile, len(files), maxFiles)
	}
	return files, err
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// file brings one file of at most limit bytes to its place among the verified
// ones, and gives its size. What an interruption left of it is continued; where
// the whole is then not what it should be, that beginning is blamed first, and
// the file brought anew.
func (f *fetch) file(ctx context.Context, want file, limit int64) (int64, error) {
	if size, err := f.part.verified(want); err != nil || size >= 0 {
		return size, cached(err)
	}
	incoming := f.part.incoming(want)
	for {
		continued, err := f.continueFile(ctx, want, incoming, limit)
		if err != nil {
			return 0, err
		}
		sum, err := sumFile(incoming)
		if err != nil {
			return 0, cache(err)
		}
		if sum == want.sum {
			size, err := f.part.accept(want, incoming)
			return size, cached(err)
		}
		if !continued {
			return 0, fmt.Errorf("%s has the SHA-256 %s instead of %s: %w", want.path, sum, want.sum, ErrDigest)
		}
		if err := os.Remove(incoming); err != nil {
			return 0, cache(err)
		}
	}
}

// cached is cache for an error that may be nil.
func cached(err error) error {
	if err == nil {
		return nil
	}
	return cache(err)
}

// tries is how often a transfer is taken up again that brings nothing at all.
const tries = 3

// continueFile brings what is missing of a file, over as many requests as it
// takes while each brings something, and tells whether something had been there.
func (f *fetch) continueFile(ctx context.Context, want file, incoming string, limit int64) (continued bool, err error) {
	w, err := os.OpenFile(incoming, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, cache(err)
	}
	defer func() { err = errors.Join(err, cached(w.Close())) }()
	at, err := w.Seek(0, io.SeekEnd)
	if err != nil {
		return false, cache(err)
	}
	continued = at > 0
	for idle := 1; ; idle++ {
		n, whole, err := f.transfer(ctx, want, w, at, limit)
		if at += n; n > 0 {
			idle = 1
		}
		switch {
		case whole:
			return continued, cached(w.Sync())
		case err == nil: // longer than the whole: it was no beginning of this file
			if at, err = 0, w.Truncate(0); err == nil {
				_, err = w.Seek(0, io.SeekStart)
			}
			if err != nil {
				return false, cache(err)
			}
			continued = false
		case idle == tries, ctx.Err() != nil, !errors.Is(err, ErrUnavailable), errors.Is(err, errCache):
			return continued, err
		default:
			if err := pause(ctx, idle); err != nil {
				return continued, unavailable(err)
			}
		}
	}
}

// transfer is one request for the rest of a file from offset at. It tells how
// many bytes it brought and whether the file has its size now.
func (f *fetch) transfer(ctx context.Context, want file, w io.Writer, at, limit int64) (n int64, whole bool, err error) {
	r, size, err := f.from.ReaderFrom(ctx, Key(f.digest, want.path), at)
	if err != nil {
		return 0, false, unavailable(err)
	}
	defer r.Close()
	if size > limit {
		return 0, false, fmt.Errorf("%s has %d bytes: with it the bundle has more than %d, which is not fetched", want.path, size, int64(maxBytes))
	}
	if at > size {
		return 0, false, nil
	}
	source := &faultReader{r: io.LimitReader(r, size-at)}
	n, err = io.Copy(&told{w, func(done int64) { f.tell("fetching "+want.path, at+done, size) }, 0}, source)
	switch {
	case source.err != nil:
		return n, false, unavailable(source.err)
	case err != nil: // of writing
		return n, false, cache(err)
	case at+n < size:
		return n, false, unavailable(fmt.Errorf("%s ends after %d of %d bytes", want.path, at+n, size))
	}
	return n, true, nil
}

// faultReader remembers the error of reading, which io.Copy does not tell from
// one of writing.
type faultReader struct {
	r   io.Reader
	err error
}

func (f *faultReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// told tells how much was written.
type told struct {
	w    io.Writer
	tell func(done int64)
	done int64
}

func (t *told) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.done += int64(n)
	t.tell(t.done)
	return n, err
}
