package model

import (
	_ "embed" // the graph that tries a provider
	"errors"
	"fmt"
	"slices"
	"strconv"

	ort "github.com/yalue/onnxruntime_go"
)

// Providers are the names of what can run a model.
var Providers = []string{CPU, CUDA}

const (
	CPU  = "cpu"
	CUDA = "cuda"
)

// provider is the one that was asked for. There is no other in its place.
type provider struct {
	name   string
	device int
}

func providerOf(o Options) (provider, error) {
	name := o.Provider
	if name == "" {
		name = CPU
	}
	if !slices.Contains(Providers, name) {
		return provider{}, fmt.Errorf("provider %q: want one of %q", name, Providers)
	}
	if o.Device < 0 || name == CPU && o.Device != 0 {
		return provider{}, fmt.Errorf("device %d of the provider %s: want 0 for cpu, the number of a GPU for cuda", o.Device, name)
	}
	return provider{name, o.Device}, nil
}

// appendTo makes sessions with these options run on the provider. cpu is what
// they have by themselves.
func (p provider) appendTo(options *ort.SessionOptions) error {
	if p.name == CPU {
		return nil
	}
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return p.missing(err)
	}
	defer cuda.Destroy()
	// TF32, ONNX Runtime's default, leaves 10 bits of what float32 has 23 of:
	// goldens and heat maps could not be held to what the CPU is held to.
	if err := cuda.Update(map[string]string{"device_id": strconv.Itoa(p.device), "use_tf32": "0"}); err != nil {
		return p.missing(err)
	}
	if err := options.AppendExecutionProviderCUDA(cuda); err != nil {
		return p.missing(err)
	}
	return nil
}

// missing says what cuda wants.
func (p provider) missing(err error) error {
	return fmt.Errorf("the provider cuda, device %d, cannot be used: %w: it wants an NVIDIA GPU with its driver, CUDA 12 or 13 with cuDNN 9 on the library path, and a libonnxruntime.so built for GPUs with libonnxruntime_providers_cuda.so beside it (the wheel onnxruntime-gpu has both); or ask for --provider cpu", p.device, err)
}

// guard calls f, which may load what overwrites the process's signal handlers.
func (p provider) guard(f func() error) error {
	if p.name == CPU {
		return f()
	}
	return keepSignals(f)
}

//go:embed probe.onnx
var probeGraph []byte

// probe makes sure that the library has the provider and that its device runs a
// graph of one node. Where a model's nodes run is seen when it is loaded.
func (p provider) probe() (err error) {
	if p.name == CPU {
		return nil
	}
	return p.try()
}

func (p provider) try() (err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	if err := p.appendTo(options); err != nil {
		return err
	}
	session, err := ort.NewDynamicAdvancedSessionWithONNXData(probeGraph, []string{"x"}, []string{"y"}, options)
	if err != nil {
		return p.missing(err)
	}
	defer func() { err = errors.Join(err, session.Destroy()) }()
	x, err := ort.NewTensor(ort.NewShape(1), []float32{2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Destroy()) }()
	y := []ort.Value{nil}
	if err := session.Run([]ort.Value{x}, y); err != nil {
		return p.missing(err)
	}
	return y[0].Destroy()
}
