package github_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/intake"
	"github.com/penstock-ml/penstock/internal/outside/github"
)

// TestDispatchSchedulesLoseAndDoubleNothing plays 1,000 seeded schedules on a
// clock of their own: some watchers, told to end or killed at any moment and
// started anew, hand some batches to a GitHub that answers 429, 403 and 500,
// answers 204 for 200, does not know return_run_details, loses answers before
// and after the deed, holds requests and lists runs late. In the end every
// batch has exactly one run.
func TestDispatchSchedulesLoseAndDoubleNothing(t *testing.T) {
	const schedules = 1000
	faults, restarts := playAll(t, schedules, func(s *schedule) {
		f := &fake{now: time.Now, details: s.rng.IntN(2) == 0, refuse: []int{0, 400, 422}[s.rng.IntN(3)], fault: s.fault}
		s.github, s.titles = inProcess{f}, f.titles
	})
	for _, kind := range []string{"429", "403 secondary", "403 primary", "500 before", "500 after", "cut before", "cut after", "held", "late"} {
		if faults[kind] < schedules/20 {
			t.Errorf("only %d times %s: the schedules try nothing", faults[kind], kind)
		}
	}
	if restarts < schedules/2 {
		t.Errorf("only %d restarts", restarts)
	}
}

// playAll plays schedules; open gives each its GitHub. It counts the faults and
// the watchers that were started anew.
func playAll(t *testing.T, schedules int, open func(*schedule)) (faults map[string]int, restarts int) {
	t.Helper()
	faults = map[string]int{}
	for seed := range uint64(schedules) {
		synctest.Test(t, func(t *testing.T) {
			s := newSchedule(seed)
			open(s)
			s.play(t)
			for kind, n := range s.faults {
				faults[kind] += n
			}
			restarts += s.owners - s.watchers
		})
		if t.Failed() {
			t.Fatalf("schedule %d", seed)
		}
	}
	t.Logf("%d schedules, %d restarts, faults %v", schedules, restarts, faults)
	return faults, restarts
}

// calm is when the faults of a schedule end, long before the schedule does.
const (
	calm = 40 * time.Minute
	span = 3 * time.Hour
)

type schedule struct {
	rng      *rand.Rand
	token    string
	api      string
	github   http.RoundTripper
	titles   func() map[string]int // runs by their title
	store    *memory
	start    time.Time
	rate     float64 // of faults
	watchers int

	mu     sync.Mutex
	faults map[string]int
	owners int
}

func newSchedule(seed uint64) *schedule {
	rng := rand.New(rand.NewPCG(seed, 3))
	s := &schedule{
		rng: rng, token: secret, api: "http://127.0.0.1/api/v3", store: &memory{objects: map[string]entry{}},
		start: time.Now(), rate: rng.Float64() * 0.9, watchers: 1 + rng.IntN(3), faults: map[string]int{},
	}
	for i := range 1 + rng.IntN(3) {
		s.store.upload(fmt.Sprintf("raw/batch-%d-%d/1.png", seed, i), s.start)
	}
	return s
}

// random is for the goroutines of a schedule.
func (s *schedule) random(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

func (s *schedule) play(t *testing.T) {
	ctx, end := context.WithTimeout(t.Context(), span)
	defer end()
	var all sync.WaitGroup
	for range s.watchers {
		all.Go(func() {
			for ctx.Err() == nil {
				s.life(ctx, t)
			}
		})
	}
	all.Wait()
	titles := s.titles()
	for _, b := range s.store.batches() {
		if n := titles[github.RunName(b)]; n != 1 {
			t.Errorf("batch %.8s has %d runs", b, n)
		}
		record, err := intake.Load(t.Context(), s.store, b)
		if err != nil || !record.Dispatched {
			t.Errorf("batch %.8s is not recorded as dispatched: %v", b, err)
		}
	}
}

// life is one process: it watches until it is told to end or killed, at a
// moment of the schedule's.
func (s *schedule) life(ctx context.Context, t *testing.T) {
	s.mu.Lock()
	s.owners++
	owner := fmt.Sprint("watcher-", s.owners)
	s.mu.Unlock()
	life := span
	if time.Since(s.start) < calm {
		life = time.Duration(s.random(900)) * time.Second
	}
	told, end := context.WithTimeout(ctx, life)
	defer end()
	p := &process{github: s.github, memory: s.store, dead: make(chan struct{})}
	if s.random(2) == 0 && life < span { // killed, not told
		told = ctx
		timer := time.AfterFunc(life, p.kill)
		defer timer.Stop()
	}
	client, err := github.New(github.Settings{API: s.api, Repository: "acme/xray", Token: s.token, Transport: p})
	if err != nil {
		t.Error(err)
		return
	}
	w := &intake.Watcher{
		Raw: "raw/", Settle: time.Minute, Term: github.ShortestLease, Owner: owner, Lister: s.store, Store: p,
		Dispatcher: github.NewBatches(client, "train.yml", ""), Now: time.Now, Tell: func(intake.Event) {},
	}
	until, stop := context.WithCancel(told)
	defer stop()
	go func() {
		select {
		case <-p.dead:
		case <-until.Done():
		}
		stop()
	}()
	w.Run(until, time.Duration(10+s.random(50))*time.Second)
	time.Sleep(time.Duration(s.random(20)) * time.Second) // until it is started again
}

// process is a watcher's view of the world, which ends when it is killed:
// nothing it does then arrives anywhere.
type process struct {
	*memory
	github http.RoundTripper
	once   sync.Once
	dead   chan struct{}
}

var errKilled = errors.New("killed")

func (p *process) kill() { p.once.Do(func() { close(p.dead) }) }

func (p *process) killed() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

func (p *process) RoundTrip(req *http.Request) (*http.Response, error) {
	if p.killed() {
		return nil, errKilled
	}
	resp, err := p.github.RoundTrip(req)
	if p.killed() {
		return nil, errKilled
	}
	return resp, err
}

func (p *process) Put(ctx context.Context, key string, data []byte, when journal.Condition) (string, error) {
	if p.killed() {
		return "", errKilled
	}
	return p.memory.Put(ctx, key, data, when)
}

// fault decides how a request goes wrong, and counts.
func (s *schedule) fault(r *http.Request) fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.start) > calm || s.rng.Float64() > s.rate {
		return fault{}
	}
	kinds := []struct {
		name  string
		fault fault
	}{
		{"429", fault{status: 429, header: http.Header{"Retry-After": {strconv.Itoa(s.rng.IntN(90))}}}},
		{"429 bare", fault{status: 429}},
		{"403 secondary", fault{status: 403, body: "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}},
		{"403 primary", fault{status: 403, body: "API rate limit exceeded for installation ID 1.", header: http.Header{
			"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {strconv.FormatInt(time.Now().Add(time.Duration(s.rng.IntN(300))*time.Second).Unix(), 10)},
		}}},
		{"500 before", fault{status: 500}},
		{"502 before", fault{status: 502}},
		{"500 after", fault{after: 500}},
		{"cut before", fault{cut: "before"}},
		{"cut after", fault{cut: "after"}},
		{"cut after", fault{cut: "after"}},
		{"held", fault{hold: time.Duration(s.rng.IntN(25)) * time.Second}}, // past the end of an attempt
		{"late", fault{}},
	}
	k := kinds[s.rng.IntN(len(kinds))]
	if r.Method == http.MethodPost {
		k.fault.lag = time.Duration(s.rng.IntN(24)) * time.Second
	}
	s.faults[k.name]++
	return k.fault
}

// memory is a bucket: objects below raw/ and records with conditional PUTs.
type memory struct {
	mu      sync.Mutex
	objects map[string]entry
	version int
}

type entry struct {
	data     []byte
	etag     string
	modified time.Time
}

func (m *memory) upload(key string, at time.Time) {
	m.objects[key] = entry{[]byte(key), key, at}
}

func (m *memory) Now() time.Time { return time.Now() }

func (m *memory) List(_ context.Context, prefix string) ([]intake.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []intake.Object
	for key, o := range m.objects {
		if strings.HasPrefix(key, prefix) {
			found = append(found, intake.Object{Key: key, ETag: o.etag, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	return found, nil
}

// batches are the keys of all batches.
func (m *memory) batches() []string {
	objects, _ := m.List(context.Background(), "raw/")
	var keys []string
	for _, o := range objects {
		keys = append(keys, intake.Fingerprint([]intake.Object{o}))
	}
	return keys
}

func (m *memory) Get(_ context.Context, key string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return nil, "", journal.ErrNotFound
	}
	return o.data, o.etag, nil
}

func (m *memory) Put(_ context.Context, key string, data []byte, when journal.Condition) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, there := m.objects[key]
	if when.Absent() && there || when.ETag() != "" && when.ETag() != o.etag {
		return "", journal.ErrConflict
	}
	m.version++
	etag := fmt.Sprint("v", m.version)
	m.objects[key] = entry{data, etag, time.Now()}
	return etag, nil
}
