//go:build !turbojpeg

package resample

import (
	"errors"
	"strings"
	"testing"
)

func TestWithoutTheTagOpenSaysHowToBuildIt(t *testing.T) {
	resize, err := Open()
	if Available() || resize != nil || !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "-tags turbojpeg") {
		t.Errorf("got %v, available %v", err, Available())
	}
}
