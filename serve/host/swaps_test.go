package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/replay"
	"github.com/penstock-ml/penstock/serve/service"
)

// go test ./serve/host -run Swaps -v -swaps 200 prints the figures of docs/serving.md.
var swaps = flag.Int("swaps", 40, "how many times TestSwapsUnderLoad swaps the model")

// unloads counts the log's lines that say so.
type unloads struct {
	slog.Handler
	n atomic.Int64
}

func (u *unloads) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "unloaded" {
		u.n.Add(1)
	}
	return nil
}

func (u *unloads) Enabled(context.Context, slog.Level) bool { return true }

// load is clients that send pictures until stop is closed.
type load struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	failed atomic.Int64

	mu   sync.Mutex
	took []time.Duration
}

func (l *load) client(t testing.TB, url string, picture []byte) {
	l.wg.Go(func() {
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			began := time.Now()
			if err := ask(url, picture); err != "" {
				l.failed.Add(1)
				t.Errorf("a request failed: %s", err)
			}
			l.mu.Lock()
			l.took = append(l.took, time.Since(began))
			l.mu.Unlock()
		}
	})
}

// ask sends a picture and says what is wrong with the answer.
func ask(url string, picture []byte) string {
	response, err := http.Post(url, "image/png", bytes.NewReader(picture))
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	var answer struct{ Model struct{ Digest string } }
	if err := json.Unmarshal(body, &answer); err != nil || response.StatusCode != http.StatusOK ||
		answer.Model.Digest != response.Header.Get("Penstock-Model-Digest") || answer.Model.Digest == "" {
		return response.Status + " " + string(body)
	}
	return ""
}

func (l *load) take() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := l.took
	l.took = nil
	return took
}

// TestSwapsUnderLoad swaps two bundles with 16 MB of weights each again and
// again, replay included, while clients ask over HTTP. No request fails, and
// the resident memory does not grow.
func TestSwapsUnderLoad(t *testing.T) {
	if *swaps < 30 {
		t.Fatalf("-swaps %d: memory is compared with that after swap 20, want 30 at least", *swaps)
	}
	var s shelf
	digests := []string{s.addGraph(t, bundletest.Heavy, key("1")), s.addGraph(t, bundletest.Heavy, key("2"))}
	log := &unloads{}
	set, err := host.NewSet([]string{"test"}, t.TempDir(), s.load(t), func(string) host.Observer { return metrics.New("test", time.Second).Model("test") },
		slog.New(log), host.Options{Replay: replay.Limits{Requests: 4, Bytes: 1 << 20, Term: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	assign(t, set, "test", digests[0])
	server := httptest.NewServer(publicSide(set, "test"))
	defer server.Close()
	url := server.URL + "/v1/models/test/predict"

	l := &load{stop: make(chan struct{})}
	for i := range 4 {
		l.client(t, url, bundletest.Picture(t, 64, 64, uint8(50*i)))
	}
	resident := make([]int, *swaps+1)
	for i := 1; i <= *swaps; i++ {
		status := assign(t, set, "test", digests[i%2])
		if status.Serving != digests[i%2] {
			t.Fatalf("swap %d: %+v", i, status)
		}
		for began := time.Now(); log.n.Load() < int64(i); time.Sleep(time.Millisecond) { // the one before goes after its last request
			if time.Since(began) > 30*time.Second {
				t.Fatalf("swap %d: the model before is still there", i)
			}
		}
		if resident[i], err = replay.Resident(); err != nil {
			t.Fatal(err)
		}
	}
	close(l.stop)
	l.wg.Wait()

	took := l.take()
	if len(took) < *swaps {
		t.Fatalf("%d requests only: that is no load", len(took))
	}
	early, late := median(resident[18:23]), median(resident[*swaps-4:])
	t.Logf("%d swaps: %d requests, %d failed, p50 %.2f ms, p99 %.2f ms; resident memory after swap 20 %d MB, after swap %d %d MB (%+.1f%%)",
		*swaps, len(took), l.failed.Load(), quantile(took, 0.5), quantile(took, 0.99),
		early>>20, *swaps, late>>20, 100*float64(late-early)/float64(early))
	if float64(late) > 1.1*float64(early) {
		t.Errorf("resident memory grew from %d to %d MB", early>>20, late>>20)
	}
}

// quantile of times that are sorted or not, in milliseconds.
func quantile(took []time.Duration, q float64) float64 {
	sorted := slices.Sorted(slices.Values(took))
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Millisecond)
}

func median(values []int) int {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// publicSide is the models of a set over HTTP.
func publicSide(set *host.Set, names ...string) http.Handler {
	log, all := slog.New(slog.DiscardHandler), metrics.New("test", time.Second)
	o := service.Options{Log: log, SLO: time.Second, Strays: all.Model("none")}
	for _, name := range names {
		o.Models = append(o.Models, service.Served{Host: set.Host(name), Counter: all.Model(name), Replay: set.Host(name).Ring()})
	}
	return api.New(api.Options{Service: service.New(o), Log: log, Buffers: buffers.New()}).Handler()
}

// TestAnUnloadedModelIsUnavailableAndOthersGoOn shows it from outside.
func TestAnUnloadedModelIsUnavailableAndOthersGoOn(t *testing.T) {
	var s shelf
	set, _ := newSet(t, &s, t.TempDir(), host.Options{Replay: replay.DefaultLimits})
	assign(t, set, "test", s.add(t))
	assign(t, set, "other", s.add(t, named("other")))
	server := httptest.NewServer(publicSide(set, "test", "other"))
	defer server.Close()
	picture := bundletest.Picture(t, 20, 20, 90)
	for _, name := range set.Names() {
		if err := ask(server.URL+"/v1/models/"+name+"/predict", picture); err != "" {
			t.Errorf("%s: %s", name, err)
		}
		if set.Host(name).Ring().Len() != 1 {
			t.Errorf("%s remembers %d requests", name, set.Host(name).Ring().Len())
		}
	}
	if _, err := set.Unload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if err := ask(server.URL+"/v1/models/test/predict", picture); !strings.HasPrefix(err, "503 ") {
		t.Errorf("unloaded: %s", err)
	}
	if err := ask(server.URL+"/v1/models/other/predict", picture); err != "" {
		t.Errorf("the other: %s", err)
	}
}
