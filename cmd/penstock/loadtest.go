package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/loadtest"
	"github.com/penstock-ml/penstock/internal/openloop"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type loadtestOptions struct {
	environment string
	slot        string
	model       string
	from        cli.StringSlice
	images      string
	dataset     string
	samples     int
	rate        float64
	duration    time.Duration
	seed        uint64
	tries       int
	histogram   string
}

func loadtestCommand() action.Command {
	var o loadtestOptions
	return action.Command{
		Name: "loadtest", Program: "penstock", Turn: action.KeepsTurn,
		Summary: "ask whether staging keeps the promised latency under the expected load",
		Description: `Sends real images to the environment in an open loop of seeded Poisson arrivals
and measures each latency from the intended start, so that a queue cannot hide.
A request misses the service level where it is late, fails, times out, answers
without a complete prediction, or is answered by another model.

pass: the share of misses is shown to be at most 1 - objective. reject: it is
shown to be more; the test stops as soon as that is certain. inconclusive: the
measurement was bad, --tries times in a row (reason invalid), or the requests of
the plan left both open (undecided). A server that cannot be reached or serves
another model is an error: nothing was learned about this one.`,
		Example: "penstock loadtest --environment staging --from register.json\npenstock loadtest --environment staging --model $DIGEST --images ./images --rate 100 --duration 30s",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "environment", Usage: "`NAME` below environments in penstock.yaml; not one that serves users", Required: true, Destination: &o.environment},
			&cli.StringFlag{Name: "slot", Usage: "the server of this `SLOT`, where the environment has several", Destination: &o.slot},
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of the bundle that must answer", Destination: &o.model},
			&cli.StringFlag{Name: "images", Usage: "send the PNG and JPEG files of this `DIR`", Destination: &o.images},
			&cli.StringFlag{Name: "dataset", Usage: "send the original files of the test split of the data set with this `DIGEST`", Destination: &o.dataset},
			&cli.IntFlag{Name: "samples", Usage: "at most this `NUMBER` of different images, drawn by the seed", Value: 200, Destination: &o.samples},
			&cli.Float64Flag{Name: "rate", Usage: "arrivals per second, a `NUMBER` (default: slo.rate)", Destination: &o.rate},
			&cli.DurationFlag{Name: "duration", Usage: "`LENGTH` of the measured part (default: slo.duration)", Destination: &o.duration},
			&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` that arrivals and the order of images follow from", Value: 1, Destination: &o.seed},
			&cli.IntFlag{Name: "tries", Usage: "measure at most this `NUMBER` of times, where the measurement itself was bad", Value: 2, Destination: &o.tries},
			&cli.StringFlag{Name: "histogram", Usage: "write the latencies as an HdrHistogram log to this `FILE`", Destination: &o.histogram},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the model that was tested"},
			{Name: "environment", Description: "where"},
			{Name: "requests", Description: "requests of the measured part"},
			{Name: "misses", Description: "those that missed the service level"},
			{Name: "p99_ms", Description: "99th percentile of the latency, milliseconds"},
			{Name: "histogram", Description: "path of the HdrHistogram log, where one was asked for"},
		},
		Environment: append(workspace.StoreVariables(), apiVariable),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runLoadtest(ctx, env, o)
		},
	}
}

func runLoadtest(ctx context.Context, env *action.Env, o loadtestOptions) (verdict.Result, error) {
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	model, err := modelOf(ctx, w, o.model, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	url, err := o.url(w)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	slo, err := o.slo(w.Project.SLO)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	images, data, err := o.payload(ctx, env, w)
	if err != nil {
		return verdict.Result{}, err
	}
	r, report, err := o.measure(ctx, env, loadtest.Options{
		Target: openloop.Target{URL: url, Model: w.Project.Name, Digest: model, Labels: w.Project.LabelNames(), Token: env.Getenv(apiVariable.Name)},
		SLO:    slo, Seed: o.seed, Images: images,
	})
	if err != nil {
		return verdict.Result{}, err
	}
	if data != "" {
		r.Subjects["dataset"] = data
	}
	return r, o.leave(&r, report)
}

// measure measures and judges, and measures again where the measurement itself
// was bad. A bad measurement says nothing about the server, so that another
// one is no second chance for it; it is told in a warning.
func (o loadtestOptions) measure(ctx context.Context, env *action.Env, options loadtest.Options) (verdict.Result, loadtest.Report, error) {
	var warnings []string
	for try := 1; ; try++ {
		env.Logf("loadtest: %d requests at %g/s with %d images to %s", options.SLO.Requests(), options.SLO.Rate, len(options.Images), options.Target.URL)
		progress := env.Progress("requests", options.SLO.Requests())
		options.Tell = progress.Add
		report, err := loadtest.Run(ctx, options)
		progress.Finish()
		if err != nil {
			return verdict.Result{}, report, err
		}
		r := loadtest.Judge(report, options.SLO)
		r.Warnings = warnings
		if r.Reason.Code != verdict.Invalid || try >= o.tries {
			return r, report, nil
		}
		warnings = append(warnings, fmt.Sprintf("measurement %d: %s", try, r.Reason.Text))
		env.Logf("loadtest: %s; measuring again", r.Reason.Text)
	}
}

// leave adds the outputs, and writes the histogram where one was asked for.
func (o loadtestOptions) leave(r *verdict.Result, report loadtest.Report) error {
	r.Outputs["environment"] = o.environment
	r.Outputs["requests"] = strconv.Itoa(report.Begun)
	r.Outputs["misses"] = strconv.Itoa(report.Misses())
	if n := len(report.Quantiles); n > 0 {
		r.Outputs["p99_ms"] = strconv.FormatFloat(report.Quantiles[n-1].Millis, 'f', 1, 64)
	}
	if o.histogram == "" {
		return nil
	}
	var file bytes.Buffer
	if err := report.WriteHistogram(&file); err != nil {
		return err
	}
	r.Outputs["histogram"] = o.histogram
	return verdict.WriteFile(o.histogram, file.Bytes())
}

// url is where the environment is reached. One that splits users' traffic is
// refused: a load test would take part in it.
func (o loadtestOptions) url(w *workspace.Workspace) (string, error) {
	environment, err := w.Project.Environment(o.environment)
	if err != nil {
		return "", err
	}
	if len(environment.Routers) > 0 {
		return "", fmt.Errorf("--environment %s serves users: a load test belongs to staging", o.environment)
	}
	if environment.URL != "" && o.slot == "" {
		return environment.URL, nil
	}
	servers, err := environment.Slot(o.slot)
	if err != nil {
		return "", fmt.Errorf("--slot: environment %s: %w", o.environment, err)
	}
	return onlyURL(o.environment, servers)
}

func onlyURL(environment string, servers []deployment.Server) (string, error) {
	if len(servers) > 1 {
		return "", fmt.Errorf("environment %s has %d servers: name one by --slot, or give the environment a url in front of them", environment, len(servers))
	}
	return servers[0].URL, nil
}

// slo is the project's with the flags' overrides.
func (o loadtestOptions) slo(slo loadtest.SLO) (loadtest.SLO, error) {
	if o.rate != 0 {
		slo.Rate = o.rate
	}
	if o.duration != 0 {
		slo.Duration = o.duration
	}
	if err := slo.Validate(); err != nil {
		return slo, fmt.Errorf("slo: %w", err)
	}
	return slo, nil
}

// payload is what is sent: the files of a folder, or the original files of the
// data set's test split. data is the digest of the latter.
func (o loadtestOptions) payload(ctx context.Context, env *action.Env, w *workspace.Workspace) (images []openloop.Image, data string, err error) {
	if o.samples < 1 {
		return nil, "", verdict.Usage(fmt.Errorf("--samples %d: at least one image is needed", o.samples))
	}
	if o.images != "" {
		if o.dataset != "" {
			return nil, "", verdict.Usage(errors.New("--images and --dataset both name what to send: give one of them"))
		}
		images, err = openloop.ReadImages(o.images, o.samples, o.seed)
		return images, "", err
	}
	from, err := w.From(ctx, o.from.Value())
	if err != nil {
		return nil, "", err
	}
	data, err = workspace.Subject("dataset", o.dataset, from)
	if err != nil {
		return nil, "", err
	}
	if data == "" {
		return nil, "", verdict.Usage(errors.New("what to send? give --images DIR, --dataset DIGEST, or --from a result that names its data set"))
	}
	images, err = originals(ctx, env, w, data, o.samples, o.seed)
	return images, data, err
}

// originals reads the uploaded files of a sample of the test split.
func originals(ctx context.Context, env *action.Env, w *workspace.Workspace, digest string, samples int, seed uint64) ([]openloop.Image, error) {
	_, all, err := dataset.Load(ctx, w.Bucket, digest)
	if err != nil {
		return nil, err
	}
	rows := dataset.Select(all, dataset.Test)
	if len(rows) == 0 {
		return nil, fmt.Errorf("data set %s has no test rows: give --images DIR", digest)
	}
	random := rand.New(rand.NewPCG(seed, 3))
	random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	rows = rows[:min(samples, len(rows))]
	progress := env.Progress("images", len(rows))
	defer progress.Finish()
	images := make([]openloop.Image, 0, len(rows))
	for _, row := range rows {
		image, err := original(ctx, w, row)
		if err != nil {
			return nil, fmt.Errorf("data set %s: %w", digest, err)
		}
		images = append(images, image)
		progress.Add(1, "")
	}
	return images, nil
}

func original(ctx context.Context, w *workspace.Workspace, row dataset.Row) (openloop.Image, error) {
	key := w.Project.Data.Raw + row.File
	data, _, err := w.Bucket.Get(ctx, key)
	if err != nil {
		return openloop.Image{}, fmt.Errorf("original file of a test row: %w: restore it, or give --images DIR", err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row.SHA256 {
		return openloop.Image{}, fmt.Errorf("%s is no longer the file that the data set was made of: restore it, or give --images DIR", key)
	}
	// The content's hash names it in failure reports: a path may hold a patient's id.
	return openloop.NewImage(row.SHA256[:12], data)
}
