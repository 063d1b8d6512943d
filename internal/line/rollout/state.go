package rollout

import (
	"maps"
	"slices"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Kind says what a run does.
type Kind string

const (
	Rollout  Kind = "rollout"  // judged, step by step
	Direct   Kind = "direct"   // the first ever, or the champion once more: stable loads at share 0
	Rollback Kind = "rollback" // to a digest that was champion before: not judged again
)

// Phase is where a run stands. They follow one another in this order; from
// the first four a breach leads to Retreat.
type Phase string

const (
	Prepare Phase = "prepare" // share 0 is ours, the canary loads the digest
	Steps   Phase = "steps"   // a rising share, judged
	All     Phase = "all"     // decided: everything to the canary
	Switch  Phase = "switch"  // stable loads the digest
	Return  Phase = "return"  // everything back to stable
	Keep    Phase = "keep"    // the canary slot loads the previous digest, warm for a rollback
	Promote Phase = "promote" // alias and tag
	Retreat Phase = "retreat" // share to 0, at once
	Restore Phase = "restore" // both slots get the previous digest back
	Closed  Phase = "closed"  // it has a verdict
)

// Stratum is what both arms did in one step. ShareBP is the share asked for.
type Stratum struct {
	ShareBP int               `json:"share_bp"`
	Canary  deployment.Counts `json:"canary"`
	Stable  deployment.Counts `json:"stable"`
}

// Last is a server's counters for the digest judged, at the look before.
type Last struct {
	Started float64           `json:"started"`
	Counts  deployment.Counts `json:"counts"`
}

// Event is a line of a run's history.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// State is one run as the record keeps it. It names digests and counts only.
type State struct {
	Kind     Kind   `json:"kind"`
	Model    string `json:"model"`
	Digest   string `json:"digest"`
	Previous string `json:"previous"` // the way back: what production was; empty at the first rollout
	RunKey   string `json:"run_key,omitempty"`

	Phase     Phase     `json:"phase"`
	Step      int       `json:"step"`
	Started   time.Time `json:"started"`
	Deadline  time.Time `json:"deadline"`
	StepSince time.Time `json:"step_since"` // zero until the step's share was seen on every router
	Decided   bool      `json:"decided"`    // the digest may go to production
	Touched   bool      `json:"touched"`    // stable was told to load the digest
	Restarts  int       `json:"restarts"`   // of the canary's processes while it was judged
	Restoring bool      `json:"restoring"`  // a load of the way back was asked for
	Unready   int       `json:"unready"`    // looks in a row without an answering canary

	Strata []Stratum       `json:"strata,omitempty"`
	Errors []stat.Look     `json:"errors,omitempty"`
	Slow   []stat.Look     `json:"slow,omitempty"`
	Last   map[string]Last `json:"last,omitempty"` // by slot and server

	Verdict  verdict.Verdict `json:"verdict,omitempty"`
	Reason   verdict.Reason  `json:"reason"`
	Version  string          `json:"version,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Events   []Event         `json:"events,omitempty"`
	Finished time.Time       `json:"finished"`
}

// Record is state/rollouts/<model>.json: the newest run and what came before.
type Record struct {
	Schema  int       `json:"schema"`
	Current State     `json:"current"`
	History []Summary `json:"history,omitempty"`
}

// Summary is a closed run in the history.
type Summary struct {
	Kind     Kind            `json:"kind"`
	Digest   string          `json:"digest"`
	Previous string          `json:"previous"`
	RunKey   string          `json:"run_key,omitempty"`
	Verdict  verdict.Verdict `json:"verdict"`
	Reason   verdict.Reason  `json:"reason"`
	Version  string          `json:"version,omitempty"`
	Started  time.Time       `json:"started"`
	Finished time.Time       `json:"finished"`
	Canary   uint64          `json:"canary_requests"`
}

// with puts s in the place of the current run. A run enters the history when
// it is closed, or when another one takes its place.
func (r Record) with(s State) Record {
	old := r.Current
	same := old.Kind == s.Kind && old.Digest == s.Digest && old.Previous == s.Previous
	if old.Phase != Closed && (s.Phase == Closed || !same) {
		ended := s.summary()
		if !same {
			ended = old.summary()
		}
		r.History = append(slices.Clone(r.History), ended)
		r.History = r.History[max(0, len(r.History)-historyKept):]
	}
	r.Schema, r.Current = recordSchema, s
	return r
}

// recordSchema is the version of Record.
const recordSchema = 1

// Bounds of what a record keeps.
const (
	eventsKept  = 200
	historyKept = 100
)

// Share is what the routers do. BP is the largest share of any of them.
type Share struct {
	BP       int
	Same     bool   // all routers have the same share
	Owned    bool   // our lease runs on all of them
	Holder   string // another's lease, where one runs
	CanaryUp bool   // every proxy would send requests to a canary
}

// Arm is what a slot serves: Serving is empty while it does not answer or its
// servers differ.
type Arm struct {
	Serving string
	Trouble string // why not, for people
}

// Observation is all that Advance may know about the world. Counters are by
// server; a nil map was not read.
type Observation struct {
	Share                        Share
	Canary, Stable               Arm
	CanaryCounters, StableCounts map[string]deployment.Reading
	Refused                      string // the last load was refused by the server: why
	Promoted                     string // the version, once alias and tag are where they belong
}

// Do names an action.
type Do string

const (
	Wait     Do = "wait"
	SetShare Do = "set-share"
	Load     Do = "load"
	Finish   Do = "finish" // alias and tag
	Stop     Do = "stop"
)

// Action is the one thing to do next.
type Action struct {
	Do      Do
	ShareBP int
	Slot    string
	Digest  string
}

// clone makes a copy that shares nothing that Advance changes.
func (s State) clone() State {
	s.Strata = slices.Clone(s.Strata)
	s.Errors = slices.Clone(s.Errors)
	s.Slow = slices.Clone(s.Slow)
	s.Last = maps.Clone(s.Last)
	s.Warnings = slices.Clone(s.Warnings)
	s.Events = slices.Clone(s.Events)
	return s
}

// Total sums the strata.
func (s State) Total() Stratum {
	var t Stratum
	for _, x := range s.Strata {
		t.Canary, t.Stable = plus(t.Canary, x.Canary), plus(t.Stable, x.Stable)
	}
	return t
}

func plus(a, b deployment.Counts) deployment.Counts {
	return deployment.Counts{Requests: a.Requests + b.Requests, Errors: a.Errors + b.Errors, Slow: a.Slow + b.Slow}
}

func (s State) summary() Summary {
	return Summary{
		Kind: s.Kind, Digest: s.Digest, Previous: s.Previous, RunKey: s.RunKey,
		Verdict: s.Verdict, Reason: s.Reason, Version: s.Version,
		Started: s.Started, Finished: s.Finished, Canary: s.Total().Canary.Requests,
	}
}
