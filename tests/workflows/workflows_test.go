// Package workflows runs every workflow of .github/workflows by act, for each
// of its events, and for its refusals. The commands are stand-ins with the real
// action layer around them: they answer what the test says, with the outputs,
// summaries and exit codes of the real ones, and write down how they were
// called.
package workflows

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// The events, in GitHub's shapes, cut to what the workflows read.
var (
	pullOfBranch = event{name: "pull_request", ref: "refs/pull/12/merge", payload: `{"action": "opened", "number": 12, "pull_request": {"number": 12,
		"head": {"ref": "slower", "repo": {"full_name": "acme/chest"}}, "base": {"ref": "main", "repo": {"full_name": "acme/chest"}}}}`}
	pullOfFork = event{name: "pull_request", ref: "refs/pull/13/merge", fork: true, payload: `{"action": "opened", "number": 13, "pull_request": {"number": 13,
		"head": {"ref": "evil", "repo": {"full_name": "evil/chest"}}, "base": {"ref": "main", "repo": {"full_name": "acme/chest"}}}}`}
	runOfFork = event{name: "workflow_run", payload: `{"action": "completed", "workflow_run": {"id": 77, "event": "pull_request",
		"head_repository": {"full_name": "evil/chest"}, "repository": {"full_name": "acme/chest"}}}`}
	runOfBranch = event{name: "workflow_run", payload: `{"action": "completed", "workflow_run": {"id": 77, "event": "pull_request",
		"head_repository": {"full_name": "acme/chest"}, "repository": {"full_name": "acme/chest"}}}`}
	pushToMain = event{name: "push", payload: `{"ref": "refs/heads/main"}`}
	schedule   = event{name: "schedule", payload: `{"schedule": "17 3 * * 1"}`}
	byHand     = event{name: "workflow_dispatch", payload: `{"inputs": {}, "ref": "refs/heads/main"}`}
	batch      = event{name: "workflow_dispatch", payload: `{"inputs": {"batch": "b1", "run_key": "k1"}, "ref": "refs/heads/main"}`}
	dispatched = event{name: "repository_dispatch", payload: `{"action": "train", "branch": "main", "client_payload": {"batch": "b2", "run_key": "k2"}}`}
	deployTag  = event{name: "push", ref: "refs/tags/deploy/xray/v3", payload: `{"ref": "refs/tags/deploy/xray/v3"}`}
	versionTag = event{name: "push", ref: "refs/tags/v1.2.3", payload: `{"ref": "refs/tags/v1.2.3"}`}
	version    = event{name: "workflow_dispatch", payload: `{"inputs": {"version": "v1.2.3"}, "ref": "refs/heads/main"}`}
)

// sure is a case that passes: which jobs do not simply succeed, and what is
// called, in order.
type sure struct {
	event   event
	answers scenario
	jobs    map[string]string // those that are not success
	calls   []string          // "job: program words"
	check   func(*testing.T, outcome)
}

const lineCalls = `dataset: penstock dataset
train: penstock train
predict: penstock-serve predict
evaluate: penstock evaluate
gate: penstock gate
register: penstock register`

const deployCalls = `resolve: penstock resolve
staging: penstock deploy
loadtest: penstock loadtest
gate: penstock gate
production: penstock rollout`

var line = strings.Split(lineCalls+"\n"+deployCalls, "\n")

var releaseCalls = []string{
	"build: setup-go ", "build: make release VERSION=v1.2.3 PROGRAMS=toolkit serve",
	"build: setup-go ", "build: make release VERSION=v1.2.3 PROGRAMS=serve",
}

// releasing lets make and gh do what the workflow asks of their files.
var releasing = scenario{
	"make": {Script: `[[ $1 != release ]] || { mkdir -p dist; for p in ${3#PROGRAMS=}; do echo "$p" >"dist/$p.tar.gz"; done; }`},
}

var passing = map[string]map[string]sure{
	"ci.yml": {
		"push":              {event: pushToMain, calls: []string{"test: setup-go ", "test: make test"}},
		"pull_request":      {event: pullOfFork, calls: []string{"test: setup-go ", "test: make test"}},
		"workflow_dispatch": {event: byHand, calls: []string{"test: setup-go ", "test: make test"}},
	},
	"release.yml": {
		"push": {event: versionTag, answers: releasing, calls: append(slices.Clone(releaseCalls),
			"publish: make release-verify VERSION=v1.2.3", "publish: attest-build-provenance ",
			"publish: gh release create v1.2.3 --verify-tag --title v1.2.3 --notes-from-tag dist/serve.tar.gz dist/toolkit.tar.gz")},
		"workflow_dispatch": {event: version, answers: releasing, calls: append(slices.Clone(releaseCalls), "publish: make release-sums VERSION=v1.2.3")},
	},
	"watch.yml": {
		"schedule":          {event: schedule, calls: []string{"watch: penstock watch"}},
		"workflow_dispatch": {event: byHand, calls: []string{"watch: penstock watch"}},
	},
	"train.yml": {
		"workflow_dispatch":   {event: batch, calls: line, check: handsOn},
		"repository_dispatch": {event: dispatched, calls: line, check: goesBy("b2", "k2", "k2")},
		"schedule":            {event: schedule, calls: line, check: goesBy("", "", "dataset-run_key")},
		"push":                {event: pushToMain, calls: line, check: goesBy("", "", "dataset-run_key")},
	},
	"deploy.yml": {
		"push": {event: deployTag, calls: strings.Split(deployCalls, "\n")},
		// Called with the outputs of train, and its secrets: in train.yml above.
		"workflow_call": {},
	},
	"rollback.yml": {
		"workflow_dispatch": {event: byHand, calls: []string{"rollback: penstock rollback"}},
	},
	"pull-request.yml": {
		"pull_request": {event: pullOfBranch, calls: []string{
			"dataset: penstock dataset", "train: penstock train", "judge: penstock-serve predict", "judge: penstock evaluate", "judge: penstock gate", "comment: penstock comment",
		}},
	},
	"pull-request-comment.yml": {
		"workflow_run": {event: runOfFork, calls: []string{"comment: penstock comment"}},
	},
}

// Every self-hosted job passes the runner's hook, with the list that
// runners/README.md tells people to begin with.
func TestEveryWorkflowRunsForEachOfItsEvents(t *testing.T) {
	script := exampleHook(t)
	for _, path := range workflowFiles(t) {
		file := filepath.Base(path)
		for _, name := range eventsOf(t, path) {
			c, ok := passing[file][name]
			if !ok {
				t.Errorf("%s runs on %s: give it a case here", file, name)
				continue
			}
			if c.event.name == "" {
				continue
			}
			t.Run(file+" by "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, c.answers)
				w.artifact(t, "comment", "facts.json", "{}")
				if tag, ok := strings.CutPrefix(c.event.ref, "refs/tags/"); ok {
					w.sh(t, w.git, "git tag "+tag)
				}
				s := w.spec(t, file, c.event)
				s.Hook = script
				o := w.run(t, s)
				o.wantJobs(t, c.jobs)
				if diff := cmp.Diff(c.calls, o.programs()); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
				o.wantNoSecretIn(t)
				want := credentials[file]
				if file == "release.yml" && name == "workflow_dispatch" {
					want = nil // releases nothing
				}
				o.wantCredentials(t, want)
				if c.check != nil {
					c.check(t, o)
				}
			})
		}
	}
}

// eventsOf reads the events of a workflow file.
func eventsOf(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	var file struct {
		On yaml.MapSlice `yaml:"on"`
	}
	must(t, yaml.Unmarshal(data, &file))
	var names []string
	for _, item := range file.On {
		names = append(names, item.Key.(string))
	}
	if len(names) == 0 {
		t.Fatalf("%s has no events in the long form", path)
	}
	return names
}

// artifact lays an artifact as an earlier run would have left it.
func (w *world) artifact(t *testing.T, name, file, text string) {
	t.Helper()
	dir := filepath.Join(w.dir, "artifacts", name)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
}

// wantNoSecretIn looks through all that people can read.
func (o outcome) wantNoSecretIn(t *testing.T) {
	t.Helper()
	for _, j := range o.Jobs {
		for name, secret := range secrets {
			for what, text := range map[string]string{"log": o.logs(), "summary": j.Summary, "outputs": strings.Join(valuesOf(j.Outputs), " ")} {
				if strings.Contains(text, secret) {
					t.Errorf("the secret %s stands in the %s of %s", name, what, j.ID)
				}
			}
		}
	}
}

func valuesOf(m map[string]string) []string {
	var all []string
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// What a batch's run hands on: keys and digests by outputs, results by the
// bucket.
func handsOn(t *testing.T, o outcome) {
	for _, c := range []struct {
		job, command string
		want         map[string]string
	}{
		{"dataset", "dataset", map[string]string{"batch": "b1", "run-key": "k1", "attempt": "2", "config": "examples/xray/penstock.yaml"}},
		{"train", "train", map[string]string{"dataset": "dataset-dataset", "run-key": "k1", "attempt": "2"}},
		{"predict", "predict", map[string]string{"run-key": "k1", "from": "step:train", "model": "dataset-champion", "dataset": "dataset-champion_dataset"}},
		{"evaluate", "evaluate", map[string]string{"run-key": "k1", "from": "step:train\nstep:predict\n", "champion": "dataset-champion", "champion-dataset": "dataset-champion_dataset", "batch": "b1"}},
		{"gate", "gate", map[string]string{"run-key": "k1", "stage": "offline", "from": "step:evaluate"}},
		{"register", "register", map[string]string{"run-key": "k1", "from": "step:gate-offline"}},
		{"resolve", "resolve", map[string]string{"run-key": "k1", "attempt": "2", "model": "register-model"}},
		{"staging", "deploy", map[string]string{"run-key": "k1", "attempt": "2", "environment": "staging", "model": "register-model"}},
		{"loadtest", "loadtest", map[string]string{"run-key": "k1", "environment": "staging", "model": "register-model"}},
		{"production", "rollout", map[string]string{"run-key": "k1", "attempt": "2", "from": "step:gate-release"}},
	} {
		got := o.call(t, c.job, c.command).Inputs
		for name, value := range c.want {
			if strings.TrimSpace(got[name]) != strings.TrimSpace(value) {
				t.Errorf("%s: input %s is %q, want %q", c.job, name, got[name], value)
			}
		}
	}
	train := o.job(t, "train")
	if train.Outputs["verdict"] != "pass" || train.Outputs["model"] != "train-model" || !strings.Contains(train.Summary, "train: pass") {
		t.Errorf("outputs %v, summary %q", train.Outputs, train.Summary)
	}
	if got := o.job(t, "outcome").Summary; !strings.HasPrefix(got, "**pass**") {
		t.Errorf("the outcome's summary is %q", got)
	}
	for id, environment := range map[string]string{"deploy/staging": "staging", "deploy/production": "production"} {
		if got := o.job(t, id).Environment; got != environment {
			t.Errorf("%s deploys to %q", id, got)
		}
	}
}

// goesBy is of a run whose dataset was asked for batch and key, and whose later
// steps go by a key: without a batch by the one that dataset computed.
func goesBy(batch, asked, key string) func(*testing.T, outcome) {
	return func(t *testing.T, o outcome) {
		if got := o.call(t, "dataset", "dataset").Inputs; got["batch"] != batch || got["run-key"] != asked {
			t.Errorf("dataset got %v", got)
		}
		for job, command := range map[string]string{"train": "train", "register": "register", "production": "rollout"} {
			if got := o.call(t, job, command).Inputs["run-key"]; got != key {
				t.Errorf("%s got the run key %q, want %q", job, got, key)
			}
		}
	}
}

// credentials are what the commands of each job get, by workflow: those that
// they need and no others. A job that is not named here gets none.
var credentials = map[string]map[string][]string{
	"train.yml": {
		"dataset": ofLine(mlflow), "train": ofLine(mlflow), "predict": ofLine(), "evaluate": ofLine(), "register": ofLine(mlflow),
		"resolve": ofLine(mlflow), "staging": ofLine(mlflow, admin), "loadtest": ofLine(), "production": ofLine(mlflow, admin, router),
		"gate": ofLine(mlflow), // of both, and the release gate has no use for MLflow's
	},
	"deploy.yml": {
		"resolve": ofLine(mlflow), "staging": ofLine(mlflow, admin), "loadtest": ofLine(), "gate": ofLine(),
		"production": ofLine(mlflow, admin, router),
	},
	"rollback.yml":             {"rollback": ofLine(mlflow, admin, router)},
	"watch.yml":                {"watch": ofLine(token)},
	"pull-request.yml":         {"dataset": ofPull(mlflow), "train": ofPull(mlflow), "judge": ofPull(mlflow), "comment": ofPull(token)},
	"pull-request-comment.yml": {"comment": {token}},
	"release.yml":              {"publish": {"GH_TOKEN=job-token"}},
}

const (
	mlflow = "MLFLOW_TRACKING_TOKEN=mlflow-token"
	admin  = "PENSTOCK_ADMIN_TOKEN=admin-token"
	router = "PENSTOCK_ROUTER_TOKEN=router-token"
	token  = "GITHUB_TOKEN=job-token"
)

func ofLine(more ...string) []string {
	return append([]string{"AWS_ACCESS_KEY_ID=line-key", "AWS_SECRET_ACCESS_KEY=line-secret"}, more...)
}

func ofPull(more ...string) []string {
	return append([]string{"AWS_ACCESS_KEY_ID=pull-key", "AWS_SECRET_ACCESS_KEY=pull-secret"}, more...)
}

// wantCredentials wants of each job's calls together exactly these.
func (o outcome) wantCredentials(t *testing.T, want map[string][]string) {
	t.Helper()
	got := map[string][]string{}
	for _, c := range o.calls {
		got[c.Job] = append([]string{}, got[c.Job]...) // also a job that got none
		for name, value := range c.Env {
			pair := name + "=" + value
			if slices.Contains(valuesOf(secrets), value) && !slices.Contains(got[c.Job], pair) {
				got[c.Job] = append(got[c.Job], pair)
			}
		}
		slices.Sort(got[c.Job])
	}
	for job, pairs := range got {
		wanted := slices.Sorted(slices.Values(want[job]))
		if diff := cmp.Diff(wanted, slices.Clip(pairs)); diff != "" && len(wanted)+len(pairs) > 0 {
			t.Errorf("credentials of the job %s (-want +got):\n%s", job, diff)
		}
	}
}

// red is a run that must not be green, and what must not have started.
type red struct {
	workflow string
	event    event
	answers  scenario
	jobs     map[string]string // all that are not success
	job      string            // that says why
	reason   string            // in its first lines
	summary  string            // in its summary
}

func skipped(ids ...string) map[string]string {
	all := map[string]string{"": "failure"}
	for _, id := range ids {
		all[id] = "skipped"
	}
	return all
}

func failing(all map[string]string, ids ...string) map[string]string {
	for _, id := range ids {
		all[id] = "failure"
	}
	return all
}

var deployJobs = []string{"deploy/resolve", "deploy/staging", "deploy/loadtest", "deploy/gate", "deploy/production"}

func after(job string, more ...string) []string {
	order := []string{"dataset", "train", "predict", "evaluate", "gate", "register"}
	return append(append(slices.Clone(order[slices.Index(order, job)+1:]), deployJobs...), more...)
}

var reds = map[string]red{
	"the offline gate says no": {
		"train.yml", batch,
		scenario{"gate": {Verdict: verdict.Reject, Code: "worse", Text: "macro AUROC fell by 0.08"}},
		failing(skipped(after("gate")...), "gate", "outcome"), "gate", "gate%3A reject::macro AUROC fell by 0.08", "macro AUROC fell by 0.08",
	},
	"the offline gate cannot tell": {
		"train.yml", batch,
		scenario{"gate": {Verdict: verdict.Inconclusive, Code: "undecided", Text: "81 examples, 200 are wanted"}},
		failing(skipped(after("gate")...), "gate", "outcome"), "gate", "gate%3A inconclusive::81 examples, 200 are wanted", "81 examples",
	},
	"the gate breaks and leaves nothing": {
		"train.yml", batch,
		scenario{"gate": {Crash: true}},
		failing(skipped(after("gate")...), "gate", "outcome"), "gate", "everything is broken", "",
	},
	"no data set comes out": {
		"train.yml", batch,
		scenario{"dataset": {Verdict: verdict.Error, Code: "failed", Text: "the bucket does not answer"}},
		failing(skipped(after("dataset")...), "dataset", "outcome"), "dataset", "the bucket does not answer", "the bucket does not answer",
	},
	"the trainer dies": {
		"train.yml", batch,
		scenario{"train": {Verdict: verdict.Error, Code: "trainer", Text: "the trainer ended with 137"}},
		failing(skipped(after("train")...), "train", "outcome"), "train", "the trainer ended with 137", "",
	},
	"staging takes too long": {
		"deploy.yml", deployTag,
		scenario{
			"loadtest":  {Verdict: verdict.Reject, Code: "over-slo", Text: "p99 is 1.2 s"},
			"gate:gate": {Verdict: verdict.Reject, Code: "over-slo", Text: "the load test says no"},
		},
		failing(skipped("production"), "loadtest", "gate"), "gate", "the load test says no", "",
	},
	"the load test measures nothing": {
		"deploy.yml", deployTag,
		scenario{
			"loadtest": {Verdict: verdict.Inconclusive, Code: "invalid", Text: "the driver was too slow"},
			"gate":     {Verdict: verdict.Inconclusive, Code: "invalid", Text: "no valid load test"},
		},
		failing(skipped("production"), "loadtest", "gate"), "gate", "no valid load test", "",
	},
	"the load test breaks": {
		"deploy.yml", deployTag,
		scenario{"loadtest": {Crash: true}},
		failing(skipped("gate", "production"), "loadtest"), "loadtest", "everything is broken", "",
	},
	"staging does not take the model": {
		"deploy.yml", deployTag,
		scenario{"deploy": {Verdict: verdict.Reject, Code: "goldens", Text: "goldens differ by 0.2"}},
		failing(skipped("loadtest", "gate", "production"), "staging"), "staging", "goldens differ by 0.2", "",
	},
	"the canary is worse": {
		"deploy.yml", deployTag,
		scenario{"rollout": {Verdict: verdict.Reject, Code: "errors", Text: "the canary fails 4% of the requests"}},
		failing(skipped(), "production"), "production", "the canary fails 4% of the requests", "",
	},
	"the canary had too few requests": {
		"deploy.yml", deployTag,
		scenario{"rollout": {Verdict: verdict.Inconclusive, Code: "undecided", Text: "12 requests until the deadline"}},
		failing(skipped(), "production"), "production", "12 requests until the deadline", "",
	},
	"a canary of a new model is worse": {
		"train.yml", batch,
		scenario{"rollout": {Verdict: verdict.Reject, Code: "errors", Text: "the canary fails 4% of the requests"}},
		failing(skipped(), "deploy/production"), "deploy/production", "the canary fails 4% of the requests", "",
	},
	"there is nothing to go back to": {
		"rollback.yml", byHand,
		scenario{"rollback": {Verdict: verdict.Error, Code: "no-previous", Text: "the canary slot keeps no earlier model"}},
		failing(skipped(), "rollback"), "rollback", "keeps no earlier model", "",
	},
	"the bucket cannot be watched": {
		"watch.yml", schedule,
		scenario{"watch": {Verdict: verdict.Error, Code: "failed", Text: "the bucket does not answer"}},
		failing(skipped(), "watch"), "watch", "the bucket does not answer", "",
	},
	"a test fails": {
		"ci.yml", pushToMain,
		scenario{"make": {Script: "echo '--- FAIL: TestX'; exit 2"}},
		failing(skipped(), "test"), "test", "--- FAIL: TestX", "",
	},
	"a release differs from what is pinned": {
		"release.yml", versionTag,
		scenario{"make": {Script: releasing["make"].Script + `; [[ $1 != release-verify ]] || { echo "serve.tar.gz differs from actions/setup/release"; exit 1; }`}},
		failing(skipped(), "publish"), "publish", "differs from actions/setup/release", "",
	},
}

func TestRefusalsAreRedAndStartNothing(t *testing.T) {
	for name, c := range reds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.answers)
			if tag, ok := strings.CutPrefix(c.event.ref, "refs/tags/"); ok {
				w.sh(t, w.git, "git tag "+tag)
			}
			o := w.run(t, w.spec(t, c.workflow, c.event))
			o.wantJobs(t, c.jobs)
			o.wantReason(t, c.job, c.reason)
			if got := o.job(t, c.job).Summary; !strings.Contains(got, c.summary) {
				t.Errorf("the summary lacks %q: %q", c.summary, got)
			}
			for _, call := range o.programs() {
				if strings.Contains(call, "gh release") {
					t.Errorf("called all the same: %s", call)
				}
			}
		})
	}
}

// A tag that nobody merged deploys nothing and releases nothing.
func TestTagsOffTheDefaultBranchAreRefused(t *testing.T) {
	t.Parallel()
	for workflow, c := range map[string]struct {
		event event
		job   string
		jobs  map[string]string
	}{
		"deploy.yml":  {deployTag, "resolve", failing(skipped("staging", "loadtest", "gate", "production"), "resolve")},
		"release.yml": {versionTag, "check", failing(skipped("build", "publish"), "check")},
	} {
		w := newWorld(t, nil)
		w.sha = w.sh(t, w.git, "git checkout -q --detach; git commit -q --allow-empty -m aside; git tag "+strings.TrimPrefix(c.event.ref, "refs/tags/")+"; git rev-parse HEAD")
		o := w.run(t, w.spec(t, workflow, c.event))
		o.wantJobs(t, c.jobs)
		o.wantReason(t, c.job, "does not lie on main")
		if len(o.calls) != 0 {
			t.Errorf("%s: called all the same: %q", workflow, o.programs())
		}
	}
}

func TestDeployOfWhatIsServedAlreadyDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scenario{"resolve": {Outputs: map[string]string{"serving": "true"}}})
	w.sh(t, w.git, "git tag deploy/xray/v3")
	o := w.run(t, w.spec(t, "deploy.yml", deployTag))
	o.wantJobs(t, map[string]string{"staging": "skipped", "loadtest": "skipped", "gate": "skipped", "production": "skipped"})
	if got := o.call(t, "resolve", "resolve").Inputs["tag"]; got != "deploy/xray/v3" {
		t.Errorf("resolve got the tag %q", got)
	}
}

// The tag that rollout sets for a promoted version reaches the remote; a
// rollout that promoted nothing leaves none.
func TestDeployPushesTheTagOfTheVersion(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{"git tag -a -m x model/xray/v3": "model/xray/v3", "": ""} {
		w := newWorld(t, scenario{"rollout": {Script: script}})
		w.sh(t, w.git, "git tag deploy/xray/v3")
		o := w.run(t, w.spec(t, "deploy.yml", deployTag))
		o.wantJobs(t, nil)
		if got := w.sh(t, w.dir, "git -C srv/"+repository+".git tag --list 'model/*'"); got != want {
			t.Errorf("the remote has the tags %q, want %q\n%s", got, want, o.logs())
		}
	}
}

// A fork's pull request: lint and tests on a hosted runner, no secret, nothing
// on a runner of one's own, and its comment as an artifact for the second
// workflow, which has the right to comment.
func TestAForksPullRequestReachesNoRunnerOfOnesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scenario{"comment": {Script: `[[ -z $INPUT_ARTIFACT ]] || { mkdir -p "$INPUT_ARTIFACT"; echo '{"says": "fine"}' >"$INPUT_ARTIFACT/facts.json"; }`}})
	o := w.run(t, w.spec(t, "pull-request.yml", pullOfFork))
	o.wantJobs(t, map[string]string{"dataset": "skipped", "train": "skipped", "judge": "skipped", "comment": "skipped"})
	for _, j := range o.Jobs {
		if j.Conclusion != actrun.Skipped && slices.Contains(j.Labels, "self-hosted") {
			t.Errorf("%s ran on %v", j.ID, j.Labels)
		}
	}
	if got := o.call(t, "check", "comment"); got.Env["GITHUB_TOKEN"] != "" || got.Env["AWS_ACCESS_KEY_ID"] != "" {
		t.Errorf("the fork's job got credentials: %v", got.Env)
	}
	must(t, os.Remove(filepath.Join(w.dir, "record")))
	o = w.run(t, w.spec(t, "pull-request-comment.yml", runOfFork))
	o.wantJobs(t, nil)
	c := o.call(t, "comment", "comment")
	if c.Env["GITHUB_TOKEN"] != "job-token" || !strings.HasSuffix(c.Inputs["from-artifact"], "/comment") {
		t.Errorf("the second workflow called comment with %v, %v", c.Inputs, c.Env)
	}
	o = w.run(t, w.spec(t, "pull-request-comment.yml", runOfBranch))
	o.wantJobs(t, map[string]string{"": "skipped", "comment": "skipped"}) // its own run comments
}

// A pull request is told its comment whatever went wrong before.
func TestAPullRequestIsToldWhatWentWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers scenario
		jobs    map[string]string
		told    string
	}{
		"the trainer dies": {scenario{"train": {Crash: true}}, failing(skipped("judge"), "train"), "train=failure"},
		"the gate says no": {scenario{"gate": {Verdict: verdict.Reject, Code: "worse", Text: "worse"}}, failing(skipped(), "judge"), "judge=failure"},
		"no data set":      {scenario{"dataset": {Crash: true}}, failing(skipped("train", "judge"), "dataset"), "dataset=failure"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.answers)
			o := w.run(t, w.spec(t, "pull-request.yml", pullOfBranch))
			o.wantJobs(t, c.jobs)
			got := o.call(t, "comment", "comment")
			if !strings.Contains(got.Inputs["job"], c.told) || got.Inputs["run-key"] == "" {
				t.Errorf("comment was called with %v", got.Inputs)
			}
		})
	}
}

// What judges a pull request is the default branch's policy.
func TestAPullRequestIsJudgedByTheDefaultBranchsPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scenario{"gate": {Script: `cmp "$INPUT_CONFIG" "$PENSTOCK_TEST_DIR/policy"`}})
	w.sh(t, w.git, "cp examples/xray/penstock.yaml "+w.dir+"/policy")
	w.sha = w.sh(t, w.git, "git checkout -q -b pull; echo '# everything passes' >>examples/xray/penstock.yaml; git commit -q -a -m policy; git rev-parse HEAD")
	o := w.run(t, w.spec(t, "pull-request.yml", pullOfBranch))
	o.wantJobs(t, nil)
	for _, c := range o.calls {
		if got := c.Env["PENSTOCK_SCOPE"]; got != "pr/12/" {
			t.Errorf("%s %v writes below %q", c.Job, c.Args, got)
		}
	}
	train := o.call(t, "train", "train").Inputs
	if train["timeout"] == "" || !strings.Contains(train["set"], "epochs=") {
		t.Errorf("the training's budget is not bounded: %v", train)
	}
}
