package registry

import (
	"context"
	"fmt"
)

// Numbered answers the version with this number.
func (r *Registry) Numbered(ctx context.Context, number int) (Version, error) {
	all, err := r.Versions.List(ctx, r.Model)
	if err != nil {
		return Version{}, err
	}
	for _, v := range all {
		if v.Number == number {
			if v.Digest() == "" {
				return Version{}, fmt.Errorf("version %d of model %s has no tag %s: it was not made by penstock register", number, r.Model, TagDigest)
			}
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("model %s has no version %d: %w", r.Model, number, ErrNotFound)
}

// Of answers the version that stands for a digest. Of several the oldest
// counts, so that every caller finds the same.
func (r *Registry) Of(ctx context.Context, digest string) (Version, error) {
	return r.version(ctx, digest)
}
