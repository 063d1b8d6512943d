package host_test

import (
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/host"
)

// BenchmarkTailBesideLoads says what loading one model costs the requests of
// another: p50 and p99 of two clients of the model test, alone, and while other
// is loaded and unloaded without a pause.
func BenchmarkTailBesideLoads(b *testing.B) {
	var s shelf
	one, two := s.addGraph(b, bundletest.Heavy), s.addGraph(b, bundletest.Heavy, named("other"))
	set, err := host.NewSet([]string{"test", "other"}, b.TempDir(), s.load(b), func(string) host.Observer { return &observer{} },
		slog.New(slog.DiscardHandler), host.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	if _, err := set.Assign(b.Context(), "test", one); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(publicSide(set, "test", "other"))
	defer server.Close()
	l := &load{stop: make(chan struct{})}
	for range 2 {
		l.client(b, server.URL+"/v1/models/test/predict", bundletest.Picture(b, 64, 64, 90))
	}
	var alone, beside []time.Duration
	loads := 0
	for b.Loop() {
		l.take()
		time.Sleep(2 * time.Second) // a measurement of so long
		alone = append(alone, l.take()...)
		for began := time.Now(); time.Since(began) < 2*time.Second; loads++ {
			if _, err := set.Assign(b.Context(), "other", two); err != nil {
				b.Fatal(err)
			}
			if _, err := set.Unload(b.Context(), "other"); err != nil {
				b.Fatal(err)
			}
		}
		beside = append(beside, l.take()...)
	}
	close(l.stop)
	l.wg.Wait()
	for name, took := range map[string][]time.Duration{"alone": alone, "beside": beside} {
		b.ReportMetric(quantile(took, 0.5), name+"-p50-ms")
		b.ReportMetric(quantile(took, 0.99), name+"-p99-ms")
	}
	b.ReportMetric(float64(loads)/float64(b.N)/2, "loads/s")
}
