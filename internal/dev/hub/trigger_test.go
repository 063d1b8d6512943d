package hub

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

// merged joins sets of files.
func merged(sets ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, s := range sets {
		for k, v := range s {
			all[k] = v
		}
	}
	return all
}

// names are the workflows of the runs, newest first.
func names(runs []seen) string {
	var all []string
	for _, r := range runs {
		all = append(all, r.Name)
	}
	return strings.Join(all, " ")
}

func TestPushStartsOnlyWhatItsFiltersLetThrough(t *testing.T) {
	w := newWorld(t, merged(
		workflow("src", "on: {push: {branches: [main], paths: ['src/**']}}"),
		workflow("tags", "on: {push: {tags: ['deploy/**']}}"),
		workflow("others", "on: {push: {branches-ignore: [main]}}"),
	))
	if got := w.list(); len(got) != 0 {
		t.Fatalf("the first push started %s", names(got))
	}
	w.commit(w.clone, "code", map[string]string{"src/a.py": "1"})
	w.git(w.clone, "push", "-q", "origin", "main")
	w.commit(w.clone, "docs", map[string]string{"README.md": "1"})
	w.git(w.clone, "push", "-q", "origin", "main")
	w.git(w.clone, "tag", "deploy/prod/1")
	w.git(w.clone, "tag", "v1")
	w.git(w.clone, "push", "-q", "--tags", "origin")
	w.git(w.clone, "push", "-q", "origin", "main:refs/heads/other")
	if got := names(w.list()); got != "others tags src" {
		t.Errorf("runs %q", got)
	}
}

// A new branch counts the files of its new commits, not those of the whole tree.
func TestNewBranchIsComparedWithWhereItLeftTheOthers(t *testing.T) {
	w := newWorld(t, merged(workflow("src", "on: {push: {paths: ['src/**']}}"), map[string]string{"README.md": "1"}))
	w.commit(w.clone, "code", map[string]string{"src/a.py": "1"})
	w.git(w.clone, "push", "-q", "origin", "main")
	before := len(w.list())
	w.git(w.clone, "checkout", "-q", "-b", "docs")
	w.commit(w.clone, "docs", map[string]string{"README.md": "2"})
	w.git(w.clone, "push", "-q", "origin", "docs")
	if got := len(w.list()); got != before {
		t.Errorf("a branch that changes no source started %d runs", got-before)
	}
	w.git(w.clone, "push", "-q", "origin", ":docs")
	if got := len(w.list()); got != before {
		t.Error("a deleted branch started a run")
	}
}

func TestCommitMessageThatSkipsStartsNothing(t *testing.T) {
	w := newWorld(t, workflow("ci", "on: push"))
	w.commit(w.clone, "docs [skip ci]", map[string]string{"a": "1"})
	w.git(w.clone, "push", "-q", "origin", "main")
	if got := w.list(); len(got) != 1 {
		t.Errorf("runs %+v", got)
	}
}

func TestBrokenWorkflowFileIsARedRunThatSaysWhy(t *testing.T) {
	w := newWorld(t, map[string]string{".github/workflows/bad.yml": "on: push\njobs: {a: {stops: 1}}\n"})
	runs := w.list()
	if len(runs) != 1 || runs[0].Conclusion != "startup_failure" {
		t.Fatalf("runs %+v", runs)
	}
	if page := w.fetch(w.URL + "/acme/line/actions/runs/" + num(runs[0].ID)); !strings.Contains(page, "bad.yml:2") {
		t.Errorf("the page does not name the line:\n%s", page)
	}
}

func TestDispatchChecksRefInputsAndTrigger(t *testing.T) {
	w := newWorld(t, merged(
		workflow("train", "run-name: train ${{ inputs.batch }}\non: {workflow_dispatch: {inputs: {batch: {required: true}, mode: {type: choice, options: [a, b], default: a}}}}"),
		workflow("ci", "on: {push: {branches: [none]}}"),
	))
	for body, want := range map[string]int{
		`{"ref":"main","inputs":{"batch":"k1"}}`:            204,
		`{"ref":"refs/heads/main","inputs":{"batch":"k2"}}`: 204,
		`{"ref":"nowhere","inputs":{"batch":"k"}}`:          422,
		`{"inputs":{"batch":"k"}}`:                          422,
		`{"ref":"main"}`:                                    422,
		`{"ref":"main","inputs":{"batch":"k","mode":"c"}}`:  422,
		`{"ref":"main","inputs":{"batch":"k","other":"c"}}`: 422,
		`{"ref":"main","inputs":{"batch":`:                  400,
	} {
		if got := w.ask(testToken, "POST", "/repos/acme/line/actions/workflows/train.yml/dispatches", body, nil); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
	w.want(422, "POST", "/actions/workflows/ci.yml/dispatches", `{"ref":"main"}`, nil)
	w.want(404, "POST", "/actions/workflows/none.yml/dispatches", `{"ref":"main"}`, nil)
	var details struct {
		Run  int64  `json:"workflow_run_id"`
		URL  string `json:"run_url"`
		Page string `json:"html_url"`
	}
	w.want(200, "POST", "/actions/workflows/train.yml/dispatches", `{"ref":"main","inputs":{"batch":"k3"},"return_run_details":true}`, &details)
	newest := w.list()[0]
	if details.Run != newest.ID || newest.DisplayTitle != "train k3" || !strings.HasSuffix(details.URL, num(newest.ID)) {
		t.Errorf("details %+v of run %+v", details, newest)
	}
	w.ended(newest.ID)
	var payload struct {
		Inputs map[string]string
		Ref    string
	}
	for _, s := range w.runs.given() {
		if s.ID == newest.ID {
			if err := json.Unmarshal(s.Payload, &payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	if payload.Inputs["batch"] != "k3" || payload.Inputs["mode"] != "a" || payload.Ref != "refs/heads/main" {
		t.Errorf("payload %+v", payload)
	}
}

func TestRepositoryDispatchHoldsGitHubsLimits(t *testing.T) {
	w := newWorld(t, workflow("data", "on: {repository_dispatch: {types: [new-data]}}"))
	eleven := `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1}`
	for body, want := range map[string]int{
		`{"event_type":"new-data","client_payload":{"batch":"k"}}`: 204,
		`{"event_type":"other"}`:                                   204,
		`{}`:                                                       422,
		`{"event_type":"` + strings.Repeat("x", 101) + `"}`:                                     422,
		`{"event_type":"new-data","client_payload":` + eleven + `}`:                             422,
		`{"event_type":"new-data","client_payload":{"a":"` + strings.Repeat("x", 65536) + `"}}`: 422,
	} {
		if got := w.ask(testToken, "POST", "/repos/acme/line/dispatches", body, nil); got != want {
			t.Errorf("%.60s: %d, want %d", body, got, want)
		}
	}
	if got := w.list(); len(got) != 1 || got[0].DisplayTitle != "new-data" {
		t.Errorf("runs %+v", got)
	}
}

func TestScheduleRunsAtItsTimeOnTheDefaultBranch(t *testing.T) {
	w := newWorld(t, workflow("weekly", "on: {schedule: [{cron: '0 5 * * 1'}]}"))
	monday := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		from, to time.Time
		want     int
	}{{monday.Add(-2 * time.Minute), monday.Add(-time.Minute), 0}, {monday.Add(-time.Minute), monday, 1}, {monday, monday.Add(time.Minute), 1}} {
		if err := w.Tick(c.from, c.to); err != nil {
			t.Fatal(err)
		}
		if got := w.list(); len(got) != c.want {
			t.Errorf("up to %s: %d runs, want %d", c.to, len(got), c.want)
		}
	}
	if err := w.Schedule(testOwner, testRepo, "weekly.yml"); err != nil {
		t.Error(err)
	}
	if err := w.Schedule(testOwner, testRepo, "none.yml"); err == nil {
		t.Error("a workflow that is not there was scheduled")
	}
	for body, want := range map[string]int{
		`{"repository":"acme/line","workflow":"weekly.yml"}`: 204,
		`{"repository":"acme/line","workflow":"none.yml"}`:   422,
		`{"repository":"acme/none","workflow":"weekly.yml"}`: 422,
		`nonsense`: 400,
	} {
		if got := w.admin(testToken, "POST", "/_hub/schedule", body); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
	if got := w.admin("ghp_wrong", "POST", "/_hub/schedule", `{}`); got != http.StatusUnauthorized {
		t.Errorf("without the administrator's token: %d", got)
	}
	if got := w.list(); len(got) != 3 || got[0].Event != "schedule" {
		t.Errorf("runs %+v", got)
	}
}

func TestPullRequestRunsItsMergeAndFollowsItsHead(t *testing.T) {
	w := newWorld(t, merged(workflow("pr", "on: {pull_request: {paths: ['src/**']}}"), workflow("closed", "on: {pull_request: {types: [closed]}}")))
	w.git(w.clone, "checkout", "-q", "-b", "feature")
	head := w.commit(w.clone, "code", map[string]string{"src/a": "1"})
	w.git(w.clone, "push", "-q", "origin", "feature")
	var pr struct{ Number int }
	w.want(201, "POST", "/pulls", `{"title":"Lower the rate","head":"feature","base":"main"}`, &pr)
	runs := w.list()
	if len(runs) != 1 || runs[0].HeadSHA != head || runs[0].HeadBranch != "feature" || runs[0].DisplayTitle != "Lower the rate" {
		t.Fatalf("runs %+v", runs)
	}
	w.ended(runs[0].ID)
	s := w.runs.given()[0]
	var payload struct {
		Action, Before string
		Number         int
		Pull           struct {
			Head struct {
				SHA  string
				Repo struct {
					Full string `json:"full_name"`
					Fork bool
				}
			}
		} `json:"pull_request"`
		Repository struct {
			Full   string `json:"full_name"`
			Branch string `json:"default_branch"`
		}
	}
	if err := json.Unmarshal(s.Payload, &payload); err != nil {
		t.Fatal(err)
	}
	if s.Ref != "refs/pull/1/merge" || s.SHA == head || payload.Action != "opened" || payload.Number != 1 ||
		payload.Pull.Head.Repo.Full != "acme/line" || payload.Pull.Head.SHA != head || payload.Repository.Branch != "main" {
		t.Errorf("spec %+v\npayload %+v", s, payload)
	}
	if s.Env["GITHUB_HEAD_REF"] != "feature" || s.Env["GITHUB_BASE_REF"] != "main" {
		t.Errorf("environment %v", s.Env)
	}
	second := w.commit(w.clone, "more", map[string]string{"src/a": "2"})
	w.git(w.clone, "push", "-q", "origin", "feature")
	if runs = w.list(); len(runs) != 2 || runs[0].HeadSHA != second {
		t.Fatalf("after a push: %+v", runs)
	}
	w.ended(runs[0].ID)
	if err := json.Unmarshal(w.runs.given()[1].Payload, &payload); err != nil || payload.Action != "synchronize" || payload.Before != head {
		t.Errorf("payload %+v, %v", payload, err)
	}
	w.want(200, "PATCH", "/pulls/1", `{"state":"closed"}`, nil)
	w.want(200, "PATCH", "/pulls/1", `{"state":"open"}`, nil)
	if got := names(w.list()); got != "pr closed pr pr" {
		t.Errorf("runs %q", got)
	}
}

func TestPullRequestThatConflictsStartsNothing(t *testing.T) {
	w := newWorld(t, merged(workflow("pr", "on: pull_request"), map[string]string{"a": "1\n"}))
	w.git(w.clone, "checkout", "-q", "-b", "feature")
	w.commit(w.clone, "one", map[string]string{"a": "2\n"})
	w.git(w.clone, "push", "-q", "origin", "feature")
	w.git(w.clone, "checkout", "-q", "main")
	w.commit(w.clone, "two", map[string]string{"a": "3\n"})
	w.git(w.clone, "push", "-q", "origin", "main")
	var pr struct {
		Mergeable bool
		State     string `json:"mergeable_state"`
	}
	w.want(201, "POST", "/pulls", `{"title":"x","head":"feature","base":"main"}`, &pr)
	if pr.Mergeable || pr.State != "dirty" || len(w.list()) != 0 {
		t.Errorf("pull request %+v, runs %+v", pr, w.list())
	}
	w.want(405, "PUT", "/pulls/1/merge", "", nil)
	w.want(422, "POST", "/pulls", `{"title":"x","head":"feature","base":"main"}`, nil)
	w.want(422, "POST", "/pulls", `{"title":"x","head":"none","base":"main"}`, nil)
}

const forker = "ghp_forker"

// fromFork makes a fork, changes a file in it and opens a pull request.
func (w *world) fromFork(t *testing.T, files map[string]string) {
	t.Helper()
	if got := w.ask(forker, "POST", "/repos/acme/line/forks", "", nil); got != http.StatusAccepted {
		t.Fatalf("fork: %d", got)
	}
	clone := w.cloneOf("stranger", testRepo, forker)
	w.git(clone, "checkout", "-q", "-b", "evil")
	w.commit(clone, "change", files)
	w.git(clone, "push", "-q", "origin", "evil")
	if got := w.ask(forker, "POST", "/repos/acme/line/pulls", `{"title":"From a fork","head":"stranger:evil","base":"main"}`, nil); got != http.StatusCreated {
		t.Fatalf("pull request: %d", got)
	}
}

func TestForksRunReadsOnlyAndGetsNoSecrets(t *testing.T) {
	on := "on: pull_request\npermissions: {contents: read, pull-requests: write}"
	w := newWorld(t, merged(workflow("pr", on), workflow("target", "on: pull_request_target")), func(o *Options) {
		o.Users = map[string]string{forker: "stranger"}
		o.Secrets = map[string]string{"KEY": "value"}
	})
	got := make(chan actrun.Spec, 2)
	release := make(chan struct{})
	w.runs.do = func(ctx context.Context, s actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
		got <- s
		return held(release)(ctx, s, tell)
	}
	w.fromFork(t, map[string]string{"a": "1"})
	specs := map[string]actrun.Spec{}
	for range 2 {
		s := <-got
		specs[s.Event] = s
	}
	fork, target := specs["pull_request"], specs["pull_request_target"]
	if fork.Secrets["KEY"] != "" || target.Secrets["KEY"] != "value" {
		t.Errorf("secrets of the fork's run %v, of the target's %v", fork.Secrets, target.Secrets)
	}
	if target.Ref != "refs/heads/main" {
		t.Errorf("pull_request_target runs %s", target.Ref)
	}
	var payload struct {
		Pull struct {
			Head struct {
				Repo struct {
					Full string `json:"full_name"`
					Fork bool
				}
			}
		} `json:"pull_request"`
	}
	if err := json.Unmarshal(fork.Payload, &payload); err != nil || payload.Pull.Head.Repo.Full != "stranger/line" || !payload.Pull.Head.Repo.Fork {
		t.Errorf("payload %+v, %v", payload, err)
	}
	if got := w.ask(fork.Secrets["GITHUB_TOKEN"], "POST", "/repos/acme/line/issues/1/comments", `{"body":"x"}`, nil); got != http.StatusForbidden {
		t.Errorf("a comment by the fork's token: %d, want 403", got)
	}
	var run struct {
		Pulls []any `json:"pull_requests"`
		Head  struct {
			Full string `json:"full_name"`
		} `json:"head_repository"`
	}
	w.want(200, "GET", "/actions/runs/"+num(fork.ID), "", &run)
	if len(run.Pulls) != 0 || run.Head.Full != "stranger/line" {
		t.Errorf("run %+v", run)
	}
	close(release)
	w.ended(fork.ID)
	w.ended(target.ID)
	if out, err := gitCommand(w.clone, "push", "-q", strings.Replace(w.GitURL(testOwner, testRepo), "://", "://x:"+forker+"@", 1), "main").CombinedOutput(); err == nil {
		t.Errorf("a stranger pushed: %s", out)
	}
}

func TestWorkflowRunFollowsByNameAtMostThreeDeep(t *testing.T) {
	follow := func(name, after string) map[string]string {
		return workflow(name, "on: {workflow_run: {workflows: ["+after+"], types: [completed]}}")
	}
	w := newWorld(t, merged(workflow("ci", "on: push"), follow("second", "ci"), follow("third", "second"), follow("fourth", "third"), follow("fifth", "fourth")))
	deadline := time.Now().Add(10 * time.Second)
	for names(w.list()) != "fourth third second ci" {
		if time.Now().After(deadline) {
			t.Fatalf("runs %q", names(w.list()))
		}
	}
	last := w.ended(w.list()[0].ID)
	var payload struct {
		Action string
		Run    struct {
			Name, Conclusion, Event string
		} `json:"workflow_run"`
	}
	for _, s := range w.runs.given() {
		if s.ID == last.ID {
			if err := json.Unmarshal(s.Payload, &payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	if payload.Action != "completed" || payload.Run.Name != "third" || payload.Run.Conclusion != "success" || payload.Run.Event != "workflow_run" {
		t.Errorf("payload %+v", payload)
	}
	if got := names(w.list()); got != "fourth third second ci" {
		t.Errorf("runs %q", got)
	}
}

// What a run does with its own token starts nothing, but for the two dispatches.
func TestEventsOfARunsOwnTokenStartNothingButDispatches(t *testing.T) {
	w := newWorld(t, merged(
		workflow("main", "on: {workflow_dispatch: {}}\npermissions: {contents: write, actions: write, pull-requests: write, issues: write}"),
		workflow("push", "on: {push: {branches: [made]}, create: {}}"),
		workflow("pr", "on: pull_request"), workflow("talk", "on: issue_comment"),
		workflow("by-hand", "on: workflow_dispatch"), workflow("by-event", "on: repository_dispatch"),
	))
	got := make(chan actrun.Spec, 8)
	release := make(chan struct{})
	w.runs.do = func(ctx context.Context, s actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
		got <- s
		return held(release)(ctx, s, tell)
	}
	w.want(204, "POST", "/actions/workflows/main.yml/dispatches", `{"ref":"main"}`, nil)
	token := (<-got).Secrets["GITHUB_TOKEN"]
	clone := w.cloneOf(testOwner, testRepo, token)
	w.git(clone, "checkout", "-q", "-b", "made")
	w.commit(clone, "by a run", map[string]string{"a": "1"})
	w.git(clone, "push", "-q", "origin", "made")
	if got := w.ask(token, "POST", "/repos/acme/line/pulls", `{"title":"x","head":"made","base":"main"}`, nil); got != http.StatusCreated {
		t.Errorf("pull request: %d", got)
	}
	if got := w.ask(token, "POST", "/repos/acme/line/issues/1/comments", `{"body":"x"}`, nil); got != http.StatusCreated {
		t.Errorf("comment: %d", got)
	}
	if got := names(w.list()); got != "main" {
		t.Errorf("the run's own events started %q", got)
	}
	if got := w.ask(token, "POST", "/repos/acme/line/actions/workflows/by-hand.yml/dispatches", `{"ref":"main"}`, nil); got != http.StatusNoContent {
		t.Errorf("workflow dispatch: %d", got)
	}
	if got := w.ask(token, "POST", "/repos/acme/line/dispatches", `{"event_type":"x"}`, nil); got != http.StatusNoContent {
		t.Errorf("repository dispatch: %d", got)
	}
	if got := names(w.list()); got != "by-event by-hand main" {
		t.Errorf("runs %q", got)
	}
	close(release)
	w.want(201, "POST", "/issues/1/comments", `{"body":"by a person"}`, nil)
	if got := names(w.list()); !strings.HasPrefix(got, "talk ") {
		t.Errorf("a person's comment started %q", got)
	}
}
