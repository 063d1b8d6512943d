package trigger

import (
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
)

// Event is what happened, as far as filters ask.
type Event struct {
	Name     string   // push, pull_request, workflow_run, …
	Type     string   // activity: opened, completed, or the event_type of a repository_dispatch
	Ref      string   // of a push: refs/heads/main, refs/tags/v1
	Branch   string   // base branch of a pull request, head branch of a workflow_run
	Paths    []string // files that changed
	Workflow string   // of a workflow_run: the name of the workflow that ran
	Cron     string   // of a schedule: the line that is due
}

// defaultTypes are the activities that start a workflow that names none; for
// other events that is every activity.
var defaultTypes = map[string][]string{
	"pull_request":        {"opened", "synchronize", "reopened"},
	"pull_request_target": {"opened", "synchronize", "reopened"},
}

// Starts says whether the event starts the workflow.
func (w *Workflow) Starts(e Event) (bool, error) {
	for _, on := range w.file.On {
		if on.EventName() != e.Name {
			continue
		}
		switch on := on.(type) {
		case *actionlint.WebhookEvent:
			return startsByHook(on, e)
		case *actionlint.ScheduledEvent:
			return slices.Contains(w.Schedules(), e.Cron), nil
		case *actionlint.RepositoryDispatchEvent:
			return len(on.Types) == 0 || slices.Contains(texts(on.Types), e.Type), nil
		case *actionlint.WorkflowDispatchEvent:
			return true, nil
		}
	}
	return false, nil
}

func startsByHook(on *actionlint.WebhookEvent, e Event) (bool, error) {
	types := texts(on.Types)
	if len(types) == 0 {
		types = defaultTypes[e.Name]
	}
	if len(types) > 0 && !slices.Contains(types, e.Type) {
		return false, nil
	}
	switch e.Name {
	case "push":
		return startsByPush(on, e)
	case "pull_request", "pull_request_target":
		if ok, err := within(on.Branches, on.BranchesIgnore, e.Branch); err != nil || !ok {
			return false, err
		}
		return touches(on, e.Paths)
	case "workflow_run":
		if !slices.Contains(texts(on.Workflows), e.Workflow) {
			return false, nil
		}
		return within(on.Branches, on.BranchesIgnore, e.Branch)
	}
	return true, nil
}

// startsByPush: filters of only branches keep tags out, and the other way
// round; paths are not asked about for tags.
func startsByPush(on *actionlint.WebhookEvent, e Event) (bool, error) {
	tag, isTag := strings.CutPrefix(e.Ref, "refs/tags/")
	branch := strings.TrimPrefix(e.Ref, "refs/heads/")
	ofBranches := !on.Branches.IsEmpty() || !on.BranchesIgnore.IsEmpty()
	ofTags := !on.Tags.IsEmpty() || !on.TagsIgnore.IsEmpty()
	switch {
	case isTag && ofTags:
		return within(on.Tags, on.TagsIgnore, tag)
	case isTag:
		return !ofBranches, nil
	case ofBranches:
		if ok, err := within(on.Branches, on.BranchesIgnore, branch); err != nil || !ok {
			return false, err
		}
	case ofTags:
		return false, nil
	}
	return touches(on, e.Paths)
}

// within asks a filter and its -ignore form about one name.
func within(only, ignore *actionlint.WebhookEventFilter, name string) (bool, error) {
	if !only.IsEmpty() {
		g, err := NewGlob(texts(only.Values))
		return err == nil && g.Match(name), err
	}
	if !ignore.IsEmpty() {
		g, err := NewGlob(texts(ignore.Values))
		return err == nil && !g.Match(name), err
	}
	return true, nil
}

// touches asks paths and paths-ignore about the files that changed.
func touches(on *actionlint.WebhookEvent, paths []string) (bool, error) {
	if !on.Paths.IsEmpty() {
		g, err := NewGlob(texts(on.Paths.Values))
		return err == nil && slices.ContainsFunc(paths, g.Match), err
	}
	if !on.PathsIgnore.IsEmpty() {
		g, err := NewGlob(texts(on.PathsIgnore.Values))
		if err != nil {
			return false, err
		}
		// A push that changes no file is not one whose files are all ignored.
		return len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool { return !g.Match(p) }), nil
	}
	return true, nil
}

func texts(values []*actionlint.String) []string {
	var all []string
	for _, v := range values {
		all = append(all, v.Value)
	}
	return all
}
