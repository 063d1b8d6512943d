// Package actrun runs one workflow run by the act binary in host mode, for the
// stand-in of GitHub and for the tests of the workflows. It owns what act does
// not do as GitHub does: it tells jobs that nobody can run from jobs that were
// skipped, runs the runner's job-started hook before self-hosted jobs, holds
// jobs to their timeout-minutes, and cancels as GitHub does (SIGINT to the
// step's entry process, 7.5 s, SIGTERM, 2.5 s, SIGKILL), so that after a run no
// process of it is left.
//
// Known to differ from GitHub: after a cancel steps under always() are not run,
// and a step's own timeout-minutes kills it without a warning; continue-on-error
// of a whole job and permissions are not enforced; after a called workflow that
// failed, later jobs of its caller do not run, whatever their condition says.
//
// Refused: `services`, `container` and docker actions (there is no Docker
// here), and any answer of act that is not understood: a job without a result
// is never a success.
//
// Linux only: processes are found by their mark in /proc.
package actrun

import "time"

// Spec is one run of one workflow.
type Spec struct {
	ID      int64 // GITHUB_RUN_ID; also the mark of the run's processes
	Attempt int   // GITHUB_RUN_ATTEMPT; 0 means 1

	Dir      string // a fresh checkout of the commit to run: act's working folder
	Workflow string // path in Dir: .github/workflows/train.yml
	Event    string // workflow_dispatch, push, pull_request, schedule, …
	Payload  []byte // the event's JSON, in GitHub's shape; empty means {}

	Ref           string // refs/heads/main
	SHA           string
	Repository    string // owner/name
	Actor         string
	DefaultBranch string

	Env     map[string]string // GITHUB_API_URL, GITHUB_SERVER_URL and what else every step sees
	Secrets map[string]string // GITHUB_TOKEN among them; never on a command line
	Vars    map[string]string

	Labels       []string          // runner labels on offer besides GitHub's own hosted ones
	Hook         string            // job-started hook, run before every job that names self-hosted; "" is none
	LocalActions map[string]string // owner/name@ref -> folder that stands in for it

	Act    string // path of the act binary; "" is the one in PENSTOCK_CACHE
	LogDir string // act's raw log, secrets masked; "" keeps none
}

// Kinds of Event.
const (
	JobStarted  = "job-started"
	StepStarted = "step-started"
	Log         = "log"
	StepEnded   = "step-ended"
	JobEnded    = "job-ended"
	Summary     = "summary"
)

// Event is something that happened in a run, told as it happens.
type Event struct {
	Time time.Time
	Kind string
	// Job is the job's name as people see it, JobID its key in the workflow
	// file; a job of a called workflow is "caller/job", one of a matrix shares
	// its JobID and is told apart by Job.
	Job, JobID string
	Step       string            // name of the step, for all but job events
	Text       string            // a log's line without line end, or a summary's Markdown
	Conclusion string            // of ended jobs and steps
	Outputs    map[string]string // of ended jobs
}

// Conclusions, as GitHub spells them.
const (
	Success   = "success"
	Failure   = "failure"
	Cancelled = "cancelled"
	Skipped   = "skipped"
	// Queued is the conclusion of a job that waits for a runner that nobody
	// offers. GitHub cancels it after a day; here the run is told as cancelled
	// at once and the job keeps its own word.
	Queued = "queued"
)

// Result is how a run ended.
type Result struct {
	Conclusion string // Success, Failure, Cancelled or Skipped
	Jobs       []Job  // in the workflow file's order
}

// Job is one job of a run, as it ended.
type Job struct {
	ID          string // key in the workflow file; "caller/job" in a called workflow
	Name        string
	Conclusion  string // Success, Failure, Cancelled, Skipped or Queued
	Outputs     map[string]string
	Labels      []string // runs-on
	Environment string
	Steps       []Step
	Started     time.Time // zero where it never started
	Ended       time.Time
	Summary     string // Markdown of GITHUB_STEP_SUMMARY, all steps
	Reason      string // why it did not run or did not end: hook, labels, time, cancel
	Log         string // lines that belong to no step, secrets masked
}

// Step is one step of a job, as it ended.
type Step struct {
	id         string // in act
	text       []byte // the log while it grows
	Name       string
	Conclusion string
	Started    time.Time
	Ended      time.Time
	Log        string // its lines, secrets masked
}
