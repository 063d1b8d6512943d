// Package modeltest starts ONNX Runtime for tests: once in a test binary, as
// there is one in a process.
package modeltest

import (
	"os"
	"sync"
	"testing"

	"github.com/penstock-ml/penstock/serve/model"
)

var start = sync.OnceValues(func() (*model.Runtime, error) {
	library, err := model.FindLibrary("", os.Getenv)
	if err != nil {
		return nil, err
	}
	return model.Start(model.Options{Library: library, Threads: 1, CPUs: 2})
})

// Runtime is ONNX Runtime, or the end of the test where it is missing.
func Runtime(t testing.TB) *model.Runtime {
	t.Helper()
	r, err := start()
	if err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	return r
}
