package hub

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

// logLine is one line of a run's log.
type logLine struct {
	Attempt   int
	Time      time.Time
	Job, Step string
	Number    int // of the step in its job; 0 is none of them
	Text      string
}

// runLog is the log of a run, all attempts, in memory and in a file.
type runLog struct {
	lines []logLine
	file  *os.File
}

func (h *Hub) logPath(run int64) string {
	return filepath.Join(h.opt.Dir, "logs", strconv.FormatInt(run, 10)+".jsonl")
}

// logOf is the run's log; of an earlier hub it is read from its file. The
// caller holds the lock.
func (h *Hub) logOf(run int64) *runLog {
	if l := h.logs[run]; l != nil {
		return l
	}
	l := &runLog{}
	h.logs[run] = l
	f, err := os.Open(h.logPath(run))
	if err != nil {
		return l // nothing was logged
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var line logLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			break // the last line of a hub that was killed
		}
		l.lines = append(l.lines, line)
	}
	return l
}

func (h *Hub) appendLog(run *run, line logLine) error {
	l := h.logOf(run.ID)
	l.lines = append(l.lines, line)
	if l.file == nil {
		f, err := os.OpenFile(h.logPath(run.ID), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("hub: log: %w", err)
		}
		l.file = f
	}
	data, err := json.Marshal(line)
	if err == nil {
		_, err = l.file.Write(append(data, '\n'))
	}
	return err
}

// closeLogs closes the files of all logs.
func (h *Hub) closeLogs() error {
	var all []error
	for _, l := range h.logs {
		if l.file != nil {
			all = append(all, l.file.Close())
		}
	}
	return errors.Join(all...)
}

// told records what the executor tells of a run.
func (h *Hub) told(r *repository, run *run, e actrun.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := e.Time.UTC()
	if e.Time.IsZero() {
		now = h.now()
	}
	j := h.jobOf(run, e.JobID, e.Job)
	switch e.Kind {
	case actrun.JobStarted:
		j.Status, j.Started = statusInProgress, now
		h.deploymentStarted(r, run, j)
	case actrun.JobEnded:
		h.jobEnded(r, run, j, e.Conclusion, now)
		j.Reason = orElse(e.Text, j.Reason)
		if e.Outputs != nil {
			j.Outputs = e.Outputs
		}
	case actrun.StepStarted:
		j.Steps = append(j.Steps, &step{Name: e.Step, Status: statusInProgress, Started: now})
	case actrun.StepEnded:
		s := find(newest(j.Steps), func(s *step) bool { return s.Name == e.Step && s.Status != statusCompleted })
		if s == nil {
			s = &step{Name: e.Step, Started: now}
			j.Steps = append(j.Steps, s)
		}
		s.Status, s.Conclusion, s.Completed = statusCompleted, e.Conclusion, now
	case actrun.Log:
		line := logLine{Attempt: run.Attempt, Time: now, Job: j.Name, Step: e.Step, Number: stepNumber(j, e.Step), Text: e.Text}
		if err := h.appendLog(run, line); err != nil {
			h.opt.Logf("hub: log of run %d: %v", run.ID, err)
		}
	case actrun.Summary:
		j.Summaries = append(j.Summaries, e.Text)
	default:
		h.opt.Logf("hub: the executor tells of %q, which is unknown", e.Kind)
	}
	run.Updated = h.now()
	h.changed()
}

// stepNumber is the newest step of a name, from 1; 0 is none. Steps may share a
// name.
func stepNumber(j *job, name string) int {
	for i := len(j.Steps); i > 0; i-- {
		if j.Steps[i-1].Name == name {
			return i
		}
	}
	return 0
}

// jobOf finds a job by its key and name; one of a matrix or of a called
// workflow is made when it is first told of.
func (h *Hub) jobOf(run *run, key, name string) *job {
	if name == "" {
		name = key
	}
	if j := find(run.Jobs, func(j *job) bool { return j.Key == key && j.Name == name }); j != nil {
		return j
	}
	// Planned under a name with expressions, told under the evaluated one.
	if j := find(run.Jobs, func(j *job) bool {
		return j.Key == key && j.Status == statusQueued && len(j.Steps) == 0
	}); j != nil {
		j.Name = name
		return j
	}
	j := &job{ID: h.id(), Attempt: run.Attempt, Key: key, Name: name, Status: statusQueued, Created: h.now()}
	run.Jobs = append(run.Jobs, j)
	return j
}

func (h *Hub) jobEnded(r *repository, run *run, j *job, conclusion string, when time.Time) {
	if conclusion == actrun.Queued { // nobody offered its labels: GitHub cancels it after a day
		conclusion = actrun.Cancelled
	}
	j.Status, j.Conclusion, j.Completed = statusCompleted, conclusion, when
	if j.Started.IsZero() {
		j.Started = when
	}
	for _, s := range j.Steps {
		if s.Status != statusCompleted {
			s.Status, s.Conclusion, s.Completed = statusCompleted, conclusion, when
		}
	}
	h.deploymentEnded(r, run, j)
}

// jobResult holds a job against the executor's last word about it.
func (h *Hub) jobResult(r *repository, run *run, final actrun.Job) {
	j := h.jobOf(run, final.ID, final.Name)
	if !final.Started.IsZero() {
		j.Started = final.Started.UTC()
	}
	if final.Outputs != nil {
		j.Outputs = final.Outputs
	}
	if len(j.Labels) == 0 {
		j.Labels = final.Labels
	}
	j.Reason = orElse(final.Reason, j.Reason)
	if len(j.Summaries) == 0 && final.Summary != "" {
		j.Summaries = []string{final.Summary}
	}
	if len(j.Steps) == 0 {
		for _, s := range final.Steps {
			j.Steps = append(j.Steps, &step{
				Name: s.Name, Status: statusCompleted, Conclusion: s.Conclusion, Started: s.Started.UTC(), Completed: s.Ended.UTC(),
			})
		}
	}
	if j.Status != statusCompleted || j.Conclusion != final.Conclusion {
		ended := final.Ended.UTC()
		if final.Ended.IsZero() {
			ended = h.now()
		}
		h.jobEnded(r, run, j, final.Conclusion, ended)
	}
}

// deploymentStarted makes the deployment of a job with an environment.
func (h *Hub) deploymentStarted(r *repository, run *run, j *job) {
	name, url := h.environmentOf(r, run, j.Key)
	if name == "" || j.Deployment != 0 {
		return
	}
	ref, _ := refParts(run.Ref)
	d := &deployment{
		ID: h.id(), SHA: run.SHA, Ref: ref, Task: "deploy", Environment: name, Original: name, Creator: actionsBot,
		Payload: json.RawMessage("{}"), Production: strings.EqualFold(name, "production"),
		Created: h.now(), Updated: h.now(), Run: run.ID, Job: j.ID,
	}
	r.Deployments = append(r.Deployments, d)
	j.Deployment, j.EnvironmentURL = d.ID, url
	h.setDeployment(r, d, deploymentStatus{State: "in_progress", Creator: actionsBot, LogURL: h.jobURL(r, run, j), SiteURL: url})
}

// deploymentEnded tells a job's deployment how the job ended.
func (h *Hub) deploymentEnded(r *repository, run *run, j *job) {
	d := find(r.Deployments, func(d *deployment) bool { return j.Deployment != 0 && d.ID == j.Deployment })
	if d == nil {
		return
	}
	state := map[string]string{actrun.Success: "success", actrun.Failure: "failure", actrun.Cancelled: "error"}[j.Conclusion]
	if state == "" {
		state = "inactive"
	}
	if last := d.Statuses[len(d.Statuses)-1]; last.State == state {
		return
	}
	h.setDeployment(r, d, deploymentStatus{State: state, Creator: actionsBot, LogURL: h.jobURL(r, run, j), SiteURL: j.EnvironmentURL})
}

// setDeployment adds a status. A success makes earlier deployments of the
// environment inactive.
func (h *Hub) setDeployment(r *repository, d *deployment, s deploymentStatus) *deploymentStatus {
	s.ID, s.Created = h.id(), h.now()
	if s.Environment == "" {
		s.Environment = d.Environment
	}
	d.Statuses = append(d.Statuses, &s)
	d.Updated = s.Created
	if s.State == "success" && !d.Transient {
		for _, o := range r.Deployments {
			if o != d && o.Environment == d.Environment && len(o.Statuses) > 0 && o.Statuses[len(o.Statuses)-1].State == "success" {
				h.setDeployment(r, o, deploymentStatus{State: "inactive", Creator: s.Creator})
			}
		}
	}
	h.changed()
	return &s
}
