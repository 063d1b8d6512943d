package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/traffic"
	"github.com/penstock-ml/penstock/internal/openloop"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
)

type sendLiveOptions struct {
	url      string
	name     string
	images   string
	rate     float64
	duration time.Duration
	seed     uint64
	users    int
	timeout  time.Duration
	report   string
}

func sendLiveCommand() action.Command {
	var o sendLiveOptions
	return action.Command{
		Name: "send-live", Program: "penstock",
		Summary: "play users: seeded open-loop traffic with image bytes and user keys",
		Description: `Sends the images of a folder to a URL as a population of users would: arrivals
are a Poisson process that waits for nobody, every request carries the key of a
user, and some users come more often than others. It runs for --duration, or
until it is interrupted, which is its normal end; requests under way are
completed. Nothing is retried.

The verdict is about the sending and not about the model: pass says that
traffic was played, also where requests failed; they are counted by kind, status
and digest, and the first ones are shown. No answer at all is an error.`,
		Example: "penstock send-live --url http://127.0.0.1:8000 --images ./images --rate 20 --duration 1m --report live.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "url", Usage: "base `URL` of what users talk to", Required: true, Destination: &o.url},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the model (default: the project's)", Destination: &o.name},
			&cli.StringFlag{Name: "images", Usage: "send the PNG and JPEG files of this `DIR`", Required: true, Destination: &o.images},
			&cli.Float64Flag{Name: "rate", Usage: "requests per second, a `NUMBER`", Value: 10, Destination: &o.rate},
			&cli.DurationFlag{Name: "duration", Usage: "`LENGTH` of the traffic (default: until interrupted)", Destination: &o.duration},
			&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` that arrivals, users and the order of images follow from", Value: 1, Destination: &o.seed},
			&cli.IntFlag{Name: "users", Usage: "`NUMBER` of users", Value: 10000, Destination: &o.users},
			&cli.DurationFlag{Name: "timeout", Usage: "a request fails after this `LENGTH`", Value: 10 * time.Second, Destination: &o.timeout},
			&cli.StringFlag{Name: "report", Usage: "write the counts to this `FILE`, anew every second", Destination: &o.report},
		},
		Outputs: []action.Output{
			{Name: "sent", Description: "requests whose outcome is known"},
			{Name: "failed", Description: "those that were not answered as they must be"},
			{Name: "by_digest", Description: "answered requests by the model that answered, JSON"},
			{Name: "p99_ms", Description: "99th percentile of the latency of what was answered, milliseconds"},
			{Name: "report", Description: "path of the report, where one was asked for"},
		},
		Environment: []action.Variable{apiVariable},
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runSendLive(ctx, env, o)
		},
	}
}

func runSendLive(ctx context.Context, env *action.Env, o sendLiveOptions) (verdict.Result, error) {
	profile := traffic.Profile{Rate: o.rate, Duration: o.duration, Users: o.users, Seed: o.seed}
	if err := profile.Validate(); err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	name, err := o.model(env)
	if err != nil {
		return verdict.Result{}, err
	}
	inFlight := 64 + int(2*o.rate*o.timeout.Seconds())
	client, err := openloop.NewClient(openloop.Target{URL: o.url, Model: name, Timeout: o.timeout, Token: env.Getenv(apiVariable.Name)}, inFlight)
	if err != nil {
		return verdict.Result{}, verdict.Usage(err)
	}
	defer client.Close()
	images, err := openloop.ReadImages(o.images, 0, o.seed)
	if err != nil {
		return verdict.Result{}, err
	}
	env.Logf("send-live: %g/s from %d users with %d images to %s", o.rate, o.users, len(images), client.Endpoint())
	progress := env.Progress("requests", int(o.rate*o.duration.Seconds()))
	report, err := traffic.Play(ctx, traffic.Options{
		Profile: profile, Images: images, Client: client, InFlight: inFlight,
		Every: time.Second, Watch: o.watch(progress),
	})
	progress.Finish()
	if err != nil {
		return verdict.Result{}, err
	}
	return o.judge(report)
}

// model is the name in the URL's path.
func (o sendLiveOptions) model(env *action.Env) (string, error) {
	if o.name != "" {
		return o.name, nil
	}
	p, err := project.Read(env.Common.Config)
	if err != nil {
		return "", verdict.Coded("config", fmt.Errorf("the name of the model is the project's, unless --name gives it: %w", err))
	}
	return p.Name, nil
}

// watch writes the report whenever there is a new one, and tells people.
func (o sendLiveOptions) watch(progress *action.Progress) func(traffic.Report) error {
	told := 0
	return func(r traffic.Report) error {
		progress.Add(r.Sent-told, fmt.Sprintf("%d failed, p99 %.0f ms", r.Failed, r.P99Millis))
		told = r.Sent
		if o.report == "" {
			return nil
		}
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
		return verdict.WriteFile(o.report, append(data, '\n'))
	}
}

func (o sendLiveOptions) judge(report traffic.Report) (verdict.Result, error) {
	answered := report.Sent - report.Failed
	r := verdict.Passed("%d sent, %d failed, p50 %.4g ms, p99 %.4g ms", report.Sent, report.Failed, report.P50Millis, report.P99Millis)
	if report.Sent == 0 {
		r = verdict.Undecidable(verdict.Undecided, "ended before the first request")
	}
	r.Checks = sendLiveChecks(report)
	for _, f := range report.Failures {
		r.Warnings = append(r.Warnings, fmt.Sprintf("failed at %s: %s (%s) image %s, request %s, model %s",
			f.At.Format(time.RFC3339Nano), f.Text, f.Kind, f.Image, f.RequestID, f.Digest))
	}
	byDigest, err := json.Marshal(report.ByDigest)
	if err != nil {
		return r, fmt.Errorf("encode the counts by digest: %w", err)
	}
	r.Outputs["sent"], r.Outputs["failed"] = strconv.Itoa(report.Sent), strconv.Itoa(report.Failed)
	r.Outputs["by_digest"] = string(byDigest)
	r.Outputs["p99_ms"] = strconv.FormatFloat(report.P99Millis, 'f', 1, 64)
	if o.report != "" {
		r.Outputs["report"] = o.report
	}
	if report.Sent > 0 && answered == 0 {
		first := errors.New("no failure was kept")
		if len(report.Failures) > 0 {
			first = errors.New(report.Failures[0].Text)
		}
		return r, verdict.Coded("no-answer", fmt.Errorf("none of %d requests to %s was answered: %w: is the server up, and is this its URL?", report.Sent, o.url, first))
	}
	return r, nil
}

// sendLiveChecks list what became of the traffic. None of them decides.
func sendLiveChecks(report traffic.Report) []verdict.Check {
	failed := verdict.Check{
		Name: "failed-requests", Verdict: verdict.Pass, Observed: verdict.Number(float64(report.Failed)),
		Wanted: "0", Unit: "requests", N: report.Sent,
		Text: fmt.Sprintf("by kind %v, by status %v", report.ByKind, report.ByStatus),
	}
	if report.Failed > 0 {
		failed.Verdict = verdict.Reject
	}
	return []verdict.Check{
		failed,
		{Name: "latency-p50", Verdict: verdict.Pass, Observed: verdict.Number(report.P50Millis), Unit: "ms", N: report.Sent - report.Failed},
		{Name: "latency-p99", Verdict: verdict.Pass, Observed: verdict.Number(report.P99Millis), Unit: "ms", N: report.Sent - report.Failed},
	}
}
