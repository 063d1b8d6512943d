package loadtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/stat"
)

// quantileLevel is the coverage of the quantiles' intervals.
const quantileLevel = 0.95

// Quantile is one of the latencies from the intended start, with its
// distribution-free interval, all in milliseconds. Requests that timed out
// count with the time that was waited for them; other failures, which may be
// fast, are left out.
type Quantile struct {
	Q        float64
	Millis   float64
	Interval stat.Interval // of order statistics; an end that the sample cannot bound is open
	N        int
}

// quantiles gives p50, p90 and p99. No latency, no quantile.
func quantiles(latencies []time.Duration) ([]Quantile, error) {
	if len(latencies) == 0 {
		return nil, nil
	}
	ascending := make([]float64, len(latencies))
	for i, latency := range latencies {
		ascending[i] = millis(latency)
	}
	slices.Sort(ascending)
	var out []Quantile
	for _, q := range []float64{0.5, 0.9, 0.99} {
		interval, err := stat.QuantileInterval(ascending, q, quantileLevel)
		if err != nil {
			return nil, fmt.Errorf("latency p%g: %w", 100*q, err)
		}
		out = append(out, Quantile{q, stat.Quantile(ascending, q), interval, len(ascending)})
	}
	return out, nil
}

// lagP99 is the 99th percentile of the generator's lag.
func lagP99(samples []sample) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	lags := make([]float64, len(samples))
	for i, s := range samples {
		lags[i] = float64(s.lag)
	}
	slices.Sort(lags)
	return time.Duration(stat.Quantile(lags, 0.99))
}
