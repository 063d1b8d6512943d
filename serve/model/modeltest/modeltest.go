// Package modeltest starts ONNX Runtime for tests: once in a test binary, as
// there is one in a process. Package bundletest has the bundles to open with it.
package modeltest

import (
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/serve/model"
)

var (
	starting sync.Mutex
	started  *model.Runtime
	with     model.BatchOptions
)

// Runtime is ONNX Runtime with two CPUs and one thread a run, or the end of the
// test where it is missing.
func Runtime(t testing.TB) *model.Runtime {
	t.Helper()
	return Batching(t, model.BatchOptions{})
}

// Batching is Runtime with batches. A runtime is started anew where the last
// test's had other options; its models must be closed by then.
func Batching(t testing.TB, batch model.BatchOptions) *model.Runtime {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	if started != nil && with.Max == batch.Max && with.Delay == batch.Delay && with.Observe == nil && batch.Observe == nil {
		return started
	}
	if started != nil {
		last := started
		started = nil
		if err := last.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Start(model.Options{Threads: 1, CPUs: 2, Batch: batch})
	if err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	started, with = r, batch
	return r
}

// Start starts ONNX Runtime with options whose library is found. There must be
// no other.
func Start(o model.Options) (_ *model.Runtime, err error) {
	if o.Library, err = model.FindLibrary("", os.Getenv); err != nil {
		return nil, err
	}
	return model.Start(o)
}

// Stop unloads what Runtime started, for tests that start their own.
func Stop(t testing.TB) {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	if started == nil {
		return
	}
	last := started
	started = nil
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
}

// Open opens the bundle in dir and closes it when the test ends.
func Open(t testing.TB, r *model.Runtime, dir string) *model.Model {
	t.Helper()
	b, err := bundle.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(t.Context(), r, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil && !errors.Is(err, model.ErrClosed) {
			t.Error(err)
		}
	})
	return m
}
