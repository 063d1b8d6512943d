// Package model owns the running of a bundle: ONNX Runtime, the session, the
// way from image bytes to scores, and the proof that the session computes what
// the training framework computed (the goldens).
//
// Refused at load: a graph whose input and outputs are not those that
// bundle.yaml names, goldens whose pixels or scores differ, a graph that ONNX
// Runtime cannot open. Refused at run: pictures that imaging refuses
// (*imaging.Error, the sender's fault) and, as a *RunError, every fault of the
// model itself, scores that are not finite among them.
package model

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Runtime is ONNX Runtime in this process: there is one. It bounds how many
// runs go on at a time, over all models: callers x intra-op threads never
// exceed the CPUs.
type Runtime struct {
	threads int
	slots   chan struct{}
	version string
}

// Options say how models run.
type Options struct {
	Library string // path of libonnxruntime.so
	Threads int    // intra-op threads of a run; 1 gives the best throughput
	CPUs    int    // 0: what the process may use, its cgroup's limit included
}

// starting guards the one environment that ONNX Runtime has in a process.
var starting sync.Mutex

// Start loads ONNX Runtime. Telemetry is switched off before: calling its own
// function afterwards is too late.
func Start(o Options) (*Runtime, error) {
	if o.CPUs == 0 {
		o.CPUs = runtime.GOMAXPROCS(0)
	}
	if o.Threads < 1 || o.Threads > o.CPUs {
		return nil, fmt.Errorf("%d threads a run: want 1 to %d, the CPUs of this process", o.Threads, o.CPUs)
	}
	if _, err := os.Stat(o.Library); err != nil {
		return nil, fmt.Errorf("ONNX Runtime: %w: give the path of libonnxruntime.so by --onnxruntime or PENSTOCK_ONNXRUNTIME", err)
	}
	starting.Lock()
	defer starting.Unlock()
	if ort.IsInitialized() {
		return nil, errors.New("ONNX Runtime runs in this process already")
	}
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return nil, fmt.Errorf("ONNX Runtime: switch its telemetry off: %w", err)
	}
	ort.SetSharedLibraryPath(o.Library)
	// Every error comes back as a value; it need not be printed as well.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return nil, fmt.Errorf("ONNX Runtime %s cannot be used (1.24 is the oldest that can): %w", o.Library, err)
	}
	return &Runtime{threads: o.Threads, slots: make(chan struct{}, o.CPUs/o.Threads), version: ort.GetVersion()}, nil
}

// Version is that of the library, such as 1.30.0.
func (r *Runtime) Version() string { return r.version }

// Callers is how many runs go on at a time.
func (r *Runtime) Callers() int { return cap(r.slots) }

// Close unloads ONNX Runtime. All models must be closed before.
func (r *Runtime) Close() error {
	starting.Lock()
	defer starting.Unlock()
	if err := ort.DestroyEnvironment(); err != nil {
		return fmt.Errorf("ONNX Runtime: %w", err)
	}
	return nil
}

// slot waits for the right to use a share of the CPUs. The caller gives it
// back by the function it gets.
func (r *Runtime) slot(ctx context.Context) (release func(), err error) {
	select {
	case r.slots <- struct{}{}:
		return func() { <-r.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a free CPU: %w", context.Cause(ctx))
	}
}
