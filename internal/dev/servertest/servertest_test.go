package servertest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
)

func TestMinIOKeepsAnObject(t *testing.T) {
	s3 := servertest.MinIO(t)
	bucket := servertest.Bucket(t, s3)
	client := s3.Client(t)
	want := []byte("a batch")
	if _, err := client.PutObject(t.Context(), bucket, "raw/x", bytes.NewReader(want), int64(len(want)), minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	obj, err := client.GetObject(t.Context(), bucket, "raw/x", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(obj)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read back %q, %v; want %q", got, err, want)
	}
}

func TestMLflowKeepsAnArtifactInMinIO(t *testing.T) {
	s3 := servertest.MinIO(t)
	uri := servertest.MLflow(t, s3)

	body := []byte("weights")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, uri+"/api/2.0/mlflow-artifacts/artifacts/0/run/artifacts/a.bin", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("PUT artifact: %s", resp.Status)
	}
	buckets, err := s3.Client(t).ListBuckets(t.Context())
	if err != nil || len(buckets) != 1 {
		t.Fatalf("buckets: %v, %v; want MLflow's one", buckets, err)
	}
	if _, err := s3.Client(t).StatObject(t.Context(), buckets[0].Name, "0/run/artifacts/a.bin", minio.StatObjectOptions{}); err != nil {
		t.Fatalf("artifact is not in MinIO: %v", err)
	}

	resp, err = http.Post(uri+"/api/2.0/mlflow/experiments/search", "application/json", bytes.NewReader([]byte(`{"max_results": 5}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var found struct{ Experiments []struct{ Name string } }
	if err := json.NewDecoder(resp.Body).Decode(&found); err != nil || len(found.Experiments) == 0 {
		t.Fatalf("experiments: %+v, %v; want the default one", found, err)
	}
}
