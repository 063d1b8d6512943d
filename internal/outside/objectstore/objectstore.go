// Package objectstore is the toolkit's one door to an S3 store (MinIO, AWS S3
// or any other that honours conditional PUT): objects of one bucket, read,
// listed and written with a timeout and bounded retries, and errors that say
// what to do about them.
//
// What is refused: credentials from anywhere but the environment, buckets
// chosen by key, and a store that ignores the condition of a conditional PUT
// (CheckConditional finds out).
package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/penstock-ml/penstock/internal/journal"
)

const (
	// callTimeout bounds a call that carries a record or an image, its retries
	// included.
	callTimeout = time.Minute
	// transferTimeout bounds the transfer of one large file, and a whole
	// listing.
	transferTimeout = 30 * time.Minute
	// maxTries bounds how often one request is sent.
	maxTries = 3
	// connections is how many idle connections are kept for parallel work.
	connections = 64
)

// Object describes one object of a bucket.
type Object struct {
	Key      string
	ETag     string // without quotes; not an MD5 for multipart uploads
	Size     int64  // bytes
	Modified time.Time
}

// Bucket is one bucket of a store. It is safe for concurrent use.
type Bucket struct {
	name     string
	endpoint string
	region   string
	scope    string // prefix of all that is written; empty: the root
	core     *minio.Core
	clock    *clock
}

// Open prepares access to the bucket with this name. It makes no call: Ping
// does.
func Open(c Credentials, name string) (*Bucket, error) {
	if err := checkBucketName(name); err != nil {
		return nil, err
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("object store endpoint %q is not a URL like http://127.0.0.1:9000: correct AWS_ENDPOINT_URL_S3", c.Endpoint)
	}
	transport, err := minio.DefaultTransport(u.Scheme == "https")
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to %s: %w", c.Endpoint, err)
	}
	transport.MaxIdleConnsPerHost = connections
	clock := &clock{next: transport}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds:      credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken),
		Secure:     u.Scheme == "https",
		Region:     c.Region,
		Transport:  clock,
		MaxRetries: maxTries,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the client of %s: %w", c.Endpoint, err)
	}
	return &Bucket{name: name, endpoint: c.Endpoint, region: c.Region, core: core, clock: clock}, nil
}

func checkBucketName(name string) error {
	if len(name) < 3 || len(name) > 63 || strings.ContainsAny(name, "/ _") || name != strings.ToLower(name) {
		return fmt.Errorf("bucket name %q: 3 to 63 lower-case letters, digits, dots and hyphens are allowed; correct data.bucket in penstock.yaml, or --bucket of penstock-serve run", name)
	}
	return nil
}

// Name is the bucket's name.
func (b *Bucket) Name() string { return b.name }

// Endpoint is the URL of the store.
func (b *Bucket) Endpoint() string { return b.endpoint }

// Now is the time by the store's own clock, as its last answer told it, so
// that ages of objects do not depend on this machine's clock. Its resolution
// is a second.
func (b *Bucket) Now() time.Time { return b.clock.now() }

// Ping asks whether the store answers, takes the credentials and has the
// bucket.
func (b *Bucket) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// A listing of one key, because its errors carry a code; those of a HEAD
	// do not.
	for o := range b.core.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{MaxKeys: 1}) {
		return b.explain(ctx, "reach", "", o.Err)
	}
	return b.explain(ctx, "reach", "", ctx.Err())
}

// EnsureBucket makes the bucket where it is missing.
func (b *Bucket) EnsureBucket(ctx context.Context) error {
	err := b.Ping(ctx)
	if !errors.Is(err, ErrNoBucket) {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = b.core.MakeBucket(call, b.name, minio.MakeBucketOptions{Region: b.region})
	if code := minio.ToErrorResponse(err).Code; code == "BucketAlreadyOwnedByYou" {
		return nil // another program made it at this moment
	}
	return b.explain(ctx, "make bucket", "", err)
}

// Get reads an object with its ETag. It answers journal.ErrNotFound.
func (b *Bucket) Get(ctx context.Context, key string) (data []byte, etag string, err error) {
	err = b.first(key, func(key string) error {
		data, etag, err = b.get(ctx, key)
		return err
	})
	return data, etag, err
}

func (b *Bucket) get(ctx context.Context, key string) ([]byte, string, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, info, _, err := b.core.GetObject(call, b.name, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, "", b.explain(ctx, "read", key, err)
	}
	defer body.Close()
	data := bytes.NewBuffer(make([]byte, 0, max(info.Size, 0)+bytes.MinRead))
	if _, err := data.ReadFrom(body); err != nil {
		return nil, "", b.explain(ctx, "read", key, err)
	}
	return data.Bytes(), info.ETag, nil
}

// Put writes an object when the condition holds, else it answers
// journal.ErrConflict. A conditional PUT whose answer was lost is sent again
// and then conflicts with itself: a caller that must know reads the record.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, when journal.Condition) (string, error) {
	key, err := b.target(key)
	if err != nil {
		return "", err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	opts := minio.PutObjectOptions{ContentType: contentType(key), DisableMultipart: true}
	conditional := true
	switch {
	case when.Absent():
		opts.SetMatchETagExcept("*")
	case when.ETag() != "":
		opts.SetMatchETag(when.ETag())
	default:
		conditional = false
	}
	info, err := b.core.Client.PutObject(call, b.name, key, bytes.NewReader(data), int64(len(data)), opts)
	if err == nil {
		return info.ETag, nil
	}
	err = b.explain(ctx, "write", key, err)
	if conditional && errors.Is(err, journal.ErrNotFound) {
		// If-Match over an object that is gone: somebody else was first.
		return "", fmt.Errorf("write %s: it was removed meanwhile: %w", b.place(key), journal.ErrConflict)
	}
	return "", err
}

// List gives the objects whose keys begin with prefix, sorted by key.
func (b *Bucket) List(ctx context.Context, prefix string) ([]Object, error) {
	root, err := b.list(ctx, prefix)
	if err != nil || b.scope == "" {
		return root, err
	}
	scope, err := b.list(ctx, b.scope+prefix)
	if err != nil {
		return nil, err
	}
	return b.merged(scope, root), nil
}

func (b *Bucket) list(ctx context.Context, prefix string) ([]Object, error) {
	call, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	var objects []Object
	for o := range b.core.ListObjectsIter(call, b.name, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, b.explain(ctx, "list", prefix, o.Err)
		}
		objects = append(objects, object(o))
	}
	if err := call.Err(); err != nil { // the iterator just ends then
		return nil, b.explain(ctx, "list", prefix, err)
	}
	sort.Slice(objects, func(i, j int) bool { return objects[i].Key < objects[j].Key })
	return objects, nil
}

// Stat describes one object. It answers journal.ErrNotFound.
func (b *Bucket) Stat(ctx context.Context, key string) (o Object, err error) {
	err = b.first(key, func(at string) error {
		o, err = b.stat(ctx, at)
		o.Key = key
		return err
	})
	return o, err
}

func (b *Bucket) stat(ctx context.Context, key string) (Object, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := b.core.StatObject(call, b.name, key, minio.StatObjectOptions{})
	if err != nil {
		return Object{}, b.explain(ctx, "look up", key, err)
	}
	return object(info), nil
}

// Exists tells whether an object has this key.
func (b *Bucket) Exists(ctx context.Context, key string) (bool, error) {
	_, err := b.Stat(ctx, key)
	if errors.Is(err, journal.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Reader opens an object for reading. It answers journal.ErrNotFound. The
// caller closes it.
func (b *Bucket) Reader(ctx context.Context, key string) (r io.ReadCloser, err error) {
	err = b.first(key, func(key string) error {
		r, err = b.reader(ctx, key)
		return err
	})
	return r, err
}

func (b *Bucket) reader(ctx context.Context, key string) (io.ReadCloser, error) {
	call, cancel := context.WithTimeout(ctx, transferTimeout)
	body, _, _, err := b.core.GetObject(call, b.name, key, minio.GetObjectOptions{})
	if err != nil {
		cancel()
		return nil, b.explain(ctx, "read", key, err)
	}
	return &reader{body, cancel}, nil
}

// Download copies an object to a file, which appears whole or not at all. It
// answers journal.ErrNotFound.
func (b *Bucket) Download(ctx context.Context, key, path string) (err error) {
	body, err := b.Reader(ctx, key)
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("download %s: %w", b.place(key), err)
	}
	defer func() {
		if err != nil {
			f.Close() // a second close after a failed one is harmless
			os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, body); err != nil {
		return b.explain(ctx, "download", key, err)
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("download %s to %s: %w", b.place(key), path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("download %s: %w", b.place(key), err)
	}
	return nil
}

// Upload copies a file to an object.
func (b *Bucket) Upload(ctx context.Context, key, path string) error {
	key, err := b.target(key)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	_, err = b.core.FPutObject(call, b.name, key, path, minio.PutObjectOptions{ContentType: contentType(key)})
	return b.explain(ctx, "upload", key, err)
}

// UploadBytes writes an object, whatever was there.
func (b *Bucket) UploadBytes(ctx context.Context, key string, data []byte) error {
	_, err := b.Put(ctx, key, data, journal.Always())
	return err
}

// Remove deletes an object; one that is not there is no error.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	key, err := b.target(key)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return b.explain(ctx, "remove", key, b.core.RemoveObject(call, b.name, key, minio.RemoveObjectOptions{}))
}

func object(o minio.ObjectInfo) Object {
	return Object{Key: o.Key, ETag: strings.Trim(o.ETag, `"`), Size: o.Size, Modified: o.LastModified}
}

func contentType(key string) string {
	switch strings.ToLower(filepath.Ext(key)) {
	case ".json", ".jsonl":
		return "application/json"
	case ".png":
		return "image/png"
	case ".yaml", ".csv":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

type reader struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (r *reader) Close() error {
	defer r.cancel()
	return r.ReadCloser.Close()
}

// clock reads the store's clock from the Date header of its answers.
type clock struct {
	next http.RoundTripper
	skew atomic.Int64 // store's time minus this machine's, nanoseconds
}

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }

func (c *clock) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err == nil {
		if date, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil {
			c.skew.Store(int64(time.Until(date)))
		}
	}
	return resp, err
}
