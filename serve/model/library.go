package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const libraryName = "libonnxruntime.so"

// FindLibrary gives the path of ONNX Runtime: the flag, else
// PENSTOCK_ONNXRUNTIME, and only where neither is set the library that was
// shipped beside the program, or the one that `make setup` left in the cache.
// A path that was given is never replaced by another.
func FindLibrary(flag string, getenv func(string) string) (string, error) {
	for _, given := range []string{flag, getenv("PENSTOCK_ONNXRUNTIME")} {
		if given != "" {
			return given, nil
		}
	}
	var places []string
	if program, err := os.Executable(); err == nil {
		dir := filepath.Dir(program)
		places = append(places, filepath.Join(dir, libraryName), filepath.Join(dir, "..", "lib", libraryName))
	}
	if cache := getenv("PENSTOCK_CACHE"); cache != "" {
		places = append(places, filepath.Join(cache, "lib", libraryName))
	} else if cache, err := os.UserCacheDir(); err == nil {
		places = append(places, filepath.Join(cache, "penstock", "lib", libraryName))
	}
	for _, place := range places {
		_, err := os.Stat(place)
		if err == nil {
			return place, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("ONNX Runtime: %w", err)
		}
	}
	return "", fmt.Errorf("ONNX Runtime is not there: give the path of %s by --onnxruntime or PENSTOCK_ONNXRUNTIME (looked for %s)", libraryName, strings.Join(places, ", "))
}
