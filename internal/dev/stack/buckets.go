package stack

import (
	"context"

	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

// makeBuckets makes the buckets that are missing.
func (s *state) makeBuckets(ctx context.Context, names ...string) error {
	access := objectstore.Credentials{
		Endpoint: s.url("minio"), Region: region,
		AccessKey: s.Credentials.AccessKey, SecretKey: s.Credentials.SecretKey,
	}
	for _, name := range names {
		bucket, err := objectstore.Open(access, name)
		if err != nil {
			return err
		}
		if err := bucket.EnsureBucket(ctx); err != nil {
			return err
		}
	}
	return nil
}
