package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/variants"
)

// optimizing is a world with a model that costs more than it must, and a data
// set on which it is always right.
type optimizing struct {
	*world
	python, script string
	parent, data   string
}

func newOptimizing(t *testing.T) optimizing {
	t.Helper()
	w := optimizing{world: newWorld(t)}
	var err error
	w.python, err = process.Cached("mlflow/bin/python")
	must(t, err)
	w.script, err = filepath.Abs("testdata/variants.py")
	must(t, err)
	dir := bundletest.New(t, bundletest.Mean)
	cmd := exec.Command(w.python, w.script, "waste", "--bundle", dir, "--out", filepath.Join(dir, bundle.ModelFile))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.parent, w.data = w.publishDir(dir), w.uploadSeparable()
	w.policy("variant_tolerance: 0.05", "variant_tolerance: 0.45")
	w.policy("{positive_groups: 5, negative_groups: 20, labels: 8, max_degenerate: 0.02}", "{positive_groups: 5, negative_groups: 5, labels: 2, max_degenerate: 0.5}")
	return w
}

// policy changes the project's file.
func (w optimizing) policy(from, to string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "penstock.yaml")
	data, err := os.ReadFile(path)
	must(w.t, err)
	if !strings.Contains(string(data), from) {
		w.t.Fatalf("the project's file has no %q", from)
	}
	must(w.t, os.WriteFile(path, []byte(strings.Replace(string(data), from, to, 1)), 0o600))
}

// uploadSeparable is a data set whose bright pictures have a nodule and whose
// dark ones an effusion, which is just what the model says.
func (w optimizing) uploadSeparable() string {
	w.t.Helper()
	var rows []dataset.Row
	for i := range 47 {
		picture := bundletest.Picture(w.t, 30, 40, uint8(5*i))
		pixels, err := imaging.Preprocess(picture, bundletest.Spec, imaging.DefaultLimits)
		must(w.t, err)
		processed, err := pixels.PNG()
		must(w.t, err)
		sum := sha256.Sum256(picture)
		row := dataset.Row{
			File: fmt.Sprintf("b1/%02d.png", i), SHA256: hex.EncodeToString(sum[:]), Pipeline: bundletest.Spec.Pipeline(),
			Group: fmt.Sprint("p", i), Batch: "b1", Split: dataset.Test, Labels: []string{"Effusion"}, Slices: map[string]string{},
		}
		if i%7 == 3 {
			row.Split = dataset.Train // 7 of them
		}
		if i > 23 {
			row.Labels = []string{"Nodule"}
		}
		must(w.t, w.bucket.UploadBytes(w.t.Context(), row.Processed(), processed))
		rows = append(rows, row)
	}
	manifest, err := dataset.EncodeManifest(rows)
	must(w.t, err)
	sum := sha256.Sum256(manifest)
	digest := hex.EncodeToString(sum[:])
	described, err := json.Marshal(dataset.Dataset{
		Schema: dataset.Schema, Digest: digest, Pipeline: bundletest.Spec.Pipeline(), Labels: []string{"Effusion", "Nodule"},
	})
	must(w.t, err)
	must(w.t, w.bucket.UploadBytes(w.t.Context(), "datasets/"+digest+"/manifest.jsonl", manifest))
	must(w.t, w.bucket.UploadBytes(w.t.Context(), "datasets/"+digest+"/dataset.json", described))
	return digest
}

// optimize runs the command with a script's word, and gives what it left.
func (w optimizing) optimize(script string, more ...string) (int, string, verdict.Result) {
	w.t.Helper()
	file := filepath.Join(w.dir, "optimize.json")
	args := append([]string{
		"optimize", "--model", w.parent, "--dataset", w.data, "--script", script, "--calibration", "9",
		"--duration", "400ms", "--round", "20ms", "--result", file, "--out", w.out(),
	}, more...)
	code, out := w.run(args...)
	r, err := verdict.Load(file)
	must(w.t, err)
	return code, out, r
}

func (w optimizing) out() string { return filepath.Join(w.dir, "variant") }

// kept lists the bundles in the bucket beside the parent.
func (w optimizing) kept() []string {
	w.t.Helper()
	objects, err := w.bucket.List(w.t.Context(), "models/")
	must(w.t, err)
	var digests []string
	for _, o := range objects {
		digest, _, _ := strings.Cut(strings.TrimPrefix(o.Key, "models/"), "/")
		if digest != w.parent && !slices.Contains(digests, digest) {
			digests = append(digests, digest)
		}
	}
	return digests
}

func check(r verdict.Result, name string) verdict.Check {
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	return verdict.Check{}
}

func TestOptimizeKeepsAFasterVariantThatIsAsGood(t *testing.T) {
	w := newOptimizing(t)
	summary := filepath.Join(w.dir, "summary.md")
	w.env = append(w.env, "GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY="+summary)
	code, out, r := w.optimize(w.python+" "+w.script+" lean", "--kind", "int8")
	if code != 0 || r.Verdict != verdict.Pass || r.Reason.Code != variants.Faster {
		t.Fatalf("exit code %d, %+v:\n%s", code, r.Reason, out)
	}
	digest := r.Subjects["model"]
	if got := w.kept(); !slices.Equal(got, []string{digest}) || r.Subjects["parent"] != w.parent || r.Outputs["kind"] != "int8" || r.Outputs["provider"] != "cpu" {
		t.Errorf("kept %q, subjects %v, outputs %v", got, r.Subjects, r.Outputs)
	}
	b, err := bundle.Read(w.out())
	must(t, err)
	m := b.Manifest
	if b.Digest != digest || m.Provenance.Parent != w.parent || m.Variant.Kind != "int8" || m.Variant.ToleranceParent != 1e-4 || m.Tolerance != 1e-4 {
		t.Errorf("%s: parent %s, variant %+v, tolerance %v", b.Digest, m.Provenance.Parent, m.Variant, m.Tolerance)
	}
	if m.Provenance.Frameworks["optimize_onnxruntime"] == "" || m.Provenance.Frameworks["optimize_machine"] == "" {
		t.Errorf("frameworks %v", m.Provenance.Frameworks)
	}
	if c := check(r, "int8"); c.Verdict != verdict.Pass || !c.Required || c.Interval == nil || !(*c.Interval.Low > 1) {
		t.Errorf("%+v", c)
	}
	for _, name := range []string{"int8/size", "int8/p50", "int8/p95", "int8/throughput_ratio", "int8/macro_auroc_difference"} {
		if check(r, name).Observed == nil {
			t.Errorf("no figure %s", name)
		}
	}
	data, err := os.ReadFile(summary)
	must(t, err)
	if !strings.Contains(string(data), "| int8 |") || !strings.Contains(string(data), "| parent |") {
		t.Errorf("the step summary has no table:\n%s", data)
	}
}

func TestOptimizeNeverKeepsAVariantThatIsWorse(t *testing.T) {
	w := newOptimizing(t)
	for _, c := range []struct {
		word, change, to, reason, text string
	}{
		{"constant", "", "", variants.QualityPoor, "macro_auroc"},
		{"far", "", "", variants.Refused, "golden"},
		{"constant", "variant_tolerance: 0.45", "variant_tolerance: 0.0001", variants.Refused, "golden"},
	} {
		if c.change != "" {
			w.policy(c.change, c.to)
		}
		code, out, r := w.optimize(w.python+" "+w.script+" "+c.word, "--kind", "fp16")
		if code != verdict.ExitReject || r.Reason.Code != c.reason || !strings.Contains(r.Reason.Text, c.text) {
			t.Errorf("%s: exit code %d, %+v, want %s:\n%s", c.word, code, r.Reason, c.reason, out)
		}
		if _, err := os.Stat(w.out()); err == nil || len(w.kept()) != 0 || r.Subjects["model"] != "" {
			t.Errorf("%s: something was written: %v", c.word, w.kept())
		}
	}
}

// The example's own script, with ONNX Runtime's own tools. Which variant is
// faster depends on the machine: what is asserted is that each was made,
// measured and decided on, and that what was kept is what was decided.
func TestOptimizeMakesEveryKindWithTheExamplesScript(t *testing.T) {
	w := newOptimizing(t)
	script, err := filepath.Abs("../../examples/xray/quantize.py")
	must(t, err)
	code, out, r := w.optimize(w.python + " " + script)
	if !slices.Contains([]int{verdict.ExitPass, verdict.ExitReject, verdict.ExitInconclusive}, code) {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	for _, kind := range variants.Kinds {
		c := check(r, kind)
		if c.Observed == nil || c.Interval == nil || c.Text == "" {
			t.Errorf("%s was not measured: %+v\n%s", kind, c, out)
		}
	}
	size := func(kind string) float64 { return *check(r, kind+"/size").Observed }
	if !(size("int8") < 0.5*size("fp32-optimised")) || !(size("fp16") < 0.7*size("fp32-optimised")) {
		t.Errorf("sizes %v, %v, %v: nothing was made smaller", size("fp32-optimised"), size("int8"), size("fp16"))
	}
	if passed := r.Verdict == verdict.Pass; passed != (len(w.kept()) == 1) || passed != (r.Subjects["model"] != "") {
		t.Errorf("verdict %s, kept %q", r.Verdict, w.kept())
	}
}

func TestOptimizeJudgesSuperResolutionByPSNR(t *testing.T) {
	w := newOptimizing(t)
	w.parent = w.publishDir(bundletest.NewSuperResolution(t, "grey"))
	w.policy("variant_tolerance: 0.45", "variant_psnr: 0.1\n  variant_tolerance: 0.45")
	pictures := t.TempDir()
	for i := range 9 {
		must(t, os.WriteFile(filepath.Join(pictures, fmt.Sprint(i, ".png")), bundletest.Picture(t, 60+i, 70, uint8(20*i)), 0o600))
	}
	script, err := filepath.Abs("../../examples/xray/quantize.py")
	must(t, err)
	if code, _, r := w.optimize(w.python + " " + script); code != 2 || !strings.Contains(r.Reason.Text, "--pictures") {
		t.Errorf("without pictures: exit code %d, %+v", code, r.Reason)
	}
	code, out, r := w.optimize(w.python+" "+script, "--kind", "fp32-optimised", "--kind", "int8", "--pictures", pictures, "--calibration-pictures", pictures)
	if !slices.Contains([]int{verdict.ExitPass, verdict.ExitReject, verdict.ExitInconclusive}, code) {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	// Optimised in fp32 it gives the same picture, to the level.
	if c := check(r, "fp32-optimised/psnr_difference"); c.Observed == nil || *c.Observed != 0 || c.N != 9 {
		t.Errorf("fp32-optimised %+v\n%s", c, out)
	}
	if c := check(r, "int8"); c.Text == "" {
		t.Errorf("int8 was not decided on:\n%s", out)
	}
	if kept := len(w.kept()) - 1; (kept == 1) != (r.Verdict == verdict.Pass) { // the first world's parent is there too
		t.Errorf("verdict %s, kept %d", r.Verdict, kept)
	}
}

// A graph of fixed size is judged at its own size, whatever bundle.yaml allows.
func TestOriginalsAreMadeAsSmallAsTheGraphTakesThem(t *testing.T) {
	if sideOf(224) != 224 || sideOf(-1) != smallSide {
		t.Errorf("sides %d and %d", sideOf(224), sideOf(-1))
	}
	file := filepath.Join(t.TempDir(), "0.png")
	must(t, os.WriteFile(file, bundletest.Picture(t, 60, 70, 20), 0o600))
	o := originals{width: 10, height: 12}
	o.model.Input.Channels, o.model.SuperResolution.Scale = 1, 3
	p, err := o.pair(file)
	if err != nil || p.small.Width != 10 || p.small.Height != 12 || p.large.Width != 30 || p.large.Height != 36 {
		t.Errorf("%d x %d of %d x %d: %v", p.small.Width, p.small.Height, p.large.Width, p.large.Height, err)
	}
}

func TestOptimizeSaysWhatKeepsItFromWorking(t *testing.T) {
	w := newOptimizing(t)
	for _, c := range []struct {
		script string
		more   []string
		code   int
		text   string
	}{
		{w.python + " " + w.script + " broken", []string{"--kind", "int8"}, 1, "exit status 1"},
		{"/nowhere/python", []string{"--kind", "int8"}, 1, "/nowhere/python"},
		{"", []string{"--kind", "int8"}, 2, "--script"},
		{"x", []string{"--kind", "int4"}, 2, "fp32-optimised, int8, fp16"},
		{"x", []string{"--calibration", "0"}, 2, "at least 1"},
		{"x", []string{"--duration", "1ms"}, 2, "two rounds"},
	} {
		if code, out, r := w.optimize(c.script, c.more...); code != c.code || !strings.Contains(r.Reason.Text, c.text) {
			t.Errorf("%s %v: exit code %d, want %d and %q:\n%s", c.script, c.more, code, c.code, c.text, out)
		}
	}
	w.policy("variant_tolerance: 0.45", "# none")
	if code, _, r := w.optimize("x", "--kind", "int8"); code != 1 || r.Reason.Code != "no-variant-tolerance" {
		t.Errorf("exit code %d, %+v", code, r.Reason)
	}
	if len(w.kept()) != 0 {
		t.Errorf("kept %q", w.kept())
	}
}
