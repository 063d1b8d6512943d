//go:build !turbojpeg

package turbojpeg

import (
	"errors"
	"strings"
	"testing"
)

func TestWithoutTheTagOpenSaysHowToBuildIt(t *testing.T) {
	decode, err := Open()
	if Available() || decode != nil || !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "-tags turbojpeg") {
		t.Errorf("got %v, available %v", err, Available())
	}
}
