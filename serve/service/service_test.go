package service

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/serve/admission"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/remote"
)

// counted keeps what was counted.
type counted []metrics.Request

func (c *counted) Count(r metrics.Request) { *c = append(*c, r) }

func TestWhoIsToBlameDecidesTheOutcome(t *testing.T) {
	const slo = 100 * time.Millisecond
	cases := []struct {
		kind          Kind
		took, allowed time.Duration
		want          metrics.Outcome
	}{
		{BadInput, time.Second, slo, metrics.ClientError},
		{TooLarge, 0, slo, metrics.ClientError},
		{Unsupported, 0, slo, metrics.ClientError},
		{NotFound, 0, slo, metrics.ClientError},
		{Denied, 0, slo, metrics.ClientError},
		{Gone, 10 * time.Millisecond, slo, metrics.ClientError},
		{Gone, time.Second, slo, metrics.ServerError}, // gave up after the slo
		{Late, 10 * time.Millisecond, 10 * time.Millisecond, metrics.ClientError},
		{Late, time.Second, time.Second, metrics.ServerError},
		{Refused, 0, slo, metrics.Refused},
		{Refused, 0, 10 * time.Millisecond, metrics.ClientError}, // a deadline that nobody promised to keep
		{Unavailable, 0, slo, metrics.ServerError},
		{Model, 0, slo, metrics.ServerError},
		{Internal, 0, slo, metrics.ServerError},
	}
	seen := map[Kind]bool{}
	for _, c := range cases {
		seen[c.kind] = true
		p := &Problem{Kind: c.kind}
		if c.kind == Refused {
			p.Err = &admission.Refused{Reason: admission.Deadline}
		}
		if got := p.outcome(c.took, c.allowed, slo); got != c.want {
			t.Errorf("%s after %s of %s: %s, want %s", c.kind, c.took, c.allowed, got, c.want)
		}
	}
	for _, kind := range Kinds {
		if !seen[kind] {
			t.Errorf("nothing is said of %s", kind)
		}
	}
}

// A full queue is the server's matter whatever the sender's deadline.
func TestAFullQueueIsARefusalWhateverTheDeadline(t *testing.T) {
	p := ProblemOf(&admission.Refused{Queue: "xray", Reason: admission.Full, RetryAfter: time.Second})
	if p.Kind != Refused || p.RetryAfter != time.Second {
		t.Fatalf("%+v", p)
	}
	if got := p.outcome(0, time.Millisecond, time.Second); got != metrics.Refused {
		t.Errorf("outcome %s", got)
	}
}

func TestWhatALibrarySaysIsForTheLog(t *testing.T) {
	for _, err := range []error{&model.RunError{Err: errors.New("node_17 of /srv/model.onnx")}, errors.New("node_17 of /srv/model.onnx")} {
		var log strings.Builder
		var strays counted
		s := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil)), SLO: time.Second, Strays: &strays})
		p := s.Reject(Call{ID: "r7"}, err)
		if strings.Contains(p.Text, "node_17") || !strings.HasSuffix(p.Text, "by the request id r7") {
			t.Errorf("the sender is told %q", p.Text)
		}
		if !strings.Contains(log.String(), "node_17") || !strings.Contains(log.String(), "request=r7") {
			t.Errorf("the log says %s", &log)
		}
	}
}

// broken is a host that panics.
type broken struct{}

func (broken) Name() string                       { return "test" }
func (broken) Use() (*model.Model, func(), error) { panic("a fault of the program") }

func TestAPanicStaysInItsRequestAndIsCounted(t *testing.T) {
	var log strings.Builder
	var count counted
	s := New(Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)), SLO: time.Second,
		Models: []Served{{Host: broken{}, Counter: &count}},
	})
	for range 2 {
		_, err := s.Predict(context.Background(), PredictRequest{Call: Call{Model: "test", ID: "r1", Trace: "t1"}})
		var p *Problem
		if !errors.As(err, &p) || p.Kind != Internal || strings.Contains(p.Text, "a fault") {
			t.Errorf("error %v", err)
		}
	}
	if len(count) != 2 || count[1].Outcome != metrics.ServerError || count[1].Kind != string(Internal) || count[1].Digest != metrics.NoDigest {
		t.Errorf("counted %+v", count)
	}
	for _, want := range []string{"a fault of the program", "request=r1", "trace=t1", "stack="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in the log: %s", want, &log)
		}
	}
}

func TestTheLogSaysWhyAPictureWasNotFetchedAndOfWhichRequest(t *testing.T) {
	var log strings.Builder
	var strays counted
	s := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil)), SLO: time.Second, Strays: &strays})
	s.Reject(Call{ID: "r1"}, &remote.Refused{Reason: remote.Unreachable, Text: "for the sender", Cause: errors.New("no such host")})
	if text := log.String(); !strings.Contains(text, `cause="no such host"`) || !strings.Contains(text, "request=r1") || strings.Contains(text, "for the sender") {
		t.Errorf("log: %s", text)
	}
}

func TestALongNameIsNotRepeatedWhole(t *testing.T) {
	s := New(Options{Log: slog.New(slog.DiscardHandler)})
	if err := s.Has(strings.Repeat("x", 50_000)); err == nil || len(err.Error()) > 200 {
		t.Errorf("%.300v", err)
	}
}

func TestRequestsForModelsThatThereAreNotAreCountedApart(t *testing.T) {
	var log strings.Builder
	var strays, own counted
	s := New(Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)), SLO: time.Second, Strays: &strays,
		Models: []Served{{Host: broken{}, Counter: &own}},
	})
	_, err := s.Infer(context.Background(), InferRequest{Call: Call{Model: "made-up-by-the-sender"}})
	if ProblemOf(err).Kind != NotFound || len(strays) != 1 || len(own) != 0 || strays[0].Outcome != metrics.ClientError {
		t.Errorf("%v, strays %+v, own %+v", err, strays, own)
	}
	if strings.Contains(log.String(), "made-up") {
		t.Errorf("the sender writes into the log: %s", &log)
	}
}

func TestRequestIDsHaveOneFormAndAreNeverTheSame(t *testing.T) {
	form, seen := regexp.MustCompile("^[a-z2-7]{26}$"), map[string]bool{}
	for range 1000 {
		id := NewID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
}
