package api_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// BenchmarkPredict compares a prediction over HTTP with the same prediction by
// a call in the process, taken in turns.
func BenchmarkPredict(b *testing.B) {
	m, handler := oneModel(b)
	server := httptest.NewServer(handler)
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

// oneModel gives a model and the public side of the server that serves it.
func oneModel(b testing.TB) (*model.Model, http.Handler) {
	read, err := bundle.Read(bundletest.New(b, bundletest.Mean))
	if err != nil {
		b.Fatal(err)
	}
	m, err := model.Open(b.Context(), modeltest.Runtime(b), read)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	})
	return m, publicSide(fixed{"test", m}, &counts{})
}

// BenchmarkInfer compares 150,016 floats over HTTP, as JSON and as bytes, with
// the same run by a call in the process, all taken in turns.
func BenchmarkInfer(b *testing.B) {
	m, handler := oneModel(b)
	server := httptest.NewServer(handler)
	defer server.Close()
	floats := make([]float32, 2344*64)
	for i := range floats {
		floats[i] = float32(i%1000) / 1000
	}
	input := oip.Tensor{Name: "input", Datatype: oip.FP32, Shape: []int64{2344, 1, 8, 8}, Data: oip.Bytes(floats)}
	post := func(binary bool) func() {
		body, err := oip.EncodeRequest(oip.Request{Inputs: []oip.Tensor{input}, Outputs: []oip.Requested{{Name: "scores", Binary: true}}}, binary, nil)
		if err != nil {
			b.Fatal(err)
		}
		var data bytes.Buffer
		if _, err := body.WriteTo(&data); err != nil {
			b.Fatal(err)
		}
		return func() {
			request, err := http.NewRequest("POST", server.URL+"/v2/models/test/infer", bytes.NewReader(data.Bytes()))
			if err != nil {
				b.Fatal(err)
			}
			if n := body.HeaderLength(); n >= 0 {
				request.Header.Set("Inference-Header-Content-Length", strconv.Itoa(n))
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				b.Fatal(err)
			}
			defer response.Body.Close()
			if n, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != 200 || n < 2344*8 {
				b.Fatal(response.Status, n, err)
			}
		}
	}
	ways := map[string]func(){"json": post(false), "binary": post(true), "in-process": func() {
		r, err := m.Infer(b.Context(), []oip.Tensor{input}, []string{"scores"})
		if err != nil {
			b.Fatal(err)
		}
		r.Release()
	}}
	took := map[string][]time.Duration{}
	for b.Loop() {
		for name, run := range ways {
			began := time.Now()
			run()
			took[name] = append(took[name], time.Since(began))
		}
	}
	direct := ms(took["in-process"])
	b.ReportMetric(direct, "in-process-ms/p50")
	b.ReportMetric(ms(took["json"])-direct, "json-added-ms/p50")
	b.ReportMetric(7, "json-added-ms/p50-bound")
	b.ReportMetric(ms(took["binary"])-direct, "binary-added-ms/p50")
	b.ReportMetric(1, "binary-added-ms/p50-bound")
}
