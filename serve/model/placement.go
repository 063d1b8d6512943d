package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/bundle"
)

// placed is a node of the graph that ran, as ONNX Runtime's profile has it.
type placed struct {
	Name, Op, Provider string
	Outputs            []string // element types, such as float
}

// executionProviders are ONNX Runtime's names.
var executionProviders = map[string]string{CPU: "CPUExecutionProvider", CUDA: "CUDAExecutionProvider"}

// checkProvider makes sure that the graph runs where it was asked to: nodes
// that a provider cannot run go to the CPU without a word. The CPU has nowhere
// else to go; for cuda, a session of its own runs a golden with profiling.
func (m *Model) checkProvider(ctx context.Context, e example) error {
	m.placement = "all nodes on " + executionProviders[CPU]
	if m.runtime.provider.name == CPU {
		return nil
	}
	nodes, err := m.profile(ctx, e)
	if err != nil {
		return fmt.Errorf("see where the graph runs: %w", err)
	}
	m.placement, err = judge(nodes, m.runtime.provider.name)
	return err
}

// profile runs a golden and gives the nodes that ran.
func (m *Model) profile(ctx context.Context, e example) (_ []placed, err error) {
	dir, err := os.MkdirTemp("", "penstock-profile-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := openSession(m.runtime, m.bundle.Path(bundle.ModelFile), m.inputs, m.outputs, filepath.Join(dir, "run"))
	if err != nil {
		return nil, err
	}
	s.scale = m.session.scale
	r, err := s.run(ctx, e.inputs)
	if err == nil {
		r.Release()
	}
	if err := errors.Join(err, s.destroy()); err != nil { // destroy writes the profile
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "run*.json"))
	if err != nil || len(files) != 1 {
		return nil, errors.Join(err, fmt.Errorf("ONNX Runtime wrote %d profiles, want 1", len(files)))
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	return parseProfile(data)
}

// parseProfile reads the events of category Node that name a provider: one for
// each node that ran, with the element types of its outputs.
func parseProfile(data []byte) ([]placed, error) {
	var events []struct {
		Category string `json:"cat"`
		Name     string `json:"name"`
		Args     struct {
			Op       string                       `json:"op_name"`
			Provider string                       `json:"provider"`
			Outputs  []map[string]json.RawMessage `json:"output_type_shape"`
		} `json:"args"`
	}
	if err := json.Unmarshal(data, &events); err != nil {
		return nil, fmt.Errorf("ONNX Runtime's profile: %w", err)
	}
	var nodes []placed
	for _, e := range events {
		if e.Category != "Node" || e.Args.Provider == "" {
			continue
		}
		n := placed{Name: strings.TrimSuffix(e.Name, "_kernel_time"), Op: e.Args.Op, Provider: e.Args.Provider}
		for _, output := range e.Args.Outputs {
			n.Outputs = slices.AppendSeq(n.Outputs, maps.Keys(output))
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// judge wants all of the computation on the provider. ONNX Runtime keeps the
// arithmetic of shapes on the CPU on purpose: it is in integers and booleans,
// so a node elsewhere that gives floating-point numbers is a mismatch.
func judge(nodes []placed, provider string) (placement string, err error) {
	want := executionProviders[provider]
	counts := map[string]int{}
	for _, n := range nodes {
		counts[n.Provider]++
		computes := slices.ContainsFunc(n.Outputs, func(t string) bool {
			return strings.Contains(t, "float") || t == "double"
		})
		if n.Provider != want && computes {
			return "", fmt.Errorf("the graph does not run on %s alone: its node %q (%s) runs on %s; export it with operators that %s has, or ask for --provider %s",
				want, n.Name, n.Op, n.Provider, want, CPU)
		}
	}
	if counts[want] == 0 {
		return "", fmt.Errorf("none of the graph's %d nodes runs on %s", len(nodes), want)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d nodes on %s", counts[name], name))
	}
	return strings.Join(parts, ", "), nil
}
