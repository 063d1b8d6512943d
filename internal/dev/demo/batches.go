package demo

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// Sizes of the synthetic batches, in patients.
const (
	firstPatients    = 400
	secondPatients   = 400
	shuffledPatients = 2 * secondPatients
	livePatients     = 150
	brightShare      = "0.15" // of the live images that the failing model fails on
)

// handOverLimit is how long a complete batch may take to be handed over.
const handOverLimit = time.Minute

// uploads bounds the files on their way at the same time.
const uploads = 8

// batch makes the files of batch number n: 1 and 2 teach, 3 is sabotage.
func (d *demo) batch(ctx context.Context, n int) (string, error) {
	all := filepath.Join(d.Dir, "batches")
	dir := filepath.Join(all, fmt.Sprintf("batch-%d", n))
	if d.Data != "" {
		if n > 1 {
			return dir, nil // one cut made all three
		}
		return dir, d.tool(ctx, "cut-nih64", "--source", d.Data, "--out", all)
	}
	args := []string{"--out", dir, "--seed", fmt.Sprint(n), "--patients"}
	switch n {
	case 1:
		args = append(args, fmt.Sprint(firstPatients))
	case 2:
		args = append(args, fmt.Sprint(secondPatients))
	default:
		args = append(args, fmt.Sprint(shuffledPatients), "--shuffle-labels")
	}
	return dir, d.tool(ctx, "synthesize", args...)
}

// liveImages makes what users send: like the batches, without labels, and
// some of them over-exposed, which no training or test image is.
func (d *demo) liveImages(ctx context.Context) (string, error) {
	if d.Data != "" {
		return filepath.Join(d.Dir, "batches", "batch-1"), nil
	}
	dir := filepath.Join(d.Dir, "live")
	return dir, d.tool(ctx, "synthesize", "--out", dir, "--seed", "9", "--patients", fmt.Sprint(livePatients), "--live", "--bright", brightShare)
}

// tool runs one of the example's own tools.
func (d *demo) tool(ctx context.Context, name string, args ...string) error {
	return d.script(ctx, python, filepath.Join(d.example(), name), args...)
}

// script runs a Python script, bounded in time.
func (d *demo) script(ctx context.Context, interpreter, path string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, interpreter, append([]string{path}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(path), err, last(string(out), 15))
	}
	return nil
}

// upload puts a batch's files below raw/<folder's name>/, the marker last.
func (d *demo) upload(ctx context.Context, dir string) error {
	const marker = "_SUCCESS"
	prefix := d.project.Data.Raw + filepath.Base(dir) + "/"
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(uploads)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == marker {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		group.Go(func() error { return d.bucket.Upload(groupCtx, prefix+filepath.ToSlash(rel), path) })
		return nil
	})
	if uploadErr := group.Wait(); uploadErr != nil {
		return uploadErr
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
		return err
	}
	return d.bucket.Upload(ctx, prefix+marker, filepath.Join(dir, marker))
}
