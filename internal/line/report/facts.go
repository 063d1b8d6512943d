package report

import (
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Facts are all that a comment is made of. All strings may be hostile; Project
// and Links are the caller's own.
type Facts struct {
	Project    string             `json:"project"`
	Commit     string             `json:"commit,omitempty"`     // that was judged
	Unverified string             `json:"unverified,omitempty"` // why the rest is only somebody's word
	Steps      []Step             `json:"steps,omitempty"`      // in the order of the loop
	Jobs       []Job              `json:"jobs,omitempty"`       // what the workflow says of its jobs
	Report     *evaluation.Report `json:"report,omitempty"`
	Data       *Data              `json:"data,omitempty"`
	Links      []Link             `json:"links,omitempty"`
}

// Step is the result of one command. A step without a result has an empty
// verdict.
type Step struct {
	Name     string          `json:"name"`
	Verdict  verdict.Verdict `json:"verdict"`
	Reason   verdict.Reason  `json:"reason"`
	Checks   []verdict.Check `json:"checks,omitempty"` // of gate and loadtest
	Warnings []string        `json:"warnings,omitempty"`
}

// Job is a job of the workflow and its result in GitHub's words.
type Job struct {
	Name   string `json:"name"`
	Result string `json:"result"` // success, failure, cancelled, skipped
}

// Link names something beside the comment. Without a URL only the text is
// shown.
type Link struct {
	Name string `json:"name"`
	Text string `json:"text"`
	URL  string `json:"url,omitempty"`
}

// Reason codes of an overall verdict that no step gave.
const (
	NoResult  = "no-result"  // a step left no result
	NoGate    = "no-gate"    // no gate has decided
	JobFailed = "job-failed" // a job that left no judgement failed
	Jobs      = "jobs"       // only jobs are known, and they succeeded
	Nothing   = "nothing"    // nothing is known
)

// known are the commands whose results a comment tells, in the order of the
// loop, and whether their checks stand in it.
var known = []struct {
	command string
	checks  bool
}{{"dataset", false}, {"train", false}, {"predict", false}, {"evaluate", false}, {"gate", true}, {"loadtest", true}}

// StepOf takes from a result what a comment tells. A result of a command that a
// comment knows nothing about is refused.
func StepOf(r verdict.Result) (Step, error) {
	for _, k := range known {
		if k.command != r.Command {
			continue
		}
		s := Step{Name: r.Command, Verdict: r.Verdict, Reason: r.Reason}
		if r.Command != "dataset" {
			s.Warnings = r.Warnings // the data set's name files, and those may name patients
		}
		if stage := r.Outputs[gate.StageOutput]; r.Command == "gate" && stage != "" {
			s.Name += "-" + stage
		}
		if k.checks {
			s.Checks = r.Checks
		}
		return s, nil
	}
	var names []string
	for _, k := range known {
		names = append(names, k.command)
	}
	return Step{}, fmt.Errorf("a comment tells nothing of %q: give it results of %s", r.Command, strings.Join(names, ", "))
}

// Overall is the verdict of the first line, its reason, and the step it comes
// from. Errors go before rejections, these before inconclusives; of several
// alike the gates speak first. Nothing passes on absence: a step without a
// result, or no gate at all, is no pass.
func (f Facts) Overall() (v verdict.Verdict, reason verdict.Reason, step string) {
	if worst := f.worst(); worst != nil {
		return worst.Verdict, worst.Reason, worst.Name
	}
	if v, reason, bad := f.jobs(); bad {
		return v, reason, ""
	}
	for _, s := range f.Steps {
		if s.Verdict == "" {
			return verdict.Error, verdict.Reason{Code: NoResult, Text: "the step left no result: it did not run, or was ended before it could say anything"}, s.Name
		}
	}
	for i := len(f.Steps) - 1; i >= 0; i-- {
		if isGate(f.Steps[i].Name) {
			return verdict.Pass, f.Steps[i].Reason, f.Steps[i].Name
		}
	}
	switch {
	case len(f.Steps) > 0:
		return verdict.Inconclusive, verdict.Reason{Code: NoGate, Text: "no gate has decided on this candidate"}, ""
	case len(f.Jobs) > 0:
		return verdict.Pass, verdict.Reason{Code: Jobs, Text: "the jobs succeeded: " + f.jobNames() + "; nothing was trained"}, ""
	}
	return verdict.Inconclusive, verdict.Reason{Code: Nothing, Text: "there are no results"}, ""
}

func isGate(step string) bool { return strings.HasPrefix(step, "gate") }

// worst is the step that decides where not all passed; nil where all did, or
// left nothing.
func (f Facts) worst() *Step {
	var worst *Step
	for i := range f.Steps {
		s := &f.Steps[i]
		if s.Verdict == verdict.Pass || s.Verdict == "" {
			continue
		}
		if worst == nil || rank(*s) > rank(*worst) || rank(*s) == rank(*worst) && isGate(s.Name) && !isGate(worst.Name) {
			worst = s
		}
	}
	return worst
}

func rank(s Step) int {
	switch s.Verdict {
	case verdict.Inconclusive:
		return 1
	case verdict.Reject:
		return 2
	}
	return 3
}

// jobs tells whether a job's result keeps the whole from passing.
func (f Facts) jobs() (verdict.Verdict, verdict.Reason, bool) {
	succeeded := 0
	for _, j := range f.Jobs {
		switch j.Result {
		case "success":
			succeeded++
		case "skipped", "neutral":
		case "cancelled":
			return verdict.Error, verdict.Reason{Code: verdict.Cancelled, Text: fmt.Sprintf("the job %s was cancelled", j.Name)}, true
		default:
			return verdict.Error, verdict.Reason{Code: JobFailed, Text: fmt.Sprintf("the job %s ended with %q", j.Name, j.Result)}, true
		}
	}
	if len(f.Jobs) > 0 && succeeded == 0 && len(f.Steps) == 0 {
		return verdict.Inconclusive, verdict.Reason{Code: Nothing, Text: "no job ran"}, true
	}
	return "", verdict.Reason{}, false
}

func (f Facts) jobNames() string {
	var names []string
	for _, j := range f.Jobs {
		if j.Result == "success" {
			names = append(names, j.Name)
		}
	}
	return strings.Join(names, ", ")
}
