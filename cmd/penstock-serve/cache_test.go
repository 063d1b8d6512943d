package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
	"github.com/penstock-ml/penstock/serve/tile"
)

func TestServersOfOneCacheKeepEachOthersBundlesAndNoOlderOnes(t *testing.T) {
	w := newWorld(t)
	digests := make([]string, 5)
	for i := range digests {
		digests[i] = w.publish(bundletest.Mean, func(m *bundle.Manifest) { m.Provenance.RunKey = fmt.Sprint(i) })
	}
	cache := t.TempDir()
	there := func(digest string) bool {
		_, err := os.Stat(filepath.Join(cache, digest))
		return err == nil
	}
	load := func(s *server, digest string) {
		t.Helper()
		if code, body := s.put(digest); code != 200 {
			t.Fatalf("load: %d %s", code, body)
		}
	}
	flags := []string{"--cache", cache, "--cache-bundles", "1"}
	stable, canary := w.serve(t.TempDir(), flags...), w.serve(t.TempDir(), flags...)
	load(stable, digests[0])
	for i, digest := range digests[1:4] {
		load(canary, digest)
		canary.await("the end of the one before", func() bool { return strings.Count(canary.log.String(), "msg=unloaded") == i })
	}
	if !there(digests[0]) || !there(digests[3]) {
		t.Error("a bundle that is served was removed")
	}
	if there(digests[1]) {
		t.Error("a bundle that nobody uses is still there")
	}
	stable.kill()
	load(canary, digests[4])
	if there(digests[0]) || !there(digests[4]) {
		t.Error("the bundle of a server that is dead is still there")
	}
}

// TestASuperResolutionModelThatIsRemovedFromTheCacheIsNotRefused: its graph is
// read once more when it is open.
func TestASuperResolutionModelThatIsRemovedFromTheCacheIsNotRefused(t *testing.T) {
	shelf, cache := bundletest.Shelf{Dir: t.TempDir()}, t.TempDir()
	digest := shelf.Put(t, bundletest.NewSuperResolution(t, bundle.ColourGrey))
	load := host.FromBucket(shelf, cache, modeltest.Runtime(t))
	removed := learning(func(ctx context.Context, digest string) (*model.Model, error) {
		m, err := load(ctx, digest)
		return m, errors.Join(err, os.RemoveAll(filepath.Join(cache, digest)))
	}, tile.New(tile.Bounds{Memory: tile.DefaultMemory, Runs: 1}), slog.New(slog.DiscardHandler))
	if _, err := removed(t.Context(), digest); !errors.Is(err, bundle.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
