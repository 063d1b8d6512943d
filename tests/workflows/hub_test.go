package workflows

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub"
)

const (
	administrator = "ghp_administrator"
	stranger      = "ghp_stranger"
)

// site is the stand-in for GitHub, with the world's checkout as its clone.
type site struct {
	*hub.Hub
	*world
	t *testing.T
}

func newSite(t *testing.T, s scenario) *site {
	t.Helper()
	w := newWorld(t, s)
	actions := map[string]string{}
	for name, dir := range localActions(t) {
		short, _, _ := strings.Cut(name, "@")
		actions[short] = dir
	}
	env := map[string]string{"PATH": w.env["PATH"], "PENSTOCK_TEST_DIR": w.dir, "RUNNER_TOOL_CACHE": w.env["RUNNER_TOOL_CACHE"]}
	h, err := hub.Start(t.Context(), hub.Options{
		Dir: filepath.Join(w.dir, "hub"), Login: "someone", Token: administrator, Users: map[string]string{stranger: "evil"}, Execute: actrun.Run,
		Hook: exampleHook(t), Labels: []string{"self-hosted", "penstock", "gpu", "ubuntu-24.04-arm"}, Parallel: 1, LocalActions: actions,
		Env: env, Secrets: secretsOfRepository(), Vars: map[string]string{"AWS_REGION": "us-east-1"},
	})
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	owner, name, _ := strings.Cut(repository, "/")
	must(t, h.CreateRepository(owner, name))
	site := &site{h, w, t}
	w.sh(t, w.git, "git remote set-url origin "+site.remote(owner, administrator))
	return site
}

func secretsOfRepository() map[string]string {
	all := map[string]string{}
	for name, value := range secrets {
		if name != "GITHUB_TOKEN" { // every run has its own
			all[name] = value
		}
	}
	return all
}

func (s *site) remote(owner, token string) string {
	_, name, _ := strings.Cut(repository, "/")
	return strings.Replace(s.GitURL(owner, name), "://", "://x:"+token+"@", 1)
}

// ask sends a request to the repository's API.
func (s *site) ask(token, method, path, body string, into any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.API()+"/repos/"+repository+path, strings.NewReader(body))
	must(s.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	must(s.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(s.t, err)
	if res.StatusCode > 299 {
		s.t.Fatalf("%s %s: %s\n%s", method, path, res.Status, data)
	}
	if into != nil {
		must(s.t, json.Unmarshal(data, into))
	}
}

// runs waits until all runs have ended and answers those that are new since the
// last call, as "name event: conclusion", sorted.
func (s *site) runs(since int64) ([]string, int64) {
	s.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		var body struct {
			Runs []struct {
				ID                              int64
				Name, Event, Status, Conclusion string
			} `json:"workflow_runs"`
		}
		s.ask(administrator, "GET", "/actions/runs?per_page=100", "", &body)
		var found []string
		last, open := since, 0
		for _, r := range body.Runs {
			if r.Status != "completed" {
				open++
			}
			if r.ID > since {
				found = append(found, fmt.Sprintf("%s by %s: %s", r.Name, r.Event, r.Conclusion))
			}
			last = max(last, r.ID)
		}
		slices.Sort(found)
		if open == 0 {
			return found, last
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("runs do not end: %q", found)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// What people do, and what it starts: pushes, a pull request, a fork's, tags
// and dispatches, on the stand-in for GitHub.
func TestWhatPeopleDoStartsTheLine(t *testing.T) {
	t.Parallel()
	s := newSite(t, scenario{
		"make":    releasing["make"],
		"comment": {Script: `[[ -z $INPUT_ARTIFACT ]] || { mkdir -p "$INPUT_ARTIFACT"; echo '{}' >"$INPUT_ARTIFACT/facts.json"; }`},
	})
	var last int64
	step := func(what string, want ...string) {
		t.Helper()
		var got []string
		got, last = s.runs(last)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
	}
	s.sh(t, s.git, "git push -q origin HEAD:main")
	step("the first push", "ci by push: success", "train by push: success")

	s.sh(t, s.git, "echo more >>README.md; git add -A; git commit -q -m words; git push -q origin HEAD:main")
	step("a push of words", "ci by push: success")

	s.sh(t, s.git, "git checkout -q -b slower; echo '# slower' >>examples/xray/train.py; git commit -q -a -m slower; git push -q origin slower")
	step("a push to a branch")
	s.ask(administrator, "POST", "/pulls", `{"title": "slower", "head": "slower", "base": "main"}`, nil)
	step("a pull request", "ci by pull_request: success", "pull-request by pull_request: success", "pull-request-comment by workflow_run: skipped")

	s.ask(stranger, "POST", "/forks", "", nil)
	s.sh(t, s.git, "git checkout -q -b evil origin/main; echo '# evil' >>examples/xray/train.py; git commit -q -a -m evil; git push -q "+s.remote("evil", stranger)+" evil")
	s.ask(stranger, "POST", "/pulls", `{"title": "evil", "head": "evil:evil", "base": "main"}`, nil)
	step("a fork's pull request", "ci by pull_request: success", "pull-request by pull_request: success", "pull-request-comment by workflow_run: success")

	s.sh(t, s.git, "git checkout -q main; git tag deploy/xray/v3; git tag v1.2.3; git push -q origin deploy/xray/v3 v1.2.3")
	step("two tags", "deploy by push: success", "release by push: success")

	s.ask(administrator, "POST", "/actions/workflows/rollback.yml/dispatches", `{"ref": "main"}`, nil)
	s.ask(administrator, "POST", "/actions/workflows/watch.yml/dispatches", `{"ref": "main"}`, nil)
	s.ask(administrator, "POST", "/dispatches", `{"event_type": "train", "client_payload": {"batch": "b2"}}`, nil)
	step("dispatches", "rollback by workflow_dispatch: success", "train by repository_dispatch: success", "watch by workflow_dispatch: success")
}
