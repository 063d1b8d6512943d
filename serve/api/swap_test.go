package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
	"github.com/penstock-ml/penstock/serve/service"
)

func TestSwapsUnderLoadFailNoRequest(t *testing.T) {
	w := serve(t, bundletest.Mean)
	second := bundletest.New(t, bundletest.Mean, func(m *bundle.Manifest) { m.Provenance.RunKey = "second" })
	b, err := bundle.Read(second)
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{b.Digest: second}
	first := bundletest.New(t, bundletest.Mean)
	dirs[w.digest] = first
	load := func(ctx context.Context, digest string) (*model.Model, error) {
		b, err := bundle.Read(dirs[digest])
		if err != nil {
			return nil, err
		}
		return model.Open(ctx, modeltest.Runtime(t), b)
	}
	set, err := host.NewSet([]string{"test"}, t.TempDir(), load, func(string) host.Observer { return w.counts }, slog.New(slog.DiscardHandler), host.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	h := set.Host("test")
	if _, err := h.Assign(t.Context(), w.digest); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(publicSide(h, w.counts))
	defer server.Close()

	picture := bundletest.Picture(t, 20, 20, 90)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				response, err := http.Post(server.URL+predictPath, "image/png", bytes.NewReader(picture))
				if err != nil {
					t.Error(err)
					return
				}
				var p api.Prediction
				err = json.NewDecoder(response.Body).Decode(&p)
				response.Body.Close()
				if response.StatusCode != 200 || err != nil || p.Model.Digest != response.Header.Get("Penstock-Model-Digest") || dirs[p.Model.Digest] == "" {
					t.Errorf("%d %v %+v", response.StatusCode, err, p.Model)
				}
			}
		})
	}
	for i := range 20 {
		digest := []string{b.Digest, w.digest}[i%2]
		if status, err := h.Assign(t.Context(), digest); err != nil || status.Serving != digest {
			t.Errorf("swap %d: %+v %v", i, status, err)
		}
	}
	close(stop)
	wg.Wait()
	if strings.Contains(w.counts.take(), "error") {
		t.Error("requests failed")
	}
}

// publicSide is one model over HTTP.
func publicSide(h service.Host, c service.Counter) http.Handler {
	log := slog.New(slog.DiscardHandler)
	core := service.New(service.Options{Log: log, SLO: time.Second, Strays: c, Models: []service.Served{{Host: h, Counter: c}}})
	return api.New(api.Options{Service: core, Log: log, Buffers: buffers.New()}).Handler()
}
