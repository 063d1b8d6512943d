package model

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

func TestProvidersAreNeverGuessed(t *testing.T) {
	for text, o := range map[string]Options{
		`provider "tpu"`: {Provider: "tpu"}, `provider "CPU"`: {Provider: "CPU"},
		"device 1": {Provider: CPU, Device: 1}, "device -1": {Provider: CUDA, Device: -1},
	} {
		if _, err := providerOf(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if err := (provider{name: CPU}).probe(); err != nil {
		t.Error(err)
	}
	if p, err := providerOf(Options{}); err != nil || p.name != CPU {
		t.Errorf("%+v, %v", p, err)
	}
}

// profiled is what ONNX Runtime 1.30 writes, shortened.
const profiled = `[
{"cat":"Session","dur":9,"name":"model_run","args":{}},
{"cat":"Node","name":"conv1_fence_before","args":{"op_name":"Conv"}},
{"cat":"Node","name":"conv1_kernel_time","args":{"op_name":"Conv","provider":"CUDAExecutionProvider","output_type_shape":[{"float":[1,64,56,56]}]}},
{"cat":"Node","name":"shape_kernel_time","args":{"op_name":"Gather","provider":"CPUExecutionProvider","output_type_shape":[{"int64":[]}]}},
{"cat":"Node","name":"gemm_kernel_time","args":{"op_name":"Gemm","provider":"LAST","output_type_shape":[{"float16":[1,14]}]}}
]`

func TestWhereTheGraphRunsIsReadFromItsProfile(t *testing.T) {
	read := func(last string) []placed {
		nodes, err := parseProfile([]byte(strings.Replace(profiled, "LAST", last, 1)))
		if err != nil || len(nodes) != 3 || nodes[0].Name != "conv1" {
			t.Fatalf("got %+v, %v", nodes, err)
		}
		return nodes
	}
	placement, err := judge(read("CUDAExecutionProvider"), CUDA)
	if err != nil || placement != "1 nodes on CPUExecutionProvider, 2 nodes on CUDAExecutionProvider" {
		t.Errorf("got %q, %v", placement, err)
	}
	if _, err := judge(read("CPUExecutionProvider"), CUDA); err == nil || !strings.Contains(err.Error(), `"gemm" (Gemm) runs on CPUExecutionProvider`) {
		t.Errorf("a node that fell back: %v", err)
	}
	if _, err := judge(nil, CUDA); err == nil {
		t.Error("a graph of which nothing ran is taken")
	}
	if _, err := parseProfile([]byte(`[{"cat":`)); err == nil {
		t.Error("half a profile was read")
	}
}

// action is the kernel's struct sigaction.
type action struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

func sigaction(t *testing.T, s syscall.Signal, set, get *action) {
	t.Helper()
	if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 8, 0, 0); e != 0 {
		t.Fatal(e)
	}
}

// TestSignalsAreStillGosAfterALibraryTookThem does what CUDA does while it
// starts: it puts a handler of its own in the place of Go's.
func TestSignalsAreStillGosAfterALibraryTookThem(t *testing.T) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	var before, after action
	sigaction(t, syscall.SIGUSR1, nil, &before)
	err := provider{name: CUDA}.guard(func() error {
		const ignore = 1 // SIG_IGN
		sigaction(t, syscall.SIGUSR1, &action{handler: ignore}, nil)
		return os.ErrClosed
	})
	if err != os.ErrClosed {
		t.Errorf("got %v", err)
	}
	sigaction(t, syscall.SIGUSR1, nil, &after)
	if after.handler != before.handler || after.flags != before.flags || after.mask != before.mask {
		t.Errorf("the handler is %+v, it was %+v", after, before)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c:
	case <-time.After(5 * time.Second):
		t.Fatal("the signal does not come through")
	}
}
