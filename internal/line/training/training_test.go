package training

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// deliver is the part of a fake trainer that leaves a model: the smallest ONNX
// header that a reader accepts (IR version 8, operator set 16).
const deliver = `
mkdir -p $PENSTOCK_OUTPUT/golden
printf '\010\010\102\002\020\020' > $PENSTOCK_OUTPUT/model.onnx
cp scores.npy $PENSTOCK_OUTPUT/golden/0.output.npy
echo '{"Mass": 0.25, "Nodule": 0.5}' > $PENSTOCK_OUTPUT/thresholds.json
`

// recorder is a Tracker that keeps what it was told, and fails while broken.
type recorder struct {
	mu     sync.Mutex
	seen   []Metric
	broken error
}

func (r *recorder) Log(_ context.Context, m []Metric) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return r.broken
	}
	r.seen = append(r.seen, m...)
	return nil
}

func (r *recorder) values(key string) (values []float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.seen {
		if m.Key == key {
			values = append(values, m.Value)
		}
	}
	return values
}

// job is a training by a shell script.
func job(t *testing.T, script string) Job {
	t.Helper()
	project, data := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(project, "train.sh"), []byte(script), 0o600))
	must(t, bundle.WriteFloat32(filepath.Join(project, "scores.npy"), []int{2}, []float32{0.1, 0.9}))
	must(t, os.WriteFile(filepath.Join(data, "manifest.jsonl"), []byte("{}\n"), 0o600))
	must(t, os.Mkdir(filepath.Join(data, "images"), 0o700))
	input := bundle.Input{
		Name: "image", Width: 2, Height: 1, Channels: 1, Decoder: "go", Resize: "stretch", Filter: "bilinear",
		Scale: 1, Mean: []float64{0}, Std: []float64{1}, Layout: "nchw",
	}
	return Job{
		Config:  Config{Command: []string{"/bin/sh", "train.sh"}, Params: map[string]any{"epochs": 3}, Timeout: time.Minute},
		Project: project, Data: data, Root: t.TempDir(), Environ: os.Environ(),
		Task:    Task{Task: "multilabel", Labels: []string{"Mass", "Nodule"}},
		Goldens: []Golden{{Ext: ".png", Original: []byte("png"), Shape: []int{1, 2, 1}, Pixels: []uint8{1, 2}}},
		Manifest: bundle.Manifest{
			Schema: bundle.Schema, Name: "xray", Task: "multilabel", Input: input,
			Outputs:   bundle.Outputs{Scores: "scores", Activation: "none"},
			Labels:    []bundle.Label{{Name: "Mass", Urgency: "urgent"}, {Name: "Nodule", Urgency: "routine"}},
			Tolerance: 1e-4,
		},
	}
}

func run(t *testing.T, ctx context.Context, j Job) (Outcome, string, error) {
	t.Helper()
	return runWith(t, ctx, j, &recorder{}, false)
}

func runWith(t *testing.T, ctx context.Context, j Job, r *recorder, actions bool) (Outcome, string, error) {
	t.Helper()
	var people bytes.Buffer
	out, err := Run(ctx, j, r, Console{
		Output: &people, Actions: actions, Now: time.Now,
		Warn: func(text string) { t.Log(text) },
	})
	return out, people.String(), err
}

func TestATrainersOutputBecomesABundle(t *testing.T) {
	j := job(t, `
[ -f $PENSTOCK_DATASET/manifest.jsonl ] && [ -d $PENSTOCK_DATASET/images ] || exit 9
[ -f $PENSTOCK_DATASET/golden/0.input.npy ] || exit 10
grep -q '"Nodule"' $PENSTOCK_DATASET/task.json && grep -q '"epochs": 3' $PENSTOCK_PARAMS || exit 11
[ "$PENSTOCK_SEED" = 1 ] && [ -d $PENSTOCK_CHECKPOINTS ] || exit 12
echo '{"step": 1, "epoch": 1, "metrics": {"loss": 0.5}}' >> $PENSTOCK_EVENTS
echo '{"step": 2, "epoch": 2, "metrics": {"loss": 0.25}, "more": true}' >> $PENSTOCK_EVENTS
echo '{"sh": "1"}' > $PENSTOCK_OUTPUT/frameworks.json
echo large > $PENSTOCK_OUTPUT/model.onnx.data; echo no > $PENSTOCK_OUTPUT/notes.txt
echo hello
`+deliver)
	r := &recorder{}
	out, people, err := runWith(t, t.Context(), j, r, false)
	must(t, err)
	b, err := bundle.Read(out.Bundle)
	must(t, err)
	if b.Digest != out.Digest || b.Manifest.Labels[1].Threshold != 0.5 || b.Manifest.Provenance.Frameworks["sh"] != "1" {
		t.Errorf("the bundle came out as %s, %+v", out.Digest, b.Manifest)
	}
	if _, err := os.Stat(b.Path("model.onnx.data")); err != nil {
		t.Errorf("the model's external data did not travel: %v", err)
	}
	if _, err := os.Stat(b.Path("notes.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("notes.txt is in the bundle: %v", err)
	}
	if got := r.values("loss"); !slices.Equal(got, []float64{0.5, 0.25}) {
		t.Errorf("loss was tracked as %v", got)
	}
	if len(r.values("system/system_memory_usage_percentage")) == 0 {
		t.Error("the machine's memory was not tracked")
	}
	log, err := os.ReadFile(out.Log)
	must(t, err)
	if people != "hello\n" || string(log) != people || out.Steps != 2 {
		t.Errorf("people read %q, the log has %q, last step %d", people, log, out.Steps)
	}
}

func TestATrainerThatLeavesNoModelIsRefused(t *testing.T) {
	for _, c := range []struct{ name, spoil, want string }{
		{"no model", `rm $PENSTOCK_OUTPUT/model.onnx`, "no model.onnx"},
		{"a model that is none", `echo hello > $PENSTOCK_OUTPUT/model.onnx`, "model.onnx"},
		{"no scores of a golden", `rm $PENSTOCK_OUTPUT/golden/0.output.npy`, "no golden/0.output.npy"},
		{"no thresholds", `rm $PENSTOCK_OUTPUT/thresholds.json`, "no thresholds.json"},
		{"a label without threshold", `echo '{"Mass": 0.5}' > $PENSTOCK_OUTPUT/thresholds.json`, "Nodule"},
		{"a threshold of null", `echo '{"Mass": 0.5, "Nodule": null}' > $PENSTOCK_OUTPUT/thresholds.json`, "Nodule"},
		{"a threshold above one", `echo '{"Mass": 0.5, "Nodule": 7}' > $PENSTOCK_OUTPUT/thresholds.json`, "Nodule"},
		{"an unknown label", `echo '{"Mass": 0.5, "Nodule": 0.5, "Mess": 0.1}' > $PENSTOCK_OUTPUT/thresholds.json`, "Mess"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := run(t, t.Context(), job(t, deliver+c.spoil))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not name %q", err, c.want)
			}
			if code := verdict.FromError(err).Reason.Code; code != "trainer-output" {
				t.Errorf("reason %s, want trainer-output", code)
			}
		})
	}
}

func TestAFailedTrainerIsShownByItsLastLines(t *testing.T) {
	out, _, err := run(t, t.Context(), job(t, `for i in $(seq 40); do echo "line $i"; done; echo "CUDA out of memory" >&2; exit 3`))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"exit code 3", "CUDA out of memory", "line 40"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "line 3\n") || out.Log == "" || out.Bundle != "" {
		t.Errorf("too much or too little came out: %+v: %v", out, err)
	}
	_, _, err = run(t, t.Context(), job(t, `kill -9 $$`))
	if err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("%v does not suspect the memory", err)
	}
}

func TestALossThatIsNotFiniteStopsTheTrainer(t *testing.T) {
	for _, value := range []string{"NaN", "-Infinity", "Infinity"} {
		began := time.Now()
		_, _, err := run(t, t.Context(), job(t, `echo '{"step": 1, "metrics": {"loss": `+value+`}}' >> $PENSTOCK_EVENTS; sleep 50; exit 0`))
		if !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "loss = "+value) {
			t.Errorf("%v, want ErrNotFinite of loss", err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the trainer was stopped after %s", took)
		}
	}
}

func TestAnEventThatIsNoneIsAnError(t *testing.T) {
	_, _, err := run(t, t.Context(), job(t, `echo 'epoch 1' >> $PENSTOCK_EVENTS; sleep 50`))
	if err == nil || !strings.Contains(err.Error(), "epoch 1") {
		t.Errorf("%v does not show the line", err)
	}
}

// started waits until the script has made a file and returns what it holds.
func started(t *testing.T, path string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(data), "\n") {
			return strings.TrimSpace(string(data))
		}
	}
	t.Fatalf("%s did not appear", path)
	return ""
}

func alive(t *testing.T, pid string) bool {
	t.Helper()
	n, err := strconv.Atoi(pid)
	must(t, err)
	if errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
		return false
	}
	// A process that ended stays visible until its parent looks.
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func gone(t *testing.T, pid string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if !alive(t, pid) {
			return
		}
	}
	t.Errorf("process %s is still there", pid)
}

func TestCancelReachesTheWholeGroupAndLeavesACheckpoint(t *testing.T) {
	j := job(t, `
sleep 60 & echo $! > $PENSTOCK_OUTPUT/child
trap 'echo saved > $PENSTOCK_CHECKPOINTS/c; exit 130' INT
echo '{"step": 4, "metrics": {"loss": 1}}' >> $PENSTOCK_EVENTS
echo $$ > $PENSTOCK_OUTPUT/pid
wait
`)
	ctx, cancel := context.WithCancel(t.Context())
	var pid, child string
	go func() {
		pid, child = started(t, filepath.Join(j.Root, "output", "pid")), started(t, filepath.Join(j.Root, "output", "child"))
		cancel()
	}()
	out, _, err := run(t, ctx, j)
	if !errors.Is(err, context.Canceled) || verdict.FromError(err).Reason.Code != verdict.Cancelled {
		t.Fatalf("%v, want a cancelled training", err)
	}
	if out.Steps != 4 || !strings.Contains(err.Error(), "step 4") {
		t.Errorf("the last event was lost: step %d, %v", out.Steps, err)
	}
	gone(t, pid)
	gone(t, child)
	saved := filepath.Join(j.Root, "checkpoints", "c")
	if data, err := os.ReadFile(saved); err != nil || string(data) != "saved\n" {
		t.Fatalf("the checkpoint: %q, %v", data, err)
	}
	must(t, os.WriteFile(filepath.Join(j.Project, "train.sh"), []byte(`[ -f $PENSTOCK_CHECKPOINTS/c ] && [ ! -f $PENSTOCK_OUTPUT/pid ] || exit 9`+deliver), 0o600))
	_, _, err = run(t, t.Context(), j)
	if err != nil {
		t.Errorf("the next start did not find the checkpoint, or found old output: %v", err)
	}
}

func TestATrainerThatIgnoresSignalsIsKilledInTime(t *testing.T) {
	j := job(t, `trap '' INT TERM; echo $$ > $PENSTOCK_OUTPUT/pid; while :; do sleep 0.1; done`)
	ctx, cancel := context.WithCancel(t.Context())
	var pid string
	var asked time.Time
	go func() {
		pid = started(t, filepath.Join(j.Root, "output", "pid"))
		asked = time.Now()
		cancel()
	}()
	_, _, err := run(t, ctx, j)
	took := time.Since(asked)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	if took < interruptGrace || took > 20*time.Second {
		t.Errorf("killed after %s, want the whole ladder of %s", took, interruptGrace+terminateGrace)
	}
	gone(t, pid)
}

func TestATrainerThatTakesTooLongIsAnErrorNotACancel(t *testing.T) {
	j := job(t, `sleep 60`)
	j.Config.Timeout = 300 * time.Millisecond
	_, _, err := run(t, t.Context(), j)
	if code := verdict.FromError(err).Reason.Code; code != "timeout" || !strings.Contains(err.Error(), "train.timeout") {
		t.Errorf("%s: %v, want timeout naming train.timeout", code, err)
	}
}

func TestATrainerThatEndsWellTakesItsChildrenAlong(t *testing.T) {
	j := job(t, `sleep 60 & echo $! > $PENSTOCK_OUTPUT/child`+deliver)
	_, _, err := run(t, t.Context(), j)
	must(t, err)
	gone(t, started(t, filepath.Join(j.Root, "output", "child")))
}

// A penstock that is killed takes the trainer along. The helper is this test
// binary, as a process of its own.
func TestAKilledPenstockLeavesNoTrainerBehind(t *testing.T) {
	const helper = "TRAINING_TEST_HELPER"
	if root := os.Getenv(helper); root != "" {
		j := job(t, `echo $$ > `+filepath.Join(root, "pid")+`; exec sleep 60`)
		_, _, err := run(t, t.Context(), j)
		t.Fatalf("the trainer ended: %v", err)
	}
	root := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), helper+"="+root)
	must(t, cmd.Start())
	pid := started(t, filepath.Join(root, "pid"))
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	gone(t, pid)
}

func TestTheTrainerSeesNoCredentials(t *testing.T) {
	j := job(t, `env > seen.txt`+deliver)
	j.Config.Env = []string{"WANDB_MODE"}
	j.Environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/h", "LANG=C", "CUDA_VISIBLE_DEVICES=0", "WANDB_MODE=offline", "OTHER=1",
		"AWS_SECRET_ACCESS_KEY=s", "MLFLOW_TRACKING_TOKEN=s", "GITHUB_TOKEN=s", "ACTIONS_RUNTIME_TOKEN=s", "INPUT_X=s",
		"PENSTOCK_ADMIN_TOKEN=s", "PENSTOCK_ROUTER_TOKEN=s",
	}
	_, _, err := run(t, t.Context(), j)
	must(t, err)
	data, err := os.ReadFile(filepath.Join(j.Project, "seen.txt"))
	must(t, err)
	var names []string
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, "=")
		if !slices.Contains([]string{"PWD", "OLDPWD", "SHLVL", "_"}, name) { // the shell's own
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := []string{
		"CUDA_VISIBLE_DEVICES", "HOME", "LANG", "PATH", "PENSTOCK_CHECKPOINTS", "PENSTOCK_DATASET", "PENSTOCK_EVENTS",
		"PENSTOCK_OUTPUT", "PENSTOCK_PARAMS", "PENSTOCK_SEED", "WANDB_MODE",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the trainer sees %q, want %q", names, want)
	}
}

func TestATrainersWordsAreNoWorkflowCommands(t *testing.T) {
	j := job(t, `echo "::error::trust me"`+deliver)
	_, people, err := runWith(t, t.Context(), j, &recorder{}, true)
	must(t, err)
	lines := strings.Split(strings.TrimSpace(people), "\n")
	token, found := strings.CutPrefix(lines[0], "::stop-commands::")
	if !found || len(token) < 16 || lines[1] != "::error::trust me" || lines[len(lines)-1] != "::"+token+"::" {
		t.Errorf("the output is not muted:\n%s", people)
	}
	_, again, err := runWith(t, t.Context(), job(t, deliver), &recorder{}, true)
	must(t, err)
	if strings.Contains(again, token) {
		t.Error("the token is the same in two trainings")
	}
}

func TestATrackerThatIsDownLosesNothingThatFits(t *testing.T) {
	r := &recorder{broken: errors.New("down")}
	l := &logger{tracker: r}
	l.add(Metric{Key: "a"})
	if err := l.flush(t.Context()); err == nil {
		t.Fatal("no error")
	}
	l.add(Metric{Key: "b"})
	r.broken = nil
	must(t, l.flush(t.Context()))
	if len(r.seen) != 2 || r.seen[0].Key != "a" || r.seen[1].Key != "b" {
		t.Errorf("seen %v, want a, b", r.seen)
	}
	l.add(make([]Metric, keptMost+3)...)
	if l.dropped != 3 {
		t.Errorf("%d dropped, want 3 counted", l.dropped)
	}
}

func TestATrackerThatStaysDownIsAWarningNotALostModel(t *testing.T) {
	out, _, err := runWith(t, t.Context(), job(t, deliver), &recorder{broken: errors.New("tracking is down")}, false)
	must(t, err)
	if out.Digest == "" || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "tracking is down") {
		t.Errorf("digest %q, warnings %q", out.Digest, out.Warnings)
	}
}

func TestTwoTrainingsNeverShareAFolder(t *testing.T) {
	j := job(t, deliver)
	unlock, err := lock(filepath.Join(j.Root, "lock"))
	must(t, err)
	defer unlock()
	if _, _, err := run(t, t.Context(), j); err == nil || !strings.Contains(err.Error(), "another penstock train") {
		t.Errorf("%v, want the folder to be taken", err)
	}
}

func TestAnUnstartableTrainerNamesTheKey(t *testing.T) {
	j := job(t, "")
	j.Config.Command = []string{"/nowhere/python3", "train.py"}
	if _, _, err := run(t, t.Context(), j); err == nil || !strings.Contains(err.Error(), "train.command") {
		t.Errorf("%v does not name train.command", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
