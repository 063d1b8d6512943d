// Package servertest gives tests the real MinIO and the real MLflow: started
// from the cache on free loopback ports, with their data in the test's own
// folder, ended with the test. Nothing is mocked and nothing is skipped: a
// server that is missing or does not start fails the test and names the remedy.
package servertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

const (
	startLimit = 90 * time.Second // a cold disk and two busy cores included
	stopGrace  = 5 * time.Second
)

// S3 is a running MinIO. Endpoint is a URL, such as http://127.0.0.1:9000.
type S3 struct {
	Endpoint  string
	AccessKey string
	SecretKey string
}

// Region is the region that S3 requests are signed for.
const Region = "us-east-1"

// MinIO starts a MinIO server that lives as long as the test.
func MinIO(t testing.TB) *S3 {
	t.Helper()
	program, err := process.Cached("bin/minio")
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), freePort(t)
	s3 := &S3{
		Endpoint:  fmt.Sprintf("http://127.0.0.1:%d", port),
		AccessKey: "penstock-test",
		SecretKey: rand.Text(),
	}
	start(t, process.Spec{
		Name: "MinIO",
		Path: program,
		Args: []string{
			"server", filepath.Join(dir, "data"), "--quiet",
			"--address", fmt.Sprintf("127.0.0.1:%d", port),
			"--console-address", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
			"--certs-dir", filepath.Join(dir, "certs"),
		},
		Env: []string{
			"MINIO_ROOT_USER=" + s3.AccessKey, "MINIO_ROOT_PASSWORD=" + s3.SecretKey,
			"MINIO_UPDATE=off", "MINIO_BROWSER=off",
		},
		Log: filepath.Join(dir, "minio.log"),
	}, s3.Endpoint+"/minio/health/ready")
	return s3
}

// Setenv sets the AWS_* variables that the programs read, for this test.
func (s *S3) Setenv(t testing.TB) {
	t.Helper()
	for _, kv := range s.Env() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
}

// Env is the same as a list of NAME=value, for a command's environment.
func (s *S3) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_REGION=" + Region,
		"AWS_ENDPOINT_URL_S3=" + s.Endpoint,
	}
}

// Client is a plain client of the server.
func (s *S3) Client(t testing.TB) *minio.Client {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""),
		Region: Region,
	})
	if err != nil {
		t.Fatalf("client of the test's MinIO: %v", err)
	}
	return c
}

// Bucket makes a new bucket and returns its name.
func Bucket(t testing.TB, s3 *S3) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:12])
	makeBucket(t, s3, name)
	return name
}

func makeBucket(t testing.TB, s3 *S3, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s3.Client(t).MakeBucket(ctx, name, minio.MakeBucketOptions{Region: Region}); err != nil {
		t.Fatalf("make bucket %s: %v", name, err)
	}
}

// MLflow starts a tracking server (SQLite, artifacts in s3) that lives as long
// as the test, and returns its URL.
func MLflow(t testing.TB, s3 *S3) string {
	t.Helper()
	program, err := process.Cached("mlflow/bin/mlflow")
	if err != nil {
		t.Fatal(err)
	}
	bucket := Bucket(t, s3)
	dir, port := t.TempDir(), freePort(t)
	uri := fmt.Sprintf("http://127.0.0.1:%d", port)
	start(t, process.Spec{
		Name: "MLflow",
		Path: program,
		Args: []string{
			"server", "--host", "127.0.0.1", "--port", fmt.Sprint(port), "--workers", "1",
			"--backend-store-uri", "sqlite:///" + filepath.Join(dir, "mlflow.db"),
			"--artifacts-destination", "s3://" + bucket,
		},
		Env: append(s3.Env(), process.MLflowEnv(s3.Endpoint)...),
		Dir: dir,
		Log: filepath.Join(dir, "mlflow.log"),
	}, uri+"/health")
	return uri
}

// start starts a server and waits for it. Its folder must have been made
// before, so that it is removed only after the server has ended.
func start(t testing.TB, spec process.Spec, health string) {
	t.Helper()
	spec.DieWithParent = true
	p, err := process.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(stopGrace) })
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if err := p.WaitHealthy(ctx, health); err != nil {
		t.Fatal(err)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
