package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
	"github.com/penstock-ml/penstock/serve/model"
)

// engine are the flags of every command that runs a model.
type engine struct {
	library  string
	profile  string
	threads  int
	provider string
	device   int
}

func (e *engine) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "onnxruntime", Usage: "`PATH` of libonnxruntime.so (default: PENSTOCK_ONNXRUNTIME, the one beside the program, the one in PENSTOCK_CACHE)", Destination: &e.library},
		&cli.StringFlag{Name: "profile", Usage: "`PROFILE`: throughput (one thread a run, a run for each CPU) or latency (all CPUs for one run after the other)", Value: model.Throughput, Destination: &e.profile},
		&cli.IntFlag{Name: "threads", Usage: "`NUMBER` of threads of one run (default: as the profile has it); as many runs go on at a time as the CPUs allow", Destination: &e.threads},
		&cli.StringFlag{Name: "provider", Usage: "`PROVIDER`: cpu or cuda; one that cannot be used is an error, no other takes its place", Value: "cpu", Destination: &e.provider},
		&cli.IntFlag{Name: "device", Usage: "`NUMBER` of the provider's device", Destination: &e.device},
	}
}

// start starts ONNX Runtime.
func (e *engine) start(env *action.Env) (*model.Runtime, error) {
	return e.startWith(env, model.Options{})
}

// startWith starts ONNX Runtime with options beside those of the flags.
func (e *engine) startWith(env *action.Env, o model.Options) (*model.Runtime, error) {
	o.Profile, o.Threads, o.Provider, o.Device = e.profile, e.threads, e.provider, e.device
	if err := o.Validate(); err != nil {
		return nil, verdict.Usage(fmt.Errorf("--profile, --threads, --provider, --device: %w", err))
	}
	library, err := model.FindLibrary(e.library, env.Getenv)
	if err != nil {
		return nil, err
	}
	o.Library = library
	runtime, err := model.Start(o)
	if err != nil {
		return nil, err
	}
	env.Logf("ONNX Runtime %s from %s, no telemetry: %s", runtime.Version(), library, runtime.Plan())
	return runtime, nil
}

func engineVariables() []action.Variable {
	return []action.Variable{
		{Name: "PENSTOCK_ONNXRUNTIME", Description: "path of libonnxruntime.so"},
		{Name: "PENSTOCK_CACHE", Description: "folder of downloads"},
	}
}

// modelCache is where bundles are kept once they are fetched.
func modelCache(env *action.Env) (string, error) {
	dir, err := workspace.CacheDir(env)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "models"), nil
}
