package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

// fetchVariable makes the test binary a program that fetches: bucket, digest
// and cache, separated by blanks. It reads slowly and prints how many bytes of
// weights.bin it read.
const fetchVariable = "BUNDLE_TEST_FETCH"

func TestMain(m *testing.M) {
	for variable, run := range map[string]func([]string) error{fetchVariable: fetchSlowly, cacheVariable: atTheCache} {
		if job := os.Getenv(variable); job != "" {
			if err := run(strings.Fields(job)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func fetchSlowly(job []string) error {
	credentials, err := objectstore.CredentialsFromEnv(os.Getenv)
	if err != nil {
		return err
	}
	bucket, err := objectstore.Open(credentials, job[0])
	if err != nil {
		return err
	}
	source := &slow{Source: bucket}
	_, err = bundle.Fetch(context.Background(), source, job[1], job[2])
	fmt.Println(source.read)
	return err
}

// slow reads 16 KiB a millisecond.
type slow struct {
	bundle.Source
	read int
}

func (s *slow) ReaderFrom(ctx context.Context, key string, offset int64) (io.ReadCloser, int64, error) {
	r, size, err := s.Source.ReaderFrom(ctx, key, offset)
	if err != nil || !strings.HasSuffix(key, "weights.bin") {
		return r, size, err
	}
	return &slowReader{r, s}, size, nil
}

type slowReader struct {
	io.ReadCloser
	s *slow
}

func (r *slowReader) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond) // the store's slowness, not a wait for something
	n, err := r.ReadCloser.Read(p[:min(len(p), 16<<10)])
	r.s.read += n
	return n, err
}

const weights = 12 << 20

// child starts a program that fetches.
func child(t *testing.T, s3 *servertest.S3, bucket *objectstore.Bucket, digest, cache string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), s3.Env()...), fetchVariable+"="+bucket.Name()+" "+digest+" "+cache)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

// wait until so many bytes of weights.bin are on the disk.
func wait(t *testing.T, cache, digest string, bytes int64) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(5 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(cache, ".fetch-"+digest, "incoming", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && info.Size() >= bytes {
				return
			}
		}
	}
	t.Fatalf("%d bytes never came", bytes)
}

func TestFetchFromMinIO(t *testing.T) {
	s3 := servertest.MinIO(t)
	bucket, err := objectstore.Open(objectstore.Credentials{
		Endpoint: s3.Endpoint, Region: servertest.Region, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey,
	}, servertest.Bucket(t, s3))
	if err != nil {
		t.Fatal(err)
	}
	digest := large(t, bucket, weights)
	t.Run("after kill -9 it goes on where it was", func(t *testing.T) { killed(t, s3, bucket, digest) })
	t.Run("two programs share a cache", func(t *testing.T) { shared(t, s3, bucket, digest) })
	t.Run("who waits takes over from the dead", func(t *testing.T) { takenOver(t, s3, bucket, digest) })
	t.Run("a missing bundle is not refused", func(t *testing.T) {
		if _, err := bundle.Fetch(t.Context(), bucket, strings.Repeat("0", 64), t.TempDir()); !errors.Is(err, bundle.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func killed(t *testing.T, s3 *servertest.S3, bucket *objectstore.Bucket, digest string) {
	cache := t.TempDir()
	cmd, _ := child(t, s3, bucket, digest, cache)
	wait(t, cache, digest, 2<<20)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("it came to its end")
	}
	info, err := os.Stat(kept(t, cache, digest))
	if err != nil {
		t.Fatal(err)
	}
	source := &faulty{Source: bucket, cut: never}
	if _, err := bundle.Fetch(t.Context(), source, digest, cache); err != nil {
		t.Fatal(err)
	}
	if want := weights - info.Size(); source.read != want {
		t.Errorf("%d bytes were read, %d were missing", source.read, want)
	}
}

func shared(t *testing.T, s3 *servertest.S3, bucket *objectstore.Bucket, digest string) {
	cache := t.TempDir()
	total := 0
	stable, one := child(t, s3, bucket, digest, cache)
	canary, two := child(t, s3, bucket, digest, cache)
	for cmd, out := range map[*exec.Cmd]*strings.Builder{stable: one, canary: two} {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(out.String()))
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != weights {
		t.Errorf("together they read %d bytes of %d", total, weights)
	}
	if _, err := bundle.Fetch(t.Context(), nil, digest, cache); err != nil {
		t.Error(err)
	}
}

func takenOver(t *testing.T, s3 *servertest.S3, bucket *objectstore.Bucket, digest string) {
	cache := t.TempDir()
	first, _ := child(t, s3, bucket, digest, cache)
	wait(t, cache, digest, 2<<20)
	waiting := make(chan struct{})
	done := make(chan error, 1)
	source := &faulty{Source: bucket, cut: never}
	go func() {
		_, err := bundle.FetchTold(t.Context(), source, digest, cache, func(step string, _, _ int64) {
			if strings.HasPrefix(step, "waiting") {
				close(waiting)
			}
		})
		done <- err
	}()
	<-waiting
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err == nil {
		t.Fatal("it came to its end")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if source.read > weights-2<<20 {
		t.Errorf("%d bytes were read again", source.read)
	}
}
