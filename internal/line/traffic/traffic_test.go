package traffic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/openloop"
)

// poster answers as told and remembers who asked for what.
type poster struct {
	mu     sync.Mutex
	posts  map[string]int // by user and image
	answer func(n int) openloop.Answer
	n      int
}

func (p *poster) Post(_ context.Context, _ time.Time, key string, image openloop.Image) openloop.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posts[key+" "+image.Name]++
	p.n++
	return p.answer(p.n)
}

func good(int) openloop.Answer {
	return openloop.Answer{Kind: openloop.Answered, Status: 200, Digest: "a", Latency: 5 * time.Millisecond}
}

func play(t *testing.T, ctx context.Context, p *poster, profile Profile, watch func(Report) error) (Report, error) {
	t.Helper()
	p.posts = map[string]int{}
	if watch == nil {
		watch = func(Report) error { return nil }
	}
	return Play(ctx, Options{
		Profile: profile, Client: p, InFlight: 100, Every: 10 * time.Millisecond, Watch: watch,
		Images: []openloop.Image{{Name: "x"}, {Name: "y"}, {Name: "z"}},
	})
}

func TestSameSeedPlaysTheSameUsersWithTheSameImages(t *testing.T) {
	profile := Profile{Rate: 400, Duration: 250 * time.Millisecond, Users: 50, Seed: 3}
	var a, b, c poster
	for _, p := range []*poster{&a, &b, &c} {
		p.answer = good
		if p == &c {
			profile.Seed = 4
		}
		if _, err := play(t, t.Context(), p, profile, nil); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(a.posts) != fmt.Sprint(b.posts) {
		t.Errorf("one seed, two plays:\n%v\n%v", a.posts, b.posts)
	}
	if fmt.Sprint(a.posts) == fmt.Sprint(c.posts) {
		t.Error("another seed plays the same")
	}
	if a.n < 50 || a.n > 150 {
		t.Errorf("%d requests in a quarter of a second at 400/s", a.n)
	}
}

func TestReportCountsEveryRequestOnce(t *testing.T) {
	p := poster{answer: func(n int) openloop.Answer {
		switch n % 4 {
		case 0:
			return openloop.Answer{Kind: openloop.BadStatus, Status: 500, Digest: "b", Err: "500: broke", Image: "x"}
		case 1:
			return openloop.Answer{Kind: openloop.Answered, Status: 200, Digest: "b", Latency: 50 * time.Millisecond}
		case 2:
			return openloop.Answer{Kind: openloop.TimedOut, Err: "deadline"}
		}
		return good(n)
	}}
	r, err := play(t, t.Context(), &p, Profile{Rate: 1000, Duration: 200 * time.Millisecond, Users: 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Done || r.Sent != p.n || r.Failed != r.ByKind["status"]+r.ByKind["timeout"] {
		t.Errorf("report %+v of %d requests", r, p.n)
	}
	if r.ByDigest["a"]+r.ByDigest["b"] != r.Sent-r.Failed || r.ByDigest["b"] == 0 {
		t.Errorf("by digest %v do not sum to the %d answered", r.ByDigest, r.Sent-r.Failed)
	}
	if r.FailedByDigest["b"] != r.ByStatus["500"] || r.ByStatus["200"] != r.Sent-r.Failed {
		t.Errorf("failed by digest %v, by status %v", r.FailedByDigest, r.ByStatus)
	}
	if len(r.Failures) != maxFailures {
		t.Errorf("%d examples of %d failures, want %d", len(r.Failures), r.Failed, maxFailures)
	}
	if r.P50Millis < 4.9 || r.P99Millis < 49 || r.P99Millis > 51 {
		t.Errorf("p50 %g ms, p99 %g ms", r.P50Millis, r.P99Millis)
	}
}

func TestInterruptEndsEndlessTrafficWithItsReport(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var last Report
	p := poster{answer: good}
	r, err := play(t, ctx, &p, Profile{Rate: 500, Users: 10}, func(r Report) error {
		if last = r; r.Sent >= 20 {
			interrupt()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent < 20 || r.Sent != p.n || !r.Done {
		t.Errorf("report %+v, %d requests were sent", r, p.n)
	}
	if !last.Done || last.Sent != r.Sent {
		t.Errorf("the watcher last saw %d sent, done %v", last.Sent, last.Done)
	}
}

func TestReportThatCannotBeWrittenEndsTheTraffic(t *testing.T) {
	full := errors.New("disk full")
	p := poster{answer: good}
	_, err := play(t, t.Context(), &p, Profile{Rate: 100, Users: 10}, func(Report) error { return full })
	if !errors.Is(err, full) {
		t.Errorf("got %v, want the watcher's error", err)
	}
}

func TestNoUserDominatesThePopulation(t *testing.T) {
	profile := Profile{Rate: 1, Users: 10_000, Seed: 1}
	visits := map[string]int{}
	const n = 50_000
	for i := range n {
		visits[profile.Key(i)]++
	}
	most := 0
	for _, v := range visits {
		most = max(most, v)
	}
	if most > n/200 {
		t.Errorf("one user sends %d of %d requests, more than half a percent", most, n)
	}
	if len(visits) < 5000 || most < 3*n/10_000 {
		t.Errorf("%d users came, the busiest %d times: want many users, but not all alike", len(visits), most)
	}
}

func TestProfileRefusesWhatCannotBePlayed(t *testing.T) {
	for flag, p := range map[string]Profile{
		"--rate": {Users: 1}, "--users": {Rate: 1}, "--duration": {Rate: 1, Users: 1, Duration: -1},
	} {
		if err := p.Validate(); err == nil || err.Error()[:len(flag)] != flag {
			t.Errorf("got %v, want an error about %s", err, flag)
		}
	}
}
