package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

func TestContractWithMinIO(t *testing.T) {
	s3 := servertest.MinIO(t)
	for name, test := range map[string]func(*testing.T, *servertest.S3){
		"a put object is read back with its ETag":            putIsReadBack,
		"a missing object is not found everywhere":           missingIsNotFound,
		"a condition that does not hold is a conflict":       conditionIsAConflict,
		"of many conditional writers exactly one wins":       oneWriterWins,
		"a listing is whole, sorted and below its prefix":    listingIsWhole,
		"a file goes up and comes down whole":                filesGoUpAndDown,
		"a failed download keeps the destination":            failedDownloadKeeps,
		"conditional PUT is found to work":                   conditionalWorks,
		"a store that ignores conditions is found out":       ignoredConditionIsFound,
		"the bucket is made once and pings then":             bucketIsMade,
		"each kind of bad access has its own remedy":         badAccess,
		"a cancelled call says that it was cancelled":        cancelled,
		"the store's clock is known":                         clockIsKnown,
		"a passing 503 is retried":                           passing503,
		"leases are held by one owner at a time":             leases,
		"updates of many writers are all kept":               updates,
		"credentials never show in a formatted value":        func(t *testing.T, s3 *servertest.S3) { credentialsStaySecret(t, credentials(s3)) },
		"a missing bucket is never taken for a missing key":  missingBucket,
		"an If-Match over a removed object is a conflict":    removedIsAConflict,
		"a large object is not cut":                          largeObject,
		"a reader of a missing object is not found":          missingReader,
		"an object is read from any byte on":                 readFrom,
		"a store that ignores ranges is found out":           ignoredRangeIsFound,
		"removing what is not there is no error":             removeTwice,
		"existence tells missing from present":               exists,
		"a record of a newer version is refused by the name": newerRecord,
	} {
		t.Run(name, func(t *testing.T) { test(t, s3) })
	}
}

func credentials(s3 *servertest.S3) objectstore.Credentials {
	return objectstore.Credentials{Endpoint: s3.Endpoint, Region: servertest.Region, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey}
}

func open(t *testing.T, c objectstore.Credentials, name string) *objectstore.Bucket {
	t.Helper()
	b, err := objectstore.Open(c, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fresh(t *testing.T, s3 *servertest.S3) *objectstore.Bucket {
	t.Helper()
	return open(t, credentials(s3), servertest.Bucket(t, s3))
}

func put(t *testing.T, b *objectstore.Bucket, key, text string) string {
	t.Helper()
	etag, err := b.Put(t.Context(), key, []byte(text), journal.Always())
	if err != nil {
		t.Fatal(err)
	}
	return etag
}

func wants(t *testing.T, err, target error, words ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want one that is %v", err, target)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func putIsReadBack(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	etag := put(t, b, "a/ü b.json", "text")
	data, got, err := b.Get(t.Context(), "a/ü b.json")
	if err != nil || string(data) != "text" || got != etag || etag == "" {
		t.Fatalf("Get: %q, ETag %q, %v; put with ETag %q", data, got, err, etag)
	}
	o, err := b.Stat(t.Context(), "a/ü b.json")
	if err != nil || o.Size != 4 || o.ETag != etag || o.Key != "a/ü b.json" || o.Modified.IsZero() {
		t.Fatalf("Stat: %+v, %v", o, err)
	}
}

func missingIsNotFound(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	_, _, err := b.Get(t.Context(), "no")
	wants(t, err, journal.ErrNotFound, "s3://"+b.Name()+"/no")
	_, err = b.Stat(t.Context(), "no")
	wants(t, err, journal.ErrNotFound)
	wants(t, b.Download(t.Context(), "no", filepath.Join(t.TempDir(), "x")), journal.ErrNotFound)
}

func missingReader(t *testing.T, s3 *servertest.S3) {
	_, err := fresh(t, s3).Reader(t.Context(), "no")
	wants(t, err, journal.ErrNotFound)
}

func exists(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	put(t, b, "there", "")
	for key, want := range map[string]bool{"there": true, "not": false} {
		if got, err := b.Exists(t.Context(), key); got != want || err != nil {
			t.Errorf("Exists(%s) = %v, %v", key, got, err)
		}
	}
}

func missingBucket(t *testing.T, s3 *servertest.S3) {
	b := open(t, credentials(s3), "nobody-made-this")
	_, _, err := b.Get(t.Context(), "key")
	wants(t, err, objectstore.ErrNoBucket, "data.bucket")
	if errors.Is(err, journal.ErrNotFound) {
		t.Error("a missing bucket passes for a missing record")
	}
	_, err = b.List(t.Context(), "")
	wants(t, err, objectstore.ErrNoBucket)
	wants(t, b.Ping(t.Context()), objectstore.ErrNoBucket)
}

func removeTwice(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	put(t, b, "k", "one")
	for range 2 {
		if err := b.Remove(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
}

func listingIsWhole(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	var wg sync.WaitGroup
	for i := range 1100 { // more than a page
		wg.Go(func() { put(t, b, fmt.Sprintf("p/%d/x", i), "") })
	}
	put(t, b, "q/other", "")
	wg.Wait()
	objects, err := b.List(t.Context(), "p/")
	if err != nil || len(objects) != 1100 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	for i, o := range objects {
		if !strings.HasPrefix(o.Key, "p/") || i > 0 && objects[i-1].Key >= o.Key || o.ETag == "" || strings.Contains(o.ETag, `"`) {
			t.Fatalf("object %d: %+v", i, o)
		}
	}
}

func filesGoUpAndDown(t *testing.T, s3 *servertest.S3) {
	b, dir := fresh(t, s3), t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Upload(t.Context(), "f", from); err != nil {
		t.Fatal(err)
	}
	if err := b.Download(t.Context(), "f", to); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(to); string(data) != "content" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

func largeObject(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	data := bytes.Repeat([]byte("0123456789abcdef"), 20<<16) // 20 MiB, beyond one part
	if err := b.UploadBytes(t.Context(), "large", data); err != nil {
		t.Fatal(err)
	}
	r, err := b.Reader(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// front is a proxy before MinIO that may answer itself or change a request.
func conditionalWorks(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	if err := b.CheckConditional(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := b.List(t.Context(), ""); len(left) != 0 || err != nil {
		t.Errorf("the probe left %v, %v", left, err)
	}
}

func bucketIsMade(t *testing.T, s3 *servertest.S3) {
	b := open(t, credentials(s3), "made-by-the-test")
	for range 2 {
		if err := b.EnsureBucket(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, b, "k", "x")
	if err := b.Ping(t.Context()); err != nil {
		t.Fatalf("with an object: %v", err)
	}
}

func cancelled(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := b.Get(ctx, "k")
	wants(t, err, context.Canceled)
	_, err = b.List(ctx, "")
	wants(t, err, context.Canceled)
	wants(t, b.Ping(ctx), context.Canceled)
	_, err = b.Put(ctx, "k", nil, journal.Always())
	wants(t, err, context.Canceled)
}
