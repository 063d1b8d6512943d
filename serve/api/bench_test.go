package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// BenchmarkPredict compares a prediction over HTTP with the same prediction by
// a call in the process, taken in turns.
func BenchmarkPredict(b *testing.B) {
	dir := bundletest.New(b, bundletest.Mean)
	read, err := bundle.Read(dir)
	if err != nil {
		b.Fatal(err)
	}
	log, count := slog.New(slog.DiscardHandler), &counts{}
	load := func(ctx context.Context, _ string) (*model.Model, error) {
		return model.Open(ctx, modeltest.Runtime(b), read)
	}
	h := host.New("test", b.TempDir(), load, count, log)
	defer h.Close()
	if _, err := h.Assign(b.Context(), read.Digest); err != nil {
		b.Fatal(err)
	}
	m, release, err := h.Use()
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	server := httptest.NewServer(publicSide(h, count))
	defer server.Close()
	picture := bundletest.Picture(b, 64, 64, 100)
	var direct, served []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := m.Predict(b.Context(), picture); err != nil {
			b.Fatal(err)
		}
		direct = append(direct, time.Since(began))
		began = time.Now()
		response, err := http.Post(server.URL+predictPath, "image/png", bytes.NewReader(picture))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != 200 {
			b.Fatal(response.Status, err)
		}
		response.Body.Close()
		served = append(served, time.Since(began))
	}
	b.ReportMetric(ms(direct), "in-process-ms/p50")
	b.ReportMetric(ms(served), "http-ms/p50")
	b.ReportMetric(ms(served)-ms(direct), "added-ms/p50")
	b.ReportMetric(1, "added-ms/p50-bound")
}

func ms(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2].Microseconds()) / 1000
}
