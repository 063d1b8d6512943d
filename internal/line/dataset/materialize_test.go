package dataset_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

// offline is a bucket that must not be asked.
type offline struct{ t *testing.T }

func (o offline) Get(_ context.Context, key string) ([]byte, string, error) {
	o.t.Errorf("the bucket was asked for %s", key)
	return nil, "", errors.New("asked")
}

func localCopy(t *testing.T, b *objectstore.Bucket) {
	digest := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), "")).Dataset.Digest
	_, all := load(t, b, digest)
	splits := []string{dataset.Val, dataset.Train}
	dir := dataset.CacheDir(filepath.Join(t.TempDir(), "cache"), digest, splits...)
	rows, err := dataset.Materialize(t.Context(), b, digest, splits, dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(dataset.Select(all, splits...), rows); d != "" {
		t.Error(d)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(manifest); strings.Contains(s, `"split":"test"`) || strings.Contains(s, `"split":"final_eval"`) {
		t.Error("the copy tells of splits that were not asked for")
	}
	images, err := os.ReadDir(filepath.Join(dir, "images"))
	if err != nil || len(images) != len(rows) {
		t.Errorf("%d images, %v", len(images), err)
	}
	for _, r := range rows {
		want, _, err := b.Get(t.Context(), r.Processed())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dataset.LocalImage(dir, r)); string(got) != string(want) || err != nil {
			t.Fatalf("%s: %v", r.File, err)
		}
	}
	again, err := dataset.Materialize(t.Context(), offline{t}, digest, []string{dataset.Train, dataset.Val}, dir)
	if d := cmp.Diff(rows, again); d != "" || err != nil {
		t.Errorf("%s, %v", d, err)
	}
}

func tornCopy(t *testing.T, b *objectstore.Bucket) {
	digest := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), "")).Dataset.Digest
	for name, spoil := range map[string]func(dir string, rows []dataset.Row) error{
		"an image is empty": func(dir string, rows []dataset.Row) error { return os.Truncate(dataset.LocalImage(dir, rows[0]), 0) },
		"an image is gone":  func(dir string, rows []dataset.Row) error { return os.Remove(dataset.LocalImage(dir, rows[0])) },
		"the marker is gone": func(dir string, _ []dataset.Row) error {
			return os.Remove(filepath.Join(dir, ".complete.json"))
		},
	} {
		dir := filepath.Join(t.TempDir(), "copy")
		rows, err := dataset.Materialize(t.Context(), b, digest, []string{dataset.Test}, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(dir, rows); err != nil {
			t.Fatal(err)
		}
		if _, err = dataset.Materialize(t.Context(), b, digest, []string{dataset.Test}, dir); err == nil || !strings.Contains(err.Error(), "remove the folder") {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "copy")
	if _, err := dataset.Materialize(t.Context(), b, digest, []string{dataset.Test}, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := dataset.Materialize(t.Context(), b, digest, []string{dataset.Val}, dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("another split's copy is taken: %v", err)
	}
	if _, err := dataset.Materialize(t.Context(), b, digest, []string{"tset"}, dir); err == nil || !strings.Contains(err.Error(), `"tset"`) {
		t.Errorf("an unknown split is taken: %v", err)
	}
}

func copyRace(t *testing.T, b *objectstore.Bucket) {
	digest := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), "")).Dataset.Digest
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := dataset.Materialize(t.Context(), b, digest, dataset.Splitting, filepath.Join(root, "copy")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(root); len(left) != 1 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

func failedCopy(t *testing.T, b *objectstore.Bucket) {
	digest := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), "")).Dataset.Digest
	_, rows := load(t, b, digest)
	victim := dataset.Select(rows, dataset.Train)[0]
	if err := b.Remove(t.Context(), victim.Processed()); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	_, err := dataset.Materialize(t.Context(), b, digest, []string{dataset.Train}, filepath.Join(root, "copy"))
	if err == nil || !strings.Contains(err.Error(), victim.File) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(root); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}
