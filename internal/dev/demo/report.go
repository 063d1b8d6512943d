package demo

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Report is .penstock/demo.json.
type Report struct {
	Schema     int               `json:"schema"`
	Passed     bool              `json:"passed"`
	Failure    string            `json:"failure,omitempty"`
	Steps      []Step            `json:"steps"`
	Production Change            `json:"production"` // first champion, last champion
	Requests   Requests          `json:"requests"`   // of the live traffic, all steps
	Endpoints  map[string]string `json:"endpoints"`
	Repository string            `json:"repository"` // the project's, where the tags are
	Seconds    float64           `json:"seconds"`
}

// Step is one step of the demo: the verdict its run ended with, which is what
// the demo expected.
type Step struct {
	Name       string    `json:"name"`
	Verdict    string    `json:"verdict"`
	Reason     string    `json:"reason"`
	RunKey     string    `json:"run_key,omitempty"`
	Seconds    float64   `json:"seconds"`
	Ended      string    `json:"ended,omitempty"` // the command that gave the verdict
	Made       *Made     `json:"made,omitempty"`
	Production Change    `json:"production"`
	Requests   *Requests `json:"requests,omitempty"` // live traffic during the step
	Commands   []Command `json:"commands,omitempty"`
}

// Made is what a training made of which data. The same seed gives the same data
// set and the same model.onnx, whoever drives; the bundle's digest differs, for
// it names its run.
type Made struct {
	Dataset string `json:"dataset"`
	Model   string `json:"model"`
	ONNX    string `json:"model_onnx_sha256"`
}

// Command is one command of a run.
type Command struct {
	Name    string  `json:"name"`
	Verdict string  `json:"verdict"`
	Reason  string  `json:"reason"`
	Seconds float64 `json:"seconds"`
}

// Change holds the digest production served before and after.
type Change struct {
	Before string `json:"before"`
	After  string `json:"after"`
}

// Requests counts live requests: sent, failed, answered by model digest.
type Requests struct {
	Sent     int            `json:"sent"`
	Failed   int            `json:"failed"`
	ByDigest map[string]int `json:"by_digest"`
}

// minus counts what happened since an earlier reading.
func (r Requests) minus(earlier Requests) Requests {
	difference := Requests{Sent: r.Sent - earlier.Sent, Failed: r.Failed - earlier.Failed, ByDigest: map[string]int{}}
	for digest, n := range r.ByDigest {
		if n -= earlier.ByDigest[digest]; n > 0 {
			difference.ByDigest[digest] = n
		}
	}
	return difference
}

func (r Requests) plus(other Requests) Requests {
	sum := Requests{Sent: r.Sent + other.Sent, Failed: r.Failed + other.Failed, ByDigest: maps.Clone(r.ByDigest)}
	if sum.ByDigest == nil {
		sum.ByDigest = map[string]int{}
	}
	for digest, n := range other.ByDigest {
		sum.ByDigest[digest] += n
	}
	return sum
}

// note keeps a step and tells it in one line.
func (d *demo) note(s Step) {
	d.report.Steps = append(d.report.Steps, s)
	d.say("    => %s: %s (%s), %.0f s", s.Name, s.Verdict, s.Reason, s.Seconds)
}

// stepOf makes a report's step of a run's outcome.
func stepOf(name string, o outcome) Step {
	return Step{
		Name: name, Verdict: string(o.result.Verdict), Reason: o.result.Reason.Code + ": " + o.result.Reason.Text,
		RunKey: o.runKey, Ended: o.step, Commands: o.commands,
	}
}

func commandOf(name string, r verdict.Result, seconds float64) Command {
	return Command{Name: name, Verdict: string(r.Verdict), Reason: r.Reason.Text, Seconds: seconds}
}

// summarise writes demo.json and prints what happened.
func (d *demo) summarise(failure error) error {
	d.report.Schema, d.report.Passed = 1, failure == nil
	d.report.Seconds = d.now().Sub(d.began).Seconds()
	if failure != nil {
		d.report.Failure = failure.Error()
	}
	data, err := json.MarshalIndent(d.report, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(d.Dir), "demo.json")
	if err := verdict.WriteFile(path, append(data, '\n')); err != nil {
		return err
	}
	d.say("\nSummary after %s", d.clock())
	for _, s := range d.report.Steps {
		d.say("  %-22s %-13s %6.0f s  production %.12s -> %.12s", s.Name, s.Verdict, s.Seconds, s.Production.Before, s.Production.After)
		d.say("  %22s %s", "", s.Reason)
	}
	r := d.report.Requests
	d.say("  live requests: %d sent, %d failed", r.Sent, r.Failed)
	for _, digest := range slices.Sorted(maps.Keys(r.ByDigest)) {
		d.say("    %.12s answered %d", digest, r.ByDigest[digest])
	}
	for _, name := range slices.Sorted(maps.Keys(d.report.Endpoints)) {
		d.say("  %-12s %s", name, d.report.Endpoints[name])
	}
	d.say("  project      %s\n  machine-readable: %s", d.report.Repository, path)
	if failure != nil {
		d.say("FAILED: %v", failure)
		return nil
	}
	d.say("Every expectation was met.")
	return nil
}

// expect is an expectation that was not met.
func expect(met bool, format string, args ...any) error {
	if met {
		return nil
	}
	return fmt.Errorf("expected "+format, args...)
}
