// Package xray_test tries the X-ray example's own programs as its users start
// them: what they draw and cut, what the trainer leaves behind, and the
// sabotage that is made of it.
package xray_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/project"
)

const (
	example = "../../examples/xray"
	python  = "/usr/bin/python3" // Debian's, which has PyTorch
)

// TestProgramsAreThere also reads every program that the other tests start, so
// that go test knows what its cached answer depends on.
func TestProgramsAreThere(t *testing.T) {
	for _, pattern := range []string{example + "/*", "../sabotage/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", pattern, err)
		}
		for _, name := range files {
			_, err := os.ReadFile(name)
			must(t, err)
		}
	}
}

// tool runs one of the example's programs, which must end well.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(python, append([]string{filepath.Join(example, name)}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// tree is the content of a folder, by path.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(path)
		return err
	}))
	return files
}

// table reads a batch's labels.csv, a map for each line.
func table(t *testing.T, dir string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "labels.csv"))
	must(t, err)
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	must(t, err)
	var rows []map[string]string
	for _, record := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
	return rows
}

func patients(rows []map[string]string) map[string]bool {
	set := map[string]bool{}
	for _, r := range rows {
		set[r["patient_id"]] = true
	}
	return set
}

func TestSynthesizeGivesTheSameBytesForASeed(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	tool(t, "synthesize", "--seed", "5", "--patients", "15", "--out", a)
	tool(t, "synthesize", "--seed", "5", "--patients", "15", "--out", b)
	tool(t, "synthesize", "--seed", "6", "--patients", "15", "--out", c)
	one, two := tree(t, a), tree(t, b)
	if len(one) < 30 || len(one) != len(two) {
		t.Fatalf("%d and %d files", len(one), len(two))
	}
	for name, data := range one {
		if !bytes.Equal(data, two[name]) {
			t.Errorf("%s differs", name)
		}
	}
	for id := range patients(table(t, c)) {
		if patients(table(t, a))[id] {
			t.Errorf("patient %s is in the batches of two seeds", id)
		}
	}
}

func TestSynthesizeDrawsWhatTheLineMustCopeWith(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "batch")
	tool(t, "synthesize", "--patients", "150", "--out", dir)
	files, rows := tree(t, dir), table(t, dir)
	if _, ok := files["_SUCCESS"]; !ok || len(files) != len(rows)+2 {
		t.Errorf("%d files, %d lines in the table, marker %v", len(files), len(rows), ok)
	}
	p, err := project.Read(filepath.Join(example, "penstock.yaml"))
	must(t, err)
	positives, kinds, broken, missing := map[string]int{}, map[string]int{}, 0, 0
	for _, r := range rows {
		for label := range strings.SplitSeq(r["labels"], "|") {
			positives[label]++
		}
		kinds[filepath.Ext(r["file"])]++
		if r["age"] == "" || r["sex"] == "" || r["view"] == "" {
			missing++
		}
		if _, _, err := imaging.Decode(files[r["file"]], imaging.DefaultLimits); err != nil {
			broken++
		}
	}
	for _, label := range append(p.LabelNames(), p.Data.NoFinding) {
		if positives[label] == 0 {
			t.Errorf("nobody has %s", label)
		}
		delete(positives, label)
	}
	if len(positives) != 0 {
		t.Errorf("labels that penstock.yaml does not name: %v", positives)
	}
	if broken != 3 || missing == 0 || kinds[".png"] == 0 || kinds[".jpg"] == 0 || len(kinds) != 2 {
		t.Errorf("%d broken files, %d lines with a gap, kinds %v", broken, missing, kinds)
	}
	if n := len(patients(rows)); n != 150 || len(rows) < 2*n {
		t.Errorf("%d images of %d patients", len(rows), n)
	}
}

func TestShuffledLabelsAreTheSameOnesElsewhere(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	tool(t, "synthesize", "--patients", "60", "--out", a)
	tool(t, "synthesize", "--patients", "60", "--out", b, "--shuffle-labels")
	right, wrong := table(t, a), table(t, b)
	var before, after []string
	moved := 0
	for i := range right {
		before, after = append(before, right[i]["labels"]), append(after, wrong[i]["labels"])
		if before[i] != after[i] {
			moved++
		}
	}
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) || moved < len(right)/3 {
		t.Errorf("%d of %d labels moved, the same set: %v", moved, len(right), slices.Equal(before, after))
	}
}

func TestLiveImagesTellNothingAndSomeAreOverExposed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "live")
	tool(t, "synthesize", "--patients", "40", "--out", dir, "--live", "--bright", "0.3")
	spec := imaging.Spec{Width: 64, Height: 64, Channels: 1, Filter: "bilinear", Decoder: "go"}
	dark, bright := 0, 0
	for name, data := range tree(t, dir) {
		if ext := filepath.Ext(name); ext != ".png" && ext != ".jpg" {
			t.Errorf("live traffic has %s", name)
			continue
		}
		pixels, err := imaging.Preprocess(data, spec, imaging.DefaultLimits)
		must(t, err)
		switch level := pixels.Brightness(); {
		case level < 0.6:
			dark++
		case level > 0.8:
			bright++
		default:
			t.Errorf("%s is neither: %v", name, level)
		}
	}
	if share := float64(bright) / float64(bright+dark); share < 0.15 || share > 0.45 {
		t.Errorf("%d of %d images are over-exposed, want about 0.3", bright, bright+dark)
	}
}

// The real images are not part of the repository: CI sets PENSTOCK_TEST_DATA
// where they stand beside it. Set and wrong fails.
func TestRealImagesAreCutByPatient(t *testing.T) {
	data := os.Getenv("PENSTOCK_TEST_DATA")
	if data == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: the real images are not here")
	}
	out := filepath.Join(t.TempDir(), "cut")
	tool(t, "cut-nih64", "--source", filepath.Join(data, "xray"), "--out", out)
	var rows [4][]map[string]string
	for n := 1; n <= 3; n++ {
		dir := filepath.Join(out, fmt.Sprintf("batch-%d", n))
		rows[n] = table(t, dir)
		if files := tree(t, dir); len(files) != len(rows[n])+2 {
			t.Errorf("batch %d: %d files, %d lines", n, len(files), len(rows[n]))
		}
	}
	one, two, three := patients(rows[1]), patients(rows[2]), patients(rows[3])
	if len(one) != 176 || len(one)+len(two) != 264 || len(rows[1])+len(rows[2]) != 1000 || len(rows[3]) != 2000 {
		t.Errorf("%d + %d patients, %d + %d and %d images", len(one), len(two), len(rows[1]), len(rows[2]), len(rows[3]))
	}
	for id := range two {
		if one[id] || three[id] {
			t.Errorf("a patient of batch 2 is elsewhere too")
		}
	}
	p, err := project.Read(filepath.Join(example, "nih64.yaml"))
	must(t, err)
	for _, r := range slices.Concat(rows[1], rows[2], rows[3]) {
		for label := range strings.SplitSeq(r["labels"], "|") {
			if label != p.Data.NoFinding && !slices.Contains(p.LabelNames(), label) {
				t.Errorf("unknown label %q", label)
			}
		}
	}
}

// lesson is a trainer's world, laid without penstock: half a screen of the
// contract in examples/xray/README.md.
type lesson struct{ dir string }

func newLesson(t *testing.T, params string) lesson {
	t.Helper()
	l := lesson{t.TempDir()}
	batch := filepath.Join(l.dir, "batch")
	tool(t, "synthesize", "--patients", "40", "--corrupt", "0", "--out", batch)
	p, err := project.Read(filepath.Join(example, "penstock.yaml"))
	must(t, err)
	for _, dir := range []string{"dataset/images", "dataset/golden", "output", "checkpoints"} {
		must(t, os.MkdirAll(filepath.Join(l.dir, dir), 0o755))
	}
	var manifest bytes.Buffer
	for i, r := range table(t, batch) {
		data, err := os.ReadFile(filepath.Join(batch, r["file"]))
		must(t, err)
		pixels, err := imaging.Preprocess(data, p.Data.Image, imaging.DefaultLimits)
		must(t, err)
		file, err := pixels.PNG()
		must(t, err)
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		must(t, os.WriteFile(l.path("dataset/images/"+name+".png"), file, 0o600))
		if i < 2 {
			must(t, bundle.WriteUint8(l.path(fmt.Sprintf("dataset/golden/%d.input.npy", i)), []int{64, 64, 1}, pixels.Pix))
			must(t, os.WriteFile(l.path(fmt.Sprintf("golden-%d%s", i, filepath.Ext(r["file"]))), data, 0o600))
		}
		labels := slices.DeleteFunc(strings.Split(r["labels"], "|"), func(s string) bool { return s == p.Data.NoFinding })
		line, err := json.Marshal(map[string]any{"file": r["file"], "sha256": name, "labels": labels, "split": []string{"train", "train", "val"}[i%3]})
		must(t, err)
		manifest.Write(append(line, '\n'))
	}
	must(t, os.WriteFile(l.path("dataset/manifest.jsonl"), manifest.Bytes(), 0o600))
	n := p.Data.Normalise
	task, err := json.Marshal(map[string]any{
		"task": "multilabel", "labels": p.LabelNames(), "goldens": []string{"0", "1"},
		"input": map[string]any{"width": 64, "height": 64, "channels": 1, "scale": n.Scale, "mean": n.Mean, "std": n.Std, "layout": "nchw"},
	})
	must(t, err)
	must(t, os.WriteFile(l.path("dataset/task.json"), task, 0o600))
	must(t, os.WriteFile(l.path("params.json"), []byte(params), 0o600))
	return l
}

func (l lesson) path(name string) string { return filepath.Join(l.dir, filepath.FromSlash(name)) }

// train is the trainer, ready to start; its output folder is emptied.
func (l lesson) train(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	must(t, os.RemoveAll(l.path("output")))
	must(t, os.MkdirAll(l.path("output"), 0o755))
	must(t, os.WriteFile(l.path("events.jsonl"), nil, 0o600))
	cmd := exec.Command(python, filepath.Join(example, "train.py"))
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PENSTOCK_SEED=3", "PENSTOCK_DATASET=" + l.path("dataset"),
		"PENSTOCK_OUTPUT=" + l.path("output"), "PENSTOCK_CHECKPOINTS=" + l.path("checkpoints"),
		"PENSTOCK_PARAMS=" + l.path("params.json"), "PENSTOCK_EVENTS=" + l.path("events.jsonl"),
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func (l lesson) learn(t *testing.T) map[string][]byte {
	t.Helper()
	cmd, out := l.train(t)
	if err := cmd.Run(); err != nil {
		t.Fatalf("train.py: %v\n%s", err, out)
	}
	return tree(t, l.path("output"))
}

// A trainer that was stopped and goes on ends with the very files that an
// undisturbed one leaves.
func TestAStoppedTrainerGoesOnToTheSameModel(t *testing.T) {
	l := newLesson(t, `{"epochs": 4, "batch_size": 16}`)
	want := l.learn(t)
	must(t, os.RemoveAll(l.path("checkpoints")))
	must(t, os.MkdirAll(l.path("checkpoints"), 0o755))
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, out := l.train(t)
		must(t, cmd.Start())
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if data, err := os.ReadFile(l.path("events.jsonl")); err == nil && len(data) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no epoch ended:\n%s", out)
			}
		}
		asked := time.Now()
		must(t, cmd.Process.Signal(signal))
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 128+int(signal) {
			t.Fatalf("%s: %v, want exit code %d:\n%s", signal, err, 128+int(signal), out)
		}
		if took := time.Since(asked); took > 8*time.Second {
			t.Errorf("%s: it took %s to leave", signal, took)
		}
	}
	got := l.learn(t)
	for _, name := range []string{"model.onnx", "thresholds.json", "golden/0.output.npy", "golden/1.output.npy"} {
		if len(want[name]) == 0 || !bytes.Equal(want[name], got[name]) {
			t.Errorf("%s differs: %d and %d bytes", name, len(want[name]), len(got[name]))
		}
	}
}

func TestTheTrainerRefusesWhatItCannotDo(t *testing.T) {
	for _, c := range []struct{ name, params, want string }{
		{"a device that is not there", `{"device": "cuda"}`, "device"},
		{"an unknown device", `{"device": "tpu"}`, "auto, cpu, cuda"},
		{"no epoch at all", `{"epochs": 0}`, "params.epochs is 0"},
		{"a word for a number", `{"batch_size": "many"}`, "params.batch_size is 'many'"},
		{"an unknown parameter", `{"epoch": 3}`, "epoch"},
		{"a loss that runs away", `{"epochs": 2, "learning_rate": 1e30, "device": "cpu"}`, "learning_rate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLesson(t, c.params)
			cmd, out := l.train(t)
			cmd.Env = append(cmd.Env, "CUDA_VISIBLE_DEVICES=") // hides a GPU, should there be one
			if err := cmd.Run(); err == nil || !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), "Traceback") {
				t.Errorf("%v, and no word of %q:\n%s", err, c.want, out)
			}
			if _, err := os.Stat(l.path("output/model.onnx")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a model came out: %v", err)
			}
		})
	}
}

// Sabotage is made of a real bundle; sabotage.py itself tries its graphs with
// ONNX Runtime and gives up where they do not do what they should.
func TestSabotageMakesBundlesThatLookSound(t *testing.T) {
	interpreter, err := process.Cached("mlflow/bin/python")
	must(t, err)
	l := newLesson(t, `{"epochs": 1}`)
	l.learn(t)
	champion := l.bundle(t)
	for _, c := range []struct{ kind, option, value string }{{"slow", "--seconds", "0.05"}, {"failing", "--brightness", "0.75"}} {
		out := l.path(c.kind)
		said, err := exec.Command(interpreter, "../sabotage/sabotage.py", c.kind, "--bundle", champion.Dir, "--out", out, c.option, c.value).CombinedOutput()
		if err != nil {
			t.Fatalf("sabotage.py %s: %v\n%s", c.kind, err, said)
		}
		b, err := bundle.Read(out)
		must(t, err)
		if b.Manifest.Provenance.Parent != champion.Digest || b.Digest == champion.Digest {
			t.Errorf("%s: parent %s, want %s", c.kind, b.Manifest.Provenance.Parent, champion.Digest)
		}
		if !slices.Equal(b.Manifest.Labels, champion.Manifest.Labels) || !slices.Equal(b.Manifest.Goldens, champion.Manifest.Goldens) {
			t.Errorf("%s: labels or goldens are not the champion's", c.kind)
		}
	}
}

// bundle makes a bundle of what the trainer left, as `penstock train` does.
func (l lesson) bundle(t *testing.T) *bundle.Bundle {
	t.Helper()
	p, err := project.Read(filepath.Join(example, "penstock.yaml"))
	must(t, err)
	in, n, dir := p.Data.Image, p.Data.Normalise, l.path("output")
	var given map[string]float64
	data, err := os.ReadFile(filepath.Join(dir, "thresholds.json"))
	must(t, err)
	must(t, json.Unmarshal(data, &given))
	m := bundle.Manifest{
		Schema: bundle.Schema, Name: "xray", Task: "multilabel", Tolerance: 1e-4,
		Input: bundle.Input{
			Name: "image", Width: in.Width, Height: in.Height, Channels: in.Channels, Decoder: in.Decoder, Resize: "stretch",
			Filter: in.Filter, Scale: n.Scale, Mean: n.Mean, Std: n.Std, Layout: "nchw",
		},
		Outputs: bundle.Outputs{Scores: "scores", Heatmap: "heatmap", Features: "features", Activation: "none"},
	}
	for _, label := range p.Labels {
		m.Labels = append(m.Labels, bundle.Label{Name: label.Name, Urgency: label.Urgency, Threshold: given[label.Name]})
	}
	originals, err := filepath.Glob(l.path("golden-*"))
	must(t, err)
	for i, from := range originals {
		name := "golden/" + strconv.Itoa(i) + filepath.Ext(from)
		m.Goldens = append(m.Goldens, name)
		for to, from := range map[string]string{name: from, bundle.InputFile(name): l.path("dataset/" + bundle.InputFile(name))} {
			data, err := os.ReadFile(from)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, to), data, 0o600))
		}
	}
	must(t, bundle.WriteManifest(dir, m))
	b, err := bundle.Read(dir)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
