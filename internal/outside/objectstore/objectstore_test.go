package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

func conditionIsAConflict(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	etag := put(t, b, "k", "one")
	_, err := b.Put(t.Context(), "k", []byte("two"), journal.IfAbsent())
	wants(t, err, journal.ErrConflict, "/k")
	second, err := b.Put(t.Context(), "k", []byte("two"), journal.IfMatch(etag))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Put(t.Context(), "k", []byte("three"), journal.IfMatch(etag))
	wants(t, err, journal.ErrConflict)
	data, got, err := b.Get(t.Context(), "k")
	if string(data) != "two" || got != second || err != nil {
		t.Errorf("%q, %q, %v", data, got, err)
	}
}

func removedIsAConflict(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	etag := put(t, b, "k", "one")
	if err := b.Remove(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	_, err := b.Put(t.Context(), "k", []byte("two"), journal.IfMatch(etag))
	wants(t, err, journal.ErrConflict)
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

func oneWriterWins(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	etag := put(t, b, "match", "zero")
	for key, when := range map[string]journal.Condition{"absent": journal.IfAbsent(), "match": journal.IfMatch(etag)} {
		errs := make(chan error, 32)
		for i := range cap(errs) {
			go func() {
				_, err := b.Put(t.Context(), key, fmt.Append(nil, i), when)
				errs <- err
			}()
		}
		won := 0
		for range cap(errs) {
			switch err := <-errs; {
			case err == nil:
				won++
			case !errors.Is(err, journal.ErrConflict):
				t.Errorf("%s: %v", key, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d writers won", key, won)
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
func front(t *testing.T, s3 *servertest.S3, handle func(next http.Handler, w http.ResponseWriter, r *http.Request)) objectstore.Credentials {
	t.Helper()
	target, err := url.Parse(s3.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // the signature covers it
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(proxy, w, r) }))
	t.Cleanup(s.Close)
	c := credentials(s3)
	c.Endpoint = s.URL
	return c
}

func failedDownloadKeeps(t *testing.T, s3 *servertest.S3) {
	c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		fmt.Fprint(w, "only this")
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, c, "bucket").Download(t.Context(), "k", path); err == nil {
		t.Fatal("a cut download passes")
	}
	data, err := os.ReadFile(path)
	if string(data) != "old" || err != nil {
		t.Errorf("the destination is %q, %v", data, err)
	}
	if left, err := os.ReadDir(dir); len(left) != 1 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func conditionalWorks(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	if err := b.CheckConditional(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := b.List(t.Context(), ""); len(left) != 0 || err != nil {
		t.Errorf("the probe left %v, %v", left, err)
	}
}

func ignoredConditionIsFound(t *testing.T, s3 *servertest.S3) {
	name := servertest.Bucket(t, s3)
	for _, header := range []string{"If-None-Match", "If-Match"} {
		// MinIO does not require these headers to be signed.
		c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && r.Header.Get(header) != "" {
				w.Header().Set("ETag", `"0123"`)
				return
			}
			next.ServeHTTP(w, r)
		})
		err := open(t, c, name).CheckConditional(t.Context())
		if err == nil || !strings.Contains(err.Error(), "ignores "+header) {
			t.Errorf("%s ignored: %v", header, err)
		}
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

func badAccess(t *testing.T, s3 *servertest.S3) {
	name := servertest.Bucket(t, s3)
	key, secret, host := credentials(s3), credentials(s3), credentials(s3)
	key.AccessKey = "nobody"
	secret.SecretKey = "wrong-secret"
	host.Endpoint = "http://" + closedAddress(t)
	for _, c := range []struct {
		credentials objectstore.Credentials
		target      error
		remedy      string
	}{
		{key, objectstore.ErrCredentials, "AWS_ACCESS_KEY_ID"},
		{secret, objectstore.ErrCredentials, "AWS_SECRET_ACCESS_KEY"},
		{host, objectstore.ErrUnreachable, "AWS_ENDPOINT_URL_S3"},
	} {
		b := open(t, c.credentials, name)
		wants(t, b.Ping(t.Context()), c.target, c.remedy)
		_, _, err := b.Get(t.Context(), "k")
		wants(t, err, c.target, c.remedy, "s3://"+name+"/k")
		_, err = b.Put(t.Context(), "k", nil, journal.IfAbsent())
		wants(t, err, c.target, c.remedy)
		_, err = b.List(t.Context(), "raw/")
		wants(t, err, c.target, c.remedy)
		if strings.Contains(err.Error(), c.credentials.SecretKey) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
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

func clockIsKnown(t *testing.T, s3 *servertest.S3) {
	name := servertest.Bucket(t, s3)
	ahead := 3 * time.Hour
	c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(dated{w, time.Now().Add(ahead)}, r)
	})
	b := open(t, c, name)
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if off := time.Until(b.Now()) - ahead; off < -5*time.Second || off > 5*time.Second {
		t.Errorf("the store's clock is told %s off", off)
	}
}

type dated struct {
	http.ResponseWriter
	date time.Time
}

func (d dated) WriteHeader(status int) {
	d.Header().Set("Date", d.date.UTC().Format(http.TimeFormat))
	d.ResponseWriter.WriteHeader(status)
}

func passing503(t *testing.T, s3 *servertest.S3) {
	var mu sync.Mutex
	failed := map[string]bool{}
	c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		first := !failed[r.Method]
		failed[r.Method] = true
		mu.Unlock()
		if first {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
	b := open(t, c, servertest.Bucket(t, s3))
	put(t, b, "k", "text")
	if data, _, err := b.Get(t.Context(), "k"); string(data) != "text" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

func leases(t *testing.T, s3 *servertest.S3) {
	b, now := fresh(t, s3), time.Now()
	errs := make(chan error, 16)
	for i := range cap(errs) {
		go func() {
			_, err := journal.Acquire(t.Context(), b, "state/lease.json", fmt.Sprint("owner", i), now, time.Minute)
			errs <- err
		}()
	}
	won := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			won++
		} else if !errors.Is(err, journal.ErrHeld) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Fatalf("%d owners hold the lease", won)
	}
	if _, err := journal.Acquire(t.Context(), b, "state/lease.json", "late", now.Add(2*time.Minute), time.Minute); err != nil {
		t.Errorf("the lease is over and cannot be taken: %v", err)
	}
}

func updates(t *testing.T, s3 *servertest.S3) {
	type counter struct {
		N int `json:"n"`
	}
	b := fresh(t, s3)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := journal.Update(t.Context(), b, "state/n.json", func(c *counter) error { c.N++; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, _, err := journal.Load[counter](t.Context(), b, "state/n.json")
	if c.N != 4 || err != nil {
		t.Errorf("%d updates are kept, %v", c.N, err)
	}
}

func newerRecord(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	put(t, b, "state/n.json", `{"n": 1, "novelty": true}`)
	_, _, err := journal.Load[struct {
		N int `json:"n"`
	}](t.Context(), b, "state/n.json")
	if err == nil || !strings.Contains(err.Error(), "novelty") || !strings.Contains(err.Error(), "state/n.json") {
		t.Errorf("error %v", err)
	}
}

func credentialsStaySecret(t *testing.T, c objectstore.Credentials) {
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(text, c.SecretKey) || strings.Contains(text, c.AccessKey) {
			t.Errorf("%s", text)
		}
	}
}

func TestOpenRefusesBadNamesAndAddresses(t *testing.T) {
	good := objectstore.Credentials{Endpoint: "http://127.0.0.1:9000", AccessKey: "a", SecretKey: "b"}
	for _, name := range []string{"", "ab", "Upper", "a/b", "a b"} {
		if _, err := objectstore.Open(good, name); err == nil || !strings.Contains(err.Error(), "data.bucket") {
			t.Errorf("bucket %q: %v", name, err)
		}
	}
	for _, endpoint := range []string{"", "127.0.0.1:9000", "ftp://host", "http://host/path", "http://"} {
		c := good
		c.Endpoint = endpoint
		if _, err := objectstore.Open(c, "bucket"); err == nil || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL_S3") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}

func TestCredentialsNameEveryMissingVariable(t *testing.T) {
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	_, err := objectstore.CredentialsFromEnv(getenv)
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
		env[name] = "http://x"
	}
	env["AWS_ENDPOINT_URL"] = "http://general"
	if c, err := objectstore.CredentialsFromEnv(getenv); err != nil || c.Endpoint != "http://x" {
		t.Errorf("%v, %v", c, err)
	}
	delete(env, "AWS_ENDPOINT_URL_S3")
	if c, err := objectstore.CredentialsFromEnv(getenv); err != nil || c.Endpoint != "http://general" || c.Region != "us-east-1" {
		t.Errorf("%v, %v", c, err)
	}
}
