package bundletest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
)

// Shelf is a bucket in a directory, in which bundles lie that Publish would
// refuse.
type Shelf struct{ Dir string }

// Put lays a directory on the shelf as it is, with sums that are right, and
// gives its digest.
func (s Shelf) Put(t testing.TB, dir string) (digest string) {
	t.Helper()
	var lines []string
	files := map[string][]byte{}
	must(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		files[rel] = data
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(data), filepath.ToSlash(rel)))
		return err
	}))
	slices.Sort(lines)
	digest = s.PutSums(t, strings.Join(lines, ""))
	for rel, data := range files {
		s.put(t, bundle.Key(digest, rel), data)
	}
	return digest
}

// PutSums lays a list of files on the shelf, without the files.
func (s Shelf) PutSums(t testing.TB, sums string) (digest string) {
	t.Helper()
	digest = fmt.Sprintf("%x", sha256.Sum256([]byte(sums)))
	s.put(t, bundle.Key(digest, bundle.SumsFile), []byte(sums))
	return digest
}

// Spoil changes a file that lies there.
func (s Shelf) Spoil(t testing.TB, digest, name string) {
	t.Helper()
	s.put(t, bundle.Key(digest, name), []byte("spoiled"))
}

func (s Shelf) put(t testing.TB, key string, data []byte) {
	t.Helper()
	path := filepath.Join(s.Dir, filepath.FromSlash(key))
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, data, 0o644))
}

// ReaderFrom makes a Shelf a bundle.Source.
func (s Shelf) ReaderFrom(_ context.Context, key string, offset int64) (io.ReadCloser, int64, error) {
	f, err := os.Open(filepath.Join(s.Dir, filepath.FromSlash(key)))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	_, err = f.Seek(offset, io.SeekStart)
	return f, info.Size(), err
}

// External is the smallest ONNX model with a tensor outside its file, in an
// attribute of a node of a graph in an attribute of a node.
func External(location string) []byte {
	field := func(number byte, inner []byte) []byte {
		return append([]byte{number<<3 | 2, byte(len(inner))}, inner...) // all are shorter than 128 bytes
	}
	entry := append(field(1, []byte("location")), field(2, []byte(location))...)
	tensor := append([]byte{13<<3 | 2, byte(len(entry))}, entry...)
	graph := field(1, field(5, field(6, field(1, field(5, field(5, tensor))))))
	return slices.Concat(Header(8), field(7, graph))
}

// Header is an ONNX model of an IR version that has an operator set and no
// graph.
func Header(irVersion byte) []byte { return []byte{1 << 3, irVersion, 8<<3 | 2, 0} }
