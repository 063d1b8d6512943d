package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/penstock-ml/penstock/internal/openloop"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Reason codes of a test that could not begin. They are errors and no
// rejections: nothing was learned about the model.
const (
	Unreachable = "unreachable"  // no server answers at the URL
	NotServed   = "wrong-digest" // the server serves another model
)

// Options is what a load test needs besides the promise.
type Options struct {
	Target openloop.Target // Digest and Labels are required; Timeout is taken from the SLO
	SLO    SLO
	Seed   uint64                   // of the arrivals and of the order of images
	Images []openloop.Image         // at least one; distinct ones are better
	Tell   func(n int, note string) // of every measured request, may be nil
}

const (
	coldTimeouts = 4 // the cold request may take this many timeouts, and at least coldAtLeast
	coldAtLeast  = 5 * time.Second
	maxInFlight  = 10_000
	keys         = 1000 // different user keys, so that a split would see a population
)

// Run measures. It answers an error, and no report to decide on, where the
// server cannot be reached or serves another model before the test began, and
// where ctx ended. It stops early when rejection is certain.
func Run(ctx context.Context, o Options) (Report, error) {
	slo := o.SLO.Effective()
	if err := o.validate(); err != nil {
		return Report{}, err
	}
	cold, err := coldRequest(ctx, o, slo)
	if err != nil {
		return Report{}, err
	}
	inFlight := min(maxInFlight, 64+int(2*slo.Rate*slo.Timeout.Seconds()))
	target := o.Target
	target.Timeout = slo.Timeout
	client, err := openloop.NewClient(target, inFlight)
	if err != nil {
		return Report{}, err
	}
	defer client.Close()
	cpu, err := startCPU()
	if err != nil {
		return Report{}, err
	}
	started := time.Now()
	record := newRecorder(slo)
	play(ctx, o, slo, client, inFlight, record)
	if ctx.Err() != nil {
		return Report{}, fmt.Errorf("load test of %s: %w", o.Target.URL, context.Cause(ctx))
	}
	report, err := record.report()
	if err != nil {
		return Report{}, err
	}
	if report.ClientCPU, err = cpu.share(); err != nil {
		return Report{}, err
	}
	report.Endpoint, report.Digest, report.Seed = client.Endpoint(), o.Target.Digest, o.Seed
	report.Started, report.Cold = started, cold
	report.Histogram.SetStartTimeMs(started.UnixMilli())
	report.Histogram.SetEndTimeMs(time.Now().UnixMilli())
	return report, nil
}

// play sends warm-up and measured part as one schedule, so that the measured
// part begins in the middle of running load.
func play(ctx context.Context, o Options, slo SLO, client *openloop.Client, inFlight int, record *recorder) {
	warm := int(math.Ceil(slo.Rate * slo.Warmup.Seconds()))
	schedule := openloop.Schedule(slo.Rate, warm+slo.Requests(), o.Seed)
	deck := openloop.NewDeck(o.Images, o.Seed)
	playing, stop := context.WithCancel(ctx)
	defer stop()
	openloop.Run(playing, time.Now(), slices.Values(schedule), inFlight, func(shot openloop.Shot) {
		answer := openloop.Answer{Kind: openloop.Dropped, Err: "too many requests in flight", Latency: shot.Lag()}
		if !shot.Dropped {
			answer = client.Post(ctx, shot.Intended, key(shot.Index), deck.At(shot.Index))
		}
		if ctx.Err() != nil {
			return // the test was cancelled: what this request met is no finding
		}
		if shot.Index < warm {
			record.warm(answer)
			return
		}
		if record.add(shot, answer) {
			stop()
		}
		if o.Tell != nil {
			o.Tell(1, "")
		}
	})
}

func key(i int) string { return "loadtest-" + strconv.Itoa(i%keys) }

func (o Options) validate() error {
	if err := o.SLO.Validate(); err != nil {
		return err
	}
	if len(o.Images) == 0 {
		return errors.New("a load test needs images to send")
	}
	if o.Target.Digest == "" {
		return errors.New("a load test needs the digest of the model that must answer")
	}
	if len(o.Target.Labels) == 0 {
		return errors.New("a load test needs the labels that a prediction must hold")
	}
	return nil
}

// coldRequest sends the first request alone. What it takes is reported apart.
// It also finds out whether the test can begin at all.
func coldRequest(ctx context.Context, o Options, slo SLO) (Cold, error) {
	target := o.Target
	target.Timeout = max(coldAtLeast, coldTimeouts*slo.Timeout)
	client, err := openloop.NewClient(target, 1)
	if err != nil {
		return Cold{}, err
	}
	defer client.Close()
	answer := client.Post(ctx, time.Now(), key(0), openloop.NewDeck(o.Images, o.Seed).At(0))
	switch {
	case ctx.Err() != nil:
		return Cold{}, fmt.Errorf("load test of %s: %w", o.Target.URL, context.Cause(ctx))
	case answer.Kind == openloop.Unconnected:
		return Cold{}, verdict.Coded(Unreachable, fmt.Errorf("no server answers at %s: %s: start it, or correct its URL in penstock.yaml", client.Endpoint(), answer.Err))
	case answer.Kind == openloop.WrongDigest:
		return Cold{}, verdict.Coded(NotServed, fmt.Errorf("%s does not serve the model to test: %s: run penstock deploy first", client.Endpoint(), answer.Err))
	}
	return Cold{answer.Latency, answer.Kind, answer.Err}, nil
}
