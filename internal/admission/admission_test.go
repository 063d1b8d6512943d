package admission_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/admission"
)

const repository = "acme/chest"

const listed = `
# the line
acme/chest .github/workflows/train.yml refs/heads/main
acme/chest .github/workflows/deploy.yml refs/tags/deploy/**   # tags
acme/chest .github/workflows/pull-request.yml refs/pull/*/merge
acme/chest .github/workflows/every.yml refs/heads/**
acme/chest .github/workflows/every.yml refs/pull/*/merge
`

func list(t *testing.T) admission.List {
	t.Helper()
	l, err := admission.Read(strings.NewReader(listed))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// payload reads one of the payloads in testdata, cut down from GitHub's own
// examples of its webhooks, with the edits applied: "a.b.c" -> value, or
// absent to take the key away.
func payload(t *testing.T, name string, edits map[string]any) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for path, value := range edits {
		at := root
		keys := strings.Split(path, ".")
		for _, key := range keys[:len(keys)-1] {
			at = at[key].(map[string]any)
		}
		last := keys[len(keys)-1]
		if _, there := at[last]; !there {
			t.Fatalf("%s has no %s to edit", name, path)
		}
		if value == absent {
			delete(at, last)
		} else {
			at[last] = value
		}
	}
	if data, err = json.Marshal(root); err != nil {
		t.Fatal(err)
	}
	return data
}

type gone struct{}

var absent = gone{}

// job is a job of the workflow every.yml.
func job(event, ref string, payload []byte) admission.Job {
	return admission.Job{
		Repository: repository, Ref: ref, Event: event, Payload: payload,
		WorkflowRef: repository + "/.github/workflows/every.yml@" + ref,
	}
}

const (
	main = "refs/heads/main"
	pull = "refs/pull/12/merge"
)

func TestAdmittedIsCodeOfTheRepositoryItself(t *testing.T) {
	for name, j := range map[string]admission.Job{
		"push":                                 job("push", main, payload(t, "push", nil)),
		"workflow_dispatch":                    job("workflow_dispatch", main, payload(t, "workflow_dispatch", nil)),
		"repository_dispatch":                  job("repository_dispatch", main, payload(t, "repository_dispatch", nil)),
		"schedule":                             job("schedule", main, payload(t, "schedule", nil)),
		"pull request of a branch":             job("pull_request", pull, payload(t, "pull_request", nil)),
		"pull_request_target of a branch":      job("pull_request_target", main, payload(t, "pull_request", nil)),
		"workflow_run of a branch":             job("workflow_run", main, payload(t, "workflow_run", nil)),
		"a name in another case":               job("push", main, payload(t, "push", map[string]any{"repository.full_name": "Acme/Chest"})),
		"the repository is itself a fork":      job("pull_request", pull, payload(t, "pull_request", map[string]any{"pull_request.head.repo.fork": true})),
		"a branch with an @ in its name":       job("push", "refs/heads/x@y", payload(t, "push", map[string]any{"ref": "refs/heads/x@y"})),
		"keys that only look like the payload": job("workflow_dispatch", main, payload(t, "workflow_dispatch", map[string]any{"inputs": map[string]any{"repository": "evil/chest"}})),
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := admission.Decide(list(t), j); err != nil || e.Workflow != ".github/workflows/every.yml" {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}
}

func TestRefusedIsWhatAForkOrAStrangerCanCause(t *testing.T) {
	fork := map[string]any{"pull_request.head.repo.full_name": "evil/chest", "pull_request.head.repo.fork": true}
	headless := map[string]any{"pull_request.head.repo": nil}
	for name, c := range map[string]struct {
		job  admission.Job
		code string
		text string
	}{
		"pull request of a fork":                {job("pull_request", pull, payload(t, "pull_request", fork)), "fork", "the fork evil/chest"},
		"pull_request_target of a fork":         {job("pull_request_target", main, payload(t, "pull_request", fork)), "fork", "the fork evil/chest"},
		"pull request whose fork is gone":       {job("pull_request", pull, payload(t, "pull_request", headless)), "fork", "no head repository"},
		"pull request without head":             {job("pull_request", pull, payload(t, "pull_request", map[string]any{"pull_request.head": absent})), "fork", "no head repository"},
		"pull request without pull request":     {job("pull_request", pull, payload(t, "pull_request", map[string]any{"pull_request": absent})), "payload", "goes to the repository"},
		"head repository that is a text":        {job("pull_request", pull, payload(t, "pull_request", map[string]any{"pull_request.head.repo": repository})), "fork", "no head repository"},
		"pull request to another repository":    {job("pull_request", pull, payload(t, "pull_request", map[string]any{"pull_request.base.repo.full_name": "acme/other"})), "payload", "goes to the repository"},
		"workflow_run of a fork":                {job("workflow_run", main, payload(t, "workflow_run", map[string]any{"workflow_run.head_repository.full_name": "evil/chest"})), "fork", "evil/chest"},
		"workflow_run whose fork is gone":       {job("workflow_run", main, payload(t, "workflow_run", map[string]any{"workflow_run.head_repository": nil})), "fork", "no head repository"},
		"workflow_run without a run":            {job("workflow_run", main, payload(t, "workflow_run", map[string]any{"workflow_run": absent})), "payload", "no workflow_run"},
		"push in another repository":            {job("push", main, payload(t, "push", map[string]any{"repository.full_name": "evil/chest"})), "payload", "evil/chest"},
		"push of another ref":                   {job("push", main, payload(t, "push", map[string]any{"ref": "refs/heads/evil"})), "payload", "refs/heads/evil"},
		"schedule that names none":              {job("schedule", main, payload(t, "schedule", map[string]any{"schedule": ""})), "payload", "no schedule"},
		"schedule of another repository":        {job("schedule", main, payload(t, "push", nil)), "payload", "no schedule"},
		"dispatch of another repository":        {job("repository_dispatch", main, payload(t, "repository_dispatch", map[string]any{"repository.full_name": "evil/chest"})), "payload", "evil/chest"},
		"issue_comment":                         {job("issue_comment", main, payload(t, "issue_comment", nil)), "event", "issue_comment"},
		"deployment":                            {job("deployment", main, payload(t, "deployment", nil)), "event", "deployment"},
		"merge_group":                           {job("merge_group", main, []byte(`{}`)), "event", "merge_group"},
		"an event nobody knows":                 {job("surprise", main, []byte(`{}`)), "event", "surprise"},
		"no event":                              {job("", main, []byte(`{}`)), "event", `""`},
		"a pull request that calls itself push": {job("push", pull, payload(t, "pull_request", fork)), "payload", "the push is of"},
		"keys in another case":                  {job("push", main, []byte(`{"Ref":"refs/heads/main","Repository":{"Full_Name":"acme/chest"}}`)), "payload", "the push is of"},
		"a payload that is cut short":           {job("push", main, []byte(`{"ref":"refs/heads/main"`)), "payload", "cannot be read"},
		"a payload with a tail":                 {job("push", main, append(payload(t, "push", nil), "{}"...)), "payload", "behind its end"},
		"a payload that is null":                {job("push", main, []byte(`null`)), "payload", "no object"},
		"a payload that is a list":              {job("push", main, []byte(`[]`)), "payload", "cannot be read"},
		"no payload":                            {job("push", main, nil), "payload", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, c.job, c.code, c.text)
		})
	}
}

func refused(t *testing.T, j admission.Job, code, text string) {
	t.Helper()
	e, err := admission.Decide(list(t), j)
	var refusal admission.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("admitted by %v (error %v)", e, err)
	}
	if refusal.Code != code || !strings.Contains(refusal.Text, text) {
		t.Errorf("refused with %s: %s; want %s with %q", refusal.Code, refusal.Text, code, text)
	}
}

func TestRefusedIsWhatIsNotOnTheList(t *testing.T) {
	at := func(workflow, ref string) admission.Job {
		j := job("workflow_dispatch", ref, payload(t, "workflow_dispatch", nil))
		j.WorkflowRef = repository + "/" + workflow + "@" + ref
		return j
	}
	const train, deploy = ".github/workflows/train.yml", ".github/workflows/deploy.yml"
	for name, c := range map[string]struct {
		job  admission.Job
		code string
	}{
		"another workflow":                    {at(".github/workflows/evil.yml", main), "list"},
		"another branch":                      {at(train, "refs/heads/evil"), "list"},
		"a branch that begins alike":          {at(train, "refs/heads/main2"), "list"},
		"a branch below":                      {at(train, "refs/heads/main/x"), "list"},
		"a branch that is named like the tag": {at(deploy, "refs/heads/deploy/x"), "list"},
		"a tag beside the pattern":            {at(deploy, "refs/tags/deploy"), "list"},
		"a pull request's head":               {at(".github/workflows/pull-request.yml", "refs/pull/1/head"), "list"},
		"a file with an @":                    {at(".github/workflows/train.yml@refs/heads/main.yml", main), "environment"},
		"a file elsewhere":                    {at("evil/train.yml", main), "environment"},
		"a file on the way up":                {at(".github/workflows/../train.yml", main), "environment"},
		"no ref":                              {at(train, ""), "environment"},
		"a workflow of another repository": {admission.Job{
			Repository: repository, Ref: main, Event: "workflow_dispatch", Payload: payload(t, "workflow_dispatch", nil),
			WorkflowRef: "evil/chest/.github/workflows/train.yml@" + main,
		}, "environment"},
		"a workflow on another ref": {admission.Job{
			Repository: repository, Ref: "refs/heads/evil", Event: "workflow_dispatch", Payload: payload(t, "workflow_dispatch", nil),
			WorkflowRef: repository + "/" + train + "@" + main,
		}, "environment"},
		"no variables at all": {admission.Job{}, "environment"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.job, c.code, "") })
	}
	for _, tag := range []string{"refs/tags/deploy/xray/v3", "refs/tags/deploy/v1"} {
		if _, err := admission.Decide(list(t), at(deploy, tag)); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

func TestListThatCannotBeReadIsNoList(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "admits nothing",
		"# only a comment\n\n":                   "admits nothing",
		"acme/chest .github/workflows/train.yml": "2 words",
		"acme/chest .github/workflows/train.yml refs/heads/main allow": "4 words",
		"* .github/workflows/train.yml refs/heads/main":                "no repository",
		"acme/* .github/workflows/train.yml refs/heads/main":           "no repository",
		"acme/chest * refs/heads/main":                                 "no workflow file",
		"acme/chest .github/workflows/*.yml refs/heads/main":           "no workflow file",
		"acme/chest train.yml refs/heads/main":                         "no workflow file",
		"acme/chest .github/workflows/train.yml main":                  "no ref",
		"acme/chest .github/workflows/train.yml *":                     "no ref",
		"acme/chest .github/workflows/train.yml refs/heads/[a-z]":      "no ref",
		"acme/chest .github/workflows/a.yml refs/heads/main\nx y z\n":  "line 2",
		strings.Repeat("x", 1<<17):                                     "too long",
	} {
		if l, err := admission.Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, %v; want an error with %q", text, l, err, want)
		}
	}
}

func TestExampleListIsAList(t *testing.T) {
	f, err := os.Open("../../runners/hooks/jobs.list.example")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if l, err := admission.Read(f); err != nil || len(l) < 4 {
		t.Errorf("%d entries, %v", len(l), err)
	}
}
