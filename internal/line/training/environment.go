package training

import (
	"slices"
	"strings"
)

// The trainer's environment is a list of what may pass, not of what may not: a
// trainer is other people's code, and its dependencies' code.
var (
	allowedNames      = []string{"PATH", "HOME", "LANG"}
	allowedPrefixes   = []string{"CUDA_"}
	forbiddenPrefixes = []string{"AWS_", "MLFLOW_", "GITHUB_", "ACTIONS_", "INPUT_", "PENSTOCK_"}
)

// Names of the variables that the contract gives to a trainer.
const (
	EnvDataset     = "PENSTOCK_DATASET"
	EnvOutput      = "PENSTOCK_OUTPUT"
	EnvCheckpoints = "PENSTOCK_CHECKPOINTS"
	EnvParams      = "PENSTOCK_PARAMS"
	EnvSeed        = "PENSTOCK_SEED"
	EnvEvents      = "PENSTOCK_EVENTS"
)

func forbidden(name string) bool {
	return slices.ContainsFunc(forbiddenPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

func allowed(name string, extra []string) bool {
	if slices.Contains(allowedNames, name) ||
		slices.ContainsFunc(allowedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return true
	}
	return slices.Contains(extra, name) && !forbidden(name)
}

// Environment picks from parent (a list of NAME=value) what a trainer may see,
// and adds the contract's own variables. The PENSTOCK_* names of the parent,
// tokens among them, do not pass: only those given here do.
func Environment(parent, extra []string, given map[string]string) []string {
	var env []string
	for _, kv := range parent {
		if name, _, ok := strings.Cut(kv, "="); ok && allowed(name, extra) {
			env = append(env, kv)
		}
	}
	for name, value := range given {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}
