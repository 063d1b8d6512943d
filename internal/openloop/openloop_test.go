package openloop

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSlowAnswersDoNotHoldUpLaterArrivals(t *testing.T) {
	const n = 20
	var begun atomic.Int64
	all := make(chan struct{})
	schedule := Schedule(2000, n, 1)
	done := Run(t.Context(), time.Now(), slices.Values(schedule), n, func(Shot) {
		if begun.Add(1) == n {
			close(all)
		}
		<-all // nobody returns before everybody began
	})
	if !done || begun.Load() != n {
		t.Errorf("done %v after %d of %d", done, begun.Load(), n)
	}
}

func TestArrivalsBeyondTheLimitAreDroppedAndNotDelayed(t *testing.T) {
	var mu sync.Mutex
	var dropped, sent int
	release := make(chan struct{})
	Run(t.Context(), time.Now(), slices.Values(make([]time.Duration, 10)), 3, func(shot Shot) {
		mu.Lock()
		if !shot.Dropped {
			sent++
			mu.Unlock()
			<-release
			return
		}
		if dropped++; dropped == 7 {
			close(release)
		}
		mu.Unlock()
	})
	if sent != 3 || dropped != 7 {
		t.Errorf("%d sent and %d dropped, want 3 and 7", sent, dropped)
	}
}

func TestRunWaitsForWhatIsUnderWayWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var finished atomic.Bool
	done := Run(ctx, time.Now(), Arrivals(1000, 1), 100, func(shot Shot) {
		if shot.Index == 0 {
			cancel()
			time.Sleep(20 * time.Millisecond) // the work of this request
			finished.Store(true)
		}
	})
	if done || !finished.Load() {
		t.Errorf("done %v, the running request finished %v", done, finished.Load())
	}
}

func TestLagIsCountedFromTheIntendedStart(t *testing.T) {
	late := time.Now().Add(-time.Second)
	Run(t.Context(), late, slices.Values([]time.Duration{0}), 1, func(shot Shot) {
		if shot.Lag() < time.Second || !shot.Intended.Equal(late) {
			t.Errorf("lag %s, intended %s", shot.Lag(), shot.Intended)
		}
	})
}

func TestImagesAreReadInOrderAndSampledBySeed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.png", "a.PNG", "deep/c.png", "note.txt"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("\x89PNG\r\n\x1a\n"+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	images, err := ReadImages(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	names := func(images []Image) (out []string) {
		for _, i := range images {
			out = append(out, i.Name)
		}
		return out
	}
	if got := names(images); !slices.Equal(got, []string{"a.PNG", "b.png", "c.png"}) || images[0].Type != "image/png" {
		t.Errorf("read %v", got)
	}
	again, err := ReadImages(dir, 2, 7)
	if err != nil {
		t.Fatal(err)
	}
	same, err := ReadImages(dir, 2, 7)
	if err != nil || len(again) != 2 || !slices.Equal(names(again), names(same)) {
		t.Errorf("the same seed drew %v and %v (%v)", names(again), names(same), err)
	}
}

func TestFolderWithoutUsableImagesIsRefused(t *testing.T) {
	empty, fake := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(fake, "a.png"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		empty: "name a folder of images", fake: "a.png is text/plain", "/no/such/folder": "no such file",
	} {
		if _, err := ReadImages(dir, 0, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
}

func TestDeckDealsEveryImageBeforeAnyTwice(t *testing.T) {
	images := []Image{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
	deck := NewDeck(images, 5)
	for round := range 3 {
		seen := map[string]bool{}
		for i := range images {
			seen[deck.At(round*len(images)+i).Name] = true
		}
		if len(seen) != len(images) {
			t.Errorf("round %d dealt only %v", round, seen)
		}
	}
}

func TestClientRefusesATargetThatIsNone(t *testing.T) {
	good := Target{URL: "http://127.0.0.1:1", Model: "m", Timeout: time.Second}
	for want, change := range map[string]func(*Target){
		"want http://":   func(t *Target) { t.URL = "127.0.0.1:8000" },
		"name of its":    func(t *Target) { t.Model = "" },
		"timeout 0s":     func(t *Target) { t.Timeout = 0 },
		`URL "ftp://a/"`: func(t *Target) { t.URL = "ftp://a/" },
	} {
		target := good
		change(&target)
		if _, err := NewClient(target, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestPostSendsTheTokenOfTheTargetAndElseNone(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
	defer server.Close()
	for token, want := range map[string]string{"": "", "of-the-clients": "Bearer of-the-clients"} {
		client, err := NewClient(Target{URL: server.URL, Model: "m", Timeout: time.Minute, Token: token}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if client.Post(t.Context(), time.Now(), "key", Image{}); got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
		client.Close()
	}
}
