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
	// The path may stand for another directory than the one that is locked.
	held, err := p.lock.Stat()
	if err != nil {
		return nil, errors.Join(err, p.lock.Close())
	}
	if now, err := os.Stat(dir); err != nil || !os.SameFile(held, now) {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, errors.Join(err, p.lock.Close())
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
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &part{dir, f}, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = nil
	}
	return nil, errors.Join(err, f.Close())
}

// close gives the lock back.
func (p *part) close() { p.lock.Close() }

// remove takes the directory away: under another name first, so that who comes
// next makes one of its own.
func (p *part) remove() error {
	gone := fmt.Sprintf("%s-gone-%d", p.dir, os.Getpid())
	if err := os.Rename(p.dir, gone); err != nil {
		return fmt.Errorf("model cache: %w", err)
	}
	p.dir = gone
	if err := os.RemoveAll(gone); err != nil {
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
// open keeps them.
func (p *part) install(final string) error {
	err := os.Rename(p.files(), final)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		aside := filepath.Join(p.dir, "damaged")
		if err := errors.Join(os.RemoveAll(aside), os.Rename(final, aside)); err != nil {
			return err
		}
		err = os.Rename(p.files(), final)
	}
	if err != nil {
		return err
	}
	return p.remove()
}

// sweep removes parts that nobody came back for.
func sweep(cacheDir string) error {
	dirs, err := filepath.Glob(filepath.Join(cacheDir, partPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if latest, err := latestChange(dir); err != nil || time.Since(latest) < partTerm {
			continue // another program's, which is at work on it
		}
		p, err := lockPart(dir)
		if p == nil || err != nil {
			continue
		}
		err = p.remove()
		p.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// latestChange is the newest time of a directory and all in it.
func latestChange(dir string) (latest time.Time, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.ModTime().After(latest) {
			latest = info.ModTime()
		}
		return err
	})
	return latest, err
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
