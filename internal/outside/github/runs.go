package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	gh "github.com/google/go-github/v60/github"
)

const (
	// window is how far back runs are looked up.
	window = 30 * 24 * time.Hour
	// searchLimit is how many results GitHub shows of one search.
	searchLimit = 1000
)

// ErrEnded means that a run to be cancelled had ended by itself.
var ErrEnded = errors.New("the run has ended")

// Run is one run of a workflow. Name is its run-name, shown as its title.
type Run struct {
	ID         int64
	Name       string
	Event      string
	Status     string // queued, in_progress, completed, …
	Conclusion string // success, failure, cancelled, …; empty until completed
	HeadSHA    string
	URL        string // its page
	Created    time.Time
}

func runOf(r *gh.WorkflowRun) Run {
	return Run{
		ID: r.GetID(), Name: r.GetDisplayTitle(), Event: r.GetEvent(), Status: r.GetStatus(),
		Conclusion: r.GetConclusion(), HeadSHA: r.GetHeadSHA(), URL: r.GetHTMLURL(), Created: r.GetCreatedAt().Time,
	}
}

// FindRun looks for the run of a workflow file by its run name, among those of
// the last 30 days, and answers the newest. A run that was only just
// dispatched may not be listed yet.
func (c *Client) FindRun(ctx context.Context, workflow, runName string) (run Run, found bool, err error) {
	upper := time.Time{}
	for {
		created := ">=" + c.now().Add(-window).UTC().Format(time.RFC3339)
		if !upper.IsZero() {
			created = c.now().Add(-window).UTC().Format(time.RFC3339) + ".." + upper.UTC().Format(time.RFC3339)
		}
		read, oldest := 0, time.Time{}
		err := pages(func(page gh.ListOptions) (*gh.Response, bool, error) {
			runs, resp, err := c.api.Actions.ListWorkflowRunsByFileName(ctx, c.owner, c.name, workflow,
				&gh.ListWorkflowRunsOptions{Created: created, ExcludePullRequests: true, ListOptions: page})
			if err != nil {
				return nil, true, err
			}
			for _, r := range runs.WorkflowRuns {
				if r.GetDisplayTitle() == runName {
					run, found = runOf(r), true
					return resp, true, nil
				}
				oldest = r.GetCreatedAt().Time
			}
			read += len(runs.WorkflowRuns)
			return resp, false, nil
		})
		if err != nil || found || read < searchLimit {
			return run, found, c.explainWorkflow("list of runs", workflow, "actions: read", err)
		}
		// A search ends after so many; the next one begins where it ended.
		if oldest.Equal(upper) {
			oldest = oldest.Add(-time.Second)
		}
		upper = oldest
	}
}

// Run reads a run.
func (c *Client) Run(ctx context.Context, id int64) (Run, error) {
	r, _, err := c.api.Actions.GetWorkflowRunByID(ctx, c.owner, c.name, id)
	if err != nil {
		return Run{}, explain(fmt.Sprintf("run %d of %s", id, c.Repository()), "see that the run exists and the token has actions: read", err)
	}
	return runOf(r), nil
}

// Cancel asks GitHub to cancel a run; it ends some seconds later. A run that
// had ended otherwise gives ErrEnded; one that was cancelled already, nil.
func (c *Client) Cancel(ctx context.Context, id int64) error {
	_, err := c.api.Actions.CancelWorkflowRunByID(repeat(ctx), c.owner, c.name, id)
	var accepted *gh.AcceptedError
	if errors.As(err, &accepted) {
		return nil // 202: GitHub's word for yes
	}
	err = explain(fmt.Sprintf("cancel run %d of %s", id, c.Repository()), "see that the run exists and the token has actions: write", err)
	if Status(err) != http.StatusConflict {
		return err
	}
	run, readErr := c.Run(ctx, id)
	switch {
	case readErr != nil:
		return fmt.Errorf("%w; %w", err, readErr)
	case run.Conclusion == "cancelled":
		return nil
	case run.Status == "completed":
		return fmt.Errorf("cancel run %d of %s: %w: %s", id, c.Repository(), ErrEnded, run.Conclusion)
	}
	return err
}

func (c *Client) explainWorkflow(what, workflow, need string, err error) error {
	return explain(fmt.Sprintf("%s of %s in %s", what, workflow, c.Repository()),
		fmt.Sprintf("see that .github/workflows/%s stands on the default branch, that %s is right, and that the token has %s", workflow, RepositoryVariable, need), err)
}
