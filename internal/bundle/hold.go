package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// errBusy means that another program is at work on a directory of the cache.
var errBusy = errors.New("another program is at work on it")

// lockDir opens a directory and locks it (flock, which the kernel takes back
// from the dead), shared or exclusively, without waiting. It answers errBusy,
// and fs.ErrNotExist.
func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errBusy
	}
	if err == nil {
		err = stands(f, dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// stands tells whether the path still stands for the directory that is open.
func stands(f *os.File, dir string) error {
	held, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(dir)
	if err == nil && !os.SameFile(held, now) {
		err = errBusy
	}
	return err
}

// shareDir waits for a shared lock: who holds the other one takes the directory
// away. It gives nil where there is none any more.
func shareDir(ctx context.Context, dir string) (*os.File, error) {
	for {
		f, err := lockDir(dir, syscall.LOCK_SH)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case !errors.Is(err, errBusy):
			return nil, cache(err)
		}
		select {
		case <-ctx.Done():
			return nil, unavailable(fmt.Errorf("another program removes it from the cache: %w", context.Cause(ctx)))
		case <-time.After(lockPoll):
		}
	}
}

// locks are those of the bundles in use. The collector closes a file that
// nobody refers to, and some keep no more of a bundle than its path.
var locks sync.Map

// use keeps the bundle from being pruned by a shared lock on its directory.
func (b *Bundle) use(lock *os.File) *Bundle {
	locks.Store(lock, nil)
	b.lock = lock
	touch(b.Dir)
	return b
}

// Release says that a bundle which was fetched is used no more: Prune may
// remove it from the cache. Without it the bundle stays for as long as the
// process lives.
func (b *Bundle) Release() {
	if _, used := locks.LoadAndDelete(b.lock); used {
		touch(b.Dir)
		b.lock.Close()
	}
}

// Blame is the error of who used a bundle: ErrUnavailable where its files are
// not those any more that were verified. Somebody removed them from the cache;
// that says nothing of the bundle, and the next Fetch brings it anew.
func (b *Bundle) Blame(err error) error {
	if changed := b.changed(); changed != nil {
		return cache(fmt.Errorf("%s was removed or changed while it was used, which is no fault of the model: load it again (%w): %w", b.Dir, changed, err))
	}
	return err
}

// changed says how the files differ from those that were verified.
func (b *Bundle) changed() error {
	if b.lock != nil {
		if err := stands(b.lock, b.Dir); err != nil { // another may have brought it again
			return err
		}
	}
	got, err := DigestDir(b.Dir)
	if err == nil && got != b.Digest {
		err = ErrDigest
	}
	return err
}

// touch notes when a bundle was used, in the time of its directory. In a cache
// that is read-only it cannot, and nothing is pruned there either.
func touch(dir string) {
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
}
