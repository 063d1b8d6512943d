// Package trigger says what a workflow file makes of an event, for the stand-in
// of GitHub: whether its `on:` filters start it, which inputs it takes, what its
// run is called, which concurrency group the run joins and what its token may
// do. All of it is pure: a file and an event go in.
//
// Syntax is read by actionlint's own parser, so that the file that runs is the
// file that was linted. The rules are those of GitHub's "Workflow syntax" and
// "Events that trigger workflows".
//
// Refused: expressions over contexts that do not exist when a run is made
// (needs, steps, env, secrets), patterns and functions GitHub does not know.
package trigger

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/rhysd/actionlint"
	"github.com/robfig/cron/v3"
)

// Workflow is a workflow file.
type Workflow struct {
	Path string // .github/workflows/train.yml
	Name string // the path where the file gives none
	file *actionlint.Workflow
}

// Parse reads a workflow file. The error names every line that GitHub would not
// take; such a workflow never starts.
func Parse(file string, data []byte) (*Workflow, error) {
	w := &Workflow{Path: file, Name: file}
	parsed, problems := actionlint.Parse(data)
	if len(problems) > 0 {
		var all []error
		for _, p := range problems {
			all = append(all, fmt.Errorf("%s:%d:%d: %s", path.Base(file), p.Line, p.Column, p.Message))
		}
		return w, fmt.Errorf("invalid workflow file: %w", errors.Join(all...))
	}
	w.file = parsed
	if parsed.Name != nil && parsed.Name.Value != "" {
		w.Name = parsed.Name.Value
	}
	return w, nil
}

// DisplayTitle is the title of a run: run-name with its expressions evaluated;
// "" where the file has none, because then the event gives the title.
func (w *Workflow) DisplayTitle(contexts map[string]any) (string, error) {
	if w.file.RunName == nil {
		return "", nil
	}
	title, err := Evaluate(w.file.RunName.Value, contexts)
	if err != nil {
		return "", fmt.Errorf("run-name: %w", err)
	}
	return strings.TrimSpace(title), nil
}

// Concurrency is the group that the run joins ("" is none) and whether it
// cancels what runs in the group. Groups of single jobs are not enforced: runs
// are queued whole.
func (w *Workflow) Concurrency(contexts map[string]any) (group string, cancelInProgress bool, err error) {
	c := w.file.Concurrency
	if c == nil || c.Group == nil {
		return "", false, nil
	}
	if group, err = Evaluate(c.Group.Value, contexts); err != nil {
		return "", false, fmt.Errorf("concurrency group: %w", err)
	}
	if b := c.CancelInProgress; b != nil {
		cancelInProgress = b.Value
		if b.Expression != nil {
			value, err := Value(b.Expression.Value, contexts)
			if err != nil {
				return "", false, fmt.Errorf("cancel-in-progress: %w", err)
			}
			cancelInProgress = truthy(value)
		}
	}
	return group, cancelInProgress, nil
}

// Schedules are the cron lines of `on: schedule`.
func (w *Workflow) Schedules() []string {
	var lines []string
	for _, on := range w.file.On {
		if s, ok := on.(*actionlint.ScheduledEvent); ok {
			for _, entry := range s.Schedules {
				lines = append(lines, entry.Cron.Value)
			}
		}
	}
	return lines
}

// Cron reads a line of a schedule: five fields, UTC.
func Cron(line string) (cron.Schedule, error) {
	schedule, err := cron.ParseStandard("TZ=UTC " + line)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", line, err)
	}
	return schedule, nil
}

// Permissions are what the run's token may do, by scope: "read" or "write". A
// run has one token, so it holds the most that any of its jobs asks for. Where
// nothing is stated it is GitHub's restricted default.
func (w *Workflow) Permissions() map[string]string {
	may := map[string]string{}
	for _, job := range w.file.Jobs {
		stated := job.Permissions
		if stated == nil {
			stated = w.file.Permissions
		}
		if stated == nil {
			grant(may, "contents", "read")
			grant(may, "packages", "read")
			continue
		}
		if stated.All != nil {
			for _, scope := range Scopes {
				grant(may, scope, strings.TrimSuffix(stated.All.Value, "-all"))
			}
		}
		for _, scope := range stated.Scopes {
			grant(may, scope.Name.Value, scope.Value.Value)
		}
	}
	may["metadata"] = "read"
	return may
}

// Scopes are the permissions that a workflow can ask for.
var Scopes = []string{
	"actions", "attestations", "checks", "contents", "deployments", "discussions", "id-token", "issues",
	"packages", "pages", "pull-requests", "repository-projects", "security-events", "statuses",
}

func grant(may map[string]string, scope, level string) {
	if level == "write" || level == "read" && may[scope] != "write" {
		may[scope] = level
	}
}

// EnvironmentOf gives the environment of a job with its URL: name "" is none.
func (w *Workflow) EnvironmentOf(job string) (name, url string) {
	j := w.file.Jobs[strings.ToLower(job)]
	if j == nil || j.Environment == nil || j.Environment.Name == nil {
		return "", ""
	}
	if d := j.Environment.Deployment; d != nil && d.Expression == nil && !d.Value {
		return "", ""
	}
	if j.Environment.URL != nil {
		url = j.Environment.URL.Value
	}
	return j.Environment.Name.Value, url
}

// Uses lists every action and reusable workflow that the file names, once.
func (w *Workflow) Uses() []string {
	var all []string
	seen := map[string]bool{}
	add := func(s *actionlint.String) {
		if s != nil && !seen[s.Value] {
			seen[s.Value] = true
			all = append(all, s.Value)
		}
	}
	for _, job := range w.file.Jobs {
		if job.WorkflowCall != nil {
			add(job.WorkflowCall.Uses)
		}
		for _, step := range job.Steps {
			if e, ok := step.Exec.(*actionlint.ExecAction); ok {
				add(e.Uses)
			}
		}
	}
	return all
}

// Call is the workflow that a job calls and the inputs it gives, unevaluated;
// "" where the job calls none.
func (w *Workflow) Call(job string) (uses string, with map[string]string) {
	j := w.file.Jobs[strings.ToLower(job)]
	if j == nil || j.WorkflowCall == nil || j.WorkflowCall.Uses == nil {
		return "", nil
	}
	with = map[string]string{}
	for _, in := range j.WorkflowCall.Inputs {
		if in.Value != nil {
			with[in.Name.Value] = in.Value.Value
		}
	}
	return j.WorkflowCall.Uses.Value, with
}
