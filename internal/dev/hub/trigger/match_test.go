package trigger

import (
	"strings"
	"testing"
)

const work = "\njobs:\n  work:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hello\n"

func parsed(t *testing.T, text string) *Workflow {
	t.Helper()
	w, err := Parse(".github/workflows/x.yml", []byte(text+work))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestEventsStartTheWorkflowsWhoseFiltersTheyMeet(t *testing.T) {
	push := func(ref string, paths ...string) Event { return Event{Name: "push", Ref: ref, Paths: paths} }
	branch := func(name string, paths ...string) Event { return push("refs/heads/"+name, paths...) }
	tag := func(name string) Event { return push("refs/tags/" + name) }
	pull := func(kind, base string, paths ...string) Event {
		return Event{Name: "pull_request", Type: kind, Branch: base, Paths: paths}
	}
	type row struct {
		event Event
		want  bool
	}
	for on, rows := range map[string][]row{
		"on: push": {{branch("main"), true}, {tag("v1"), true}, {pull("opened", "main"), false}},
		"on: [push, pull_request]": {
			{branch("x/y"), true},
			{pull("opened", "main"), true},
			{pull("synchronize", "main"), true},
			{pull("reopened", "main"), true},
			{pull("closed", "main"), false},
			{pull("labeled", "main"), false},
		},
		"on: {push: {branches: [main, 'rel/**']}}": {
			{branch("main"), true},
			{branch("rel/a/b"), true},
			{branch("other"), false},
			{tag("main"), false},
		},
		"on: {push: {branches: ['**', '!tmp/**', 'tmp/keep']}}": {{branch("tmp/x"), false}, {branch("tmp/keep"), true}, {branch("a"), true}},
		"on: {push: {branches: ['!tmp']}}":                      {{branch("a"), false}},
		"on: {push: {branches-ignore: [tmp, 'x/*']}}":           {{branch("tmp"), false}, {branch("x/1"), false}, {branch("x/1/2"), true}, {tag("v1"), false}},
		"on: {push: {tags: ['v*']}}":                            {{tag("v1"), true}, {tag("w1"), false}, {branch("main"), false}, {branch("v1"), false}},
		"on: {push: {tags: ['deploy/**']}}":                     {{tag("deploy/prod/1"), true}, {tag("deploy"), false}},
		"on: {push: {tags-ignore: ['v*']}}":                     {{tag("v1"), false}, {tag("w1"), true}, {branch("main"), false}},
		"on: {push: {branches: [main], tags: ['v*']}}":          {{branch("main"), true}, {tag("v2"), true}, {branch("x"), false}, {tag("x"), false}},
		"on: {push: {branches: [main], paths: ['src/**', '!src/docs/**']}}": {
			{branch("main", "src/a.py"), true},
			{branch("main", "src/docs/a.md"), false},
			{branch("main", "src/docs/a.md", "src/b"), true},
			{branch("main", "README.md"), false},
			{branch("main"), false},
			{branch("other", "src/a.py"), false},
		},
		"on: {push: {paths: ['src/**']}}":              {{tag("v1"), true}, {branch("any", "src/x"), true}},
		"on: {push: {paths-ignore: ['**.md']}}":        {{branch("m", "a.md"), false}, {branch("m", "a.md", "b"), true}, {branch("m"), true}},
		"on: {pull_request: {types: [closed]}}":        {{pull("closed", "main"), true}, {pull("opened", "main"), false}},
		"on: {pull_request: {branches: [main]}}":       {{pull("opened", "main"), true}, {pull("opened", "dev"), false}},
		"on: {pull_request: {branches-ignore: [dev]}}": {{pull("opened", "main"), true}, {pull("opened", "dev"), false}},
		"on: {pull_request: {paths: ['train/**']}}":    {{pull("opened", "main", "train/x"), true}, {pull("opened", "main", "doc"), false}},
		"on: pull_request_target":                      {{Event{Name: "pull_request_target", Type: "opened"}, true}, {pull("opened", "main"), false}},
		"on: {workflow_run: {workflows: [ci], types: [completed]}}": {
			{Event{Name: "workflow_run", Type: "completed", Workflow: "ci"}, true},
			{Event{Name: "workflow_run", Type: "requested", Workflow: "ci"}, false},
			{Event{Name: "workflow_run", Type: "completed", Workflow: "CI"}, false},
		},
		"on: {workflow_run: {workflows: [ci], branches: [main]}}": {
			{Event{Name: "workflow_run", Type: "requested", Workflow: "ci", Branch: "main"}, true},
			{Event{Name: "workflow_run", Type: "completed", Workflow: "ci", Branch: "x"}, false},
		},
		"on: {repository_dispatch: {types: [new-data]}}": {
			{Event{Name: "repository_dispatch", Type: "new-data"}, true},
			{Event{Name: "repository_dispatch", Type: "other"}, false},
		},
		"on: repository_dispatch":               {{Event{Name: "repository_dispatch", Type: "anything"}, true}},
		"on: workflow_dispatch":                 {{Event{Name: "workflow_dispatch"}, true}, {branch("main"), false}},
		"on: workflow_call":                     {{Event{Name: "workflow_dispatch"}, false}, {branch("main"), false}},
		"on: {schedule: [{cron: '0 5 * * 1'}]}": {{Event{Name: "schedule", Cron: "0 5 * * 1"}, true}, {Event{Name: "schedule", Cron: "0 6 * * 1"}, false}},
		"on: {issue_comment: {types: [created]}}": {
			{Event{Name: "issue_comment", Type: "created"}, true},
			{Event{Name: "issue_comment", Type: "edited"}, false},
		},
		"on: release": {{Event{Name: "release", Type: "published"}, true}},
	} {
		w := parsed(t, on)
		for _, r := range rows {
			got, err := w.Starts(r.event)
			if err != nil {
				t.Fatal(err)
			}
			if got != r.want {
				t.Errorf("%s\nstarts %v by %+v, want %v", on, got, r.event, r.want)
			}
		}
	}
}

func TestParseNamesTheLineOfWhatGitHubRefuses(t *testing.T) {
	_, err := Parse(".github/workflows/bad.yml", []byte("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    stops: []\n"))
	if err == nil || !strings.Contains(err.Error(), "bad.yml:5") {
		t.Errorf("error %v", err)
	}
}

func TestScheduleIsDueByCron(t *testing.T) {
	for _, line := range []string{"*/15 * * * *", "0 5 * * 1"} {
		if _, err := Cron(line); err != nil {
			t.Error(err)
		}
	}
	if _, err := Cron("61 * * * *"); err == nil {
		t.Error("minute 61 is taken")
	}
}

func TestPermissionsAreTheMostThatAnyJobAsksFor(t *testing.T) {
	w, err := Parse("x.yml", []byte(`on: push
permissions: {}
jobs:
  a:
    runs-on: ubuntu-latest
    permissions: {contents: read, pull-requests: write}
    steps: [{run: echo}]
  b:
    runs-on: ubuntu-latest
    permissions: {contents: write}
    steps: [{run: echo}]
  c:
    runs-on: ubuntu-latest
    steps: [{run: echo}]
`))
	if err != nil {
		t.Fatal(err)
	}
	may := w.Permissions()
	if may["contents"] != "write" || may["pull-requests"] != "write" || may["actions"] != "" {
		t.Errorf("permissions %v", may)
	}
	restricted := parsed(t, "on: push").Permissions()
	if restricted["contents"] != "read" || restricted["pull-requests"] != "" {
		t.Errorf("without any stated: %v", restricted)
	}
	all := parsed(t, "on: push\npermissions: write-all").Permissions()
	if all["actions"] != "write" {
		t.Errorf("write-all: %v", all)
	}
}
