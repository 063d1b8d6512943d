package split

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC)

func held(bp int, owner string, left time.Duration, revision int64) State {
	return State{CanaryBP: bp, Owner: owner, Expires: noon.Add(left), Revision: revision}
}

func TestChange(t *testing.T) {
	cases := []struct {
		name string
		from State
		want Split
		err  error
		bp   int
	}{
		{"first claim", State{}, Split{CanaryBP: 500, Owner: "a", LeaseS: 10}, nil, 500},
		{"owner raises", held(500, "a", time.Second, 3), Split{CanaryBP: 2500, Owner: "a", LeaseS: 10, Revision: 3}, nil, 2500},
		{"other is refused", held(500, "a", time.Second, 3), Split{CanaryBP: 1, Owner: "b", LeaseS: 10, Revision: 3}, ErrHeld, 500},
		{"other may claim after the lease", held(500, "a", 0, 3), Split{CanaryBP: 100, Owner: "b", LeaseS: 10, Revision: 4}, nil, 100},
		{"late owner is stale after the lease", held(500, "a", 0, 3), Split{CanaryBP: 500, Owner: "a", LeaseS: 10, Revision: 3}, ErrStale, 0},
		{"anybody may stop", held(500, "a", time.Second, 3), Split{Revision: 3}, nil, 0},
		{"a stop is not blind either", held(500, "a", time.Second, 3), Split{Revision: 2}, ErrStale, 500},
		{"a share without an owner", State{}, Split{CanaryBP: 1}, ErrInvalid, 0},
		{"more than everything", State{}, Split{CanaryBP: 10001, Owner: "a", LeaseS: 10}, ErrInvalid, 0},
		{"less than nothing", State{}, Split{CanaryBP: -1, Owner: "a", LeaseS: 10}, ErrInvalid, 0},
		{"a lease without end", State{}, Split{CanaryBP: 1, Owner: "a", LeaseS: 1e9}, ErrInvalid, 0},
		{"no lease", State{}, Split{CanaryBP: 1, Owner: "a"}, ErrInvalid, 0},
	}
	for _, c := range cases {
		got, err := c.from.Change(c.want, noon)
		if !errors.Is(err, c.err) || (err != nil) != (c.err != nil) || got.CanaryBP != c.bp {
			t.Errorf("%s: %+v, %v; want share %d, %v", c.name, got, err, c.bp, c.err)
		}
	}
}

func TestShareNeverStandsWithoutARunningLease(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	owners := []string{"", "a", "b"}
	for range 2000 {
		s, now := State{}, noon
		for range 20 {
			before := s.At(now)
			want := Split{CanaryBP: random.IntN(12000) - 1000, Owner: owners[random.IntN(3)], LeaseS: float64(random.IntN(20)), Revision: before.Revision - int64(random.IntN(2))}
			next, err := s.Change(want, now)
			if err != nil && next != before {
				t.Fatalf("a refused change %+v made %+v of %+v", want, next, before)
			}
			if err == nil && next.Revision <= before.Revision {
				t.Fatalf("revision %d after %d", next.Revision, before.Revision)
			}
			s = next
			now = now.Add(time.Duration(random.IntN(15)) * time.Second)
			at := s.At(now)
			if at.CanaryBP > 0 && (at.Owner == "" || !now.Before(at.Expires)) {
				t.Fatalf("share %d with owner %q, lease until %s at %s", at.CanaryBP, at.Owner, at.Expires, now)
			}
		}
	}
}

// memory is a proxy's map; ignore makes it take values without a word, as
// HAProxy does with unknown ones.
type memory struct {
	mu     sync.Mutex
	value  string
	ignore bool
	down   bool
	err    error
	sets   int
}

func (m *memory) Map(context.Context) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return map[string]string{Key: m.value}, m.err
}

func (m *memory) SetMap(_ context.Context, _, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sets++
	if !m.ignore {
		m.value = value
	}
	return nil
}

func (m *memory) CanaryUp(context.Context) (bool, error) { return !m.down, m.err }

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t *testing.T, file string, p Proxy, c *clock) *Keeper {
	t.Helper()
	k, err := Open(file, p, c.read, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMapFileIsWrittenBeforeTheProxyIsAsked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "split.map")
	p, c := &memory{value: "0"}, &clock{now: noon}
	k := open(t, file, p, c)
	p.ignore = true // the proxy does not follow, the file must hold the share already
	_, err := k.Change(t.Context(), Split{CanaryBP: 700, Owner: "a", LeaseS: 10})
	if err == nil || !strings.Contains(err.Error(), "after it was set to 700") {
		t.Errorf("a proxy that ignores the value: %v", err)
	}
	data, err := os.ReadFile(file)
	if err != nil || string(data) != "canary_bp 700\n" {
		t.Errorf("map file %q, %v", data, err)
	}
}

func TestRestartedRouterKeepsARunningLeaseAndEndsADeadOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "split.map")
	p, c := &memory{value: "0"}, &clock{now: noon}
	set, err := open(t, file, p, c).Change(t.Context(), Split{CanaryBP: 700, Owner: "a", LeaseS: 10})
	if err != nil {
		t.Fatal(err)
	}
	c.add(9 * time.Second)
	now, err := open(t, file, p, c).Read(t.Context())
	if err != nil || now.CanaryBP != 700 || now.Owner != "a" || now.Revision != set.Revision {
		t.Errorf("with a running lease: %+v, %v", now, err)
	}
	c.add(2 * time.Second)
	now, err = open(t, file, p, c).Read(t.Context())
	if err != nil || now.CanaryBP != 0 || now.Owner != "" || p.value != "0" {
		t.Errorf("with a dead lease: %+v, %v, proxy %s", now, err, p.value)
	}
}

func TestMapWithoutARecordGoesToZeroAndADamagedRecordIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "split.map")
	if err := os.WriteFile(file, []byte("canary_bp 5000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, c := &memory{value: "5000"}, &clock{now: noon}
	if now, err := open(t, file, p, c).Read(t.Context()); err != nil || now.CanaryBP != 0 || p.value != "0" {
		t.Errorf("%+v, %v, proxy %s", now, err, p.value)
	}
	if err := os.WriteFile(file+".state", []byte(`{"canary_bp": 5`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, p, c.read, t.Logf); err == nil || !strings.Contains(err.Error(), "split.map.state") {
		t.Errorf("damaged record: %v", err)
	}
}

func TestRunEndsTheLeaseWithoutBeingAsked(t *testing.T) {
	p, c := &memory{value: "0"}, &clock{now: noon}
	k := open(t, filepath.Join(t.TempDir(), "split.map"), p, c)
	if _, err := k.Change(t.Context(), Split{CanaryBP: 700, Owner: "a", LeaseS: 10}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); k.Run(ctx, time.Millisecond) }()
	c.add(11 * time.Second)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		value := p.value
		p.mu.Unlock()
		if value == "0" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("share %s ten seconds after the lease", value)
		}
	}
	cancel()
	<-ended
}

func ask(t *testing.T, h http.Handler, method, token, body string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/v1/split", strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return w.Code, answer
}

func TestHandlerTellsRefusalsApart(t *testing.T) {
	p, c := &memory{value: "0"}, &clock{now: noon}
	h := Handler(open(t, filepath.Join(t.TempDir(), "split.map"), p, c), "secret")
	if code, _ := ask(t, h, "PUT", "secret", `{"canary_bp":500,"owner":"a","lease_s":10,"revision":0}`); code != http.StatusOK {
		t.Fatalf("the first claim: %d", code)
	}
	cases := []struct {
		name, method, token, body string
		status                    int
		code                      string
	}{
		{"no token", "GET", "", "", 401, "unauthorised"},
		{"wrong token", "PUT", "secret2", `{}`, 401, "unauthorised"},
		{"stale", "PUT", "secret", `{"canary_bp":600,"owner":"a","lease_s":10,"revision":0}`, 409, "stale"},
		{"held", "PUT", "secret", `{"canary_bp":600,"owner":"b","lease_s":10,"revision":1}`, 409, "held"},
		{"unknown key", "PUT", "secret", `{"share":600}`, 400, "invalid"},
		{"out of range", "PUT", "secret", `{"canary_bp":60000,"owner":"a","lease_s":10,"revision":1}`, 400, "invalid"},
		{"too long", "PUT", "secret", `{"owner":"` + strings.Repeat("x", 5000) + `"}`, 400, "invalid"},
	}
	for _, k := range cases {
		status, answer := ask(t, h, k.method, k.token, k.body)
		if status != k.status || answer["code"] != k.code {
			t.Errorf("%s: %d %v, want %d %s", k.name, status, answer, k.status, k.code)
		}
	}
	if status, answer := ask(t, h, "GET", "secret", ""); status != 200 || answer["canary_bp"] != 500.0 || answer["lease_s"] != 10.0 {
		t.Errorf("GET: %d %v", status, answer)
	}
	p.down = true
	if status, answer := ask(t, h, "PUT", "secret", `{"canary_bp":600,"owner":"a","lease_s":10,"revision":1}`); status != 409 || answer["code"] != "canary-down" {
		t.Errorf("no canary: %d %v", status, answer)
	}
	p.err = errors.New("connection refused")
	if status, answer := ask(t, h, "GET", "secret", ""); status != 503 || answer["code"] != "proxy" {
		t.Errorf("a dead proxy: %d %v", status, answer)
	}
}

func TestEmptyTokenOpensNothing(t *testing.T) {
	p, c := &memory{value: "0"}, &clock{now: noon}
	h := Handler(open(t, filepath.Join(t.TempDir(), "split.map"), p, c), "")
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/split", nil)
	r.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("status %d", w.Code)
	}
}
