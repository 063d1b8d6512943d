package trigger

import (
	"errors"
	"fmt"
	"maps"
	"testing"
)

const dispatched = `on:
  workflow_dispatch:
    inputs:
      batch: {type: string, required: true}
      mode: {type: choice, options: [fast, full], default: fast}
      dry: {type: boolean}
      n: {type: number, default: 3}
      note: {type: string}
`

func TestInputsGetDefaultsAndAreHeldToTheirTypes(t *testing.T) {
	w := parsed(t, dispatched)
	for name, c := range map[string]struct {
		given map[string]any
		want  map[string]string
		err   string
	}{
		"defaults":           {map[string]any{"batch": "b"}, map[string]string{"batch": "b", "mode": "fast", "dry": "false", "n": "3", "note": ""}, ""},
		"all given":          {map[string]any{"batch": "b", "mode": "full", "dry": true, "n": 4.0, "note": "x"}, map[string]string{"batch": "b", "mode": "full", "dry": "true", "n": "4", "note": "x"}, ""},
		"required missing":   {map[string]any{}, nil, "Required input 'batch' not provided"},
		"required empty":     {map[string]any{"batch": ""}, nil, "Required input 'batch' not provided"},
		"unknown":            {map[string]any{"batch": "b", "other": "x"}, nil, `Unexpected inputs provided: ["other"]`},
		"no such choice":     {map[string]any{"batch": "b", "mode": "slow"}, nil, "Provided value 'slow' for input 'mode' not in the list of allowed values"},
		"no boolean":         {map[string]any{"batch": "b", "dry": "yes"}, nil, "Provided value 'yes' for input 'dry' not in the list of allowed values"},
		"no number":          {map[string]any{"batch": "b", "n": "many"}, nil, "Provided value 'many' for input 'n' not in the list of allowed values"},
		"neither text nor …": {map[string]any{"batch": []any{}}, nil, "Invalid value for input 'batch'"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := w.Inputs(c.given)
			if c.err == "" {
				if err != nil || !maps.Equal(got, c.want) {
					t.Errorf("inputs %v, error %v, want %v", got, err, c.want)
				}
				return
			}
			var refused InputError
			if !errors.As(err, &refused) || err.Error() != c.err {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestMoreThan25InputsAreRefused(t *testing.T) {
	given := map[string]any{"batch": "b"}
	for i := range 25 {
		given[fmt.Sprint("x", i)] = "y"
	}
	if _, err := parsed(t, dispatched).Inputs(given); err == nil {
		t.Error("26 inputs are taken")
	}
}

func TestWorkflowWithoutDispatchTakesNoInputs(t *testing.T) {
	_, err := parsed(t, "on: push").Inputs(nil)
	if err == nil || err.Error() != "Workflow does not have 'workflow_dispatch' trigger" {
		t.Errorf("error %v", err)
	}
}
