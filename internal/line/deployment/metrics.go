package deployment

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Names of the servers' metrics and of the outcomes that judge a model.
const (
	requestsTotal  = "penstock_requests_total"
	requestSeconds = "penstock_request_seconds"
	processStart   = "process_start_time_seconds"
	outcomeClient  = "client_error"
	outcomeServer  = "server_error"
	outcomeRefused = "refused"
)

// Counts are a server's counters for one digest since its process started.
// Requests leaves out those that the client got wrong: they say nothing about
// a model. Errors are the server's faults and its refusals: who turns requests
// away because they would take too long has failed them. Slow counts answers
// over the slo.
type Counts struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
	Slow     uint64 `json:"slow"`
}

// Reading is one look at a server's counters. Started is when its process
// started, in seconds since 1970: another value means that they begin anew.
type Reading struct {
	Started float64           `json:"started"`
	Digests map[string]Counts `json:"digests"`
}

// Read scrapes the counters of s for model. The histogram must have a bucket
// boundary exactly at slo: otherwise nobody counted what is asked.
func (c *Client) Read(ctx context.Context, s Server, name string, slo time.Duration) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	what := fmt.Sprintf("metrics of %s, %s/metrics", s.Slot, s.Admin)
	r, err := c.admin.R().SetContext(ctx).SetDoNotParseResponse(true).
		SetHeader("Accept", "text/plain; version=0.0.4").Get(s.Admin + "/metrics")
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %w", what, err)
	}
	body := r.RawBody()
	defer body.Close()
	if r.StatusCode() != http.StatusOK {
		return Reading{}, answerError(r, what)
	}
	reading, err := parse(io.LimitReader(body, maxAnswer), name, slo)
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %w", what, err)
	}
	return reading, nil
}

func parse(page io.Reader, name string, slo time.Duration) (Reading, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(page)
	if err != nil {
		return Reading{}, fmt.Errorf("cannot be read: %w", err)
	}
	reading := Reading{Digests: map[string]Counts{}}
	start := families[processStart].GetMetric()
	if len(start) != 1 {
		return Reading{}, fmt.Errorf("no %s: a restart could not be told from a quiet server", processStart)
	}
	reading.Started = value(start[0])
	for _, m := range families[requestsTotal].GetMetric() {
		labels := labelsOf(m)
		if labels["model"] != name {
			continue
		}
		counts := reading.Digests[labels["digest"]]
		n := uint64(value(m))
		switch labels["outcome"] {
		case outcomeClient:
			continue
		case outcomeServer, outcomeRefused:
			counts.Errors += n
		}
		counts.Requests += n
		reading.Digests[labels["digest"]] = counts
	}
	return reading, addSlow(reading, families[requestSeconds].GetMetric(), name, slo)
}

func addSlow(reading Reading, metrics []*dto.Metric, name string, slo time.Duration) error {
	for _, m := range metrics {
		labels := labelsOf(m)
		if labels["model"] != name || labels["outcome"] == outcomeClient {
			continue
		}
		within, err := atOrBelow(m.GetHistogram(), slo)
		if err != nil {
			return err
		}
		counts := reading.Digests[labels["digest"]]
		counts.Slow += m.GetHistogram().GetSampleCount() - within
		reading.Digests[labels["digest"]] = counts
	}
	return nil
}

// atOrBelow gives the cumulative count of the bucket that ends at slo.
func atOrBelow(h *dto.Histogram, slo time.Duration) (uint64, error) {
	for _, b := range h.GetBucket() {
		if math.Abs(b.GetUpperBound()-slo.Seconds()) < 1e-9 {
			return b.GetCumulativeCount(), nil
		}
	}
	return 0, fmt.Errorf("%s has no bucket boundary at the slo of %s: start the server with this slo", requestSeconds, slo)
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Untyped != nil:
		return m.Untyped.GetValue()
	}
	return 0
}
