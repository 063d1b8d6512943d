package github

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

const (
	// visible is after how long a dispatched run stands in the list of runs.
	visible = 30 * time.Second
	// dispatchTries bounds the dispatches of one run; each but the first only
	// after the list showed that the one before did not take place.
	dispatchTries = 3

	maxInputs = 25
	maxBytes  = 65535
)

// Dispatch starts a workflow by workflow_dispatch, once for each run name: the
// workflow's `run-name:` must make runName of the inputs. It asks for the run
// before, and after a lost answer until the run had its time to appear in the
// list. The id is 0 where GitHub took the dispatch and shows no run yet.
//
// An error that is ErrUnanswered leaves open whether the run was started; a
// later Dispatch by the same Client waits until the list can tell. Two clients
// that dispatch one name at the same moment need a lease between them: GitHub
// has no compare-and-swap.
func (c *Client) Dispatch(ctx context.Context, workflow, ref, runName string, inputs map[string]string) (runID int64, err error) {
	if err := checkInputs(workflow, inputs); err != nil {
		return 0, err
	}
	return c.dispatch(ctx, workflow, runName, true, func(ctx context.Context) (int64, error) {
		return c.postWorkflow(ctx, workflow, ref, inputs)
	})
}

// DispatchRepository starts workflow by repository_dispatch, once for each run
// name, as Dispatch does. GitHub never names the run it starts.
func (c *Client) DispatchRepository(ctx context.Context, workflow, event, runName string, payload map[string]any) (runID int64, err error) {
	if event == "" || len(event) > 100 || len(payload) > 10 {
		return 0, fmt.Errorf("repository_dispatch %q with %d keys: GitHub takes an event of 1 to 100 characters and at most 10 keys", event, len(payload))
	}
	return c.dispatch(ctx, workflow, runName, true, func(ctx context.Context) (int64, error) {
		err := c.post(ctx, "dispatches", map[string]any{"event_type": event, "client_payload": payload}, nil)
		return 0, c.explainWorkflow("repository_dispatch "+event, workflow, "contents: write", err)
	})
}

// dispatch posts unless the run is there. named: the caller wants the run's
// id, and the list is asked for it where the answer does not tell.
func (c *Client) dispatch(ctx context.Context, workflow, runName string, named bool, post func(context.Context) (int64, error)) (int64, error) {
	run, found, err := c.lookUp(ctx, workflow, runName)
	if err != nil || found {
		return run.ID, err
	}
	for try := 1; ; try++ {
		id, err := post(ctx)
		if err == nil && (id != 0 || !named) {
			return id, nil
		}
		accepted := err == nil
		if !accepted && !uncertain(err) {
			return 0, err
		}
		c.doubt(workflow, runName)
		run, found, lost := c.lookUp(ctx, workflow, runName)
		switch {
		case found:
			return run.ID, nil
		case accepted:
			c.settled(workflow, runName)
			return 0, nil
		case lost != nil:
			return 0, fmt.Errorf("%w; %w", err, lost)
		case try == dispatchTries:
			return 0, fmt.Errorf("%w; the list shows that %d dispatches of %q started nothing", err, try, runName)
		}
	}
}

// lookUp looks for the run; where a dispatch of it went without an answer, it
// looks again until the run had its time to appear. An error before that is
// ErrUnanswered.
func (c *Client) lookUp(ctx context.Context, workflow, runName string) (Run, bool, error) {
	run, found, err := c.watchList(ctx, workflow, runName)
	if err != nil && !c.doubted(workflow, runName).IsZero() {
		err = fmt.Errorf("%w (dispatch of %s as %q): %w", ErrUnanswered, workflow, runName, err)
	}
	return run, found, err
}

func (c *Client) watchList(ctx context.Context, workflow, runName string) (Run, bool, error) {
	for pause := time.Second; ; pause *= 2 {
		asked := c.now() // before the look: what is listed later does not count
		run, found, err := c.FindRun(ctx, workflow, runName)
		if found {
			c.settled(workflow, runName)
		}
		if err != nil || found {
			return run, found, err
		}
		left := c.doubted(workflow, runName).Add(visible).Sub(asked)
		if left <= 0 {
			c.settled(workflow, runName)
			return Run{}, false, nil
		}
		if err := c.sleep(ctx, min(pause, left)); err != nil {
			return Run{}, false, err
		}
	}
}

func doubtKey(workflow, runName string) string { return workflow + "\n" + runName }

func (c *Client) doubt(workflow, runName string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsure[doubtKey(workflow, runName)] = c.now()
}

// doubted is when a dispatch went without an answer; zero where none did.
func (c *Client) doubted(workflow, runName string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsure[doubtKey(workflow, runName)]
}

func (c *Client) settled(workflow, runName string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unsure, doubtKey(workflow, runName))
}

// postWorkflow posts the dispatch and asks for the run's id; servers that do
// not know the question get the post without it. 0 where the answer, 204,
// names no run.
func (c *Client) postWorkflow(ctx context.Context, workflow, ref string, inputs map[string]string) (int64, error) {
	body := map[string]any{"ref": ref}
	if len(inputs) > 0 {
		body["inputs"] = inputs
	}
	c.mu.Lock()
	plain := c.noDetails
	c.mu.Unlock()
	var answer struct {
		ID int64 `json:"workflow_run_id"`
	}
	if !plain {
		body["return_run_details"] = true
		err := c.postDispatch(ctx, workflow, body, &answer)
		status := Status(err)
		if status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
			return answer.ID, err
		}
		delete(body, "return_run_details")
	}
	err := c.postDispatch(ctx, workflow, body, &answer)
	if err == nil {
		c.mu.Lock()
		c.noDetails = true
		c.mu.Unlock()
	}
	return answer.ID, err
}

func (c *Client) postDispatch(ctx context.Context, workflow string, body, answer any) error {
	err := c.post(ctx, "actions/workflows/"+url.PathEscape(workflow)+"/dispatches", body, answer)
	return c.explainWorkflow("dispatch", workflow, "actions: write, and that the workflow has workflow_dispatch with these inputs", err)
}

// post sends a write to a path of the repository.
func (c *Client) post(ctx context.Context, path string, body, answer any) error {
	return write(ctx, func(ctx context.Context) error {
		req, err := c.api.NewRequest(http.MethodPost, c.path(path), body)
		if err != nil {
			return err
		}
		_, err = c.api.Do(ctx, req, answer)
		return err
	})
}

func (c *Client) path(below string) string { return "repos/" + c.owner + "/" + c.name + "/" + below }

func checkInputs(workflow string, inputs map[string]string) error {
	total := 0
	for name, value := range inputs {
		total += len(name) + len(value)
	}
	if len(inputs) > maxInputs || total > maxBytes {
		return fmt.Errorf("dispatch of %s with %d inputs of %d bytes: GitHub takes %d and %d", workflow, len(inputs), total, maxInputs, maxBytes)
	}
	return nil
}
