package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

const (
	root       = "../.."
	repository = "acme/chest"
)

// world is a checkout of the project's workflows, actions and example, with a
// remote, and the stand-ins on the PATH.
type world struct {
	dir string // of the test: record, scenario, artifacts
	git string // the checkout
	sha string
	env map[string]string
}

func newWorld(t *testing.T, s scenario) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dir: dir, git: filepath.Join(dir, "checkout")}
	bin := filepath.Join(dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	program, err := os.Executable()
	must(t, err)
	for _, name := range append([]string{"penstock", "penstock-serve"}, others...) {
		must(t, os.Symlink(program, filepath.Join(bin, name)))
	}
	from, err := filepath.Abs(root)
	must(t, err)
	w.sh(t, dir, `
git init -q --bare -b main srv/`+repository+`.git
git clone -q srv/`+repository+`.git checkout 2>/dev/null
cd checkout
git config user.name test; git config user.email test@example.com
cp -R `+from+`/.github `+from+`/actions .
mkdir examples; cp -R `+from+`/examples/xray examples/
git add -A; git commit -q -m all; git push -q origin HEAD:main; git fetch -q`)
	w.sha = w.sh(t, w.git, "git rev-parse HEAD")
	w.env = map[string]string{
		"PATH": bin + ":" + os.Getenv("PATH"), "PENSTOCK_TEST_DIR": dir, "RUNNER_TOOL_CACHE": filepath.Join(dir, "tools"),
		"GITHUB_SERVER_URL": "file://" + dir + "/srv", "GITHUB_API_URL": "http://127.0.0.1:9/api/v3",
	}
	w.answers(t, s)
	return w
}

func (w *world) answers(t *testing.T, s scenario) {
	t.Helper()
	data, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(w.dir, "scenario.json"), data, 0o600))
}

func (w *world) sh(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-ec", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// secrets are of one word each, so that the record can be looked through.
var secrets = map[string]string{
	"AWS_ACCESS_KEY_ID": "line-key", "AWS_SECRET_ACCESS_KEY": "line-secret", "MLFLOW_TRACKING_TOKEN": "mlflow-token",
	"PENSTOCK_PR_AWS_ACCESS_KEY_ID": "pull-key", "PENSTOCK_PR_AWS_SECRET_ACCESS_KEY": "pull-secret",
	"PENSTOCK_ADMIN_TOKEN": "admin-token", "PENSTOCK_ROUTER_TOKEN": "router-token", "GITHUB_TOKEN": "job-token",
}

// event is an event as GitHub would send it.
type event struct {
	name    string
	ref     string // "" is the default branch
	payload string // without repository, which is added
	fork    bool   // secrets are withheld
}

func (w *world) spec(t *testing.T, workflow string, e event) actrun.Spec {
	t.Helper()
	payload := map[string]any{}
	if e.payload != "" {
		must(t, json.Unmarshal([]byte(e.payload), &payload))
	}
	payload["repository"] = map[string]any{"full_name": repository, "default_branch": "main", "private": false}
	data, err := json.Marshal(payload)
	must(t, err)
	s := actrun.Spec{
		ID: 42, Attempt: 2, Dir: w.git, Workflow: ".github/workflows/" + workflow, Event: e.name, Payload: data,
		Ref: e.ref, SHA: w.sha, Repository: repository, Actor: "someone", DefaultBranch: "main",
		Env: w.env, Secrets: maps.Clone(secrets), Labels: []string{"self-hosted", "penstock", "gpu", "ubuntu-24.04-arm"},
		Vars:         map[string]string{"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_REGION": "us-east-1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
		LocalActions: localActions(t),
	}
	if s.Ref == "" {
		s.Ref = "refs/heads/main"
	}
	if e.fork {
		s.Secrets = map[string]string{"GITHUB_TOKEN": "job-token"}
	}
	return s
}

var thirdParty = regexp.MustCompile(`uses: (actions/([a-z-]+)@[0-9a-f]{40})`)

// localActions gives every third-party action that a workflow names its
// stand-in; actions/checkout is act's own.
func localActions(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, path := range workflowFiles(t) {
		data, err := os.ReadFile(path)
		must(t, err)
		for _, m := range thirdParty.FindAllStringSubmatch(string(data), -1) {
			if m[2] == "checkout" {
				continue
			}
			dir, err := filepath.Abs(filepath.Join("testdata", "actions", m[2]))
			must(t, err)
			if _, err := os.Stat(dir); err != nil {
				t.Fatalf("%s uses %s, which has no stand-in in testdata/actions", path, m[1])
			}
			found[m[1]] = dir
		}
	}
	return found
}

func workflowFiles(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(root + "/.github/workflows/*.yml")
	must(t, err)
	if len(paths) == 0 {
		t.Fatal("no workflows in .github/workflows")
	}
	return paths
}

// outcome is a run as the tests look at it.
type outcome struct {
	actrun.Result
	calls []call
}

func (w *world) run(t *testing.T, s actrun.Spec) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := actrun.Run(ctx, s, func(actrun.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	return outcome{result, w.calls(t)}
}

// calls reads the record.
func (w *world) calls(t *testing.T) []call {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, "record"))
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	var all []call
	for line := range strings.Lines(string(data)) {
		var c call
		must(t, json.Unmarshal([]byte(line), &c))
		all = append(all, c)
	}
	return all
}

// jobs is the run's conclusion under "" and each job's under its ID.
func (o outcome) jobs() map[string]string {
	all := map[string]string{"": o.Conclusion}
	for _, j := range o.Jobs {
		all[j.ID] = j.Conclusion
	}
	return all
}

func (o outcome) job(t *testing.T, id string) actrun.Job {
	t.Helper()
	for _, j := range o.Jobs {
		if j.ID == id {
			return j
		}
	}
	t.Fatalf("the run has no job %s", id)
	return actrun.Job{}
}

// programs are the calls as "job: program words…".
func (o outcome) programs() []string {
	var all []string
	for _, c := range o.calls {
		all = append(all, c.Job+": "+c.Program+" "+strings.Join(c.Args, " "))
	}
	return all
}

func (o outcome) call(t *testing.T, job, command string) call {
	t.Helper()
	for _, c := range o.calls {
		if c.Job == job && slices.Contains(append(c.Args[:min(1, len(c.Args)):1], c.Program), command) {
			return c
		}
	}
	t.Fatalf("%s was not called in the job %s: %q", command, job, o.programs())
	return call{}
}

// wantJobs compares the conclusions; "success" may be left out.
func (o outcome) wantJobs(t *testing.T, want map[string]string) {
	t.Helper()
	full := map[string]string{}
	for id := range o.jobs() {
		full[id] = "success"
	}
	maps.Copy(full, want)
	if diff := cmp.Diff(full, o.jobs()); diff != "" {
		t.Errorf("conclusions (-want +got):\n%s\n%s", diff, o.logs())
	}
}

func (o outcome) logs() string {
	var b strings.Builder
	for _, j := range o.Jobs {
		for _, s := range j.Steps {
			fmt.Fprintf(&b, "== %s / %s: %s\n%s", j.ID, s.Name, s.Conclusion, s.Log)
		}
	}
	return b.String()
}

// wantReason wants a text in the first lines of the job's first failing step.
func (o outcome) wantReason(t *testing.T, id, text string) {
	t.Helper()
	for _, s := range o.job(t, id).Steps {
		if s.Conclusion != actrun.Failure {
			continue
		}
		lines := strings.SplitN(s.Log, "\n", 4)
		if first := strings.Join(lines[:min(3, len(lines))], "\n"); !strings.Contains(first, text) {
			t.Errorf("%s: the first lines of %q lack %q:\n%s", id, s.Name, text, s.Log)
		}
		return
	}
	t.Errorf("%s has no failing step", id)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
