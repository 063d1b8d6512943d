package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// answersOf serves fixed answers below /api/v3; a number is a status.
type answersOf map[string]any

func (a answersOf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, known := a[strings.TrimPrefix(r.URL.Path, "/api/v3")]
	status, refused := answer.(int)
	if !known {
		status, refused = http.StatusNotFound, true
	}
	w.Header().Set("Content-Type", "application/json")
	if refused {
		w.WriteHeader(status)
		answer = map[string]string{"message": http.StatusText(status)}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}

type object = map[string]any

const (
	repository = "/repos/acme/xray"
	workflows  = repository + "/actions/workflows/"
	files      = repository + "/contents/.github/workflows/"
)

// healthy is a private repository of an organisation with everything in place.
func healthy() answersOf {
	a := answersOf{
		"/user":                             object{"login": "mona"},
		repository:                          object{"default_branch": "main", "private": true, "visibility": "private", "owner": object{"login": "acme", "type": "Organization"}},
		repository + "/actions/permissions": object{"enabled": true, "allowed_actions": "all"},
		repository + "/actions/permissions/workflow": object{"default_workflow_permissions": "read"},
		repository + "/actions/runners":              object{"total_count": 1, "runners": []object{}},
		"/orgs/acme/actions/runner-groups": object{"total_count": 1, "runner_groups": []object{
			{"id": 1, "name": "penstock", "visibility": "selected", "allows_public_repositories": false, "restricted_to_workflows": true, "selected_workflows": []string{"acme/xray/.github/workflows/train.yml@refs/heads/main"}},
		}},
		"/orgs/acme/actions/runner-groups/1/runners": object{"total_count": 2, "runners": []object{}},
	}
	for _, file := range []string{"watch.yml", "train.yml", "deploy.yml", "rollback.yml", "pull-request.yml", "pull-request-comment.yml"} {
		a[workflows+file] = object{"id": 1, "state": "active"}
		a[files+file] = content("on: workflow_dispatch\nrun-name: train ${{ inputs.run_key }}\n")
	}
	return a
}

func content(text string) object {
	return object{"type": "file", "encoding": "base64", "content": base64.StdEncoding.EncodeToString([]byte(text))}
}

// askGitHub asks doctor's questions of GitHub.
func askGitHub(t *testing.T, a answersOf) map[string]verdict.Check {
	t.Helper()
	s := httptest.NewServer(a)
	defer s.Close()
	env := &action.Env{Stderr: io.Discard, Getenv: func(name string) string {
		return map[string]string{"GITHUB_TOKEN": "ghp_x", "GITHUB_REPOSITORY": "acme/xray", "GITHUB_API_URL": s.URL + "/api/v3"}[name]
	}}
	found := map[string]verdict.Check{}
	for _, c := range answers(t.Context(), githubQuestions(env)) {
		found[c.Name] = c
	}
	return found
}

func TestDoctorIsContentWithARepositoryInOrder(t *testing.T) {
	checks := askGitHub(t, healthy())
	if len(checks) != 10 {
		t.Errorf("%d checks", len(checks))
	}
	for name, c := range checks {
		if c.Verdict != verdict.Pass {
			t.Errorf("%s: %s %s", name, c.Verdict, c.Text)
		}
	}
	for name, says := range map[string]string{"github token": "mona", "github repository": "not public, default branch main"} {
		if !strings.Contains(checks[name].Text, says) {
			t.Errorf("%s: %q", name, checks[name].Text)
		}
	}
}

func TestDoctorTellsWhatIsAmissOnGitHub(t *testing.T) {
	group := func(change object) answersOf {
		g := object{"id": 1, "name": "gpu", "visibility": "selected", "allows_public_repositories": false, "restricted_to_workflows": true}
		for k, v := range change {
			g[k] = v
		}
		return answersOf{"/orgs/acme/actions/runner-groups": object{"total_count": 1, "runner_groups": []object{g}}}
	}
	public := object{"default_branch": "main", "private": false, "visibility": "public", "owner": object{"login": "acme", "type": "Organization"}}
	for name, c := range map[string]struct {
		change  answersOf
		check   string
		verdict verdict.Verdict
		decides bool
		says    string
	}{
		"a bad token":            {answersOf{"/user": 401}, "github token", verdict.Reject, true, "GITHUB_TOKEN"},
		"no such repository":     {answersOf{repository: 404}, "github repository", verdict.Reject, true, "GITHUB_REPOSITORY"},
		"no train":               {answersOf{files + "train.yml": 404}, "workflow train.yml", verdict.Reject, true, "penstock init"},
		"no pull-request":        {answersOf{files + "pull-request.yml": 404}, "workflow pull-request.yml", verdict.Reject, false, "penstock init"},
		"watch fell asleep":      {answersOf{workflows + "watch.yml": object{"state": "disabled_inactivity"}}, "workflow watch.yml", verdict.Reject, true, "disabled_inactivity"},
		"train without its name": {answersOf{files + "train.yml": content("on: workflow_dispatch\nrun-name: Training\n")}, "workflow train.yml", verdict.Reject, true, "run-name"},
		"train not dispatchable": {answersOf{files + "train.yml": content("on: push\nrun-name: train ${{ inputs.run_key }}\n")}, "workflow train.yml", verdict.Reject, true, "workflow_dispatch"},
		"files unseen":           {answersOf{files + "deploy.yml": 403}, "workflow deploy.yml", verdict.Inconclusive, false, "could not look"},
		"Actions off":            {answersOf{repository + "/actions/permissions": object{"enabled": false}}, "github actions", verdict.Reject, true, "switched off"},
		"settings unseen":        {answersOf{repository + "/actions/permissions": 403}, "github actions", verdict.Inconclusive, false, "administration: read"},
		"tokens that write":      {answersOf{repository + "/actions/permissions/workflow": object{"default_workflow_permissions": "write"}}, "github actions", verdict.Pass, true, "may write"},
		"groups unseen":          {answersOf{"/orgs/acme/actions/runner-groups": 403}, "github runners", verdict.Inconclusive, false, "organization_self_hosted_runners"},
		"a group for the public": {group(object{"allows_public_repositories": true}), "github runners", verdict.Reject, false, `"gpu" allows public repositories`},
		"a group for any file":   {group(object{"restricted_to_workflows": false}), "github runners", verdict.Reject, false, `"gpu" runs every workflow`},
		"a group for everybody":  {group(object{"visibility": "all"}), "github runners", verdict.Reject, false, `"gpu" is for all repositories`},
		"public with runners":    {answersOf{repository: public}, "github runners", verdict.Reject, false, "any pull request may ask for them"},
		"public, groups unseen":  {answersOf{repository: public, "/orgs/acme/actions/runner-groups": 403}, "github runners", verdict.Reject, false, "not all could be seen"},
		"GitHub in trouble":      {answersOf{"/orgs/acme/actions/runner-groups": 422}, "github runners", verdict.Reject, false, "422"},
	} {
		t.Run(name, func(t *testing.T) {
			a := healthy()
			for path, answer := range c.change {
				a[path] = answer
			}
			got := askGitHub(t, a)[c.check]
			if got.Verdict != c.verdict || got.Required != c.decides || !strings.Contains(got.Text, c.says) || strings.Contains(got.Text, "\n") {
				t.Errorf("%s, decides %t: %s", got.Verdict, got.Required, got.Text)
			}
		})
	}
}

func TestDoctorThatWasNotToldHowDoesNotAskGitHub(t *testing.T) {
	for name, c := range map[string]struct {
		env     map[string]string
		decides bool
	}{
		"nothing set":      {nil, false},
		"no repository":    {map[string]string{"GITHUB_TOKEN": "ghp_x"}, false},
		"half of an App":   {map[string]string{"GITHUB_REPOSITORY": "a/b", "PENSTOCK_APP_ID": "1"}, true},
		"a bad repository": {map[string]string{"GITHUB_TOKEN": "ghp_x", "GITHUB_REPOSITORY": "b"}, true},
	} {
		checks := answers(context.Background(), githubQuestions(&action.Env{Getenv: func(n string) string { return c.env[n] }}))
		if len(checks) != 1 || checks[0].Verdict == verdict.Pass || checks[0].Required != c.decides || checks[0].Text == "" {
			t.Errorf("%s: %+v", name, checks)
		}
	}
}
