package actrun

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// line is one line of act's JSON log, the parts that count.
type line struct {
	Job        string         `json:"job"`
	Level      string         `json:"level"`
	Message    string         `json:"msg"`
	Raw        bool           `json:"raw_output"`
	Step       string         `json:"step"`
	StepID     []string       `json:"stepID"`
	Stage      string         `json:"stage"`
	StepResult string         `json:"stepResult"`
	JobResult  string         `json:"jobResult"`
	Command    string         `json:"command"`
	Content    string         `json:"content"` // of a summary
	RawCommand string         `json:"raw"`
	Matrix     map[string]any `json:"matrix"`
}

// named finds the path and the name that writer.job put into a job's name.
// act puts workflow and caller before it, and -1, -2, … after one of a matrix.
var named = regexp.MustCompile(`^.*⟦([^⟧]*)⟧(.*)$`)

// book keeps what the log tells, job by job.
type book struct {
	nodes   map[string]*node // by path
	jobs    map[string]*open // by act's name of the job
	order   []*open
	tell    func(Event)
	mask    func(string) string
	now     func() time.Time
	outputs func(path string) (map[string]string, error)
	shells  string            // folder of the wrappers
	mark    string            // the wrappers' mark
	started func(*open)       // a job has started
	ended   func()            // a step has ended
	other   func(line string) // a line that is not about a job
	err     error

	cancelling atomic.Bool // what ends from now on is cancelled
}

// open is a job that act has spoken of.
type open struct {
	Job
	node    *node
	running *Step
	text    []byte // lines of no step
	told    []summary
	broken  string      // act's last word on the running step
	expired atomic.Bool // its time was up
	done    bool
}

// summary is one GITHUB_STEP_SUMMARY. act repeats an inner step's for each
// step around it.
type summary struct {
	step []string
	text string
}

// read takes one line of the log.
func (b *book) read(data []byte) {
	var l line
	if err := json.Unmarshal(data, &l); err != nil || l.Job == "" {
		b.other(string(data))
		return
	}
	j := b.job(&l)
	if j == nil {
		b.other(string(data))
		return
	}
	switch {
	case l.JobResult != "":
		b.endJob(j, l.JobResult)
	case strings.Contains(l.Message, "Skipping unsupported platform"):
		j.Conclusion, j.Reason, j.done = Queued, b.unoffered(j.node), true
	case l.Step == "Set up job":
		b.startJob(j)
		if l.Level == "error" {
			b.say(j, l.Message)
		}
	case len(l.StepID) > 0 && l.StepID[0] == collector:
	case l.Command == "summary":
		b.summarise(j, &l)
	case l.StepResult != "":
		b.endStep(j, &l)
	case strings.HasPrefix(l.Message, "⭐ Run "):
		b.startStep(j, &l)
	default:
		b.log(j, &l)
	}
}

func (b *book) job(l *line) *open {
	key := strings.TrimSpace(l.Job)
	if j, ok := b.jobs[key]; ok {
		return j
	}
	m := named.FindStringSubmatch(key)
	if m == nil {
		return nil
	}
	n, ok := b.nodes[m[1]]
	if !ok || n.called != nil {
		return nil
	}
	name := m[2]
	if len(l.Matrix) > 0 {
		name = matrixName(name, n.plan.Name, l.Matrix)
	}
	j := &open{node: n, Job: Job{ID: n.path, Name: displayed(n.path, name), Labels: n.plan.RunsOn, Environment: n.plan.Environment}}
	b.jobs[key] = j
	b.order = append(b.order, j)
	return j
}

// matrixName replaces act's number by the values, as GitHub does for a job
// whose name says nothing of them.
func matrixName(name, planned string, matrix map[string]any) string {
	if strings.Contains(planned, "matrix.") {
		return strings.TrimRight(strings.TrimRight(name, "0123456789"), "-")
	}
	names := make([]string, 0, len(matrix))
	for name := range matrix {
		names = append(names, name)
	}
	slices.Sort(names)
	values := make([]string, len(names))
	for i, n := range names {
		values[i] = fmt.Sprint(matrix[n])
	}
	return planned + " (" + strings.Join(values, ", ") + ")"
}

// displayed puts the callers before a called job's name, as GitHub does.
func displayed(path, name string) string {
	if at := strings.LastIndex(path, "/"); at >= 0 {
		return strings.ReplaceAll(path[:at], "/", " / ") + " / " + name
	}
	return name
}

func (b *book) unoffered(n *node) string {
	if n.verdict.reason != "" {
		return n.verdict.reason
	}
	return "no runner offers " + strings.Join(n.plan.RunsOn, ", ")
}

func (b *book) event(j *open, e Event) {
	e.Time, e.Job, e.JobID = b.now(), j.Name, j.ID
	b.tell(e)
}

func (b *book) startJob(j *open) {
	if !j.Started.IsZero() {
		return
	}
	j.Started = b.now()
	b.started(j)
	b.event(j, Event{Kind: JobStarted})
}

func (b *book) endJob(j *open, result string) {
	if result == Skipped {
		j.Conclusion, j.done = Skipped, true
		return
	}
	j.Conclusion, j.Ended, j.done, j.running = result, b.now(), true, nil
	switch {
	case b.cancelling.Load():
		j.Conclusion, j.Reason = Cancelled, "the run was cancelled"
	case j.expired.Load():
		j.Conclusion = Cancelled
		j.Reason = fmt.Sprintf("the job has exceeded the maximum execution time of %v", timeout(j.node.plan))
	case result == Failure && j.node.verdict.conclusion == Failure:
		j.Reason = j.node.verdict.reason
	case result != Success && result != Failure:
		b.err = fmt.Errorf("act gave job %s the result %q, which is not understood", j.ID, result)
		j.Conclusion = Failure
	}
	outputs, err := b.outputs(j.ID)
	if err != nil {
		b.err = err
	}
	j.Outputs = map[string]string{}
	for name, value := range outputs {
		if b.mask(value) != value {
			j.log(fmt.Sprintf("##[warning]Skip output '%s' since it may contain secret.", name))
			continue
		}
		j.Outputs[name] = value
		j.node.results[name] = value
	}
	j.skipRest()
	b.event(j, Event{Kind: JobEnded, Conclusion: j.Conclusion, Outputs: j.Outputs, Text: j.Reason})
}

// skipRest lists the steps that act did not start, which its log leaves out.
func (j *open) skipRest() {
	if j.node.verdict.conclusion == Failure {
		return // the hook's own step stands for all
	}
	var all []Step
	for _, s := range j.node.steps {
		at := slices.IndexFunc(j.Steps, func(done Step) bool { return done.id == s.id })
		if at < 0 {
			all = append(all, Step{id: s.id, Name: s.name, Conclusion: Skipped})
			continue
		}
		all = append(all, j.Steps[at])
	}
	j.Steps = all
}

// startStep opens a step. Steps inside an action and the stages before and
// after the main one belong to the step that is open.
func (b *book) startStep(j *open, l *line) {
	if len(l.StepID) != 1 || l.Stage != "Main" {
		return
	}
	name := "Set up runner"
	for _, s := range j.node.steps {
		if s.id != l.StepID[0] {
			continue
		}
		if name = s.name; strings.Contains(name, "${{") {
			name = l.Step
		}
	}
	j.broken = ""
	j.Steps = append(j.Steps, Step{id: l.StepID[0], Name: name, Started: b.now()})
	j.running = &j.Steps[len(j.Steps)-1]
	b.event(j, Event{Kind: StepStarted, Step: name})
}

func (b *book) endStep(j *open, l *line) {
	if len(l.StepID) != 1 || l.Stage != "Main" || j.running == nil {
		return
	}
	j.running.Conclusion, j.running.Ended = l.StepResult, b.now()
	if l.StepResult == Failure && (b.cancelling.Load() || j.expired.Load()) {
		j.running.Conclusion = Cancelled
	}
	b.event(j, Event{Kind: StepEnded, Step: j.running.Name, Conclusion: j.running.Conclusion})
	b.ended()
}

func (b *book) summarise(j *open, l *line) {
	text := b.mask(l.Content)
	for _, told := range j.told {
		inner := len(told.step) > len(l.StepID) && slices.Equal(told.step[:len(l.StepID)], l.StepID)
		if inner && told.text == text {
			return
		}
	}
	j.told = append(j.told, summary{l.StepID, text})
	j.Summary += text
	if !strings.HasSuffix(text, "\n") {
		j.Summary += "\n"
	}
	name := l.Step
	if j.running != nil {
		name = j.running.Name
	}
	b.event(j, Event{Kind: Summary, Step: name, Text: text})
}

// said are the commands that a person sees in the log.
var said = []string{"error", "warning", "notice", "debug", "group", "endgroup"}

func (b *book) log(j *open, l *line) {
	text := strings.TrimRight(l.Message, "\r\n")
	switch {
	case b.drained(j, l):
	case l.Raw:
		b.say(j, text)
	case slices.Contains(said, l.Command):
		b.say(j, strings.TrimRight(l.RawCommand, "\r\n"))
	case l.Level == "error" && text != j.broken: // an action's step, and the step that calls it
		j.broken = text
		if code, ok := strings.CutPrefix(text, "exit status "); ok {
			text = "Process completed with exit code " + code + "."
		}
		b.say(j, "##[error]"+text)
	}
}

// drained answers the wrapper of a shell: all that its step printed was read. The
// mark may stand behind a last line without an end.
func (b *book) drained(j *open, l *line) bool {
	text := l.RawCommand
	if l.Raw {
		text = l.Message
	}
	before, pid, found := strings.Cut(strings.TrimRight(text, "\r\n"), "::"+b.mark+"::")
	if !found {
		return false
	}
	if before != "" {
		b.say(j, before)
	}
	name := filepath.Join(b.shells, "drained."+filepath.Base(pid))
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		b.err = fmt.Errorf("answer a step that waits for its end: %w", err)
	}
	return true
}

func (b *book) say(j *open, text string) {
	text = b.mask(text)
	name := "Set up job"
	if j.running != nil {
		name = j.running.Name
	}
	j.log(text)
	b.event(j, Event{Kind: Log, Step: name, Text: text})
}

// maxLog bounds what is kept of a step's log; what is told is not bounded.
const (
	maxLog = 4 << 20
	cut    = "##[warning]the rest is not kept\n"
)

func (j *open) log(text string) {
	to := &j.text
	if j.running != nil {
		to = &j.running.text
	}
	switch {
	case len(*to)+len(text) < maxLog:
		*to = append(append(*to, text...), '\n')
	case !bytes.HasSuffix(*to, []byte(cut)):
		*to = append(*to, cut...)
	}
}

// close gives the job as people see it.
func (j *open) close() Job {
	done := j.Job
	done.Log = string(j.text)
	done.Steps = slices.Clone(j.Steps)
	for i := range done.Steps {
		s := &done.Steps[i]
		s.Log, s.text = string(s.text), nil
	}
	return done
}
