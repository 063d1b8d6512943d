package main

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/penstock-ml/penstock/internal/dev/logtest"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/outside/mlflow"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// TestTrain runs the real command against a real bucket and a real MLflow.
func TestTrain(t *testing.T) {
	w := newTrainWorld(t)
	t.Run("a model comes out, the same one twice", w.twice)
	t.Run("a cancel ends trainer and run", w.cancelled)
	t.Run("a killed penstock leaves no trainer, and its run goes on", w.killed)
	t.Run("a failure is told with the trainer's last lines", w.failed)
	t.Run("a golden that changed in the bucket is refused", w.changedGolden)
	t.Run("what is missing is named", w.missing)
}

// trainWorld is a project with a small data set of drawn images.
type trainWorld struct {
	s3      *servertest.S3
	mlflow  string
	client  *mlflow.Client
	bucket  *objectstore.Bucket
	digest  string
	example string
}

const python = "/usr/bin/python3" // Debian's, which has PyTorch

func newTrainWorld(t *testing.T) *trainWorld {
	t.Helper()
	example, err := filepath.Abs("../../examples/xray")
	must(t, err)
	w := &trainWorld{s3: servertest.MinIO(t), example: example}
	w.mlflow = servertest.MLflow(t, w.s3)
	w.client, err = mlflow.Open(mlflow.Credentials{URI: w.mlflow})
	must(t, err)
	name := servertest.Bucket(t, w.s3)
	w.bucket, err = objectstore.Open(objectstore.Credentials{
		Endpoint: w.s3.Endpoint, Region: servertest.Region, AccessKey: w.s3.AccessKey, SecretKey: w.s3.SecretKey,
	}, name)
	must(t, err)

	batch := filepath.Join(t.TempDir(), "batch")
	out, err := exec.Command(python, filepath.Join(example, "synthesize"), "--patients", "40", "--out", batch).CombinedOutput()
	if err != nil {
		t.Fatalf("synthesize: %v\n%s", err, out)
	}
	files, err := os.ReadDir(batch)
	must(t, err)
	for _, f := range files {
		must(t, w.bucket.Upload(t.Context(), "raw/one/"+f.Name(), filepath.Join(batch, f.Name())))
	}
	objects, err := w.bucket.List(t.Context(), "raw/one/")
	must(t, err)
	p, err := project.Read(filepath.Join(example, "penstock.yaml"))
	must(t, err)
	request := dataset.Request{Config: p.Data, Labels: p.LabelNames(), Batch: dataset.Batch{Key: "one", Prefix: "raw/one/"}, Limits: imaging.DefaultLimits}
	for _, o := range objects {
		request.Batch.Objects = append(request.Batch.Objects, dataset.Object{Key: o.Key, ETag: o.ETag, Size: o.Size})
	}
	grown, err := dataset.Grow(t.Context(), w.bucket, request)
	must(t, err)
	w.digest = grown.Dataset.Digest
	return w
}

// project lays a project folder with the example's file, changed as told.
func (w *trainWorld) project(t *testing.T, changes ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.example, "penstock.yaml"))
	must(t, err)
	text := string(data)
	pairs := append([]string{"bucket: xray", "bucket: " + w.bucket.Name(), "train.py", filepath.Join(w.example, "train.py"), "epochs: 14", "epochs: 2"}, changes...)
	for pair := range slices.Chunk(pairs, 2) {
		if !strings.Contains(text, pair[0]) {
			t.Fatalf("penstock.yaml has no %q", pair[0])
		}
		text = strings.Replace(text, pair[0], pair[1], 1)
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "penstock.yaml"), []byte(text), 0o600))
	return dir
}

// script lays a project whose trainer is a shell script.
func (w *trainWorld) script(t *testing.T, script string) string {
	t.Helper()
	dir := w.project(t, "["+python+", "+filepath.Join(w.example, "train.py")+"]", "[/bin/sh, train.sh]")
	must(t, os.WriteFile(filepath.Join(dir, "train.sh"), []byte(script), 0o600))
	return dir
}

// train starts the real program in a project's folder.
func (w *trainWorld) train(t *testing.T, dir string, args ...string) (*exec.Cmd, *logtest.Buffer) {
	t.Helper()
	// The run of the case before may go on for all that is known: end its turn.
	must(t, w.bucket.Remove(t.Context(), "state/turn.json"))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "penstock", append([]string{"train", "--result", "result.json"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append(w.s3.Env(), "GITHUB_ACTIONS=", "GITHUB_SHA=", "PENSTOCK_CACHE="+dir, "MLFLOW_TRACKING_URI="+w.mlflow)...)
	out := &logtest.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// result waits for the program's end and reads what it left.
func (w *trainWorld) result(t *testing.T, cmd *exec.Cmd, out *logtest.Buffer, code int) verdict.Result {
	t.Helper()
	err := cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("exit code %d, want %d (%v):\n%s", got, code, err, out)
	}
	r, err := verdict.Load(filepath.Join(cmd.Dir, "result.json"))
	must(t, err)
	return r
}

func (w *trainWorld) run(t *testing.T, code int, dir string, args ...string) verdict.Result {
	t.Helper()
	cmd, out := w.train(t, dir, args...)
	must(t, cmd.Start())
	return w.result(t, cmd, out, code)
}

func (w *trainWorld) tracked(t *testing.T, r verdict.Result) mlflow.Run {
	t.Helper()
	got, err := w.client.GetRun(t.Context(), r.Outputs["mlflow_run"])
	must(t, err)
	return got
}

func (w *trainWorld) twice(t *testing.T) {
	dir := w.project(t)
	one := w.run(t, verdict.ExitPass, dir, "--dataset", w.digest, "--run-key", "twice")
	b, err := bundle.Fetch(t.Context(), w.bucket, one.Subjects["model"], t.TempDir())
	must(t, err)
	p := b.Manifest.Provenance
	if p.Dataset != w.digest || p.RunKey != "twice" || p.MLflowRun != one.Outputs["mlflow_run"] || p.Frameworks["pytorch"] == "" {
		t.Errorf("provenance %+v", p)
	}
	if len(b.Manifest.Goldens) != 4 || b.Manifest.Labels[0].Threshold == 0 {
		t.Errorf("goldens %v, labels %v", b.Manifest.Goldens, b.Manifest.Labels)
	}
	run := w.tracked(t, one)
	if run.Status != mlflow.Finished || run.Tags[tagModel] != one.Subjects["model"] || run.Tags[tagDataset] != w.digest || run.Params["epochs"] != "2" {
		t.Errorf("the run in MLflow: %+v", run)
	}
	for _, metric := range []string{"train_loss", "val_macro_auroc", "system/system_memory_usage_percentage"} {
		if _, ok := run.Metrics[metric]; !ok {
			t.Errorf("MLflow has no %s", metric)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "data", "training")); err != nil || len(left) != 0 {
		t.Errorf("the training's folder stays: %v, %v", left, err)
	}

	again := w.run(t, verdict.ExitPass, w.project(t), "--dataset", w.digest)
	if again.Outputs["mlflow_run"] == one.Outputs["mlflow_run"] {
		t.Error("a start by hand went on with a run that is not its own")
	}
	c, err := bundle.Fetch(t.Context(), w.bucket, again.Subjects["model"], t.TempDir())
	must(t, err)
	first, err := os.ReadFile(b.Path(bundle.ModelFile))
	must(t, err)
	second, err := os.ReadFile(c.Path(bundle.ModelFile))
	must(t, err)
	if string(first) != string(second) {
		t.Error("the same seed gave two models")
	}
}

// begun waits until the script has written its process id.
func begun(t *testing.T, path string, out *logtest.Buffer) int {
	t.Helper()
	eventually(t, "the trainer starts", out, func() bool {
		data, err := os.ReadFile(path)
		return err == nil && strings.HasSuffix(string(data), "\n")
	})
	data, err := os.ReadFile(path)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	must(t, err)
	return pid
}

func (w *trainWorld) cancelled(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dir := w.script(t, `trap 'exit 130' INT; echo '{"step": 1, "metrics": {"loss": 1}}' >> $PENSTOCK_EVENTS; echo $$ > pid; sleep 100 & wait`)
		cmd, out := w.train(t, dir, "--dataset", w.digest, "--run-key", "cancel-"+strconv.Itoa(int(signal)))
		must(t, cmd.Start())
		pid := begun(t, filepath.Join(dir, "pid"), out)
		must(t, cmd.Process.Signal(signal))
		r := w.result(t, cmd, out, verdict.ExitError)
		if r.Verdict != verdict.Error || r.Reason.Code != verdict.Cancelled {
			t.Errorf("%s: %s (%s) %s", signal, r.Verdict, r.Reason.Code, r.Reason.Text)
		}
		eventually(t, "the trainer is gone", out, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
		if run := w.tracked(t, r); run.Status != mlflow.Killed || run.Metrics["loss"] != 1 {
			t.Errorf("%s: the run in MLflow is %s, %v", signal, run.Status, run.Metrics)
		}
	}
}

func (w *trainWorld) killed(t *testing.T) {
	dir := w.script(t, `[ -f $PENSTOCK_CHECKPOINTS/c ] && exit 7; echo half > $PENSTOCK_CHECKPOINTS/c; echo $$ > pid; exec sleep 100`)
	cmd, out := w.train(t, dir, "--dataset", w.digest, "--run-key", "kill")
	must(t, cmd.Start())
	pid := begun(t, filepath.Join(dir, "pid"), out)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	eventually(t, "the trainer is gone", out, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })

	r := w.run(t, verdict.ExitError, dir, "--dataset", w.digest, "--run-key", "kill")
	if !strings.Contains(r.Reason.Text, "exit code 7") {
		t.Errorf("the next start did not find the checkpoint: %s", r.Reason.Text)
	}
	experiment, err := w.client.Experiment(t.Context(), "xray")
	must(t, err)
	runs, err := w.client.SearchRuns(t.Context(), experiment, "tags.`penstock.run_key` = 'kill'")
	must(t, err)
	if len(runs) != 1 || runs[0].Status != mlflow.Failed {
		t.Errorf("%d runs in MLflow, the first %v: want one, failed", len(runs), runs)
	}
}

func (w *trainWorld) failed(t *testing.T) {
	r := w.run(t, verdict.ExitError, w.script(t, `echo "no such layer"; exit 3`), "--dataset", w.digest)
	if r.Reason.Code != "trainer-failed" || !strings.Contains(r.Reason.Text, "no such layer") || r.Subjects["model"] != "" {
		t.Errorf("%s: %s, subjects %v", r.Reason.Code, r.Reason.Text, r.Subjects)
	}
	if run := w.tracked(t, r); run.Status != mlflow.Failed || !strings.Contains(run.Tags[tagReason], "exit code 3") {
		t.Errorf("the run in MLflow: %s, %v", run.Status, run.Tags)
	}
	r = w.run(t, verdict.ExitError, w.script(t, `echo '{"step": 1, "metrics": {"loss": NaN}}' >> $PENSTOCK_EVENTS; exec sleep 100`), "--dataset", w.digest)
	if r.Reason.Code != "trainer-events" || !strings.Contains(r.Reason.Text, "loss = NaN") {
		t.Errorf("%s: %s", r.Reason.Code, r.Reason.Text)
	}
	r = w.run(t, verdict.ExitError, w.script(t, `true`), "--dataset", w.digest)
	if r.Reason.Code != "trainer-output" || !strings.Contains(r.Reason.Text, "thresholds.json") {
		t.Errorf("%s: %s", r.Reason.Code, r.Reason.Text)
	}
}

func (w *trainWorld) changedGolden(t *testing.T) {
	_, rows, err := dataset.Load(t.Context(), w.bucket, w.digest)
	must(t, err)
	val := dataset.Select(rows, dataset.Val)
	slices.SortFunc(val, func(a, b dataset.Row) int { return strings.Compare(a.SHA256, b.SHA256) })
	key := "raw/" + val[0].File
	original, _, err := w.bucket.Get(t.Context(), key)
	must(t, err)
	must(t, w.bucket.UploadBytes(t.Context(), key, append(slices.Clone(original), 0)))
	t.Cleanup(func() { must(t, w.bucket.UploadBytes(context.Background(), key, original)) })
	r := w.run(t, verdict.ExitError, w.project(t), "--dataset", w.digest)
	if r.Reason.Code != "raw-changed" || !strings.Contains(r.Reason.Text, val[0].File) {
		t.Errorf("%s: %s", r.Reason.Code, r.Reason.Text)
	}
}

func (w *trainWorld) missing(t *testing.T) {
	if r := w.run(t, verdict.ExitUsage, w.project(t)); !strings.Contains(r.Reason.Text, "--dataset") {
		t.Errorf("without a data set: %s", r.Reason.Text)
	}
	nowhere := strings.Repeat("0", 64)
	if r := w.run(t, verdict.ExitError, w.project(t), "--dataset", nowhere); !strings.Contains(r.Reason.Text, nowhere) {
		t.Errorf("unknown data set: %s", r.Reason.Text)
	}
	cmd, out := w.train(t, w.project(t), "--dataset", w.digest)
	cmd.Env = append(cmd.Env, "MLFLOW_TRACKING_URI=")
	must(t, cmd.Start())
	if r := w.result(t, cmd, out, verdict.ExitError); r.Reason.Code != "credentials" || !strings.Contains(r.Reason.Text, "MLFLOW_TRACKING_URI") {
		t.Errorf("without MLflow: %s: %s", r.Reason.Code, r.Reason.Text)
	}
	closed := fmt.Sprintf("http://%s", closedPort(t))
	cmd, out = w.train(t, w.project(t), "--dataset", w.digest)
	cmd.Env = append(cmd.Env, "MLFLOW_TRACKING_URI="+closed)
	must(t, cmd.Start())
	if r := w.result(t, cmd, out, verdict.ExitError); !strings.Contains(r.Reason.Text, closed) {
		t.Errorf("unreachable MLflow: %s", r.Reason.Text)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
