package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/internal/oip/inferencepb"
)

// level is an inference request for the test model: one picture, all of one
// level from 0 to 1.
func level(value float32) *inferencepb.ModelInferRequest {
	values := make([]float32, bundletest.Side*bundletest.Side)
	for i := range values {
		values[i] = value
	}
	return &inferencepb.ModelInferRequest{
		ModelName: "test",
		Inputs: []*inferencepb.ModelInferRequest_InferInputTensor{{
			Name: "input", Datatype: "FP32", Shape: []int64{1, 1, bundletest.Side, bundletest.Side},
		}},
		RawInputContents: [][]byte{oip.Bytes(values)},
	}
}

func TestGRPCHasTheTokensTheCertificateAndTheDrainOfREST(t *testing.T) {
	w := newWorld(t)
	const token = "token-of-the-clients"
	w.env = append(w.env, "PENSTOCK_API_TOKEN="+token)
	cert, key, roots := certificateFiles(t)
	address := "127.0.0.1:" + freePort(t)
	s := w.start(t.TempDir(), "--grpc-listen", address, "--tls-cert", cert, "--tls-key", key, "--drain", "500ms", "--slo", "1h")
	s.trust(roots)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "")))
	must(t, err)
	defer conn.Close()
	client := inferencepb.NewGRPCInferenceServiceClient(conn)
	s.await("gRPC", func() bool {
		live, err := client.ServerLive(t.Context(), &inferencepb.ServerLiveRequest{}) // without a token
		return err == nil && live.GetLive()
	})
	s.load(w, bundletest.Endless)
	if _, err := client.ModelInfer(t.Context(), level(0.5)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	if code, _ := s.predict([]byte("no picture")); code != 401 {
		t.Errorf("over HTTP without a token: %d", code)
	}
	if _, text := s.do("GET", s.admin+"/metrics", nil); !strings.Contains(string(text), `penstock_failures_total{digest="none",kind="denied",model="none",slot="canary"} 2`) {
		t.Errorf("two were turned away, the metrics say\n%s", text)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	answer, err := client.ModelInfer(ctx, level(0.5))
	if err != nil || len(answer.GetRawOutputContents()) == 0 {
		t.Fatalf("%v, %v", answer, err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := client.ModelInfer(short, level(1)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a run of hours with a deadline: %v", err)
	}
	s.awaitIdle()

	cut := make(chan error, 1)
	go func() {
		_, err := client.ModelInfer(ctx, level(1))
		cut <- err
	}()
	s.awaitRun()
	must(t, s.process.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("still there 30 s after SIGTERM")
	}
	if err := <-cut; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("the run that was cut off: %v", err)
	}
	if code := s.process.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.log.String(), "grpc side were still going on") {
		t.Errorf("exit code %d", code)
	}
}

// mebibytes is a codec whose messages are that large, and take no memory.
type mebibytes int

func (mebibytes) Name() string { return "proto" }
func (n mebibytes) Marshal(any) (mem.BufferSlice, error) {
	return slices.Repeat(mem.BufferSlice{mem.SliceBuffer(make([]byte, 1<<20))}, int(n)), nil
}
func (mebibytes) Unmarshal(mem.BufferSlice, any) error { return nil }

// As is a request over REST that is turned away.
func TestCallsThatAreTurnedAwayAreCountedAndTold(t *testing.T) {
	w := newWorld(t)
	address := "127.0.0.1:" + freePort(t)
	s := w.serve(t.TempDir(), "--grpc-listen", address, "--max-requests", "1", "--slo", "1h")
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	client := inferencepb.NewGRPCInferenceServiceClient(conn)
	s.load(w, bundletest.Endless)
	counted := func(kind string, n int) {
		t.Helper()
		_, page := s.do("GET", s.admin+"/metrics", nil)
		if line := fmt.Sprintf(`penstock_failures_total{digest="none",kind="%s",model="none",slot="canary"} %d`, kind, n); !strings.Contains(string(page), line) {
			t.Errorf("no line %s", line)
		}
	}
	if _, err := client.ModelInfer(t.Context(), level(0.5), grpc.ForceCodecV2(mebibytes(257))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 257 MiB: %v", err)
	}
	counted("too_large", 1)
	s.told("kind=too_large", 1) // a line of its own: it has a request id
	for range 2 {
		if _, err := client.ModelReady(t.Context(), &inferencepb.ModelReadyRequest{Name: strings.Repeat("a", 100<<10)}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a question of 100 KiB: %v", err)
		}
	}
	counted("too_large", 3)
	s.told(`msg="turned away for a message that is too large" side=grpc requests=1`, 1)

	running, leave := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := client.ModelInfer(running, level(1))
		ended <- err
	}()
	s.awaitRun()
	for range 3 {
		if _, err := client.ModelInfer(t.Context(), level(0.5)); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("one more than may: %v", err)
		}
	}
	leave()
	<-ended
	counted("refused", 3)
	s.told(`msg="turned away for want of a place" side=grpc requests=1`, 1) // the others later, all at once
}
