package stack

import (
	"context"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// makeBuckets makes the buckets that are missing.
func (s *state) makeBuckets(ctx context.Context, names ...string) error {
	client, err := minio.New(strings.TrimPrefix(s.url("minio"), "http://"), &minio.Options{
		Creds:      credentials.NewStaticV4(s.Credentials.AccessKey, s.Credentials.SecretKey, ""),
		Region:     region,
		MaxRetries: 3,
	})
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	for _, name := range names {
		there, err := client.BucketExists(ctx, name)
		if err != nil {
			return fmt.Errorf("look for bucket %s: %w", name, err)
		}
		if there {
			continue
		}
		if err := client.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: region}); err != nil {
			return fmt.Errorf("make bucket %s: %w", name, err)
		}
	}
	return nil
}
