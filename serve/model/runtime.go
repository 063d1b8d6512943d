// Package model owns the running of a bundle: ONNX Runtime, the session, typed
// tensors in and out, the way from image bytes to scores, and the proof that
// the session computes what the training framework computed (the goldens).
//
// How many runs go on at a time is decided once, at start: callers x intra-op
// threads never exceed the CPUs, over all models. Tensors lie in pooled buffers
// from the wire to the runtime and back.
//
// Refused at start: a provider that is unknown, not in the library or without
// its device; there is no other one in its place. Refused at load: a graph
// whose inputs and outputs are not those that bundle.yaml names, element types
// without a fixed size, sequences and maps, goldens whose pixels or outputs
// differ, a graph that ONNX Runtime cannot open. Refused at run: pictures that
// imaging refuses (*imaging.Error) and tensors that do not fit (*InputError),
// the sender's faults; and, as a *RunError, every fault of the model itself,
// scores that are not finite among them.
package model

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sync/semaphore"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/batch"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/spread"
)

// Runtime is ONNX Runtime in this process: there is one. It bounds how many
// runs go on at a time, over all models.
type Runtime struct {
	plan     plan
	provider provider
	batch    batch.Options
	decoder  imaging.Decoder
	cpus     *semaphore.Weighted // a decode takes 1, a run the plan's threads; first come, first served
	spread   *spread.Spreader    // nil: runs begin wherever their threads are
	pool     *buffers.Pool
	version  string
}

// Options say how models run.
type Options struct {
	Library  string // path of libonnxruntime.so
	Profile  string // throughput or latency; empty: throughput
	Threads  int    // intra-op threads of a run; 0: as the profile has it
	CPUs     int    // 0: what the process may use, its cgroup's quota included
	Provider string // cpu or cuda; empty: cpu
	Device   int    // of the provider cuda
	Batch    BatchOptions
	Decoder  imaging.Decoder // of pictures; limits of zero stand for imaging.DefaultLimits
}

// BatchOptions say whether requests wait for each other to share a run. A Max
// of 0 is the provider's: on the CPU none, as a picture of a batch takes as long
// there as one alone; on cuda 8 within 2 ms. 1 is none.
type BatchOptions = batch.Options

// starting guards the one environment that ONNX Runtime has in a process.
var starting sync.Mutex

// Start loads ONNX Runtime and makes sure that the provider works. Telemetry is
// switched off before: calling its own function afterwards is too late.
func Start(o Options) (*Runtime, error) {
	p, err := planOf(o)
	if err != nil {
		return nil, err
	}
	chosen, err := providerOf(o)
	if err != nil {
		return nil, err
	}
	if o.Batch.Max == 0 && o.Provider == CUDA {
		o.Batch.Max, o.Batch.Delay = 8, 2*time.Millisecond
	}
	if err := o.Batch.Validate(); err != nil {
		return nil, err
	}
	if o.Decoder.Limits == (imaging.Limits{}) {
		o.Decoder.Limits = imaging.DefaultLimits
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
	makeMemoryReturnable()
	ort.SetSharedLibraryPath(o.Library)
	// Every error comes back as a value; it need not be printed as well.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return nil, fmt.Errorf("ONNX Runtime %s cannot be used (1.24 is the oldest that can): %w", o.Library, err)
	}
	r := &Runtime{
		plan: p, provider: chosen, batch: o.Batch, decoder: o.Decoder,
		cpus: semaphore.NewWeighted(int64(p.cpus)), pool: buffers.New(), version: ort.GetVersion(),
	}
	r.spreadRuns()
	if err := r.provider.guard(r.provider.probe); err != nil {
		return nil, errors.Join(fmt.Errorf("ONNX Runtime %s: %w", o.Library, err), ort.DestroyEnvironment())
	}
	return r, nil
}

// spreadRuns has runs begin on different CPUs, where each keeps one busy and
// several go on at a time.
func (r *Runtime) spreadRuns() {
	if r.provider.name != CPU || r.plan.threads > 1 || r.plan.callers == 1 {
		return
	}
	var err error
	if r.spread, err = spread.New(); err != nil {
		r.plan.text += fmt.Sprintf("; runs are not spread over the CPUs (%v)", err)
	}
}

// Version is that of the library, such as 1.30.0.
func (r *Runtime) Version() string { return r.version }

// Provider is the one that runs the models: cpu or cuda.
func (r *Runtime) Provider() string { return r.provider.name }

// Callers is how many runs go on at a time.
func (r *Runtime) Callers() int { return r.plan.callers }

// Threads is how many intra-op threads a run has.
func (r *Runtime) Threads() int { return r.plan.threads }

// CPUs is how many CPUs decoding and running share.
func (r *Runtime) CPUs() int { return r.plan.cpus }

// Plan says in a line how the CPUs are used and why.
func (r *Runtime) Plan() string {
	text := r.plan.text + "; provider " + r.provider.name
	if r.batch.On() {
		return text + fmt.Sprintf("; up to %d requests share a run, waiting %s at most", r.batch.Max, r.batch.Delay)
	}
	return text + "; no batching"
}

// Batch is how requests share runs; Max is 0 or 1 where they do not.
func (r *Runtime) Batch() BatchOptions { return r.batch }

// Buffers is the pool of the process: what a transport reads a tensor into is
// what the runtime takes.
func (r *Runtime) Buffers() *buffers.Pool { return r.pool }

// Close unloads ONNX Runtime. All models must be closed before.
func (r *Runtime) Close() error {
	starting.Lock()
	defer starting.Unlock()
	if err := ort.DestroyEnvironment(); err != nil {
		return fmt.Errorf("ONNX Runtime: %w", err)
	}
	return nil
}

// share waits for n of the CPUs. The caller gives them back by r.cpus.Release.
func (r *Runtime) share(ctx context.Context, n int) (waited time.Duration, err error) {
	began := time.Now()
	if r.cpus.Acquire(ctx, int64(n)) != nil {
		return time.Since(began), fmt.Errorf("waiting for a free CPU: %w", context.Cause(ctx))
	}
	return time.Since(began), nil
}
