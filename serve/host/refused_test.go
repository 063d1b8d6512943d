package host_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
	"github.com/penstock-ml/penstock/serve/replay"
)

// spoiled is a sound bundle in which one file is another.
func spoiled(t *testing.T, name string, data []byte) string {
	t.Helper()
	dir := bundletest.New(t, bundletest.Mean, key(name+t.Name()))
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// legacy is a real file of IR version 1, where the data that is not in the
// repository is at hand.
func legacy(t *testing.T) []byte {
	t.Helper()
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		return bundletest.Header(1)
	}
	data, err := os.ReadFile(filepath.Join(root, "models", "super_resolution_tutorial", "model.onnx"))
	if err != nil {
		t.Fatalf("PENSTOCK_TEST_DATA is set, but: %v", err)
	}
	return data
}

// TestBadBundlesAreRefusedAndNothingChanges loads them all the way a server
// does, from a bucket.
func TestBadBundlesAreRefusedAndNothingChanges(t *testing.T) {
	shelf := bundletest.Shelf{Dir: t.TempDir()}
	zeros := strings.Repeat("0", 64)
	mismatch := func(file string) string {
		digest := shelf.Put(t, bundletest.New(t, bundletest.Mean, key(file)))
		shelf.Spoil(t, digest, file)
		return digest
	}
	onnx := func(data []byte) string { return shelf.Put(t, spoiled(t, bundle.ModelFile, data)) }
	manifest := func(text string) string { return shelf.Put(t, spoiled(t, bundle.ManifestFile, []byte(text))) }
	bomb := "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nname: *b\n"
	cases := []struct{ name, digest, reason string }{
		{"a model of other bytes", mismatch(bundle.ModelFile), "do not have the digest"},
		{"a golden of other bytes", mismatch("golden/0.png"), "do not have the digest"},
		{"sums of other bytes", mismatch(bundle.SumsFile), "do not have the digest"},
		{"IR version 1", onnx(legacy(t)), "IR version 1"},
		{"no ONNX", onnx([]byte("hello")), "not an ONNX file"},
		{"half an ONNX", onnx(bundletest.Graph(t, bundletest.Mean)[:200]), "not an ONNX file"},
		{"an operator that nobody has", shelf.Put(t, bundletest.New(t, bundletest.Unknown)), "Levitate"},
		{"an output of the wrong rank", shelf.Put(t, bundletest.New(t, bundletest.Flat)), `"scores"`},
		{"an output that is not there", shelf.Put(t, bundletest.New(t, bundletest.Renamed)), `"scores"`},
		{"an external tensor above", onnx(bundletest.External("../../../etc/passwd")), "outside the bundle"},
		{"an external tensor at the root", onnx(bundletest.External("/etc/passwd")), "outside the bundle"},
		{"an external tensor in memory", onnx(bundletest.External("*/_ORT_MEM_ADDR_/*")), "outside the bundle"},
		{"an external tensor that is missing", onnx(bundletest.External("weights.bin")), "external tensor"},
		{"a path that leaves", shelf.PutSums(t, zeros+"  ../../evil\n"), "inside the bundle"},
		{"a path from the root", shelf.PutSums(t, zeros+"  /etc/cron.d/evil\n"), "inside the bundle"},
		{"a manifest that unfolds", manifest(bomb), "aliases"},
		{"a manifest too deep", manifest("name: " + strings.Repeat("[", 1000)), "nested"},
		{"a manifest too large", manifest(strings.Repeat("# filler\n", 1<<15)), "at most"},
		{"a manifest with a stranger", manifest("schema: 1\ntemperature: 3\n"), "temperature"},
		{"goldens that differ", func() string {
			dir := bundletest.New(t, bundletest.Mean, key("goldens"))
			if err := bundle.WriteFloat32(filepath.Join(dir, "golden/0.output.npy"), []int{2}, []float32{1, 1}); err != nil {
				t.Fatal(err)
			}
			return shelf.Put(t, dir)
		}(), "tolerance"},
		{"a model of another name", shelf.Put(t, bundletest.New(t, bundletest.Mean, named("stranger"))), "stranger"},
	}
	cache, state := t.TempDir(), t.TempDir()
	set, err := host.NewSet([]string{"test"}, state, host.FromBucket(shelf, cache, modeltest.Runtime(t)),
		func(string) host.Observer { return &observer{} }, slog.New(slog.DiscardHandler), host.Options{Replay: replay.DefaultLimits})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	good := shelf.Put(t, bundletest.New(t, bundletest.Mean))
	assign(t, set, "test", good)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, err := set.Assign(t.Context(), "test", c.digest)
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %v, want %q", err, c.reason)
			}
			if status.State != host.Failed || status.Serving != good || status.Reason != err.Error() {
				t.Errorf("%+v", status)
			}
			answers(t, set.Host("test"), good)
		})
	}
	if parts, err := filepath.Glob(filepath.Join(cache, ".fetch-*")); err != nil || len(parts) > 0 {
		t.Errorf("left: %v (%v)", parts, err)
	}
	if remembered, err := os.ReadFile(filepath.Join(state, "test.json")); err != nil || !strings.Contains(string(remembered), good) {
		t.Errorf("remembered %s (%v)", remembered, err)
	}
}

// answers wants the model to answer, and to be that of the digest.
func answers(t *testing.T, h *host.Host, digest string) {
	t.Helper()
	m, release, err := h.Use()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := m.Predict(context.Background(), bundletest.Picture(t, 9, 9, 90)); err != nil || m.Digest() != digest {
		t.Errorf("%s answers: %v", m.Digest(), err)
	}
}

func TestADamagedBundleInTheCacheIsFetchedAnew(t *testing.T) {
	shelf, cache := bundletest.Shelf{Dir: t.TempDir()}, t.TempDir()
	digest := shelf.Put(t, bundletest.New(t, bundletest.Mean))
	for range 2 {
		h := host.New("test", t.TempDir(), host.FromBucket(shelf, cache, modeltest.Runtime(t)), &observer{}, slog.New(slog.DiscardHandler))
		if _, err := h.Assign(t.Context(), digest); err != nil {
			t.Fatal(err)
		}
		answers(t, h, digest)
		h.Close()
		if err := os.WriteFile(filepath.Join(cache, digest, bundle.ModelFile), []byte("rotten"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
