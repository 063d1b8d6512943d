package gate

import (
	"fmt"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Stages of the gate, and the output by which a result says which it is of.
const (
	Offline     = "offline"
	ReleaseName = "release"
	StageOutput = "stage"
)

// WrongEvidence is the reason code of results that do not belong together.
const WrongEvidence = "wrong-evidence"

// evidence a release rests on, by the step's usual name.
var releaseSteps = []struct {
	step, command, stage string
}{
	{"gate-offline", "gate", Offline},
	{"loadtest", "loadtest", ""},
}

// Release joins the results of earlier steps: the offline gate's and the load
// test's, each exactly once, both on one model digest and of one run. It
// rejects where one rejects, is inconclusive where one is, and answers an error
// where one is missing, broken, unknown, or about something else. The model
// digest is returned with the decision.
func Release(from []verdict.Result) (Decision, string, error) {
	found := make([]*verdict.Result, len(releaseSteps))
	for i, r := range from {
		at, err := stepOf(r)
		if err != nil {
			return Decision{}, "", err
		}
		if found[at] != nil {
			return Decision{}, "", wrong("%s is given twice: one result of each step decides", releaseSteps[at].step)
		}
		found[at] = &from[i]
	}
	var d Decision
	for i, r := range found {
		name := releaseSteps[i].step
		if r == nil {
			return Decision{}, "", wrong("the result of %s is missing: give it with --from", name)
		}
		if err := belongs(*found[0], *r, name); err != nil {
			return Decision{}, "", err
		}
		c := verdict.Check{Name: name, Verdict: r.Verdict, Required: true, Wanted: "pass", Text: r.Reason.Text}
		d.Checks = append(d.Checks, c)
		for _, w := range r.Warnings {
			d.Warnings = append(d.Warnings, name+": "+w)
		}
	}
	d.Verdict = verdict.Join(d.Checks)
	d.Reason = verdict.Reason{Code: "released", Text: "the offline gate and the load test passed for the same model"}
	for i, r := range found {
		if d.Verdict != verdict.Pass && r.Verdict == d.Verdict {
			d.Reason = verdict.Reason{Code: r.Reason.Code, Text: releaseSteps[i].step + ": " + r.Reason.Text}
			break
		}
	}
	return d, found[0].Subjects["model"], nil
}

// stepOf tells which of the steps a result is of.
func stepOf(r verdict.Result) (int, error) {
	for i, s := range releaseSteps {
		if r.Command == s.command && r.Outputs[StageOutput] == s.stage {
			return i, nil
		}
	}
	return 0, wrong("a result of %q (stage %q) is no evidence for a release: it takes those of gate --stage offline and loadtest", r.Command, r.Outputs[StageOutput])
}

// belongs refuses a result that says nothing usable, or is about another model
// or of another run than the first.
func belongs(first, r verdict.Result, name string) error {
	switch {
	case r.Schema != verdict.Schema:
		return wrong("the result of %s has schema %d, this version reads %d", name, r.Schema, verdict.Schema)
	case r.Verdict != verdict.Pass && r.Verdict != verdict.Reject && r.Verdict != verdict.Inconclusive:
		return wrong("%s ended with %q (%s), which is no judgement: run it again", name, r.Verdict, r.Reason.Text)
	case r.Subjects["model"] == "":
		return wrong("the result of %s names no model digest", name)
	case r.Subjects["model"] != first.Subjects["model"]:
		return wrong("%s judged model %s, %s judged %s: the results are of different models", name, r.Subjects["model"], releaseSteps[0].step, first.Subjects["model"])
	case r.RunKey != "" && first.RunKey != "" && r.RunKey != first.RunKey:
		return wrong("%s is of run %s, %s of run %s", name, r.RunKey, releaseSteps[0].step, first.RunKey)
	}
	return nil
}

func wrong(format string, args ...any) error {
	return verdict.Coded(WrongEvidence, fmt.Errorf("release gate: "+format, args...))
}
