package model_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// TestCUDAThatIsNotThereRefusesToStart runs on machines without a GPU, or with
// the library for CPUs alone, which is what set-up installs.
func TestCUDAThatIsNotThereRefusesToStart(t *testing.T) {
	modeltest.Stop(t)
	r, err := modeltest.Start(model.Options{Provider: model.CUDA, CPUs: 2})
	if err == nil {
		must(t, r.Close())
		t.Fatal("started")
	}
	t.Log(err)
	for _, text := range []string{"cuda", "device 0", "libonnxruntime_providers_cuda.so", "--provider cpu"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is missing in: %v", text, err)
		}
	}
	// nothing is left of it
	if got := modeltest.Runtime(t).Provider(); got != model.CPU {
		t.Errorf("runs on %s", got)
	}
}

func TestTheProviderInUseIsReported(t *testing.T) {
	m := load(t, bundletest.Mean)
	if m.Provider() != model.CPU || m.Batches() || !strings.Contains(modeltest.Runtime(t).Plan(), "no batching") || !strings.Contains(m.Placement(), "CPUExecutionProvider") || !strings.Contains(modeltest.Runtime(t).Plan(), "provider cpu") {
		t.Errorf("provider %q, placement %q, plan %q", m.Provider(), m.Placement(), modeltest.Runtime(t).Plan())
	}
}

// TestAGraphOnTheWrongProviderIsFound reads the profile that this ONNX Runtime
// really writes.
func TestAGraphOnTheWrongProviderIsFound(t *testing.T) {
	m := load(t, bundletest.Mean)
	placement, err := m.JudgeFor(t.Context(), model.CPU)
	if err != nil || !strings.Contains(placement, "nodes on CPUExecutionProvider") {
		t.Errorf("got %q, %v", placement, err)
	}
	if _, err := m.JudgeFor(t.Context(), model.CUDA); err == nil || !strings.Contains(err.Error(), "runs on CPUExecutionProvider") || !strings.Contains(err.Error(), "--provider cpu") {
		t.Errorf("got %v", err)
	}
}

// TestARunThatGoesOnForLongStopsWithItsCaller cancels runs that would take
// hours, one that a client left and one whose deadline has come.
func TestARunThatGoesOnForLongStopsWithItsCaller(t *testing.T) {
	for name, batching := range map[string]model.BatchOptions{"alone": {}, "in a batch": {Max: 4, Delay: time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			m := modeltest.Open(t, modeltest.Batching(t, batching), bundletest.New(t, bundletest.Endless))
			bright := make([]float32, 64)
			for i := range bright {
				bright[i] = 1
			}
			input := []oip.Tensor{{Name: "input", Datatype: oip.FP32, Shape: []int64{1, 1, 8, 8}, Data: oip.Bytes(bright)}}
			leave := func() time.Duration {
				ctx, cancel := context.WithCancelCause(t.Context())
				gone, left := errors.New("the client is gone"), make(chan time.Time, 1)
				time.AfterFunc(200*time.Millisecond, func() { left <- time.Now(); cancel(gone) })
				if _, err := m.Infer(ctx, input, nil); !errors.Is(err, gone) {
					t.Errorf("a client that left: %v", err)
				}
				return time.Since(<-left)
			}
			expire := func() time.Duration {
				deadline := time.Now().Add(200 * time.Millisecond)
				ctx, cancel := context.WithDeadline(t.Context(), deadline)
				defer cancel()
				if _, err := m.Infer(ctx, input, nil); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a deadline: %v", err)
				}
				return time.Since(deadline)
			}
			for what, stop := range map[string]func() time.Duration{"a client that left": leave, "a deadline": expire} {
				// the machine may be busy with other tests: one of three must do
				took := min(stop(), stop(), stop())
				t.Logf("%s: stopped after %s", what, took)
				if took > 100*time.Millisecond {
					t.Errorf("%s: stopped after %s", what, took)
				}
			}
			// the CPU is free again: a batch's run ends behind its caller
			began := time.Now()
			if _, err := m.Predict(t.Context(), bundletest.Picture(t, 20, 20, 100)); err != nil || time.Since(began) > 10*time.Second {
				t.Errorf("the next picture: %v after %s", err, time.Since(began))
			}
		})
	}
}

// resident is the resident memory of this process in bytes, without Go's
// garbage, which the runtime gives back in its own time.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/status")
	must(t, err)
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kB, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
			must(t, err)
			return kB << 10
		}
	}
	t.Fatal("no VmRSS in /proc/self/status")
	return 0
}

func TestFiftyModelsLeaveNoMemoryBehind(t *testing.T) {
	row := bundletest.Floats(make([]float32, 1024), 1, 1024)
	dir := bundletest.Tensor(t, graphFile(t, "weights.onnx"), []bundletest.Golden{{Inputs: []bundletest.Array{row}, Outputs: []bundletest.Array{row}}})
	b, err := bundle.Read(dir)
	must(t, err)
	r := modeltest.Runtime(t)
	var early int
	for i := range 50 {
		m, err := model.Open(t.Context(), r, b)
		must(t, err)
		must(t, m.Close())
		if i == 9 {
			early = resident(t)
		}
	}
	// the weights alone are 4 MiB; 40 models would be 160
	late := resident(t)
	t.Logf("%d MiB after 10 models, %d MiB after 50", early>>20, late>>20)
	if late > early+8<<20 {
		t.Errorf("%d MiB are resident after 50 models, %d MiB were after 10", late>>20, early>>20)
	}
}
