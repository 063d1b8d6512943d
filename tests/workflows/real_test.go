package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// built is the folder of the real programs, built once; TestMain removes it.
var (
	builtIn string
	built   = sync.OnceValues(build)
)

func build() (string, error) {
	dir, err := os.MkdirTemp("", "penstock-workflows-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/penstock")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build penstock: %w\n%s", err, out)
	}
	return dir, nil
}

// exampleHook lays the runner's job-started hook with the list that people
// begin with.
func exampleHook(t *testing.T) string {
	t.Helper()
	programs, err := built()
	must(t, err)
	dir := t.TempDir()
	list, err := os.ReadFile(root + "/runners/hooks/jobs.list.example")
	must(t, err)
	script, err := os.ReadFile(root + "/runners/hooks/job-started.sh")
	must(t, err)
	must(t, os.Symlink(filepath.Join(programs, "penstock"), filepath.Join(dir, "penstock")))
	must(t, os.WriteFile(filepath.Join(dir, "job-started.sh"), script, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "jobs.list"), []byte(strings.ReplaceAll(string(list), "owner/name", repository)), 0o644))
	return filepath.Join(dir, "job-started.sh")
}

// What a fork may change in its own workflow gets it nowhere.
func TestTheRunnersHookRefusesForksAndStrangers(t *testing.T) {
	t.Parallel()
	script := exampleHook(t)
	// The fork has changed runs-on, for which it needs nobody's leave.
	w := newWorld(t, nil)
	w.sha = w.sh(t, w.git, `sed -i 's/runs-on: ubuntu-24.04/runs-on: [self-hosted, gpu]/; s/^\( *\)- if: .*/\1- if: always()/' .github/workflows/pull-request.yml
git commit -q -a -m 'a fork can'; git rev-parse HEAD`)
	s := w.spec(t, "pull-request.yml", pullOfFork)
	s.Hook = script
	o := w.run(t, s)
	o.wantJobs(t, map[string]string{"": "failure", "check": "failure", "dataset": "skipped", "train": "skipped", "judge": "skipped", "comment": "skipped"})
	o.wantReason(t, "check", "comes from the fork evil/chest")
	if len(o.calls) != 0 {
		t.Errorf("the fork's job ran: %q", o.programs())
	}

	// So does a workflow that nobody has put on the list.
	w = newWorld(t, nil)
	s = w.spec(t, "train.yml", event{name: "workflow_dispatch", ref: "refs/heads/elsewhere", payload: `{"inputs": {}}`})
	s.Hook = script
	o = w.run(t, s)
	o.wantReason(t, "dataset", "is not on this runner's list")
	if o.Conclusion != actrun.Failure || len(o.calls) != 0 {
		t.Errorf("the run is %s; called: %q", o.Conclusion, o.programs())
	}
}

// trainer waits at its first start, and ends at its second, which finds its
// checkpoint. What it starts is in a session of its own.
const trainer = `trap 'kill $!; exit 130' INT
if [ ! -f "$PENSTOCK_CHECKPOINTS/begun" ]; then
	touch "$PENSTOCK_CHECKPOINTS/begun"
	sleep 1000 & echo training has begun
	wait
fi
exec /usr/bin/python3 "$(dirname "$0")/train.py"
`

// The real penstock train, cancelled in the middle of a training.
func TestACancelledTrainingLeavesItsReasonAndCanBeStartedAgain(t *testing.T) {
	t.Parallel()
	s3 := servertest.MinIO(t)
	tracking := servertest.MLflow(t, s3)
	w := newWorld(t, nil)
	programs, err := built()
	must(t, err)
	must(t, os.Symlink(programs, filepath.Join(w.dir, "real")))
	digest, bucket := w.project(t, s3)
	w.answers(t, scenario{"dataset": {Outputs: map[string]string{"dataset": digest}}, "train": {Real: true}})
	w.env["PENSTOCK_CACHE"] = filepath.Join(w.dir, "cache")

	s := w.spec(t, "train.yml", batch)
	s.Secrets["AWS_ACCESS_KEY_ID"], s.Secrets["AWS_SECRET_ACCESS_KEY"] = s3.AccessKey, s3.SecretKey
	s.Secrets["MLFLOW_TRACKING_TOKEN"] = ""
	s.Vars = map[string]string{"AWS_ENDPOINT_URL_S3": s3.Endpoint, "AWS_REGION": servertest.Region, "MLFLOW_TRACKING_URI": tracking}

	cancelled := w.cancelAt(t, s, "training has begun")
	want := map[string]string{"": "cancelled"}
	for _, j := range cancelled.Jobs {
		want[j.ID] = "cancelled"
	}
	want["dataset"] = "success"
	cancelled.wantJobs(t, want)
	r := kept(t, bucket, "runs/k1/2/train.error.json")
	if r.Verdict != verdict.Error || r.Reason.Code != verdict.Cancelled {
		t.Errorf("the result says %s (%s) %s\n%s", r.Verdict, r.Reason.Code, r.Reason.Text, cancelled.logs())
	}

	again := w.run(t, s)
	again.wantJobs(t, nil)
	r = kept(t, bucket, "runs/k1/2/train.json")
	if model := again.job(t, "train").Outputs["model"]; r.Verdict != verdict.Pass || model == "" || r.Subjects["model"] != model {
		t.Errorf("the second start gave %s, model %q; its result %v", r.Verdict, model, r.Subjects)
	}
}

// cancelAt cancels the run as soon as the text stands in its log.
func (w *world) cancelAt(t *testing.T, s actrun.Spec, text string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var once sync.Once
	seen := false
	result, err := actrun.Run(ctx, s, func(e actrun.Event) {
		if e.Kind == actrun.Log && strings.Contains(e.Text, text) {
			once.Do(func() { seen = true; cancel() })
		}
	})
	must(t, err)
	o := outcome{result, nil}
	if !seen {
		t.Fatalf("%q never stood in the log:\n%s", text, o.logs())
	}
	w.noProcessLeft(t)
	return o
}

// noProcessLeft looks for processes with the test's folder in their
// environment, command line or working folder, servers aside.
func (w *world) noProcessLeft(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	must(t, err)
	for _, e := range entries {
		at := filepath.Join("/proc", e.Name())
		line, err := os.ReadFile(filepath.Join(at, "cmdline"))
		if err != nil || len(line) == 0 {
			continue // no process, or one that has ended
		}
		env, _ := os.ReadFile(filepath.Join(at, "environ")) // empty of another person's
		cwd, _ := os.Readlink(filepath.Join(at, "cwd"))
		for _, text := range []string{string(line), string(env), cwd} {
			if strings.Contains(text, w.dir) {
				t.Errorf("the process %s is left: %q", e.Name(), line)
				break
			}
		}
	}
}

// project puts a data set into a bucket and the trainer into the checkout.
func (w *world) project(t *testing.T, s3 *servertest.S3) (string, *objectstore.Bucket) {
	t.Helper()
	name := servertest.Bucket(t, s3)
	bucket, err := objectstore.Open(objectstore.Credentials{Endpoint: s3.Endpoint, Region: servertest.Region, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey}, name)
	must(t, err)
	example := filepath.Join(w.git, "examples", "xray")
	must(t, os.WriteFile(filepath.Join(example, "train.sh"), []byte(trainer), 0o600))
	w.sha = w.sh(t, example, `sed -i 's/^  bucket: xray/  bucket: `+name+`/; s/epochs: [0-9]*/epochs: 1/; s/command: .*/command: [\/bin\/sh, train.sh]/' penstock.yaml
grep -q 'command: \[/bin/sh, train.sh\]' penstock.yaml; grep -q 'bucket: `+name+`' penstock.yaml; grep -q 'epochs: 1$\|epochs: 1[,}]' penstock.yaml
git add -A; git commit -q -m 'a trainer that waits'; git push -q origin HEAD:main; git rev-parse HEAD`)
	w.sh(t, w.dir, "/usr/bin/python3 "+example+"/synthesize --patients 40 --out batch")
	files, err := os.ReadDir(filepath.Join(w.dir, "batch"))
	must(t, err)
	for _, f := range files {
		must(t, bucket.Upload(t.Context(), "raw/one/"+f.Name(), filepath.Join(w.dir, "batch", f.Name())))
	}
	p, err := project.Read(filepath.Join(example, "penstock.yaml"))
	must(t, err)
	objects, err := bucket.List(t.Context(), "raw/one/")
	must(t, err)
	request := dataset.Request{Config: p.Data, Labels: p.LabelNames(), Batch: dataset.Batch{Key: "one", Prefix: "raw/one/"}, Limits: imaging.DefaultLimits}
	for _, o := range objects {
		request.Batch.Objects = append(request.Batch.Objects, dataset.Object{Key: o.Key, ETag: o.ETag, Size: o.Size})
	}
	grown, err := dataset.Grow(t.Context(), bucket, request)
	must(t, err)
	return grown.Dataset.Digest, bucket
}

// kept reads a result from the bucket.
func kept(t *testing.T, bucket *objectstore.Bucket, key string) verdict.Result {
	t.Helper()
	data, _, err := bucket.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	var r verdict.Result
	must(t, json.Unmarshal(data, &r))
	return r
}
