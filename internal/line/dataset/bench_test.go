package dataset_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
)

// BenchmarkGrow makes a data set of 1,000 images on a local MinIO, first and
// again with all preprocessed images there.
func BenchmarkGrow(b *testing.B) {
	s3 := servertest.MinIO(b)
	for i := range b.N {
		store := bucket(b, s3)
		batch := newUpload(fmt.Sprint("b", i)).patients(b, 1, 500).send(b, store)
		start := time.Now()
		digest := grow(b, store, request(batch, "")).Dataset.Digest
		first := time.Since(start)
		start = time.Now()
		if again := grow(b, store, request(batch, "")).Dataset.Digest; again != digest {
			b.Fatal("another digest")
		}
		b.ReportMetric(first.Seconds(), "s/first")
		b.ReportMetric(time.Since(start).Seconds(), "s/again")
	}
}
