package measure

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sleeper takes its time over each call.
type sleeper struct {
	each  time.Duration
	fails error
	calls *atomic.Int64
}

func (sleeper) Prepare(context.Context) error { return nil }
func (sleeper) Close() error                  { return nil }
func (s sleeper) Call(context.Context) error {
	s.calls.Add(1)
	time.Sleep(s.each)
	return s.fails
}

func sleeping(name string, each time.Duration, fails error) (Arm, *atomic.Int64) {
	calls := &atomic.Int64{}
	return Arm{Name: name, Caller: func(context.Context) (Caller, error) { return sleeper{each, fails, calls}, nil }}, calls
}

// TestCallersThatWaitForEachOtherAreNotCountedTwice: one serves all of them, in
// turns, so that together they get no more than its rate. Whoever came first,
// before the others waited, and whoever was alone in the end was served faster.
func TestCallersThatWaitForEachOtherAreNotCountedTwice(t *testing.T) {
	const each = 2 * time.Millisecond
	for name, c := range map[string]struct {
		late time.Duration
		most float64 // of what one by one gives
	}{
		"all come at once":                   {0, 1.05},
		"one comes when the others are done": {30 * each, 1.05 * 9 / 8}, // who were one less
	} {
		turn := make(chan struct{}, 1)
		var served atomic.Int64
		crew := make([]Caller, 8)
		for i := range crew {
			crew[i] = &inTurns{turn: turn, each: each, served: &served}
		}
		crew[3].(*inTurns).late = c.late
		round, err := drive(t.Context(), crew, 10*each)
		if err != nil {
			t.Fatal(err)
		}
		if most := c.most / each.Seconds(); round.PerSecond > most || round.PerSecond <= 0 {
			t.Errorf("%s: %v calls a second, one by one they are %v at most", name, round.PerSecond, most)
		}
		if counted := len(round.Latencies); counted < len(crew) || round.Made < counted+len(crew) || int64(round.Made) != served.Load() {
			t.Errorf("%s: %d latencies, %d calls made of %d", name, counted, round.Made, served.Load())
		}
	}
}

// inTurns are callers of one that serves them in the order in which they came.
type inTurns struct {
	turn   chan struct{}
	each   time.Duration
	late   time.Duration // before the first call
	served *atomic.Int64
}

func (*inTurns) Prepare(context.Context) error { return nil }
func (*inTurns) Close() error                  { return nil }
func (c *inTurns) Call(context.Context) error {
	time.Sleep(c.late)
	c.late = 0
	c.turn <- struct{}{}
	time.Sleep(c.each)
	<-c.turn
	c.served.Add(1)
	return nil
}

func TestRunComparesArmsOfTheSameRounds(t *testing.T) {
	fast, calls := sleeping("fast", 2*time.Millisecond, nil)
	slow, _ := sleeping("slow", 6*time.Millisecond, nil)
	plan := Plan{Callers: 2, Rounds: 5, Length: 30 * time.Millisecond, Seed: 1}
	rounds := 0
	series, err := Run(t.Context(), plan, []Arm{fast, slow}, func() { rounds++ })
	if err != nil {
		t.Fatal(err)
	}
	if rounds != plan.Rounds+1 || len(series[0].Rounds) != plan.Rounds {
		t.Errorf("%d rounds told, %d kept: want the warm-up told and not kept", rounds, len(series[0].Rounds))
	}
	summary, err := Summarise(series[0])
	if err != nil {
		t.Fatal(err)
	}
	if summary.Calls == 0 || int64(summary.Calls) >= calls.Load() || summary.P50 < 2 || summary.P99 < summary.P95 {
		t.Errorf("%+v of %d calls", summary, calls.Load())
	}
	c, err := Compare(series[1], series[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	// Sleeps only ever take longer than asked for; which side by more is the
	// machine's doing, so that bounds are wide.
	if !(c.AddedP50.Value > 1 && c.RatioP50.Value > 1.1 && c.Throughput.Value < 0.95) {
		t.Errorf("%+v", c)
	}
	for _, e := range []Estimate{c.AddedP50, c.AddedP99, c.RatioP50, c.RatioP99, c.Throughput} {
		if !(e.Low <= e.High) {
			t.Errorf("interval %v to %v", e.Low, e.High)
		}
	}
}

func TestCompareResamplesRoundsTogether(t *testing.T) {
	// The machine is slow in every other round: the arms differ by exactly 1 ms
	// in each, and only intervals that keep rounds together see that.
	series := func(name string, add float64) Series {
		s := Series{Name: name}
		for i := range 10 {
			level := 10.0
			if i%2 == 1 {
				level = 30
			}
			s.Rounds = append(s.Rounds, Round{Latencies: []float64{level + add, level + add, level + add}, PerSecond: 1000 / (level + add)})
		}
		return s
	}
	c, err := Compare(series("arm", 1), series("base", 0), 1)
	if err != nil {
		t.Fatal(err)
	}
	if c.AddedP50.Low != 1 || c.AddedP50.High != 1 || c.AddedP50.Value != 1 {
		t.Errorf("added p50 %+v, want exactly 1", c.AddedP50)
	}
	same, err := Compare(series("arm", 0), series("base", 0), 1)
	if err != nil {
		t.Fatal(err)
	}
	if same.Throughput != (Estimate{1, 1, 1}) {
		t.Errorf("throughput of equals %+v", same.Throughput)
	}
	if _, err := Compare(series("arm", 0), Series{Name: "none"}, 1); err == nil {
		t.Error("series of other rounds were compared")
	}
}

func TestQuantilesCountRoundsAsOftenAsTheyAreDrawn(t *testing.T) {
	s := Series{Rounds: []Round{{Latencies: []float64{1, 2}}, {Latencies: []float64{9}}}}
	for _, c := range []struct {
		weight   []int32
		p50, p99 float64
	}{{[]int32{1, 1}, 2, 9}, {[]int32{2, 0}, 1, 2}, {[]int32{0, 2}, 9, 9}} {
		if p50, p99 := quantiles(s.pooled(), c.weight); p50 != c.p50 || p99 != c.p99 {
			t.Errorf("%v: %v and %v, want %v and %v", c.weight, p50, p99, c.p50, c.p99)
		}
	}
	if p50, _ := quantiles(nil, nil); !math.IsNaN(p50) {
		t.Errorf("p50 of nothing is %v", p50)
	}
}

func TestAFailedCallFailsTheRun(t *testing.T) {
	good, _ := sleeping("good", time.Millisecond, nil)
	bad, _ := sleeping("bad", 0, errors.New("refused"))
	_, err := Run(t.Context(), Plan{Callers: 1, Rounds: 2, Length: time.Millisecond}, []Arm{good, bad}, nil)
	if err == nil || !strings.Contains(err.Error(), "bad with 1 callers") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

func TestAnHTTPCallerTakesOnlyA200(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		if _, err := r.Body.Read(body); err != nil && string(body) != "tensor" || r.Header.Get("X-Kind") != "test" {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("busy")) // the client sees a short answer
	}))
	defer server.Close()
	request, err := NewRequest(server.URL+"/infer?x=1", http.Header{"X-Kind": {"test"}}, []byte("tensor"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c, err := request.Caller(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := c.Call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	status = http.StatusTooManyRequests
	if err := c.Call(t.Context()); err == nil || !strings.Contains(err.Error(), "429") || !strings.Contains(err.Error(), "busy") {
		t.Errorf("%v", err)
	}
	if _, err := NewRequest("ftp://x", nil, nil, time.Second); err == nil {
		t.Error("an address that is not http was taken")
	}
}

func TestAnOverloadTellsGoodFromLateRefusedAndFailed(t *testing.T) {
	var n atomic.Int64
	const deadline = 150 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/calm" {
			time.Sleep(10 * time.Millisecond)
			return
		}
		switch n.Add(1) % 4 {
		case 0:
			w.WriteHeader(http.StatusTooManyRequests)
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			time.Sleep(2 * deadline)
		}
	}))
	defer server.Close()
	request, err := NewRequest(server.URL, http.Header{}, []byte("x"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	calm, err := NewRequest(server.URL+"/calm", http.Header{}, []byte("x"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	g, err := RunOverload(t.Context(), calm, request, Overload{Callers: 1, Times: 2, Rounds: 2, Length: 400 * time.Millisecond, Deadline: deadline, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if quarter := g.Offered / 4; g.Offered < 8 || g.Refused < quarter || g.Failed < quarter || g.Late < quarter || g.Good+g.Late+g.Refused+g.Failed != g.Offered {
		t.Errorf("%+v", g)
	}
	if g.P99 < 2*Milliseconds(deadline) || g.Failure == "" || !(g.Share.Value > 0 && g.Share.Low <= g.Share.Value && g.Share.Value <= g.Share.High) {
		t.Errorf("%+v", g)
	}
	// A quarter of twice as many is good, and the last one is waited for.
	if want := 0.5 * g.Sustained; g.Share.Value*g.Sustained > want {
		t.Errorf("%v good a second of %v, want %v at most", g.Share.Value*g.Sustained, g.Sustained, want)
	}
}

func TestAnOverloadThatThereCannotBeIsRefused(t *testing.T) {
	for _, o := range []Overload{
		{},
		{Callers: 1, Times: 2, Rounds: 1, Length: time.Second, Deadline: time.Second},
		{Callers: 1, Times: 2, Rounds: 2, Length: time.Second},
	} {
		if _, err := RunOverload(t.Context(), nil, nil, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
