package bundle

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// gonePrefix begins the names of what is being removed.
const gonePrefix = ".gone-"

// Removed is a bundle that is in the cache no more.
type Removed struct {
	Digest string
	Bytes  int64
}

// Prune removes the bundles that were not used for longest from a cache until
// keep are left, and what killed programs left behind. A bundle that a program
// uses, this one or another, stays. Nobody sees half of one: it gets another
// name before anything of it is removed, and who is killed in between leaves
// the rest to the next. What cannot be removed is told and does not keep the
// others.
func Prune(ctx context.Context, cacheDir string, keep int) ([]Removed, error) {
	return pruning{cacheDir, os.RemoveAll}.run(ctx, keep)
}

type pruning struct {
	cacheDir string
	remove   func(dir string) error
}

// cachedBundle is a bundle in the cache.
type cachedBundle struct {
	digest string
	used   time.Time
}

func (p pruning) run(ctx context.Context, keep int) (removed []Removed, err error) {
	turn, err := p.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("prune the model cache %s: %w", p.cacheDir, err)
	}
	defer turn.Close()
	err = sweep(p.cacheDir, p.remove)
	bundles, listErr := p.list()
	err = errors.Join(err, listErr)
	left := len(bundles)
	for _, b := range bundles {
		if left <= keep || ctx.Err() != nil {
			break
		}
		bytes, away, removeErr := p.takeAway(b)
		if away {
			left--
		}
		if away && removeErr == nil {
			removed = append(removed, Removed{b.digest, bytes})
		}
		err = errors.Join(err, removeErr)
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		err = fmt.Errorf("prune the model cache %s: %w", p.cacheDir, err)
	}
	return removed, err
}

// enter waits until no other program prunes: two that count at the same time
// would remove twice as many.
func (p pruning) enter(ctx context.Context) (turn *os.File, err error) {
	for {
		turn, err = lockDir(p.cacheDir, syscall.LOCK_EX)
		if !errors.Is(err, errBusy) {
			return turn, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}

// list gives the bundles, the one that was not used for longest first.
func (p pruning) list() (all []cachedBundle, err error) {
	entries, err := os.ReadDir(p.cacheDir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if !entry.IsDir() || !ValidDigest(entry.Name()) {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, cachedBundle{entry.Name(), info.ModTime()})
	}
	slices.SortFunc(all, func(x, y cachedBundle) int {
		return cmp.Or(x.used.Compare(y.used), strings.Compare(x.digest, y.digest))
	})
	return all, nil
}

// takeAway removes a bundle that nobody uses, and has used since it was listed.
// It tells whether the bundle is not in its place any more.
func (p pruning) takeAway(b cachedBundle) (bytes int64, away bool, err error) {
	dir := filepath.Join(p.cacheDir, b.digest)
	lock, err := lockDir(dir, syscall.LOCK_EX)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, true, nil
	case errors.Is(err, errBusy):
		touch(dir) // its user may be killed, and can say no more when it was
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	defer lock.Close()
	info, err := lock.Stat()
	if err != nil || info.ModTime().After(b.used) {
		return 0, false, err
	}
	if bytes, err = sizeOf(dir); err != nil {
		return 0, false, err
	}
	gone, err := moveAway(dir)
	if err != nil {
		return 0, false, err
	}
	return bytes, true, p.remove(gone)
}

// moveAway gives a directory of the cache a name that nobody looks for.
func moveAway(dir string) (gone string, err error) {
	gone = filepath.Join(filepath.Dir(dir), gonePrefix+rand.Text())
	return gone, os.Rename(dir, gone)
}

func sizeOf(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

// sweep removes parts that nobody came back for, and what is left of removals.
func sweep(cacheDir string, remove func(dir string) error) error {
	gone, err := filepath.Glob(filepath.Join(cacheDir, gonePrefix+"*"))
	if err != nil {
		return err
	}
	parts, err := filepath.Glob(filepath.Join(cacheDir, partPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range parts {
		away, moveErr := abandon(dir)
		if away != "" {
			gone = append(gone, away)
		}
		err = errors.Join(err, moveErr)
	}
	for _, dir := range gone {
		err = errors.Join(err, remove(dir))
	}
	return err
}

// abandon moves a part away that nobody came back for, and gives its new name.
func abandon(dir string) (away string, err error) {
	latest, err := latestChange(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && time.Since(latest) < partTerm {
		return "", nil // another program's, which is at work on it
	}
	if err != nil {
		return "", err
	}
	p, err := lockPart(dir)
	if p == nil {
		return "", err
	}
	defer p.close()
	if away, err = moveAway(dir); err != nil {
		return "", err
	}
	return away, nil
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
