package model_test

import (
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/graph"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

// cam claims that the map is one; twice has the server apply a second sigmoid,
// so that it is none.
func cam(m *bundle.Manifest)   { m.Outputs.HeatmapMethod = "cam" }
func twice(m *bundle.Manifest) { m.Outputs.Activation = "sigmoid" }

func TestAClassActivationMapIsFoundAtLoad(t *testing.T) {
	alone := func(m *bundle.Manifest) { m.Goldens = m.Goldens[:1] }
	shift := func(m *bundle.Manifest) { m.Outputs.HeatmapShift = bundle.Shift{Down: 0.5, Right: -0.25} }
	for name, c := range map[string]struct {
		changes []func(*bundle.Manifest)
		method  string
		shift   bundle.Shift
	}{
		"as trained":                   {nil, "cam", bundle.Shift{}},
		"recorded":                     {[]func(*bundle.Manifest){cam, shift}, "cam", bundle.Shift{Down: 0.5, Right: -0.25}},
		"of another kind":              {[]func(*bundle.Manifest){twice}, "", bundle.Shift{}},
		"one golden tells nothing":     {[]func(*bundle.Manifest){alone}, "", bundle.Shift{}},
		"one golden, but the manifest": {[]func(*bundle.Manifest){alone, cam}, "cam", bundle.Shift{}},
		"no map":                       {[]func(*bundle.Manifest){func(m *bundle.Manifest) { m.Outputs.Heatmap = "" }}, "", bundle.Shift{}},
	} {
		m, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, bundletest.New(t, bundletest.Mean, c.changes...)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h := m.Heatmap(); h.Method != c.method || h.Shift != c.shift || h.Difference > graph.Exact {
			t.Errorf("%s: %+v, want %q shifted by %v", name, h, c.method, c.shift)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestABundleThatClaimsAClassActivationMapItHasNotIsRefused(t *testing.T) {
	_, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, bundletest.New(t, bundletest.Mean, cam, twice)))
	if err == nil || !strings.Contains(err.Error(), `output "heatmap" is a class activation map`) || !strings.Contains(err.Error(), "inspect --add-cam") {
		t.Errorf("got %v", err)
	}
}
