package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// CacheDir is the folder below root where some splits of a data set belong.
func CacheDir(root, digest string, splits ...string) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(splits)))
	return filepath.Join(root, digest+"-"+strings.Join(sorted, "-"))
}

// cached is the marker of a complete local copy: what it is a copy of, and how
// much must be there.
type cached struct {
	Digest string   `json:"digest"`
	Splits []string `json:"splits"`
	Images int      `json:"images"`
	Bytes  int64    `json:"bytes"`
}

const (
	cachedName = ".complete.json"
	imagesName = "images"
)

// LocalImage is the path of a row's preprocessed image in a local copy.
func LocalImage(dir string, r Row) string {
	return filepath.Join(dir, imagesName, r.SHA256+".png")
}

// Materialize makes dir a local copy of some splits of a data set:
// dir/manifest.jsonl with their rows alone, dir/dataset.json, and
// dir/images/<sha256>.png. The folder appears whole or not at all; a complete
// one is used again. The rows are returned, sorted by file.
func Materialize(ctx context.Context, store Reader, digest string, splits []string, dir string) ([]Row, error) {
	for _, s := range splits {
		if !slices.Contains(Splitting, s) {
			return nil, verdict.Usage(fmt.Errorf("unknown split %q: there are %s", s, strings.Join(Splitting, ", ")))
		}
	}
	splits = slices.Compact(slices.Sorted(slices.Values(splits)))
	rows, err := reuse(dir, digest, splits)
	if err != nil || rows != nil {
		return rows, err
	}
	d, all, err := Load(ctx, store, digest)
	if err != nil {
		return nil, err
	}
	if rows = Select(all, splits...); len(rows) == 0 {
		return nil, fmt.Errorf("data set %s has no image in %s", digest, strings.Join(splits, ", "))
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("local copy of data set %s: %w", digest, err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return nil, fmt.Errorf("local copy of data set %s: %w", digest, err)
	}
	defer os.RemoveAll(temp) // gone already where all went well
	if err := fill(ctx, store, temp, d, splits, rows); err != nil {
		return nil, fmt.Errorf("local copy of data set %s: %w", digest, err)
	}
	if err := os.Rename(temp, dir); err != nil {
		// Another program may have been faster.
		if rows, again := reuse(dir, digest, splits); again == nil && rows != nil {
			return rows, nil
		}
		return nil, fmt.Errorf("local copy of data set %s: %w", digest, err)
	}
	return rows, nil
}

func fill(ctx context.Context, store Reader, dir string, d Dataset, splits []string, rows []Row) error {
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, imagesName), 0o755)); err != nil {
		return err
	}
	sizes := make([]int64, len(rows))
	err := each(ctx, len(rows), transfers, func(ctx context.Context, i int) error {
		data, _, err := store.Get(ctx, rows[i].Processed())
		if err != nil {
			return fmt.Errorf("preprocessed image of %s: %w", rows[i].File, err)
		}
		sizes[i] = int64(len(data))
		// Not synced one by one: the marker's sum of bytes tells a copy that a
		// power cut tore.
		return os.WriteFile(LocalImage(dir, rows[i]), data, 0o644)
	})
	if err != nil {
		return err
	}
	mark := cached{Digest: d.Digest, Splits: splits, Images: len(rows)}
	for _, n := range sizes {
		mark.Bytes += n
	}
	manifest, err := EncodeManifest(rows)
	if err != nil {
		return err
	}
	if err := verdict.WriteFile(filepath.Join(dir, "manifest.jsonl"), manifest); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "dataset.json"), d); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, cachedName), mark)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return verdict.WriteFile(path, append(data, '\n'))
}

// reuse answers the rows of a complete copy; none where there is no copy. A
// folder that is something else, or was torn, is an error and never touched.
func reuse(dir, digest string, splits []string) ([]Row, error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	damaged := func(err error) ([]Row, error) {
		return nil, fmt.Errorf("%s is no complete copy of %s of data set %s: remove the folder (%w)", dir, strings.Join(splits, ", "), digest, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, cachedName))
	if err != nil {
		return damaged(err)
	}
	var mark cached
	if err := json.Unmarshal(data, &mark); err != nil {
		return damaged(err)
	}
	if mark.Digest != digest || !slices.Equal(mark.Splits, splits) {
		return damaged(fmt.Errorf("it holds %s of %s", strings.Join(mark.Splits, ", "), mark.Digest))
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.jsonl"))
	if err != nil {
		return damaged(err)
	}
	rows, err := DecodeManifest(manifest)
	if err != nil {
		return damaged(err)
	}
	bytes := int64(0)
	for _, r := range rows {
		info, err := os.Stat(LocalImage(dir, r))
		if err != nil {
			return damaged(err)
		}
		bytes += info.Size()
	}
	if len(rows) != mark.Images || bytes != mark.Bytes {
		return damaged(fmt.Errorf("%d images of %d bytes, %d of %d are wanted", len(rows), bytes, mark.Images, mark.Bytes))
	}
	return rows, nil
}
