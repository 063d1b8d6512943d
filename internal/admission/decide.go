package admission

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Job is what the runner says of a job, by its GITHUB_ variables.
type Job struct {
	Repository  string // GITHUB_REPOSITORY
	WorkflowRef string // GITHUB_WORKFLOW_REF: owner/name/.github/workflows/x.yml@refs/heads/main
	Ref         string // GITHUB_REF
	Event       string // GITHUB_EVENT_NAME
	Payload     []byte // the file at GITHUB_EVENT_PATH
}

// Refusal is the reason why a job is not taken.
type Refusal struct {
	Code string // fork, event, list, payload or environment
	Text string
}

func (r Refusal) Error() string { return r.Text }

func refuse(code, format string, args ...any) error {
	return Refusal{code, fmt.Sprintf(format, args...)}
}

// Decide answers the entry that admits the job, or a Refusal.
func Decide(list List, job Job) (Entry, error) {
	workflow, err := job.workflow()
	if err != nil {
		return Entry{}, err
	}
	known, ok := events[job.Event]
	if !ok {
		return Entry{}, refuse("event", "the event %q is not one that this runner takes jobs of", job.Event)
	}
	payload, err := decode(job.Payload)
	if err != nil {
		return Entry{}, refuse("payload", "the event's payload cannot be read: %v", err)
	}
	if err := known(job, payload); err != nil {
		return Entry{}, err
	}
	for _, e := range list {
		if e.admits(job.Repository, workflow, job.Ref) {
			return e, nil
		}
	}
	return Entry{}, refuse("list", "%s of %s on %s is not on this runner's list", workflow, job.Repository, job.Ref)
}

// workflow takes the path of the workflow file out of GITHUB_WORKFLOW_REF. Its
// other parts must agree with GITHUB_REPOSITORY and GITHUB_REF, so that neither
// a file nor a branch with an @ in its name is taken for another.
func (j Job) workflow() (string, error) {
	if !repositoryForm.MatchString(j.Repository) || j.Ref == "" {
		return "", refuse("environment", "the runner names no repository (%q) or no ref (%q)", j.Repository, j.Ref)
	}
	path, ok := strings.CutPrefix(j.WorkflowRef, j.Repository+"/")
	if !ok {
		return "", refuse("environment", "the workflow %q is not one of %s", j.WorkflowRef, j.Repository)
	}
	path, ok = strings.CutSuffix(path, "@"+j.Ref)
	if !ok || !workflowForm.MatchString(path) {
		return "", refuse("environment", "the workflow %q is no file of .github/workflows on %s", j.WorkflowRef, j.Ref)
	}
	return path, nil
}

// object is a JSON object. Keys are looked up as they are written: the
// decoder's own matching would take HEAD for head.
type object map[string]any

func (o object) object(key string) object {
	inner, _ := o[key].(map[string]any)
	return inner
}

func (o object) text(key string) string {
	text, _ := o[key].(string)
	return text
}

func decode(data []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errors.New("it is no object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind its end")
	}
	return o, nil
}

// events are the events whose payload shows where the code comes from. Others
// are refused: issue_comment, for one, runs on the default branch but may speak
// of any fork's pull request.
var events = map[string]func(Job, object) error{
	"push":                push,
	"workflow_dispatch":   own,
	"repository_dispatch": own,
	"schedule":            schedule,
	"pull_request":        pullRequest,
	"pull_request_target": pullRequest,
	"workflow_run":        workflowRun,
}

// own asks that the payload speaks of the job's repository.
func own(job Job, payload object) error {
	if name := payload.object("repository").text("full_name"); !strings.EqualFold(name, job.Repository) {
		return refuse("payload", "the event is of the repository %q, the job of %s", name, job.Repository)
	}
	return nil
}

func push(job Job, payload object) error {
	if ref := payload.text("ref"); ref != job.Ref {
		return refuse("payload", "the push is of %q, the job on %s", ref, job.Ref)
	}
	return own(job, payload)
}

// schedule's payload holds the cron line and, on some servers only, the
// repository.
func schedule(job Job, payload object) error {
	if payload.text("schedule") == "" {
		return refuse("payload", "the schedule's payload names no schedule")
	}
	if _, named := payload["repository"]; !named {
		return nil
	}
	return own(job, payload)
}

func pullRequest(job Job, payload object) error {
	if err := own(job, payload); err != nil {
		return err
	}
	pull := payload.object("pull_request")
	if base := pull.object("base").object("repo").text("full_name"); !strings.EqualFold(base, job.Repository) {
		return refuse("payload", "the pull request goes to the repository %q, the job is of %s", base, job.Repository)
	}
	return sameRepository("the pull request", pull.object("head").object("repo"), job)
}

func workflowRun(job Job, payload object) error {
	if err := own(job, payload); err != nil {
		return err
	}
	run := payload.object("workflow_run")
	if run == nil {
		return refuse("payload", "the payload names no workflow_run")
	}
	return sameRepository("the run that caused this one", run.object("head_repository"), job)
}

// sameRepository refuses code from a fork, and code of which nobody can say any
// more where it comes from: a fork that was deleted is null.
func sameRepository(what string, head object, job Job) error {
	name := head.text("full_name")
	switch {
	case name == "":
		return refuse("fork", "%s has no head repository: a fork that was deleted, or a payload that cannot be trusted", what)
	case !strings.EqualFold(name, job.Repository):
		return refuse("fork", "%s comes from the fork %s: a fork's code never runs on this runner", what, name)
	}
	return nil
}
