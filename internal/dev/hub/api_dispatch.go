package hub

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

// maxInputText is GitHub's limit of all inputs, or of a client payload.
const maxInputText = 65535

func (h *Hub) dispatchWorkflow(c *call) (answer, error) {
	w, err := h.workflowOf(c)
	if err != nil {
		return answer{}, err
	}
	var body struct {
		Ref     string         `json:"ref"`
		Inputs  map[string]any `json:"inputs"`
		Details bool           `json:"return_run_details"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	if body.Ref == "" {
		return answer{}, invalidText(`Invalid request. "ref" wasn't supplied.`)
	}
	if size := len(c.body); size > maxInputText+4096 {
		return answer{}, invalidText("inputs are too large.")
	}
	if w.Disabled {
		return answer{}, invalidText("Cannot trigger a 'workflow_dispatch' on a disabled workflow")
	}
	run, err := h.dispatch(c, w, body.Ref, body.Inputs)
	if err != nil {
		return answer{}, err
	}
	if !body.Details {
		return noContent()
	}
	return ok(m{"workflow_run_id": run.ID, "run_url": h.runURL(c.repo, run), "html_url": h.runPage(c.repo, run)})
}

func (h *Hub) dispatch(c *call, w *workflowRecord, name string, given map[string]any) (*run, error) {
	ref := h.fullRef(c.repo, name)
	if ref == "" || strings.HasPrefix(ref, "refs/pull/") {
		return nil, invalidText("No ref found for: " + name)
	}
	sha, err := h.resolve(c.repo, ref)
	if err != nil {
		return nil, err
	}
	f, err := h.workflowAt(c.repo, sha, w.Path)
	if err != nil {
		return nil, errNotFound
	}
	if f.problem != nil {
		return nil, invalidText(f.problem.Error())
	}
	inputs, err := f.Inputs(given)
	if err != nil {
		return nil, invalidText(err.Error())
	}
	refName, _ := refParts(ref)
	texts := m{}
	for k, v := range inputs {
		texts[k] = v
	}
	run := h.start(c.repo, f, occurrence{
		event: trigger.Event{Name: "workflow_dispatch"}, ref: ref, sha: sha, headBranch: refName, headSHA: sha, who: c.who, inputs: inputs,
		payload: h.payload(c.repo, c.who, m{"inputs": texts, "ref": ref, "workflow": w.Path}),
	})
	return run, nil
}

func (h *Hub) dispatchRepository(c *call) (answer, error) {
	var body struct {
		Type    string                     `json:"event_type"`
		Payload map[string]json.RawMessage `json:"client_payload"`
	}
	if err := c.read(&body); err != nil {
		return answer{}, err
	}
	switch {
	case body.Type == "":
		return answer{}, invalidText(`Invalid request. "event_type" wasn't supplied.`)
	case len(body.Type) > 100:
		return answer{}, invalidText("event_type is too long (maximum is 100 characters)")
	case len(body.Payload) > 10:
		return answer{}, invalidText("No more than 10 properties are allowed; " + strconv.Itoa(len(body.Payload)) + " were supplied.")
	case len(c.body) > maxInputText:
		return answer{}, invalidText("client_payload is too large.")
	}
	r := c.repo
	sha, err := h.resolve(r, "refs/heads/"+r.DefaultBranch)
	if err != nil {
		return answer{}, err
	}
	who := c.who
	who.Run = 0 // one of the two events that a run's token may make
	client := any(body.Payload)
	if body.Payload == nil {
		client = m{}
	}
	return answer{status: http.StatusNoContent}, h.fire(r, occurrence{
		event: trigger.Event{Name: "repository_dispatch", Type: body.Type}, ref: "refs/heads/" + r.DefaultBranch, sha: sha,
		headBranch: r.DefaultBranch, headSHA: sha, title: body.Type, who: who,
		payload: h.payload(r, c.who, m{"action": body.Type, "branch": r.DefaultBranch, "client_payload": client}),
	})
}
