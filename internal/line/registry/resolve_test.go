package registry_test

import (
	"errors"
	"testing"

	"github.com/penstock-ml/penstock/internal/line/registry"
)

func TestAVersionIsFoundByItsNumberAndByItsDigest(t *testing.T) {
	r, _ := fresh()
	register(t, r, "aa", "bb")
	v, err := r.Numbered(t.Context(), 2)
	if err != nil || v.Digest() != "bb" {
		t.Errorf("version 2 is %+v, %v", v, err)
	}
	if v, err = r.Of(t.Context(), "aa"); err != nil || v.Number != 1 {
		t.Errorf("the version of aa is %+v, %v", v, err)
	}
	if _, err := r.Numbered(t.Context(), 3); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("version 3: %v", err)
	}
}

func TestAVersionThatNobodyRegisteredHereIsRefused(t *testing.T) {
	r, s := fresh()
	s.versions = append(s.versions, registry.Version{Number: 1})
	if v, err := r.Numbered(t.Context(), 1); err == nil {
		t.Errorf("version 1 has no digest and became %+v", v)
	}
}
