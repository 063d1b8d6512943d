package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
)

// publishLoop publishes bundletest.Endless with an end: a bright picture goes
// so many times through its loop.
func (w *world) publishLoop(times int) string {
	w.t.Helper()
	dir := bundletest.New(w.t, bundletest.Endless)
	path := filepath.Join(dir, bundle.ModelFile)
	data, err := os.ReadFile(path)
	must(w.t, err)
	var m onnxpb.Model
	must(w.t, proto.Unmarshal(data, &m))
	i := slices.IndexFunc(m.Graph.Initializer, func(t *onnxpb.Tensor) bool { return t.GetName() == "many" })
	m.Graph.Initializer[i].RawData = binary.LittleEndian.AppendUint64(nil, uint64(times))
	data, err = proto.Marshal(&m)
	must(w.t, err)
	must(w.t, os.WriteFile(path, data, 0o644))
	return w.publishDir(dir)
}

// answer is one request's.
type answer struct {
	code       int
	retryAfter string
	took       time.Duration
}

// ask allows so much time.
func (s *server) ask(client *http.Client, picture []byte, within time.Duration) (a answer) {
	began := time.Now()
	request, err := http.NewRequest("POST", s.public+"/v1/models/test/predict", bytes.NewReader(picture))
	if err != nil {
		return answer{}
	}
	request.Header.Set("Penstock-Timeout-Ms", strconv.FormatInt(within.Milliseconds(), 10))
	response, err := client.Do(request)
	if err != nil {
		return answer{}
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return answer{}
	}
	return answer{response.StatusCode, response.Header.Get("Retry-After"), time.Since(began)}
}

// saturate keeps so many callers busy and gives the requests answered a second.
func (s *server) saturate(client *http.Client, callers int, picture []byte, term time.Duration) float64 {
	var group sync.WaitGroup
	counts := make([]int, callers)
	for i := range callers {
		group.Go(func() {
			for began := time.Now(); time.Since(began) < term; counts[i]++ {
				if a := s.ask(client, picture, time.Minute); a.code != 200 {
					s.t.Errorf("without overload: %+v", a)
					return
				}
			}
		})
	}
	group.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return float64(sum) / term.Seconds()
}

// The figures are held loosely: machines that run tests are busy. package
// admission holds them strictly, in a time of its own.
func TestUnderOverloadSomeAreRefusedAtOnceAndTheOthersAnsweredInTime(t *testing.T) {
	const deadline = 500 * time.Millisecond
	w := newWorld(t)
	s := w.serve(t.TempDir(), "--replay", "0")
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	picture := bundletest.Picture(t, 30, 30, bundletest.FailsAbove)
	const few = 2000
	if code, body := s.put(w.publishLoop(few)); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	s.saturate(client, 1, picture, 200*time.Millisecond)
	each := 1 / s.saturate(client, 1, picture, 500*time.Millisecond)
	if code, body := s.put(w.publishLoop(int(few * 0.040 / each))); code != 200 { // 40 ms a run
		t.Fatalf("%d %s", code, body)
	}
	sustainable := s.saturate(client, 4, picture, 1500*time.Millisecond)

	const term, factor = 3 * time.Second, 3
	sent := int(factor * sustainable * term.Seconds())
	answers := make([]answer, sent)
	var group sync.WaitGroup
	began := time.Now()
	for i := range answers {
		time.Sleep(time.Until(began.Add(term * time.Duration(i) / time.Duration(sent))))
		group.Go(func() { answers[i] = s.ask(client, picture, deadline) })
	}
	group.Wait()
	took := time.Since(began)
	var accepted []time.Duration
	refused, late := 0, 0
	for _, a := range answers {
		switch a.code {
		case 200:
			accepted = append(accepted, a.took)
		case 504:
			late++
		case 429:
			refused++
			if n, err := strconv.Atoi(a.retryAfter); err != nil || n < 1 {
				t.Errorf("Retry-After: %q", a.retryAfter)
			}
		default:
			t.Errorf("%+v", a)
		}
	}
	if len(accepted) == 0 {
		t.Fatal("nobody was let in")
	}
	slices.Sort(accepted)
	goodput := float64(len(accepted)) / took.Seconds()
	t.Logf("%.1f a second are sustainable; at %d times that, of %d requests %d were refused, goodput was %.1f a second (%.0f%%), p99 of the accepted %s, %d were late",
		sustainable, factor, sent, refused, goodput, 100*goodput/sustainable, accepted[len(accepted)*99/100], late)
	if refused == 0 {
		t.Error("nobody was refused")
	}
	if goodput < 0.4*sustainable {
		t.Errorf("goodput is %.1f of %.1f a second", goodput, sustainable)
	}
	if late*5 > len(accepted) {
		t.Errorf("%d were late, %d in time", late, len(accepted))
	}
}
