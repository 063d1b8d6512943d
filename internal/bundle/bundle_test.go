package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadGivesTheManifestThatWasWritten(t *testing.T) {
	b, err := bundle.Read(bundletest.New(t, bundletest.Mean))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bundletest.Manifest(), b.Manifest); diff != "" {
		t.Error(diff)
	}
	if !bundle.ValidDigest(b.Digest) {
		t.Errorf("digest %q", b.Digest)
	}
}

func TestDigestIsOfTheSortedSums(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "b", []byte("hello\n"))
	write(t, dir, "a/c", []byte("hello\n"))
	write(t, dir, bundle.SumsFile, []byte("not part of it"))
	got, err := bundle.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	// (sha256sum b a/c | sort | sha256sum)
	const want = "0909b4e4e0d2478acf7e41ada7353a6370e26a5f5099ae53fe4be364665f2bfe"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDigestChangesWithEveryByteAndName(t *testing.T) {
	dir := bundletest.New(t, bundletest.Mean)
	before, err := bundle.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "golden/1.png"), filepath.Join(dir, "golden/2.png")); err != nil {
		t.Fatal(err)
	}
	after, err := bundle.DigestDir(dir)
	if err != nil || before == after {
		t.Errorf("digest %s after renaming a file (%v)", after, err)
	}
}

// external is the smallest model with a tensor outside the file.
func external(location string) []byte {
	entry := func(key, value string) []byte {
		b := protowire.AppendTag(nil, 1, protowire.BytesType)
		b = protowire.AppendString(b, key)
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		return protowire.AppendString(b, value)
	}
	wrap := func(n protowire.Number, inner []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), inner)
	}
	tensor := wrap(13, entry("location", location))
	// in an attribute of a node of a graph in an attribute of a node
	graph := wrap(1, wrap(5, wrap(6, wrap(1, wrap(5, wrap(5, tensor))))))
	return slices.Concat(model(8), wrap(7, graph))
}

func model(irVersion uint64) []byte {
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, irVersion)
	b = protowire.AppendTag(b, 8, protowire.BytesType)
	return protowire.AppendBytes(b, nil)
}

func TestReadRefusesWhatIsNoBundle(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		text  string
	}{
		{"no manifest", func(t *testing.T, dir string) { remove(t, dir, bundle.ManifestFile) }, "not a model bundle"},
		{"no model", func(t *testing.T, dir string) { remove(t, dir, bundle.ModelFile) }, "model.onnx"},
		{"golden without pixels", func(t *testing.T, dir string) { remove(t, dir, "golden/0.input.npy") }, "golden pixels"},
		{"golden without scores", func(t *testing.T, dir string) { remove(t, dir, "golden/1.output.npy") }, "golden scores"},
		{"too few scores", func(t *testing.T, dir string) {
			if err := bundle.WriteFloat32(filepath.Join(dir, "golden/0.output.npy"), []int{1}, []float32{0.5}); err != nil {
				t.Fatal(err)
			}
		}, "1 scores, the bundle has 2 labels"},
		{"pixels of another shape", func(t *testing.T, dir string) {
			if err := bundle.WriteUint8(filepath.Join(dir, "golden/0.input.npy"), []int{1, 8, 8}, make([]uint8, 64)); err != nil {
				t.Fatal(err)
			}
		}, "want [height, width, channels]"},
		{"a link", func(t *testing.T, dir string) {
			if err := os.Symlink("/etc/hostname", filepath.Join(dir, "golden", "host")); err != nil {
				t.Fatal(err)
			}
		}, "not a plain file"},
		{"external tensor above", func(t *testing.T, dir string) { write(t, dir, "model.onnx", external("../weights")) }, "outside the bundle"},
		{"external tensor at a root", func(t *testing.T, dir string) { write(t, dir, "model.onnx", external("/etc/passwd")) }, "outside the bundle"},
		{"external tensor in memory", func(t *testing.T, dir string) { write(t, dir, "model.onnx", external("*/_ORT_MEM_ADDR_/*")) }, "outside the bundle"},
		{"external tensor missing", func(t *testing.T, dir string) { write(t, dir, "model.onnx", external("weights")) }, "external tensor"},
		{"IR version 1", func(t *testing.T, dir string) { write(t, dir, "model.onnx", model(1)) }, "IR version 1"},
		{"no operator set", func(t *testing.T, dir string) { write(t, dir, "model.onnx", model(8)[:2]) }, "operator set"},
		{"not ONNX", func(t *testing.T, dir string) { write(t, dir, "model.onnx", []byte("hello")) }, "not an ONNX file"},
		{"unknown key", func(t *testing.T, dir string) { appendManifest(t, dir, "temperature: 3\n") }, "temperature"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := bundletest.New(t, bundletest.Mean)
			c.spoil(t, dir)
			if _, err := bundle.Read(dir); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

func TestReadTakesExternalTensorsInside(t *testing.T) {
	dir := bundletest.New(t, bundletest.Mean)
	write(t, dir, "model.onnx", external("weights/all.bin"))
	write(t, dir, "weights/all.bin", []byte{1})
	if _, err := bundle.Read(dir); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
		t.Fatal(err)
	}
}

func appendManifest(t *testing.T, dir, text string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, bundle.ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, bundle.ManifestFile, append(data, text...))
}

func TestManifestNamesTheKeyThatIsWrong(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(*bundle.Manifest)
		text  string
	}{
		{"schema", func(m *bundle.Manifest) { m.Schema = 2 }, "schema 2"},
		{"name", func(m *bundle.Manifest) { m.Name = "../x" }, "name"},
		{"task to come", func(m *bundle.Manifest) { m.Task = "super-resolution" }, "not built yet"},
		{"task", func(m *bundle.Manifest) { m.Task = "regression" }, "task"},
		{"input name", func(m *bundle.Manifest) { m.Input.Name = "" }, "input.name"},
		{"channels", func(m *bundle.Manifest) { m.Input.Channels = 4 }, "input.channels"},
		{"mean", func(m *bundle.Manifest) { m.Input.Mean = nil }, "input.mean"},
		{"std", func(m *bundle.Manifest) { m.Input.Std = []float64{0} }, "input.std"},
		{"scale", func(m *bundle.Manifest) { m.Input.Scale = 0 }, "input.scale"},
		{"layout", func(m *bundle.Manifest) { m.Input.Layout = "nhwc" }, "input.layout"},
		{"resize", func(m *bundle.Manifest) { m.Input.Resize = "crop" }, "input.resize"},
		{"scores", func(m *bundle.Manifest) { m.Outputs.Scores = "" }, "outputs.scores"},
		{"activation", func(m *bundle.Manifest) { m.Outputs.Activation = "" }, "outputs.activation"},
		{"softmax", func(m *bundle.Manifest) { m.Outputs.Activation = "softmax" }, "independent"},
		{"labels", func(m *bundle.Manifest) { m.Labels = nil }, "labels"},
		{"same label twice", func(m *bundle.Manifest) { m.Labels[1].Name = m.Labels[0].Name }, "labels[1].name"},
		{"threshold", func(m *bundle.Manifest) { m.Labels[0].Threshold = 1.5 }, "threshold"},
		{"urgency", func(m *bundle.Manifest) { m.Labels[0].Urgency = "soon" }, "urgency"},
		{"tolerance", func(m *bundle.Manifest) { m.Tolerance = 0 }, "tolerance"},
		{"no goldens", func(m *bundle.Manifest) { m.Goldens = nil }, "goldens"},
		{"escaping golden", func(m *bundle.Manifest) { m.Goldens[0] = "golden/../../x.png" }, "golden"},
		{"same golden twice", func(m *bundle.Manifest) { m.Goldens[1] = "golden/0.jpg" }, "twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := bundletest.Manifest()
			c.spoil(&m)
			data, err := yaml.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bundle.ParseManifest(data); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

// blobs is a bucket in a directory.
type blobs struct {
	dir  string
	keys []string // in the order of writing
}

func (b *blobs) path(key string) string { return filepath.Join(b.dir, filepath.FromSlash(key)) }

func (b *blobs) UploadBytes(_ context.Context, key string, data []byte) error {
	b.keys = append(b.keys, key)
	if err := os.MkdirAll(filepath.Dir(b.path(key)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.path(key), data, 0o644)
}

func (b *blobs) Upload(ctx context.Context, key, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return b.UploadBytes(ctx, key, data)
}

func (b *blobs) Get(_ context.Context, key string) ([]byte, string, error) {
	data, err := os.ReadFile(b.path(key))
	return data, "", err
}

func (b *blobs) Download(_ context.Context, key, path string) error {
	data, err := os.ReadFile(b.path(key))
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func publish(t *testing.T) (*blobs, string) {
	t.Helper()
	store := &blobs{dir: t.TempDir()}
	digest, err := bundle.Publish(t.Context(), store, bundletest.New(t, bundletest.Mean))
	if err != nil {
		t.Fatal(err)
	}
	return store, digest
}

func TestFetchGivesBackWhatWasPublished(t *testing.T) {
	store, digest := publish(t)
	n := len(store.keys)
	if got := store.keys[n-2:]; !slices.Equal(got, []string{bundle.Key(digest, bundle.ManifestFile), bundle.Key(digest, bundle.SumsFile)}) {
		t.Errorf("written last: %v", got)
	}
	cache := t.TempDir()
	for range 2 { // from the bucket, then from the cache
		b, err := bundle.Fetch(t.Context(), store, digest, cache)
		if err != nil {
			t.Fatal(err)
		}
		if b.Digest != digest || b.Manifest.Name != "test" {
			t.Errorf("got %s %s", b.Digest, b.Manifest.Name)
		}
		if err := os.RemoveAll(store.dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFetchRefusesAHalfUpload(t *testing.T) {
	store, digest := publish(t)
	if err := os.Remove(store.path(bundle.Key(digest, bundle.SumsFile))); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), store, digest, t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFetchRefusesChangedFilesAndKeepsNothing(t *testing.T) {
	for _, name := range []string{bundle.ModelFile, bundle.SumsFile, "golden/0.png"} {
		store, digest := publish(t)
		cache := t.TempDir()
		if err := os.WriteFile(store.path(bundle.Key(digest, name)), []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Fetch(t.Context(), store, digest, cache); !errors.Is(err, bundle.ErrDigest) {
			t.Errorf("%s: got %v", name, err)
		}
		if left, err := os.ReadDir(cache); err != nil || len(left) != 0 {
			t.Errorf("%s: the cache holds %v (%v)", name, left, err)
		}
	}
}

func TestFetchRemovesWhatAKilledDownloadLeft(t *testing.T) {
	store, digest := publish(t)
	cache := t.TempDir()
	for name, age := range map[string]time.Duration{".fetch-old": 48 * time.Hour, ".fetch-new": time.Hour} {
		write(t, cache, name+"/model.onnx", []byte("a part"))
		when := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(cache, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bundle.Fetch(t.Context(), store, digest, cache); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cache, ".fetch-old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old part is still there (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(cache, ".fetch-new")); err != nil {
		t.Errorf("somebody's download was removed: %v", err)
	}
}

func TestFetchReplacesADamagedCopy(t *testing.T) {
	store, digest := publish(t)
	cache := t.TempDir()
	b, err := bundle.Fetch(t.Context(), store, digest, cache)
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.Dir, bundle.ModelFile, []byte("rotten"))
	if _, err := bundle.Fetch(t.Context(), store, digest, cache); err != nil {
		t.Fatal(err)
	}
	if got, err := bundle.DigestDir(b.Dir); err != nil || got != digest {
		t.Errorf("the cached copy has the digest %s (%v)", got, err)
	}
}

func TestFetchRefusesSumsThatLeaveTheDirectory(t *testing.T) {
	line := []byte(strings.Repeat("0", 64) + "  ../../evil\n")
	dir := t.TempDir()
	write(t, dir, "x", line)
	// the digest of exactly these sums, so that only the path is wrong
	sums, err := os.ReadFile(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	digest := bundle.DigestOfSums(sums)
	store := &blobs{dir: t.TempDir()}
	if err := store.UploadBytes(t.Context(), bundle.Key(digest, bundle.SumsFile), sums); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), store, digest, t.TempDir()); err == nil || !strings.Contains(err.Error(), "inside the bundle") {
		t.Errorf("got %v", err)
	}
}

func TestFetchRefusesWhatIsNoDigest(t *testing.T) {
	for _, digest := range []string{"", "latest", "../x", strings.Repeat("A", 64)} {
		if _, err := bundle.Fetch(t.Context(), &blobs{}, digest, t.TempDir()); err == nil {
			t.Errorf("digest %q was taken", digest)
		}
	}
}

func TestNpyRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	floats := []float32{0, 1.5, -2, 3e-38, 4, 5}
	for _, shape := range [][]int{{6}, {2, 3}, {1, 2, 3}} {
		if err := bundle.WriteFloat32(path, shape, floats); err != nil {
			t.Fatal(err)
		}
		gotShape, got, err := bundle.ReadFloat32(path)
		if err != nil || !slices.Equal(gotShape, shape) || !slices.Equal(got, floats) {
			t.Errorf("got %v %v (%v)", gotShape, got, err)
		}
		if data, err := os.ReadFile(path); err != nil || (len(data)-24)%64 != 0 {
			t.Errorf("%d bytes: the header is not aligned (%v)", len(data), err)
		}
	}
	if _, _, err := bundle.ReadUint8(path); err == nil || !strings.Contains(err.Error(), "astype('uint8')") {
		t.Errorf("float32 read as uint8: %v", err)
	}
}

func TestNpyRefusesWhatItCannotHold(t *testing.T) {
	header := func(text string) []byte {
		return append(append([]byte("\x93NUMPY\x01\x00"), byte(len(text)), 0), text...)
	}
	cases := map[string][]byte{
		"not a .npy":    []byte("hello hello hello"),
		"truncated":     append([]byte("\x93NUMPY\x01\x00\xff\x00"), "{'descr'"...),
		"float64":       header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n"),
		"Fortran order": header("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }\n"),
		"too few":       header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n"),
		"overflow":      header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }\n"),
		"no header":     header("hello"),
	}
	for name, data := range cases {
		path := filepath.Join(t.TempDir(), "a.npy")
		if err := os.WriteFile(path, bytes.Clone(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := bundle.ReadFloat32(path); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
