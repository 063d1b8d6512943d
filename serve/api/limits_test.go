package api_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/admission"
	"github.com/penstock-ml/penstock/serve/api"
)

// endless is a picture on which the graph Endless never ends.
func endless(t *testing.T) []byte { return bundletest.Picture(t, 30, 30, bundletest.FailsAbove) }

func TestTheWorkEndsWithTheSendersDeadline(t *testing.T) {
	w := serve(t, bundletest.Endless)
	began := time.Now()
	a := w.send(header{api.TimeoutHeader: "200"}, "POST", predictPath, endless(t))
	if took := time.Since(began); a.status != http.StatusGatewayTimeout || took < 200*time.Millisecond || took > 3*time.Second {
		t.Errorf("%d after %s: %s", a.status, took, a.body)
	}
	if got := w.counts.take(); got != w.digest[:8]+" client_error" { // shorter than the slo: nobody promised that
		t.Errorf("counted %s", got)
	}
	w.send(header{api.TimeoutHeader: "700"}, "POST", predictPath, endless(t))
	if got := w.counts.take(); got != w.digest[:8]+" server_error" {
		t.Errorf("beyond the slo: counted %s", got)
	}
	if a := w.do("POST", predictPath, "image/png", bundletest.Picture(t, 30, 30, 90)); a.status != 200 {
		t.Errorf("the next: %d %s", a.status, a.body)
	}
}

// A deadline may be longer than the bound on writing, which counts from the
// request's headers.
func TestADeadlineBeyondTheBoundOnWritingIsAnswered(t *testing.T) {
	w := serveModels(t, options{write: 300 * time.Millisecond}, bundletest.New(t, bundletest.Endless))
	if a := w.send(header{api.TimeoutHeader: "900"}, "POST", predictPath, endless(t)); a.status != http.StatusGatewayTimeout {
		t.Errorf("%d: %s", a.status, a.body)
	}
}

func TestAClientThatLeavesEndsItsRun(t *testing.T) {
	w := serve(t, bundletest.Endless)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "POST", w.url+predictPath, bytes.NewReader(endless(t)))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := http.DefaultClient.Do(request); err == nil {
		response.Body.Close()
		t.Fatal("it was answered")
	}
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(w.logged.String(), "kind=gone"); {
		if time.Now().After(deadline) {
			t.Fatalf("logged %s", w.logged.String())
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	if got := w.counts.take(); got != w.digest[:8]+" client_error" {
		t.Errorf("counted %q", got)
	}
}

func TestWhatWouldBeLateIsRefusedAtOnce(t *testing.T) {
	queue := admission.New(admission.Options{Name: "test", Turns: 1, Depth: 0})
	w := serveModels(t, options{queue: queue}, bundletest.New(t, bundletest.Endless))
	var busy sync.WaitGroup
	busy.Go(func() { w.send(header{api.TimeoutHeader: "1500"}, "POST", predictPath, endless(t)) })
	atWork(t, queue)
	began := time.Now()
	a := w.do("POST", predictPath, "image/png", bright(t))
	if a.status != http.StatusTooManyRequests || time.Since(began) > 500*time.Millisecond {
		t.Errorf("%d after %s: %s", a.status, time.Since(began), a.body)
	}
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	if a.header.Get(api.DigestHeader) != w.digest {
		t.Errorf("digest %s", a.header.Get(api.DigestHeader))
	}
	if got := w.counts.take(); got != w.digest[:8]+" refused" {
		t.Errorf("counted %s", got)
	}
	// Nothing is spent on the contents of what is refused.
	if a := w.do("POST", "/v2/models/test/infer", "application/json", []byte("no JSON")); a.status != http.StatusTooManyRequests {
		t.Errorf("tensors: %d %s", a.status, a.body)
	}
	busy.Wait()
	if a := w.do("POST", predictPath, "image/png", bright(t)); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

func TestMoreRequestsThanThereIsRoomForAreRefused(t *testing.T) {
	queue := admission.New(admission.Options{Name: "test", Turns: 2, Depth: 9})
	w := serveModels(t, options{queue: queue, limits: api.Limits{Requests: 1, Bytes: 1 << 30}}, bundletest.New(t, bundletest.Endless))
	var busy sync.WaitGroup
	busy.Go(func() { w.send(header{api.TimeoutHeader: "1000"}, "POST", predictPath, endless(t)) })
	atWork(t, queue)
	a := w.do("POST", predictPath, "image/png", bright(t))
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1" || !strings.Contains(string(a.body), "as many requests as it may") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.do("GET", "/v2/health/live", "", nil); a.status != 200 {
		t.Errorf("health: %d", a.status)
	}
	busy.Wait()
	if a := w.do("POST", predictPath, "image/png", bright(t)); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

// atWork waits until a request has its turn.
func atWork(t *testing.T, queue *admission.Queue) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); queue.AtWork() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the first request does not begin")
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// breaks is a Fetcher with a fault.
type breaks struct{}

func (breaks) Get(context.Context, string) ([]byte, error) { panic("a fault of the program") }

func TestAPanicStaysInItsRequestAndIsCountedOnce(t *testing.T) {
	w := serveModels(t, options{fetcher: breaks{}}, bundletest.New(t, bundletest.Mean))
	for range 2 {
		a := w.do("POST", predictPath, "application/json", []byte(`{"url": "https://pacs.example/1"}`))
		if a.status != 500 || strings.Contains(string(a.body), "fault") {
			t.Errorf("%d %s", a.status, a.body)
		}
		if got := w.counts.take(); got != w.digest[:8]+" server_error" {
			t.Errorf("counted %s", got)
		}
	}
	if log := w.logged.String(); !strings.Contains(log, "a fault of the program") || !strings.Contains(log, "stack=") {
		t.Errorf("log: %s", log)
	}
	if a := w.do("POST", predictPath, "image/png", bright(t)); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

// Bad requests of every kind, and good ones meanwhile: none of these fails.
func TestBadRequestsDoNotHarmOthers(t *testing.T) {
	w := serveModels(t, options{queue: admission.New(admission.Options{Name: "test", Turns: 3, Depth: 64})}, bundletest.New(t, bundletest.Mean))
	picture, tensor := bright(t), inferBody(1, 0.5, "")
	wantPicture := decode[api.Prediction](t, w.do("POST", predictPath, "image/png", picture)).Predictions
	wantTensor := string(w.do("POST", "/v2/models/test/infer", "", tensor).body)
	stop := make(chan struct{})
	var good sync.WaitGroup
	done := 0
	good.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			done++
			a := w.do("POST", predictPath, "image/png", picture)
			if a.status != 200 {
				t.Errorf("a good picture: %d %s", a.status, a.body)
			} else if got := decode[api.Prediction](t, a).Predictions; got[0] != wantPicture[0] || got[1] != wantPicture[1] {
				t.Errorf("a good picture: %+v", got)
			}
			if a := w.do("POST", "/v2/models/test/infer", "", tensor); a.status != 200 || string(a.body) != wantTensor {
				t.Errorf("a good tensor: %d %s", a.status, a.body)
			}
		}
	})
	var bad sync.WaitGroup
	for range 3 {
		bad.Go(func() {
			for name, b := range badRequests(t) {
				if a := w.send(b.header, "POST", b.path, b.body); a.status != b.status {
					t.Errorf("%s: %d, want %d: %s", name, a.status, b.status, a.body)
				}
			}
		})
	}
	bad.Wait()
	close(stop)
	good.Wait()
	if done < 3 {
		t.Errorf("only %d good requests: the test shows little", done)
	}
	t.Logf("%d good pairs beside the bad", done)
}

// noise is a bright picture that no encoder makes small, and so are the maps
// over it.
func noise(t *testing.T, side int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, side, side))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range img.Pix {
		img.Pix[i] = 90 + uint8(random.UintN(160))
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestAnswersThatNobodyTakesHoldBoundedMemory(t *testing.T) {
	w := serveModels(t, options{limits: api.Limits{Requests: 9, Bytes: 20 << 20}},
		bundletest.New(t, bundletest.Mean, func(m *bundle.Manifest) { m.Labels[1].Threshold = 0.01 })) // two findings
	picture := noise(t, 1000)
	ask := func() answer { return w.do("POST", predictPath+"?explain=true", "image/png", picture) }
	a := ask()
	if a.status != 200 || len(a.body) < 5<<20 || len(a.body) > 10<<20 {
		t.Fatalf("%d, %d bytes", a.status, len(a.body))
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil { // or the system takes the answer
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "POST %s?explain=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", predictPath, len(picture), picture); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil { // the answer begins, and is not taken
		t.Fatal(err)
	}
	w.counts.take()
	if a := ask(); a.status != 429 || a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "as much memory as they may") {
		t.Errorf("beside an answer that is not taken: %d, %d bytes", a.status, len(a.body))
	}
	if got := w.counts.take(); got != w.digest[:8]+" refused" {
		t.Errorf("counted %s", got)
	}
	if a := w.do("POST", predictPath, "image/png", picture); a.status != 200 {
		t.Errorf("a small answer: %d %s", a.status, a.body)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ask().status != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the room does not come back")
		}
	}
}
