package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Bundle is a verified bundle on disk.
type Bundle struct {
	Dir      string
	Digest   string
	Manifest Manifest

	lock *os.File // of one that was fetched, until it is released
}

// ErrDigest means that a bundle's files are not those of its digest.
var ErrDigest = errors.New("the files do not have the digest")

// ErrUnavailable means that a bundle could not be brought from the bucket into
// the cache. Nothing is known about it then; it is not refused.
var ErrUnavailable = errors.New("the bundle cannot be had from the bucket")

// Path is the place of one of the bundle's files, named with slashes.
func (b *Bundle) Path(name string) string {
	return filepath.Join(b.Dir, filepath.FromSlash(name))
}

// Read reads and verifies the bundle in dir: manifest, files, the model's
// header, external tensors. It does not run the model: the goldens' scores are
// checked by who does.
func Read(dir string) (*Bundle, error) {
	digest, err := DigestDir(dir)
	if err != nil {
		return nil, err
	}
	return read(dir, digest)
}

// read reads the bundle in dir, whose files have the digest.
func read(dir, digest string) (*Bundle, error) {
	data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, fmt.Errorf("%s is not a model bundle: %w", dir, err)
	}
	manifest, err := ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	b := &Bundle{Dir: dir, Digest: digest, Manifest: manifest}
	if err := b.verifyGoldenFiles(); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	if err := b.verifyModel(); err != nil {
		return nil, fmt.Errorf("bundle %s: %s: %w", dir, ModelFile, err)
	}
	return b, nil
}

func (b *Bundle) verifyModel() error {
	data, err := os.ReadFile(b.Path(ModelFile))
	if err != nil {
		return err
	}
	m, err := inspectONNX(data)
	if err != nil {
		return err
	}
	for _, location := range m.external {
		if !pathIsSafe(location) {
			return fmt.Errorf("an external tensor lies at %q, outside the bundle: export the model with its tensors inside", location)
		}
		info, err := os.Lstat(b.Path(location))
		if err != nil {
			return fmt.Errorf("external tensor: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("external tensor %s is not a plain file", location)
		}
	}
	return nil
}

// pathIsSafe accepts clean relative paths with slashes that stay below their
// root, and no name that could be read as anything else: ONNX Runtime takes the
// location */_ORT_MEM_ADDR_/* for an address in its own memory.
func pathIsSafe(name string) bool {
	return name != "" && name == path.Clean(name) && filepath.IsLocal(filepath.FromSlash(name)) &&
		name != "." && !strings.ContainsAny(name, "\\\n\r\x00:*")
}

// DigestDir computes the digest of the bundle in dir.
func DigestDir(dir string) (string, error) {
	files, err := sumDir(dir)
	if err != nil {
		return "", err
	}
	return digestOf(formatSums(files)), nil
}

// ValidDigest tells whether s looks like a digest: 64 lower-case hex digits.
func ValidDigest(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// file is one line of the sums.
type file struct{ sum, path string }

func sumDir(dir string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if rel == SumsFile {
			return nil
		}
		if !entry.Type().IsRegular() {
			return fmt.Errorf("%s is not a plain file: a bundle holds no links", rel)
		}
		if !pathIsSafe(rel) {
			return fmt.Errorf("the file name %q cannot stand in a bundle", rel)
		}
		sum, err := sumFile(name)
		files = append(files, file{sum, rel})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("bundle %s is empty", dir)
	}
	return files, nil
}

func sumFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func formatSums(files []file) []byte {
	lines := make([]string, len(files))
	for i, f := range files {
		lines[i] = f.sum + "  " + f.path + "\n"
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

func parseSums(data []byte) ([]file, error) {
	var files []file
	for line := range strings.Lines(string(data)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || !ValidDigest(sum) || !pathIsSafe(name) || name == SumsFile {
			return nil, fmt.Errorf("%s: the line %q is not <sha256>  <path inside the bundle>", SumsFile, line)
		}
		files = append(files, file{sum, name})
	}
	return files, nil
}

func digestOf(sums []byte) string {
	sum := sha256.Sum256(sums)
	return hex.EncodeToString(sum[:])
}
