// Package layering holds the repository's rules about itself, as tests: which
// package may import which, what the toolkit never links, and what no file may
// contain.
package layering

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/penstock-ml/penstock/"

// table says what each package may import directly from this module. Every
// package may import internal/verdict beside it. A path that ends in /* allows
// all packages below it. Test files are not held to it. A new package gets a
// row here and in ARCHITECTURE.md.
var table = map[string][]string{
	// What several stand on.
	"internal/verdict":         {},
	"internal/action":          {},
	"internal/admission":       {},
	"internal/bundle":          {},
	"internal/imaging":         {},
	"internal/journal":         {},
	"internal/oip":             {},
	"internal/oip/inferencepb": {},
	"internal/openloop":        {},
	"internal/predictions":     {},
	"internal/stat":            {},

	// The stages, in the order of the loop.
	"internal/line/intake":     {"internal/journal"},
	"internal/line/dataset":    {"internal/imaging", "internal/stat", "internal/journal"},
	"internal/line/training":   {"internal/bundle", "internal/line/dataset"},
	"internal/line/evaluation": {"internal/predictions", "internal/stat"},
	"internal/line/gate":       {"internal/line/evaluation", "internal/stat"},
	"internal/line/registry":   {"internal/bundle", "internal/journal"},
	"internal/line/split":      {},
	"internal/line/deployment": {"internal/bundle", "internal/line/split"},
	"internal/line/loadtest":   {"internal/oip", "internal/openloop", "internal/stat"},
	"internal/line/rollout":    {"internal/journal", "internal/stat", "internal/line/split", "internal/line/deployment"},
	"internal/line/traffic":    {"internal/oip", "internal/openloop", "internal/stat"},
	"internal/line/report":     {"internal/line/*"},

	// One package for each outside system: it speaks the types of the stages.
	"internal/outside/git":         {"internal/line/*"},
	"internal/outside/github":      {"internal/line/*"},
	"internal/outside/haproxy":     {"internal/line/*"},
	"internal/outside/mlflow":      {"internal/line/*"},
	"internal/outside/objectstore": {"internal/journal", "internal/line/*"},
	"internal/outside/webhook":     {"internal/line/*"},

	// What the commands open and wire.
	"internal/project":   {"internal/bundle", "internal/line/*"},
	"internal/workspace": {"internal/action", "internal/journal", "internal/outside/objectstore", "internal/project"},

	// What init lays into a repository: the project's own files, and how.
	"github.com/penstock-ml/penstock": {},
	"internal/scaffold":               {},

	// The server: toolkit and server meet on the wire, in the bundle and in the
	// predictions file.
	"serve/batch":        {},
	"serve/buffers":      {},
	"serve/spread":       {},
	"serve/model":        {"internal/bundle", "internal/imaging", "internal/oip", "serve/buffers", "serve/batch", "serve/graph", "serve/spread"},
	"serve/admission":    {},
	"serve/remote":       {},
	"serve/access":       {"internal/oip"},
	"serve/turbojpeg":    {},
	"serve/resample":     {"internal/imaging"},
	"serve/metrics":      {},
	"serve/page":         {},
	"serve/logline":      {},
	"serve/measure":      {"internal/openloop", "internal/stat"},
	"serve/variants":     {"internal/bundle", "internal/stat", "serve/measure", "serve/model"},
	"serve/graph":        {"internal/oip", "serve/graph/onnxpb"},
	"serve/graph/onnxpb": {},
	"serve/explain":      {"internal/imaging"},
	"serve/tile":         {"internal/bundle", "internal/imaging", "internal/oip", "serve/graph", "serve/model", "serve/service"},
	"serve/service":      {"internal/bundle", "internal/imaging", "internal/oip", "serve/*"},
	"serve/replay":       {"internal/oip"},
	"serve/host":         {"internal/bundle", "internal/oip", "serve/metrics", "serve/model", "serve/replay"},
	"serve/rpc":          {"internal/oip", "internal/oip/inferencepb", "serve/buffers", "serve/service"},
	"serve/api":          {"internal/imaging", "internal/oip", "serve/*"},
	"serve/admin":        {"internal/bundle", "internal/oip", "serve/host"},

	// The laptop: only penstock-dev and tests.
	"internal/dev/actrun":      {"internal/dev/process"},
	"internal/dev/hub":         {"internal/dev/actrun", "internal/dev/hub/*"},
	"internal/dev/hub/openapi": {},
	"internal/dev/hub/trigger": {},
	"internal/dev/logtest":     {},
	"internal/dev/process":     {},
	"internal/dev/servertest":  {"internal/dev/process"},
	"internal/dev/stack":       {"internal/dev/process", "internal/outside/*"},
	"internal/dev/demo":        {"internal/dev/*", "internal/bundle", "internal/project", "internal/line/*", "internal/outside/*"},

	// Helpers that only tests import.
	"internal/action/actiontest":           {"internal/action"},
	"internal/bundle/bundletest":           {"internal/bundle", "internal/imaging"},
	"internal/layering":                    {},
	"internal/outside/haproxy/haproxytest": {"internal/outside/haproxy", "internal/dev/*"},
	"serve/model/modeltest":                {"internal/bundle", "serve/model"},

	// The programs.
	"cmd/penstock": {
		"internal/action", "internal/admission", "internal/bundle", "internal/imaging", "internal/journal", "internal/openloop",
		"internal/predictions", "internal/project", "internal/scaffold", "internal/workspace", "internal/line/*", "internal/outside/*",
	},
	"cmd/penstock-serve": {
		"internal/action", "internal/bundle", "internal/imaging", "internal/journal", "internal/oip", "internal/oip/*", "internal/predictions",
		"internal/project", "internal/workspace", "internal/line/dataset", "internal/line/evaluation", "internal/line/gate", "internal/outside/objectstore", "serve/*",
	},
	"cmd/penstock-dev": {"internal/dev/*"},

	"tests/audit":     {},
	"tests/bench":     {"internal/bundle", "internal/dev/process"},
	"tests/loop":      {},
	"tests/oip":       {},
	"tests/workflows": {},
	"tests/xray":      {},
}

// order is that of the stages round the loop; split is what deployment and
// rollout both speak of. A stage imports only what comes before it: storage
// closes the loop, imports never do.
var order = []string{
	"intake", "dataset", "training", "evaluation", "gate", "registry", "split", "deployment", "loadtest", "rollout", "traffic", "report",
}

// listed is the part of go list's JSON that the tests read.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	CgoFiles   []string
}

// list runs go list in the repository's root. cgo says for which build.
func list(t *testing.T, cgo string, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Standard,Imports,CgoFiles"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list %v: %v", args, err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatalf("go list %v found no package", args)
	}
	return packages
}

// within gives the imports that belong to the module, shortened.
func within(imports []string) []string {
	var short []string
	for _, i := range imports {
		if rest, ok := strings.CutPrefix(i, module); ok {
			short = append(short, rest)
		}
	}
	return short
}

func allowed(importer, imported string) bool {
	if imported == "internal/verdict" {
		return true
	}
	return slices.ContainsFunc(table[importer], func(pattern string) bool {
		below, all := strings.CutSuffix(pattern, "*")
		return pattern == imported || all && strings.HasPrefix(imported, below)
	})
}

func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	found := map[string]bool{}
	for _, p := range list(t, "1", "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		found[name] = true
		if _, known := table[name]; !known {
			t.Errorf("package %s is not in the table: give it a row here and in ARCHITECTURE.md", name)
			continue
		}
		for _, i := range within(p.Imports) {
			if !allowed(name, i) {
				t.Errorf("%s imports %s, which its row does not allow: let it take a small interface of its own, or move the type", name, i)
			}
		}
	}
	for name := range table {
		if !found[name] {
			t.Errorf("the table has a row for %s, which does not exist", name)
		}
	}
}

func TestStagesImportOnlyEarlierStages(t *testing.T) {
	const line = "internal/line/"
	for _, p := range list(t, "1", "./"+line+"...") {
		stage := strings.TrimPrefix(p.ImportPath, module+line)
		at := slices.Index(order, stage)
		if at < 0 {
			t.Errorf("stage %s has no place in the order of the loop: give it one", stage)
		}
		for _, i := range within(p.Imports) {
			earlier, isStage := strings.CutPrefix(i, line)
			if isStage && slices.Index(order, earlier) >= at {
				t.Errorf("stage %s imports %s, which comes after it: the imports would close the loop", stage, earlier)
			}
			if strings.HasPrefix(i, "internal/outside/") {
				t.Errorf("stage %s imports %s: a stage states an interface and cmd wires the outside to it", stage, i)
			}
		}
	}
}

func TestOutsidePackagesNeverImportEachOther(t *testing.T) {
	const outside = "internal/outside/"
	system := func(below string) string {
		name, _, _ := strings.Cut(below, "/")
		return name
	}
	for _, p := range list(t, "1", "./"+outside+"...") {
		own := system(strings.TrimPrefix(p.ImportPath, module+outside))
		for _, i := range within(p.Imports) {
			if other, is := strings.CutPrefix(i, outside); is && system(other) != own {
				t.Errorf("%s imports %s", strings.TrimPrefix(p.ImportPath, module), i)
			}
		}
	}
}

// The toolkit is one static binary: what it links decides where it runs.
func TestToolkitNeverReachesCgoONNXRuntimeOrTheLaptop(t *testing.T) {
	for _, p := range list(t, "0", "-deps", "./cmd/penstock") {
		short := strings.TrimPrefix(p.ImportPath, module)
		switch {
		case p.ImportPath == "runtime/cgo", p.ImportPath == "C",
			strings.Contains(p.ImportPath, "onnxruntime"),
			strings.HasPrefix(short, "internal/dev/"), strings.HasPrefix(short, "serve/"):
			t.Errorf("cmd/penstock reaches %s", p.ImportPath)
		}
	}
	for _, p := range list(t, "1", "-deps", "./cmd/penstock") {
		if !p.Standard && len(p.CgoFiles) > 0 {
			t.Errorf("cmd/penstock reaches %s, which uses cgo: %v", p.ImportPath, p.CgoFiles)
		}
	}
}

// cgo has one home, so that one place knows about C's memory.
func TestOnlyTheServersModelPackageReachesONNXRuntime(t *testing.T) {
	home := module + "serve/model"
	reached := false
	for _, p := range list(t, "1", "./...") {
		if slices.ContainsFunc(p.Imports, func(i string) bool { return strings.Contains(i, "onnxruntime") }) {
			reached = reached || p.ImportPath == home
			if p.ImportPath != home {
				t.Errorf("%s imports ONNX Runtime: only serve/model does", p.ImportPath)
			}
		}
		if len(p.CgoFiles) > 0 && !strings.HasPrefix(p.ImportPath, module+"serve/") {
			t.Errorf("%s uses cgo in %v: only packages below serve/ do", p.ImportPath, p.CgoFiles)
		}
	}
	if !reached {
		t.Error("serve/model does not import ONNX Runtime: this test looks at the wrong place")
	}
}

func TestTableAllowsNothingThatHasNoRow(t *testing.T) {
	for name, imports := range table {
		for _, i := range imports {
			if strings.HasSuffix(i, "/*") {
				continue
			}
			if _, known := table[i]; !known {
				t.Errorf("%s may import %s, which has no row of its own", name, i)
			}
		}
		if path.Clean(name) != name {
			t.Errorf("row %q is no clean path", name)
		}
	}
}
