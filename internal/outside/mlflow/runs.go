package mlflow

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"

	"github.com/penstock-ml/penstock/internal/line/training"
)

// Limits of one log-batch call, and of values, as MLflow states them.
const (
	maxMetrics    = 1000
	maxParams     = 100
	maxTags       = 100
	maxKey        = 250
	maxParamValue = 500 // of the strictest version
	maxTagValue   = 5000
	maxArtifact   = 64 << 20 // bytes; larger files need multipart uploads
)

// Status of a run.
const (
	Running  = "RUNNING"
	Finished = "FINISHED"
	Failed   = "FAILED"
	Killed   = "KILLED"
)

// Run is a run as the server knows it.
type Run struct {
	ID           string
	Experiment   string // id
	Status       string
	ArtifactURI  string
	Name         string
	Tags, Params map[string]string
	Metrics      map[string]float64 // last values
}

type pair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// pairs is a map in a stable order.
func pairs(m map[string]string) []pair {
	out := make([]pair, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, pair{k, m[k]})
	}
	return out
}

func unpair(ps []pair) map[string]string {
	m := make(map[string]string, len(ps))
	for _, p := range ps {
		m[p.Key] = p.Value
	}
	return m
}

// Experiment finds an experiment by its name, or makes it, and returns its id.
func (c *Client) Experiment(ctx context.Context, name string) (id string, err error) {
	look := func() (bool, error) {
		var a struct {
			Experiment struct {
				ID    string `json:"experiment_id"`
				Stage string `json:"lifecycle_stage"`
			} `json:"experiment"`
		}
		err := c.get(ctx, "experiments/get-by-name", query{"experiment_name": name}, &a)
		if isMissing(err) {
			return false, nil
		}
		if err == nil && a.Experiment.Stage == "deleted" {
			return false, fmt.Errorf("MLflow at %s: the experiment %q is deleted: restore it, or remove it for good (mlflow gc)", c.uri, name)
		}
		id = a.Experiment.ID
		return err == nil, err
	}
	err = c.create(ctx, look, func() error {
		var a struct {
			ID string `json:"experiment_id"`
		}
		err := c.createCall(ctx, "experiments/create", map[string]any{"name": name}, &a)
		if isThere(err) { // another program made it at this moment
			_, err = look()
			return err
		}
		id = a.ID
		return err
	})
	return id, err
}

// NewRun says how a run begins.
type NewRun struct {
	Experiment string // id
	Name       string
	Tags       map[string]string
	Unique     []string // keys of Tags that together name this run and no other
	Start      time.Time
}

// CreateRun makes a run, or finds the one that has the same values under all
// tags of Unique.
func (c *Client) CreateRun(ctx context.Context, n NewRun) (run Run, found bool, err error) {
	filter, err := equals(n.Tags, n.Unique)
	if err != nil {
		return Run{}, false, err
	}
	look := func() (bool, error) {
		runs, err := c.SearchRuns(ctx, n.Experiment, filter)
		if err != nil || len(runs) == 0 {
			return false, err
		}
		run = runs[len(runs)-1] // the oldest, so that every caller finds the same
		return true, nil
	}
	made := false
	err = c.create(ctx, look, func() error {
		var a struct {
			Run wireRun `json:"run"`
		}
		err := c.createCall(ctx, "runs/create", map[string]any{
			"experiment_id": n.Experiment, "run_name": n.Name,
			"start_time": n.Start.UnixMilli(), "tags": pairs(n.Tags),
		}, &a)
		run, made = a.Run.run(), err == nil
		return err
	})
	return run, err == nil && !made, err
}

// equals makes the filter that all these tags have their values. MLflow's
// filters know no escape, so what would need one is refused.
func equals(tags map[string]string, keys []string) (string, error) {
	if len(keys) == 0 {
		return "", fmt.Errorf("a run without unique tags would be created twice")
	}
	terms := make([]string, len(keys))
	for i, k := range keys {
		v := tags[k]
		if v == "" || strings.ContainsAny(v, "'\"`\\\n") || strings.ContainsAny(k, "'\"`\\\n") {
			return "", fmt.Errorf("tag %s=%q cannot name a run: it is empty or has a quote, a backslash or a line break", k, v)
		}
		terms[i] = fmt.Sprintf("tags.`%s` = '%s'", k, v)
	}
	return strings.Join(terms, " AND "), nil
}

type wireRun struct {
	Info struct {
		ID         string `json:"run_id"`
		Name       string `json:"run_name"`
		Experiment string `json:"experiment_id"`
		Status     string `json:"status"`
		Artifacts  string `json:"artifact_uri"`
	} `json:"info"`
	Data struct {
		Tags    []pair `json:"tags"`
		Params  []pair `json:"params"`
		Metrics []struct {
			Key   string  `json:"key"`
			Value float64 `json:"value"`
		} `json:"metrics"`
	} `json:"data"`
}

func (w wireRun) run() Run {
	r := Run{
		ID: w.Info.ID, Name: w.Info.Name, Experiment: w.Info.Experiment, Status: w.Info.Status, ArtifactURI: w.Info.Artifacts,
		Tags: unpair(w.Data.Tags), Params: unpair(w.Data.Params), Metrics: map[string]float64{},
	}
	for _, m := range w.Data.Metrics {
		r.Metrics[m.Key] = m.Value
	}
	return r
}

// SearchRuns finds the active runs of an experiment, newest first.
func (c *Client) SearchRuns(ctx context.Context, experiment, filter string) ([]Run, error) {
	var runs []Run
	for token := ""; ; {
		var a struct {
			Runs []wireRun `json:"runs"`
			Next string    `json:"next_page_token"`
		}
		err := c.post(ctx, "runs/search", map[string]any{
			"experiment_ids": []string{experiment}, "filter": filter, "max_results": 1000,
			"order_by": []string{"attributes.start_time DESC"}, "page_token": token,
		}, &a)
		if err != nil {
			return nil, err
		}
		for _, w := range a.Runs {
			runs = append(runs, w.run())
		}
		if token = a.Next; token == "" {
			return runs, nil
		}
	}
}

// GetRun reads a run.
func (c *Client) GetRun(ctx context.Context, id string) (Run, error) {
	var a struct {
		Run wireRun `json:"run"`
	}
	err := c.get(ctx, "runs/get", query{"run_id": id}, &a)
	return a.Run.run(), err
}

// LogMetrics appends metrics, in as many calls as the limits ask for.
func (c *Client) LogMetrics(ctx context.Context, run string, metrics []training.Metric) error {
	type wire struct {
		Key       string  `json:"key"`
		Value     float64 `json:"value"`
		Timestamp int64   `json:"timestamp"`
		Step      int64   `json:"step"`
	}
	for chunk := range slices.Chunk(metrics, maxMetrics) {
		out := make([]wire, len(chunk))
		for i, m := range chunk {
			if len(m.Key) > maxKey {
				return fmt.Errorf("metric %.40s…: its name has %d characters, MLflow takes %d", m.Key, len(m.Key), maxKey)
			}
			out[i] = wire{m.Key, m.Value, m.Time.UnixMilli(), m.Step}
		}
		if err := c.post(ctx, "runs/log-batch", map[string]any{"run_id": run, "metrics": out}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Tracker gives a run in the role that the training stage asks for.
func (c *Client) Tracker(run string) training.Tracker { return tracker{c, run} }

type tracker struct {
	client *Client
	run    string
}

func (t tracker) Log(ctx context.Context, metrics []training.Metric) error {
	return t.client.LogMetrics(ctx, t.run, metrics)
}

// LogParams sets parameters. They cannot change afterwards; the same value
// again is no change. A value that is too long is cut, with an ellipsis.
func (c *Client) LogParams(ctx context.Context, run string, params map[string]string) error {
	short := map[string]string{}
	for k, v := range params {
		short[k] = shorten(v, maxParamValue)
	}
	for chunk := range slices.Chunk(pairs(short), maxParams) {
		if err := c.post(ctx, "runs/log-batch", map[string]any{"run_id": run, "params": chunk}, nil); err != nil {
			return err
		}
	}
	return nil
}

// SetTags sets tags of a run, over earlier values.
func (c *Client) SetTags(ctx context.Context, run string, tags map[string]string) error {
	short := map[string]string{}
	for k, v := range tags {
		short[k] = shorten(v, maxTagValue)
	}
	for chunk := range slices.Chunk(pairs(short), maxTags) {
		if err := c.post(ctx, "runs/log-batch", map[string]any{"run_id": run, "tags": chunk}, nil); err != nil {
			return err
		}
	}
	return nil
}

func shorten(text string, limit int) string {
	const mark = "…"
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit-len(mark)], "") + mark
}

// UpdateRun sets a run's status; a run that ends has an end time.
func (c *Client) UpdateRun(ctx context.Context, run, status string, end time.Time) error {
	body := map[string]any{"run_id": run, "status": status}
	if status != Running {
		body["end_time"] = end.UnixMilli()
	}
	return c.post(ctx, "runs/update", body, nil)
}

// maxDatasetDigest is MLflow's limit: a SHA-256 in hex does not fit, so the
// whole digest belongs in a tag as well.
const maxDatasetDigest = 36

// LogDataset tells which data set a run used, and for what ("training").
func (c *Client) LogDataset(ctx context.Context, run, name, digest, source, use string) error {
	return c.post(ctx, "runs/log-inputs", map[string]any{
		"run_id": run,
		"datasets": []any{map[string]any{
			"tags": []pair{{"mlflow.data.context", use}},
			"dataset": map[string]any{
				"name": name, "digest": digest[:min(len(digest), maxDatasetDigest)],
				"source_type": "s3", "source": fmt.Sprintf(`{"uri": %q}`, source),
			},
		}},
	}, nil)
}

// artifactScheme is how a run's artifact_uri begins where the server stands
// between its clients and the store.
const artifactScheme = "mlflow-artifacts:"

// UploadArtifact puts a file of at most 64 MiB to a run's artifacts, through
// the server, under a path like logs/trainer.log.
func (c *Client) UploadArtifact(ctx context.Context, run Run, path, file string) error {
	u, err := url.Parse(run.ArtifactURI)
	if err != nil || u.Scheme+":" != artifactScheme {
		return fmt.Errorf("MLflow at %s keeps the artifacts of run %s at %q and does not serve them: start it with --serve-artifacts", c.uri, run.ID, run.ArtifactURI)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("artifact %s: %w", path, err)
	}
	if len(data) > maxArtifact {
		return fmt.Errorf("artifact %s has %d bytes, more than %d: keep it in the bucket", path, len(data), maxArtifact)
	}
	to := "/api/2.0/mlflow-artifacts/artifacts" + u.EscapedPath() + "/" + escapePath(path)
	_, err = c.retry(ctx, func() (*resty.Response, error) { return c.send(ctx, http.MethodPut, to, nil, data) })
	return err
}

func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
