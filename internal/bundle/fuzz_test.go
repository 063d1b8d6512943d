package bundle_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

// parseMemory is what parsing anything may allocate, in bytes.
const parseMemory = 128 << 20

// FuzzParseManifest holds the reader to this: it never panics, and what it takes
// is taken again after it was written.
func FuzzParseManifest(f *testing.F) {
	for _, dir := range []string{
		bundletest.New(f, bundletest.Mean), bundletest.NewTensor(f),
		bundletest.NewSuperResolution(f, bundle.ColourYCbCr), bundletest.NewSuperResolution(f, bundle.ColourRGB),
	} {
		data, err := os.ReadFile(filepath.Join(dir, bundle.ManifestFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{
		"", "a: &a [*a]\n", "<<: {schema: 1}\n", "- - - -", "{{{{", "? ? :", "schema: 1\n---\nschema: 2\n", "name: !!binary aGk=\n", "\"\\", "a: |\n b\n  c", "\t",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := bundle.ParseManifest(data)
		if err != nil {
			return
		}
		again, err := yaml.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.ParseManifest(again); err != nil {
			t.Errorf("what was read is refused after it was written: %v\n%s", err, again)
		}
	})
}

// FuzzInspectONNX holds the walk to this: it never panics, and finds the same
// locations whatever it does with them.
func FuzzInspectONNX(f *testing.F) {
	for _, graph := range []string{bundletest.Mean, bundletest.Endless, bundletest.Failing, bundletest.Enlarge3, bundletest.Sums, bundletest.Unknown} {
		f.Add(bundletest.Graph(f, graph))
	}
	for _, location := range []string{"weights.bin", "../weights", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", ""} {
		f.Add(bundletest.External(location))
	}
	f.Add(bundletest.Header(1))
	f.Add(deep(100))
	f.Fuzz(func(t *testing.T, data []byte) {
		locations, err := bundle.InspectONNX(data)
		if err != nil {
			return
		}
		if !slices.IsSorted(locations) || len(slices.Compact(slices.Clone(locations))) != len(locations) {
			t.Errorf("locations %q", locations)
		}
		for _, l := range locations {
			if bundle.PathIsSafe(l) && (strings.HasPrefix(l, "/") || strings.Contains(l, "..") && !filepath.IsLocal(l)) {
				t.Errorf("%q counts as safe", l)
			}
		}
	})
}

// deep is a model whose graphs lie in attributes of nodes, n deep.
func deep(n int) []byte {
	graph := []byte{}
	for range n {
		graph = field(1, field(5, field(6, graph)))
	}
	return append(bundletest.Header(8), field(7, graph)...)
}

// field is a length-delimited field of a message.
func field(number byte, inner []byte) []byte {
	out := []byte{number<<3 | 2}
	n := len(inner)
	for ; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(append(out, byte(n)), inner...)
}

func TestDeepGraphsAreRefused(t *testing.T) {
	for _, n := range []int{65, 1000, 3000} {
		if _, err := bundle.InspectONNX(deep(n)); err == nil || !strings.Contains(err.Error(), "deep") {
			t.Errorf("%d deep: %v", n, err)
		}
	}
}

func TestParsingTakesBoundedMemory(t *testing.T) {
	fill := func(text string) []byte { return []byte(strings.Repeat(text, 128<<10/len(text))) }
	for name, data := range map[string][]byte{
		"keys": fill("a: 1\n"), "entries": fill("- a\n"), "flow": fill("[],"), "comments": fill("#\n"), "quotes": fill(`"a" `), "colons": fill(":"),
		"blanks": fill(" "), "lines": fill("\n"), "pipes": fill("a: |\n b\n"), "long": fill("x"), "questions": fill("? a\n"), "nested": fill("a: {b: [c]}\n"),
		"quoted lines": fill("\"a\"\n"), "open quotes": fill("\"a\n"), "quoted keys": fill("\"a\": 'b'\n"), "flow lines": fill("- [a, 'b', \"c\"]\n"), "flow over lines": fill("{a: [b]},\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := bundle.ParseManifest(data); err == nil {
			t.Errorf("%s: taken", name)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > parseMemory {
			t.Errorf("%s: %d MB for 128 KiB", name, got>>20)
		}
	}
}
