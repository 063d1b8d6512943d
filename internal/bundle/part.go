package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	partPrefix = ".fetch-"
	partTerm   = 7 * 24 * time.Hour // nobody comes back for a download that lies longer
	lockPoll   = 100 * time.Millisecond
)

// part is the directory of a bundle that is on its way: files that are
// verified, and the beginnings of others under their SHA-256. Who holds the
// lock on the directory (flock, which the kernel takes back from the dead) is
// the one who writes.
type part struct {
	dir  string
	lock *os.File
}

// openPart makes or takes up the part of a digest, and waits for the lock.
func openPart(ctx context.Context, cacheDir, digest string, waiting func()) (*part, error) {
	dir := filepath.Join(cacheDir, partPrefix+digest)
	for first := true; ; first = false {
		p, err := tryPart(dir)
		if p != nil || err != nil {
			return p, err
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, unavailable(fmt.Errorf("another program is fetching it: %w", context.Cause(ctx)))
		case <-time.After(lockPoll):
		}
	}
}

// tryPart gives nil where another program has the lock, or had it until now and
// took the directory away with it.
func tryPart(dir string) (*part, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	p, err := lockPart(dir)
	if p == nil || err != nil {
		return nil, err
	}
	for _, sub := range []string{p.files(), p.incomings()} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, errors.Join(err, p.lock.Close())
		}
	}
	return p, nil
}

// lockPart gives nil where another has the lock, or the directory is gone.
func lockPart(dir string) (*part, error) {
	f, err := lockDir(dir, syscall.LOCK_EX)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBusy) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &part{dir, f}, nil
}

// close gives the lock back.
func (p *part) close() { p.lock.Close() }

// remove takes the directory away: under another name first, so that who comes
// next makes one of its own.
func (p *part) remove() error {
	gone, err := moveAway(p.dir)
	if err == nil {
		p.dir, err = gone, os.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("model cache: %w", err)
	}
	return nil
}

func (p *part) files() string { return filepath.Join(p.dir, "files") }

func (p *part) incomings() string { return filepath.Join(p.dir, "incoming") }

func (p *part) place(f file) string { return filepath.Join(p.files(), filepath.FromSlash(f.path)) }

// incoming is where a file lies until it is whole.
func (p *part) incoming(f file) string { return filepath.Join(p.incomings(), f.sum) }

// verified gives the size of a file that is there and sound, and -1 for one
// that is not. It is read again: the machine may have lost power since.
func (p *part) verified(f file) (int64, error) {
	info, err := os.Lstat(p.place(f))
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	if info.Mode().IsRegular() {
		if sum, err := sumFile(p.place(f)); err != nil || sum == f.sum {
			return info.Size(), err
		}
	}
	return -1, os.RemoveAll(p.place(f))
}

// accept moves a verified file to its place.
func (p *part) accept(f file, incoming string) (int64, error) {
	info, err := os.Stat(incoming)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Dir(p.place(f)), 0o755); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(incoming, p.place(f))
}

// prune removes what does not belong to the bundle.
func (p *part) prune(files []file) error {
	return filepath.WalkDir(p.files(), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if !slices.ContainsFunc(files, func(f file) bool { return p.place(f) == name }) {
			return os.Remove(name)
		}
		return nil
	})
}

// install moves the verified files to their final place, puts a damaged copy
// that lies there aside, and removes the rest. Who has files of the damaged one
// open keeps them. The lock keeps Prune away from the first moment on.
func (p *part) install(ctx context.Context, final string) (lock *os.File, err error) {
	if lock, err = lockDir(p.files(), syscall.LOCK_SH); err != nil {
		return nil, cache(err)
	}
	if err = p.move(ctx, final); err == nil {
		err = cached(p.remove())
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (p *part) move(ctx context.Context, final string) error {
	err := os.Rename(p.files(), final)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return cached(err)
	}
	// Without a lock Prune could take what comes for what was there.
	damaged, err := shareDir(ctx, final)
	if err != nil {
		return err
	}
	if damaged != nil {
		defer damaged.Close()
		aside := filepath.Join(p.dir, "damaged")
		if err := errors.Join(os.RemoveAll(aside), os.Rename(final, aside)); err != nil {
			return cache(err)
		}
	}
	return cached(os.Rename(p.files(), final))
}

// pause waits before a transfer is taken up again: longer each time, and not
// all programs at once.
func pause(ctx context.Context, idle int) error {
	wait := time.Duration(float64(200*time.Millisecond) * float64(int(1)<<idle) * (0.5 + rand.Float64()))
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}
