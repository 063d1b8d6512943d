// Package verdict owns the one vocabulary in which every command speaks:
// a verdict, the checks behind it, the result file and the exit code.
//
// A rejection is a value, not an error; an error is the admission that nothing
// is known. No zero value of this package reads as a pass.
package verdict

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Schema is the version of the result file. A reader refuses any other.
const Schema = 1

// Verdict says what a command found out.
type Verdict string

const (
	Pass         Verdict = "pass"         // done, or the gate said yes
	Reject       Verdict = "reject"       // the gate said no, on evidence
	Inconclusive Verdict = "inconclusive" // too little evidence, or a bad measurement
	Error        Verdict = "error"        // broken: we do not know
)

// Reason codes that more than one command uses. A command may add its own.
const (
	Cancelled = "cancelled" // a signal ended the command
	Failed    = "failed"    // an error without a more telling code
	BadUsage  = "usage"     // flags or arguments that cannot be understood
	Invalid   = "invalid"   // the measurement itself was bad
	Undecided = "undecided" // the deadline came before the evidence
)

// Exit codes, the same for every program.
const (
	ExitPass         = 0
	ExitError        = 1
	ExitUsage        = 2
	ExitReject       = 3
	ExitInconclusive = 4
)

// Reason tells in a code for machines and a text for people why the verdict is
// what it is.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Interval is a two-sided or one-sided interval; an open end is nil. Level is
// the coverage in (0, 1).
type Interval struct {
	Low    *float64 `json:"low,omitempty"`
	High   *float64 `json:"high,omitempty"`
	Level  float64  `json:"level"`
	Method string   `json:"method,omitempty"`
}

// Check is one question a command asked of the evidence. Required tells
// whether the policy needs it: a check that is only listed never decides.
type Check struct {
	Name     string    `json:"name"`
	Verdict  Verdict   `json:"verdict"`
	Required bool      `json:"required"`
	Observed *float64  `json:"observed,omitempty"`
	Interval *Interval `json:"interval,omitempty"`
	Wanted   string    `json:"wanted,omitempty"`
	Unit     string    `json:"unit,omitempty"`
	N        int       `json:"n,omitempty"`
	Text     string    `json:"text,omitempty"`
}

// Result is what a command leaves behind: its file, its Actions outputs and
// its text on a terminal are renderings of it.
type Result struct {
	Schema   int               `json:"schema"`
	Command  string            `json:"command"`
	Version  string            `json:"version"`
	Verdict  Verdict           `json:"verdict"`
	Reason   Reason            `json:"reason"`
	RunKey   string            `json:"run_key,omitempty"`
	Checks   []Check           `json:"checks"`
	Subjects map[string]string `json:"subjects"`
	Outputs  map[string]string `json:"outputs"`
	Warnings []string          `json:"warnings"`
	Started  time.Time         `json:"started"`
	Finished time.Time         `json:"finished"`
}

// Passed makes a result with the verdict pass and a reason text.
func Passed(format string, args ...any) Result {
	return of(Pass, "done", format, args...)
}

// Rejected makes a result with the verdict reject.
func Rejected(code, format string, args ...any) Result {
	return of(Reject, code, format, args...)
}

// Undecidable makes a result with the verdict inconclusive; code is Invalid,
// Undecided or the command's own.
func Undecidable(code, format string, args ...any) Result {
	return of(Inconclusive, code, format, args...)
}

func of(v Verdict, code, format string, args ...any) Result {
	return Result{
		Schema: Schema, Verdict: v,
		Reason:   Reason{Code: code, Text: fmt.Sprintf(format, args...)},
		Subjects: map[string]string{}, Outputs: map[string]string{},
	}
}

// ExitCode maps a verdict to the process's exit code. Anything unrecognised,
// the empty verdict among it, is 1 and never 0.
func (r Result) ExitCode() int {
	switch r.Verdict {
	case Pass:
		return ExitPass
	case Reject:
		return ExitReject
	case Inconclusive:
		return ExitInconclusive
	case Error:
		if r.Reason.Code == BadUsage {
			return ExitUsage
		}
	}
	return ExitError
}

// Number makes an observed value for a check; NaN and infinities, which JSON
// cannot carry and nobody should decide on, give nil.
func Number(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// Join decides over checks: a required error dominates, then a required
// rejection, then a required inconclusive; pass needs at least one required
// check, and all of them passed. Checks that are only listed change nothing.
func Join(checks []Check) Verdict {
	joined, asked := Pass, false
	for _, c := range checks {
		if !c.Required {
			continue
		}
		asked = true
		if severity(c.Verdict) > severity(joined) {
			joined = c.Verdict
		}
	}
	if !asked {
		return Inconclusive
	}
	if severity(joined) == severity(Error) {
		return Error
	}
	return joined
}

func severity(v Verdict) int {
	switch v {
	case Pass:
		return 0
	case Inconclusive:
		return 1
	case Reject:
		return 2
	}
	return 3
}

// Validate refuses a result that no command could have meant.
func (r Result) Validate() error {
	if r.Schema != Schema {
		return fmt.Errorf("result schema %d, this version reads %d", r.Schema, Schema)
	}
	switch r.Verdict {
	case Pass, Reject, Inconclusive, Error:
	default:
		return fmt.Errorf("unknown verdict %q in a result of %q", r.Verdict, r.Command)
	}
	if r.Command == "" {
		return fmt.Errorf("a result that names no command")
	}
	return nil
}

// Encode gives the result as indented JSON, ending in a newline.
func (r Result) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the result of %s: %w", r.Command, err)
	}
	return append(data, '\n'), nil
}

// Decode reads a result and refuses unknown schemas and verdicts.
func Decode(data []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(data, &r); err != nil {
		return Result{}, fmt.Errorf("not a result file: %w", err)
	}
	return r, r.Validate()
}
