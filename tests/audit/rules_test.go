package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule answers what is wrong with a workflow.
type rule struct {
	name  string
	check func(file, text string, w workflow) []string
	bad   string // a workflow that breaks it
}

func rules() []rule {
	return []rule{
		{"template-injection", templateInjection, "jobs: {a: {steps: [{run: 'echo ${{ github.event.pull_request.title }}'}]}}"},
		{"excessive-permissions: none above", noPermissionsAbove, "permissions: {contents: read}\njobs: {a: {steps: []}}"},
		{"excessive-permissions: every job its own", permissionsEachJob, "permissions: {}\njobs: {a: {steps: []}}"},
		{"excessive-permissions: writes are listed", listedWrites, "jobs: {a: {permissions: {contents: write}, steps: []}}"},
		{"excessive-permissions: no words for all", listedWrites, "jobs: {a: {permissions: write-all, steps: []}}"},
		{"artipacked", noPersistedCredentials, "jobs: {a: {steps: [{uses: actions/checkout@v4}]}}"},
		{"dangerous-triggers: pull_request_target", dangerousTriggers, "on: {pull_request_target: {}}\njobs: {}"},
		{"dangerous-triggers: workflow_run runs a head", dangerousTriggers, "on: {workflow_run: {}}\njobs: {a: {runs-on: ubuntu-24.04, steps: [{uses: 'actions/checkout@x', with: {ref: 'refs/heads/x'}}]}}"},
		{"dangerous-triggers: workflow_run runs a script", dangerousTriggers, "on: {workflow_run: {}}\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: make}]}}"},
		{"dangerous-triggers: workflow_run on our runner", dangerousTriggers, "on: {workflow_run: {}}\njobs: {a: {runs-on: [self-hosted], steps: []}}"},
		{"github-env", noEnvironmentFile, "jobs: {a: {steps: [{run: 'echo x=$y >>\"$GITHUB_ENV\"'}]}}"},
		{"cache-poisoning", noCacheInReleases, "on: {push: {tags: ['v*']}}\njobs: {a: {steps: [{uses: 'actions/setup-go@x'}]}}"},
		{"cache-poisoning: no cache at all", noCacheInReleases, "on: {push: {tags: ['v*']}}\njobs: {a: {steps: [{uses: 'actions/cache@x'}]}}"},
		{"secrets-inherit", noInheritedSecrets, "jobs: {a: {uses: ./.github/workflows/x.yml, secrets: inherit}}"},
		{"unpinned-uses", pinnedUses, "jobs: {a: {steps: [{uses: actions/checkout@v4}]}}"},
		{"timeouts", timeouts, "jobs: {a: {runs-on: ubuntu-24.04, steps: []}}"},
		{"no concurrency", noConcurrency, "concurrency: x\njobs: {}"},
		{"known runners", knownRunners, "jobs: {a: {runs-on: [self-hosted], steps: []}}"},
		{"secrets stay on our runners", secretsOnOurRunners, "jobs: {a: {runs-on: ubuntu-24.04, steps: [{run: x, env: {A: '${{ secrets.A }}'}}]}}"},
		{"no secrets for a whole job", secretsInSteps, "env: {A: '${{ secrets.A }}'}\njobs: {}"},
		{"forks stay off our runners", forksStayOut, "on: {pull_request: {}}\njobs: {a: {runs-on: [self-hosted, gpu], steps: []}}"},
		{"bash is named", bashNamed, "jobs: {a: {steps: [{run: 'x >>\"$GITHUB_OUTPUT\"'}]}}"},
	}
}

func TestWorkflowsKeepTheRules(t *testing.T) {
	for _, set := range []map[string]string{own(t), rendered(t, adopter)} {
		for _, file := range sorted(set) {
			w := parse(t, set[file])
			for _, r := range rules() {
				for _, finding := range r.check(file, set[file], w) {
					t.Errorf("%s: %s: %s", file, r.name, finding)
				}
			}
		}
	}
}

func TestEveryRuleSeesWhatItIsFor(t *testing.T) {
	for _, r := range rules() {
		if found := r.check("bad.yml", r.bad, parse(t, r.bad)); len(found) == 0 {
			t.Errorf("%s finds nothing in:\n%s", r.name, r.bad)
		}
	}
}

func TestActionsRunNothingButTheirProgram(t *testing.T) {
	for name, c := range actions(t) {
		if c.Runs.Using != "composite" || len(c.Runs.Steps) == 0 {
			t.Errorf("%s is no composite action", name)
		}
		for _, s := range c.Runs.Steps {
			if hasExpression(s.Run) {
				t.Errorf("%s: template-injection: %s", name, s.Run)
			}
			if s.Uses != "" || s.Shell != "bash" || !strings.HasPrefix(s.Run, "exec ") {
				t.Errorf("%s: a step does something else than exec in bash: %+v", name, s)
			}
		}
	}
}

// each calls a check for every step.
func each(w workflow, check func(id string, s step) string) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		for _, s := range w.Jobs[id].Steps {
			if text := check(id, s); text != "" {
				found = append(found, id+": "+text)
			}
		}
	}
	return found
}

func templateInjection(_, _ string, w workflow) []string {
	return each(w, func(_ string, s step) string {
		if hasExpression(s.Run) {
			return "an expression inside of run: " + s.Run
		}
		return ""
	})
}

func noPermissionsAbove(_, _ string, w workflow) []string {
	if p, ok := w.Permissions.(map[string]any); !ok || len(p) > 0 {
		return []string{"the workflow's own permissions are not {}"}
	}
	return nil
}

func permissionsEachJob(_, _ string, w workflow) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		if w.Jobs[id].Permissions == nil {
			found = append(found, id+" says no permissions")
		}
	}
	return found
}

// writes are all permissions to write, each with its reason beside it in the
// workflow.
var writes = []string{
	"watch.yml watch actions",
	"train.yml deploy contents",
	"deploy.yml production contents",
	"pull-request.yml comment pull-requests",
	"pull-request-comment.yml comment pull-requests",
	"release.yml publish contents",
	"release.yml publish id-token",
	"release.yml publish attestations",
}

func listedWrites(file, _ string, w workflow) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		p, ok := w.Jobs[id].Permissions.(map[string]any)
		if !ok {
			if w.Jobs[id].Permissions != nil {
				found = append(found, fmt.Sprintf("%s: permissions %v", id, w.Jobs[id].Permissions))
			}
			continue
		}
		for _, scope := range sorted(p) {
			if p[scope] != "read" && !slices.Contains(writes, file+" "+id+" "+scope) {
				found = append(found, fmt.Sprintf("%s may %v %s", id, p[scope], scope))
			}
		}
	}
	return found
}

func noPersistedCredentials(_, _ string, w workflow) []string {
	return each(w, func(_ string, s step) string {
		if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != false {
			return "checkout leaves its token on the disk"
		}
		return ""
	})
}

func dangerousTriggers(_, _ string, w workflow) []string {
	on, _ := w.On.(map[string]any)
	var found []string
	if _, ok := on["pull_request_target"]; ok {
		found = append(found, "pull_request_target runs a fork's code with our rights")
	}
	if _, ok := on["workflow_run"]; !ok {
		return found
	}
	for _, id := range sorted(w.Jobs) {
		if w.Jobs[id].selfHosted() {
			found = append(found, id+" runs on a runner of ours")
		}
	}
	return append(found, each(w, func(_ string, s step) string {
		switch {
		case s.Run != "":
			return "a script beside foreign data"
		case strings.HasPrefix(s.Uses, "actions/checkout@") && (s.With["ref"] != nil || s.With["repository"] != nil):
			return "checkout of something else than the default branch"
		}
		return ""
	})...)
}

func noEnvironmentFile(_, _ string, w workflow) []string {
	return each(w, func(_ string, s step) string {
		if strings.Contains(s.Run, "GITHUB_ENV") || strings.Contains(s.Run, "GITHUB_PATH") {
			return "later steps would run what this one writes: " + s.Run
		}
		return ""
	})
}

func noCacheInReleases(_, text string, w workflow) []string {
	if !strings.Contains(text, "tags:") {
		return nil
	}
	return each(w, func(_ string, s step) string {
		switch {
		case strings.HasPrefix(s.Uses, "actions/cache"):
			return "a cache in what is released"
		case strings.HasPrefix(s.Uses, "actions/setup-") && s.With["cache"] != false:
			return s.Uses + " without cache: false"
		}
		return ""
	})
}

func noInheritedSecrets(_, _ string, w workflow) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		if w.Jobs[id].Secrets == "inherit" {
			found = append(found, id+" hands on every secret")
		}
	}
	return found
}

var pinned = regexp.MustCompile(`^[A-Za-z0-9-]+/[A-Za-z0-9._/-]+@[0-9a-f]{40}$`)

// pinnedUses: third parties by the full SHA with the version beside it, our own
// actions by the path or by the release they came with.
func pinnedUses(_, text string, w workflow) []string {
	found := each(w, func(_ string, s step) string {
		ours := strings.HasPrefix(s.Uses, "./actions/") || strings.HasPrefix(s.Uses, adopter.Actions+"/actions/")
		if s.Uses == "" || ours {
			return ""
		}
		if !pinned.MatchString(s.Uses) || !strings.Contains(text, s.Uses+" # v") {
			return s.Uses + " is not pinned to a full SHA with its version beside it"
		}
		return ""
	})
	for _, id := range sorted(w.Jobs) {
		if uses := w.Jobs[id].Uses; uses != "" && !strings.HasPrefix(uses, "./.github/workflows/") {
			found = append(found, id+": a workflow of somebody else: "+uses)
		}
	}
	return found
}

func timeouts(_, _ string, w workflow) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		if j := w.Jobs[id]; j.Uses == "" && j.Timeout < 1 {
			found = append(found, id+" has no timeout-minutes")
		}
	}
	return found
}

// noConcurrency: GitHub keeps only the newest waiting run of a group, so that
// batches would be lost.
func noConcurrency(_, _ string, w workflow) []string {
	var found []string
	if w.Concurrency != nil {
		found = append(found, "the workflow has a concurrency group")
	}
	for _, id := range sorted(w.Jobs) {
		if w.Jobs[id].Concurrency != nil {
			found = append(found, id+" has a concurrency group")
		}
	}
	return found
}

var runners = []string{
	"self-hosted penstock", "self-hosted gpu", "ubuntu-24.04", "${{ matrix.runner }}",
}

func knownRunners(_, _ string, w workflow) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		if j := w.Jobs[id]; j.Uses == "" && !slices.Contains(runners, strings.Join(j.labels(), " ")) {
			found = append(found, fmt.Sprintf("%s runs on %v", id, j.RunsOn))
		}
	}
	return found
}

func secretsOnOurRunners(_, _ string, w workflow) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		j := w.Jobs[id]
		for _, text := range texts(j) {
			if j.Uses == "" && !j.selfHosted() && strings.Contains(text, "secrets.") {
				found = append(found, id+" takes a secret to a hosted runner")
			}
		}
	}
	return found
}

// secretsInSteps: a secret is for the step that needs it, not for the checkout
// beside it.
func secretsInSteps(_, _ string, w workflow) []string {
	if strings.Contains(strings.Join(texts(w.Env), ""), "secrets.") {
		return []string{"a secret in the environment of all jobs"}
	}
	return nil
}

const fromHere = "github.event.pull_request.head.repo.full_name == github.repository"

var status = regexp.MustCompile(`\b(cancelled|always|failure)\(\)`)

// forksStayOut: on a pull request a job on our runners has the condition, or
// waits for a job that has it.
func forksStayOut(_, _ string, w workflow) []string {
	on, _ := w.On.(map[string]any)
	if _, ok := on["pull_request"]; !ok {
		return nil
	}
	var guarded func(id string) bool
	guarded = func(id string) bool {
		j := w.Jobs[id]
		if strings.Contains(j.If, fromHere) {
			return true
		}
		// A condition that asks for a status replaces "only after success".
		return !status.MatchString(j.If) && slices.ContainsFunc(j.needs(), guarded)
	}
	var found []string
	for _, id := range sorted(w.Jobs) {
		if w.Jobs[id].selfHosted() && !guarded(id) {
			found = append(found, id+" would take a fork's code to a runner of ours")
		}
	}
	return found
}

func bashNamed(_, _ string, w workflow) []string {
	return each(w, func(_ string, s step) string {
		if s.Run != "" && s.Shell != "bash" && s.Run != "make test" {
			return "a script without shell: bash, which alone stops at a failure in a pipe"
		}
		return ""
	})
}

// The list that a runner starts with names every workflow that asks for it.
func TestRunnersListNamesTheWorkflowsThatAskForThem(t *testing.T) {
	list := read(t, "../../runners/hooks/jobs.list.example")
	for file, text := range rendered(t, adopter) {
		asks := false
		for _, j := range parse(t, text).Jobs {
			asks = asks || j.selfHosted()
		}
		if listed := strings.Contains(list, "  .github/workflows/"+file+" "); asks != listed {
			t.Errorf("%s asks for a runner of ours: %v; is on the list: %v", file, asks, listed)
		}
	}
}
