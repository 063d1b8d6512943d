package trigger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rhysd/actionlint"
)

// maxInputs is GitHub's limit of inputs of a dispatch.
const maxInputs = 25

// InputError is a dispatch that GitHub answers with 422 and this text.
type InputError string

func (e InputError) Error() string { return string(e) }

// Inputs holds what a dispatch gives against what the file declares, and adds
// the defaults. Values are texts, as in github.event.inputs. Errors are
// InputErrors.
func (w *Workflow) Inputs(given map[string]any) (map[string]string, error) {
	declared, ok := w.dispatch()
	if !ok {
		return nil, InputError("Workflow does not have 'workflow_dispatch' trigger")
	}
	if len(given) > maxInputs {
		return nil, InputError(fmt.Sprintf("you may only define up to %d `inputs` for a `workflow_dispatch` event", maxInputs))
	}
	known := map[string]bool{}
	inputs := map[string]string{}
	for _, d := range declared {
		name := d.Name.Value
		known[name] = true
		value, err := inputValue(d, given[name])
		if err != nil {
			return nil, err
		}
		inputs[name] = value
	}
	var strange []string
	for name := range given {
		if !known[name] {
			strange = append(strange, strconv.Quote(name))
		}
	}
	if len(strange) > 0 {
		slices.Sort(strange)
		return nil, InputError("Unexpected inputs provided: [" + strings.Join(strange, ", ") + "]")
	}
	return inputs, nil
}

// TypedInputs is the inputs context: booleans and numbers keep their type.
func (w *Workflow) TypedInputs(inputs map[string]string) map[string]any {
	typed := map[string]any{}
	declared, _ := w.dispatch()
	for _, d := range declared {
		value, there := inputs[d.Name.Value]
		if !there {
			continue
		}
		typed[d.Name.Value] = value
		switch d.Type {
		case actionlint.WorkflowDispatchEventInputTypeBoolean:
			typed[d.Name.Value] = value == "true"
		case actionlint.WorkflowDispatchEventInputTypeNumber:
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				typed[d.Name.Value] = n
			}
		}
	}
	return typed
}

func (w *Workflow) dispatch() (map[string]*actionlint.DispatchInput, bool) {
	for _, on := range w.file.On {
		if d, ok := on.(*actionlint.WorkflowDispatchEvent); ok {
			return d.Inputs, true
		}
	}
	return nil, false
}

// inputValue is one input's value: given, or its default.
func inputValue(d *actionlint.DispatchInput, given any) (string, error) {
	name, value := d.Name.Value, ""
	switch v := given.(type) {
	case nil:
		if d.Default != nil {
			value = d.Default.Value
		}
	case string:
		value = v
	case bool:
		value = strconv.FormatBool(v)
	case float64:
		value = strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return "", InputError(fmt.Sprintf("Invalid value for input '%s'", name))
	}
	if value == "" {
		if d.Required != nil && d.Required.Value {
			return "", InputError(fmt.Sprintf("Required input '%s' not provided", name))
		}
		if d.Type == actionlint.WorkflowDispatchEventInputTypeBoolean {
			value = "false"
		}
		return value, nil
	}
	bad := InputError(fmt.Sprintf("Provided value '%s' for input '%s' not in the list of allowed values", value, name))
	switch d.Type {
	case actionlint.WorkflowDispatchEventInputTypeChoice:
		if !slices.Contains(texts(d.Options), value) {
			return "", bad
		}
	case actionlint.WorkflowDispatchEventInputTypeBoolean:
		if value != "true" && value != "false" {
			return "", bad
		}
	case actionlint.WorkflowDispatchEventInputTypeNumber:
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return "", bad
		}
	}
	return value, nil
}
