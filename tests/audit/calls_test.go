package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// calls checks a workflow against the actions and workflows that it calls, and
// its expressions against what the jobs and steps before give.
type calls struct {
	actions   map[string]composite
	workflows map[string]workflow
}

func (c calls) check(w workflow) []string {
	var found []string
	for _, id := range sorted(w.Jobs) {
		j := w.Jobs[id]
		say := func(format string, args ...any) {
			found = append(found, id+": "+fmt.Sprintf(format, args...))
		}
		if j.Uses != "" {
			c.reusable(j, say)
		}
		outputs := map[string][]string{} // of the steps before, nil where unknown
		for _, s := range j.Steps {
			c.steps(texts([]any{s.If, s.Env, s.With}), outputs, say)
			given := c.step(s, say)
			if s.ID != "" {
				outputs[s.ID] = given
			}
		}
		c.steps(texts(j.Outputs), outputs, say)
		c.needed(w, j, say)
	}
	return found
}

var ours = regexp.MustCompile(`^(?:\./|penstock-ml/penstock/)actions/([a-z-]+)(?:@\S+)?$`)

// step checks a call of one of our actions and answers what the step gives.
func (c calls) step(s step, say func(string, ...any)) []string {
	m := ours.FindStringSubmatch(s.Uses)
	if m == nil {
		if strings.Contains(s.Run, "GITHUB_OUTPUT") {
			return written(s.Run)
		}
		return []string{}
	}
	a, known := c.actions[m[1]]
	if !known {
		say("uses %s, which does not exist", s.Uses)
		return []string{}
	}
	for _, input := range sorted(s.With) {
		if _, ok := a.Inputs[input]; !ok {
			say("%s has no input %q; there are %q", s.Uses, input, sorted(a.Inputs))
		}
	}
	for _, input := range sorted(a.Inputs) {
		if _, given := s.With[input]; a.Inputs[input].Required && !given {
			say("%s needs the input %q", s.Uses, input)
		}
	}
	return sorted(a.Outputs)
}

var writtenOutput = regexp.MustCompile(`printf '([a-z_]+)=`)

func written(script string) []string {
	var names []string
	for _, m := range writtenOutput.FindAllStringSubmatch(script, -1) {
		names = append(names, m[1])
	}
	return names
}

var (
	stepOutput = regexp.MustCompile(`\bsteps\.([a-z_-]+)\.outputs\.([A-Za-z_-]+)`)
	needOutput = regexp.MustCompile(`\bneeds\.([a-z_-]+)\.(?:outputs\.([A-Za-z_-]+)|result\b)`)
	input      = regexp.MustCompile(`\binputs\.([A-Za-z_-]+)`)
)

func (c calls) steps(in []string, outputs map[string][]string, say func(string, ...any)) {
	for _, text := range in {
		for _, m := range stepOutput.FindAllStringSubmatch(text, -1) {
			given, known := outputs[m[1]]
			switch {
			case !known:
				say("%s: no step %q before", m[0], m[1])
			case !slices.Contains(given, m[2]):
				say("%s: the step gives %q", m[0], given)
			}
		}
	}
}

// needed checks what a job takes of others, and of the workflow's inputs.
func (c calls) needed(w workflow, j job, say func(string, ...any)) {
	inputs := inputsOf(w)
	for _, text := range texts(j) {
		for _, m := range needOutput.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(j.needs(), m[1]) {
				say("%s: %q is not among needs", m[0], m[1])
			} else if _, ok := w.Jobs[m[1]].Outputs[m[2]]; m[2] != "" && !ok {
				say("%s: the job gives %q", m[0], sorted(w.Jobs[m[1]].Outputs))
			}
		}
		for _, m := range input.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(inputs, m[1]) {
				say("%s: the workflow has the inputs %q", m[0], inputs)
			}
		}
	}
	for _, name := range j.needs() {
		if _, ok := w.Jobs[name]; !ok {
			say("needs %q, which does not exist", name)
		}
	}
}

// inputsOf are the inputs of all events of a workflow.
func inputsOf(w workflow) []string {
	on, _ := w.On.(map[string]any)
	var names []string
	for _, event := range []string{"workflow_dispatch", "workflow_call"} {
		e, _ := on[event].(map[string]any)
		given, _ := e["inputs"].(map[string]any)
		names = append(names, sorted(given)...)
	}
	return names
}

// reusable checks the call of a workflow: inputs and secrets it has and wants.
func (c calls) reusable(j job, say func(string, ...any)) {
	called, ok := c.workflows[strings.TrimPrefix(j.Uses, "./.github/workflows/")]
	if !ok {
		say("calls %s, which does not exist", j.Uses)
		return
	}
	on, _ := called.On.(map[string]any)
	call, ok := on["workflow_call"].(map[string]any)
	if !ok {
		say("%s cannot be called", j.Uses)
		return
	}
	secrets, _ := j.Secrets.(map[string]any)
	for what, given := range map[string]map[string]any{"inputs": j.With, "secrets": secrets} {
		wanted, _ := call[what].(map[string]any)
		for _, name := range sorted(given) {
			if _, ok := wanted[name]; !ok {
				say("%s has no %s %q", j.Uses, what, name)
			}
		}
		for _, name := range sorted(wanted) {
			spec, _ := wanted[name].(map[string]any)
			if _, ok := given[name]; spec["required"] == true && !ok {
				say("%s needs of %s %q", j.Uses, what, name)
			}
		}
	}
}

func parsed(t *testing.T, files map[string]string) map[string]workflow {
	t.Helper()
	all := map[string]workflow{}
	for name, text := range files {
		all[name] = parse(t, text)
	}
	return all
}

func TestWorkflowsCallWhatIsThere(t *testing.T) {
	for _, set := range []map[string]workflow{parsed(t, own(t)), parsed(t, rendered(t, adopter))} {
		c := calls{actions(t), set}
		for _, file := range sorted(set) {
			for _, finding := range c.check(set[file]) {
				t.Errorf("%s: %s", file, finding)
			}
		}
	}
}

func TestACallOfWhatIsNotThereIsSeen(t *testing.T) {
	callee := parse(t, "on: {workflow_call: {inputs: {model: {required: true}}, secrets: {TOKEN: {required: true}}}}\njobs: {}")
	for text, want := range map[string]string{
		"jobs: {a: {steps: [{uses: ./actions/nothing}]}}":                                                                                 "does not exist",
		"jobs: {a: {steps: [{uses: ./actions/gate, with: {stagee: offline}}]}}":                                                           `no input "stagee"`,
		"jobs: {a: {steps: [{uses: ./actions/deploy, with: {model: x}}]}}":                                                                `needs the input "environment"`,
		"jobs: {a: {outputs: {x: '${{ steps.g.outputs.verdikt }}'}, steps: [{id: g, uses: ./actions/gate}]}}":                             "the step gives",
		"jobs: {a: {steps: [{run: x, env: {A: '${{ steps.g.outputs.verdict }}'}}, {id: g, uses: ./actions/gate}]}}":                       "no step",
		"jobs: {a: {steps: []}, b: {steps: [{run: x, env: {A: '${{ needs.a.outputs.b }}'}}]}}":                                            "not among needs",
		"jobs: {a: {steps: []}, b: {needs: a, if: \"${{ needs.a.outputs.verdict == 'pass' }}\", steps: []}}":                              "the job gives",
		"jobs: {a: {steps: [], needs: [z]}}":                                                                                              "does not exist",
		"on: {workflow_dispatch: {inputs: {batch: {}}}}\njobs: {a: {steps: [{run: x, env: {A: '${{ inputs.bach }}'}}]}}":                  "the workflow has the inputs",
		"jobs: {a: {uses: ./.github/workflows/none.yml}}":                                                                                 "does not exist",
		"jobs: {a: {uses: ./.github/workflows/callee.yml, with: {model: x}}}":                                                             `needs of secrets "TOKEN"`,
		"jobs: {a: {uses: ./.github/workflows/callee.yml, with: {model: x, slot: y}, secrets: {TOKEN: x}}}":                               `no inputs "slot"`,
		"jobs: {a: {uses: penstock-ml/penstock/actions/gate@v1, steps: [{uses: penstock-ml/penstock/actions/gate@v1, with: {nope: 1}}]}}": `no input "nope"`,
	} {
		c := calls{actions(t), map[string]workflow{"callee.yml": callee}}
		if found := strings.Join(c.check(parse(t, text)), "\n"); !strings.Contains(found, want) {
			t.Errorf("%s\nfound %q, want %q", text, found, want)
		}
	}
}

// A gate's word decides what runs after it: an explicit pass, and nothing else.
func TestNothingFollowsAGateThatDidNotPass(t *testing.T) {
	for file, after := range map[string][]string{"train.yml": {"register"}, "deploy.yml": {"production"}} {
		w := parse(t, own(t)[file])
		for _, id := range after {
			if want := "!cancelled() && needs.gate.outputs.verdict == 'pass'"; !strings.Contains(w.Jobs[id].If, want) {
				t.Errorf("%s: %s runs if %s, want %s", file, id, w.Jobs[id].If, want)
			}
		}
	}
}

// The run key is in the run's name, so that a dispatch can be looked up.
func TestTrainsNameCarriesTheRunKey(t *testing.T) {
	if name := parse(t, own(t)["train.yml"]).RunName; !strings.HasPrefix(name, "train ${{ inputs.run_key || ") {
		t.Errorf("run-name is %q", name)
	}
}
