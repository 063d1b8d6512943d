package openloop

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Image is one payload: the original bytes of a file, as a user would send
// them.
type Image struct {
	Name string // for failure reports; a file's base name
	Type string // media type, sniffed from the bytes
	Data []byte
}

// NewImage sniffs the media type and refuses what is no PNG or JPEG.
func NewImage(name string, data []byte) (Image, error) {
	kind := http.DetectContentType(data)
	if kind != "image/png" && kind != "image/jpeg" {
		return Image{}, fmt.Errorf("%s is %s, not a PNG or JPEG image", name, kind)
	}
	return Image{Name: name, Type: kind, Data: data}, nil
}

// maxPayload bounds what ReadImages keeps in memory, in bytes.
const maxPayload = 512 << 20

// ReadImages reads the *.png, *.jpg and *.jpeg files below dir into memory: at
// most limit of them (0: all), drawn by the seed, in the order of their paths.
// It refuses a folder without images and a file that is not what its name
// says.
func ReadImages(dir string, limit int, seed uint64) ([]Image, error) {
	paths, err := imagePaths(dir)
	if err != nil {
		return nil, fmt.Errorf("images in %s: %w", dir, err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no *.png, *.jpg or *.jpeg file in %s: name a folder of images", dir)
	}
	paths = sample(paths, limit, seed)
	images, total := make([]Image, 0, len(paths)), 0
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("images in %s: %w", dir, err)
		}
		if total += len(data); total > maxPayload {
			return nil, fmt.Errorf("images in %s: more than %d MiB: name a smaller folder", dir, maxPayload>>20)
		}
		image, err := NewImage(filepath.Base(path), data)
		if err != nil {
			return nil, fmt.Errorf("images in %s: %w", dir, err)
		}
		images = append(images, image)
	}
	return images, nil
}

func imagePaths(dir string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch strings.ToLower(filepath.Ext(path)) {
		case ".png", ".jpg", ".jpeg":
			if !entry.IsDir() {
				paths = append(paths, path)
			}
		}
		return nil
	})
	return paths, err
}

// sample draws limit of the paths without replacement and keeps their order.
func sample(paths []string, limit int, seed uint64) []string {
	if limit <= 0 || limit >= len(paths) {
		return paths
	}
	random := rand.New(rand.NewPCG(seed, 1))
	chosen := random.Perm(len(paths))[:limit]
	sort.Ints(chosen)
	drawn := make([]string, limit)
	for i, c := range chosen {
		drawn[i] = paths[c]
	}
	return drawn
}

// Deck deals images by position: every image once, in a seeded order, before
// any comes again.
type Deck struct {
	images []Image
	order  []int
}

// NewDeck shuffles images by the seed. There must be at least one.
func NewDeck(images []Image, seed uint64) Deck {
	return Deck{images: images, order: rand.New(rand.NewPCG(seed, 2)).Perm(len(images))}
}

// At is the image of the i-th request.
func (d Deck) At(i int) Image { return d.images[d.order[i%len(d.order)]] }
