package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Reason codes of a run that did not pass.
const (
	CodeErrors    = "errors"
	CodeLatency   = "latency"
	CodeNotReady  = deployment.NotReady
	CodeLeaseLost = "lease-lost"
	CodeDisturbed = "disturbed" // somebody else changed what is served
)

// unreadyLooks in a row without an answer stop the canary, whatever the
// statistics say.
const unreadyLooks = 3

// canaryRestarts of the canary's processes while it is judged stop it: one may
// be a person's doing, two are a model that takes its process down, however
// quickly a supervisor brings it back.
const canaryRestarts = 2

// minStepRequests is the data without which no step is left upwards.
const minStepRequests = 10

// Start makes the state of a new run.
func Start(kind Kind, model, digest, previous string, p Plan, now time.Time) State {
	s := State{Kind: kind, Model: model, Digest: digest, Previous: previous, Phase: Prepare, Started: now, Deadline: now.Add(p.Deadline)}
	return s.note(now, "%s in place of %s: begins", short(digest), short(previous))
}

// Resume fits a state that another process left to what is seen now. Evidence
// counts only while the share was held without a gap; otherwise the steps
// begin again at share 0. What was decided stays decided.
func Resume(s State, o Observation, p Plan, now time.Time) State {
	s = s.clone()
	if s.Phase != Prepare && s.Phase != Steps {
		return s.note(now, "taken up in phase %s", s.Phase)
	}
	if s.Phase == Steps && s.Step < len(p.Steps) && o.Share.Owned && o.Share.Same && o.Share.BP == p.share(s.Step) {
		return s.note(now, "taken up in step %d, the lease still held", s.Step+1)
	}
	fresh := Start(s.Kind, s.Model, s.Digest, s.Previous, p, now)
	fresh.RunKey, fresh.Events = s.RunKey, s.Events
	return fresh.note(now, "taken up in phase %s without the lease: begins again at share 0", s.Phase)
}

// Advance is the machine: from the state, what was observed at now, and the
// plan it makes the next state and the one action that belongs to it. It
// changes neither argument. The state is to be kept before the action is done.
func Advance(s State, o Observation, p Plan, now time.Time) (State, Action) {
	s = s.clone()
	switch s.Phase {
	case Prepare:
		return s.prepare(o, p, now)
	case Steps:
		return s.step(o, p, now)
	case All:
		return s.all(o, now)
	case Switch:
		return s.switchStable(o, now)
	case Return:
		return s.giveBack(o, now)
	case Keep:
		return s.keep(o, now)
	case Promote:
		return s.promote(o, now)
	case Retreat:
		return s.retreat(o, now)
	case Restore:
		return s.restore(o, now)
	}
	return s, Action{Do: Stop}
}

// prepare claims the share at 0, then loads the digest where it is needed.
func (s State) prepare(o Observation, p Plan, now time.Time) (State, Action) {
	if !o.Share.Owned || !o.Share.Same || o.Share.BP != 0 {
		return s, share(0)
	}
	if o.Refused != "" {
		return s.breach(now, verdict.Reject, CodeNotReady, "the canary does not come to serve %s: %s", s.Digest, o.Refused)
	}
	if s.Kind == Direct {
		s.Decided, s.Touched, s.Phase = true, true, Switch
		return s, load(deployment.Stable, s.Digest)
	}
	if o.Canary.Serving != s.Digest || !o.Share.CanaryUp {
		if now.After(s.Deadline) {
			return s.breach(now, verdict.Reject, CodeNotReady, "the canary does not answer with %s: %s", s.Digest, o.trouble())
		}
		if o.Canary.Serving == s.Digest {
			return s, Action{Do: Wait} // loaded; the proxy's health check has yet to see it
		}
		return s, load(deployment.Canary, s.Digest)
	}
	if s.Kind == Rollback {
		s.Decided, s.Phase = true, All
		return s.note(now, "the canary serves %s: it takes everything", short(s.Digest)), share(split.Full)
	}
	s.Phase = Steps
	return s.enter(0, p, now)
}

func (s State) enter(step int, p Plan, now time.Time) (State, Action) {
	s.Step, s.StepSince = step, time.Time{}
	s.Strata = append(s.Strata, Stratum{ShareBP: p.share(step)})
	return s.note(now, "step %d of %d: share %g%%", step+1, len(p.Steps), p.Steps[step]), share(p.share(step))
}

// step looks at one moment of a judged share.
func (s State) step(o Observation, p Plan, now time.Time) (State, Action) {
	if !o.Share.Owned {
		return s.breach(now, verdict.Inconclusive, CodeLeaseLost, "the lease of the share was lost%s", heldBy(o.Share.Holder))
	}
	if o.Stable.Serving != "" && o.Stable.Serving != s.Previous {
		return s.breach(now, verdict.Inconclusive, CodeDisturbed, "stable began to serve %s, the champion is %s: nothing to compare with", o.Stable.Serving, s.Previous)
	}
	if next, stop := s.readiness(o); stop != "" {
		return next.breach(now, verdict.Reject, CodeNotReady, "%s", stop)
	} else {
		s = next
	}
	if !o.Share.Same || o.Share.BP != p.share(s.Step) {
		return s, share(p.share(s.Step))
	}
	if s.StepSince.IsZero() {
		s.StepSince = now
		s.rebase(o)
		return s, Action{Do: Wait}
	}
	s.accumulate(o)
	if s.Restarts >= canaryRestarts {
		return s.breach(now, verdict.Reject, CodeNotReady, "the canary's process was started anew %d times while it was judged", s.Restarts)
	}
	j, err := s.Judge(p)
	if err != nil {
		return s.breach(now, verdict.Inconclusive, verdict.Invalid, "the counters cannot be judged: %s", err.Error())
	}
	if code, text := j.harm(s, p); code != "" {
		return s.breach(now, verdict.Reject, code, "%s", text)
	}
	lacking := s.lacking(j, p, now)
	if s.Unready > 0 || o.CanaryCounters == nil || o.StableCounts == nil {
		lacking = "canary, stable or their counters could not be read at this look: " + o.trouble()
	}
	return s.climb(j, lacking, p, now)
}

// climb leaves the step upwards where nothing is lacking.
func (s State) climb(j Judgement, lacking string, p Plan, now time.Time) (State, Action) {
	switch {
	case lacking == "" && s.Step+1 < len(p.Steps):
		return s.enter(s.Step+1, p, now)
	case lacking == "":
		s.Decided, s.Phase = true, All
		return s.note(now, "proven: %s; the canary takes everything", j.proof(p)), share(split.Full)
	case now.After(s.Deadline):
		return s.breach(now, verdict.Inconclusive, verdict.Undecided, "no decision until the deadline: %s", lacking)
	}
	return s, Action{Do: Wait}
}

// lacking says what is missing to leave the step upwards; empty where nothing is.
func (s State) lacking(j Judgement, p Plan, now time.Time) string {
	here, total := s.Strata[len(s.Strata)-1], s.Total()
	if left := p.Step - now.Sub(s.StepSince); left > 0 {
		return fmt.Sprintf("step %d lasts %s more", s.Step+1, left.Round(time.Millisecond))
	}
	if here.Canary.Requests < minStepRequests || here.Stable.Requests < minStepRequests {
		return fmt.Sprintf("in step %d the canary answered %d and stable %d requests, %d each are needed", s.Step+1, here.Canary.Requests, here.Stable.Requests, minStepRequests)
	}
	if s.Step+1 < len(p.Steps) {
		return ""
	}
	if total.Canary.Requests < uint64(p.MinRequests) {
		return fmt.Sprintf("the canary answered %d of %d requests", total.Canary.Requests, p.MinRequests)
	}
	return j.unproven(p)
}

// readiness counts the looks in a row at which nobody reaches the canary.
func (s State) readiness(o Observation) (State, string) {
	if o.Canary.Serving != "" && o.Canary.Serving != s.Digest {
		return s, fmt.Sprintf("the canary began to serve %s instead of %s", o.Canary.Serving, s.Digest)
	}
	if o.Canary.Serving == s.Digest && o.Share.CanaryUp {
		s.Unready = 0
		return s, ""
	}
	s.Unready++
	if s.Unready < unreadyLooks {
		return s, ""
	}
	return s, fmt.Sprintf("the canary did not answer at %d looks in a row: %s", s.Unready, o.trouble())
}

// all brings everything to the canary.
func (s State) all(o Observation, now time.Time) (State, Action) {
	next, stop := s.readiness(o)
	if stop != "" {
		return next.breach(now, verdict.Reject, CodeNotReady, "%s", stop)
	}
	s = next
	if !o.Share.Owned || !o.Share.Same || o.Share.BP != split.Full {
		return s, share(split.Full)
	}
	s.Phase, s.Touched = Switch, true
	return s.note(now, "share 100%%"), load(deployment.Stable, s.Digest)
}

// switchStable brings the digest to stable, which has no traffic meanwhile.
func (s State) switchStable(o Observation, now time.Time) (State, Action) {
	if o.Refused != "" {
		return s.breach(now, verdict.Reject, CodeNotReady, "stable does not come to serve %s: %s", s.Digest, o.Refused)
	}
	if o.Stable.Serving != s.Digest {
		return s, load(deployment.Stable, s.Digest)
	}
	s.Phase = Return
	return s.note(now, "stable serves %s: the share returns to 0", short(s.Digest)), share(0)
}

func (s State) giveBack(o Observation, now time.Time) (State, Action) {
	if !o.Share.Same || o.Share.BP != 0 {
		return s, share(0)
	}
	s.Phase = Keep
	return s.note(now, "share 0"), load(deployment.Canary, s.warm())
}

// warm is the digest that the canary slot holds between two rollouts.
func (s State) warm() string {
	if s.Previous == "" {
		return s.Digest
	}
	return s.Previous
}

// keep leaves the way back warm. It cannot undo what is served already, so a
// refusal is a warning.
func (s State) keep(o Observation, now time.Time) (State, Action) {
	switch {
	case o.Refused != "":
		s.Warnings = append(s.Warnings, fmt.Sprintf("the canary slot does not keep %s warm, a rollback will take longer: %s", short(s.warm()), o.Refused))
	case o.Canary.Serving != s.warm():
		return s, load(deployment.Canary, s.warm())
	}
	s.Phase = Promote
	return s.note(now, "the canary slot keeps %s; alias and tag move", short(s.warm())), Action{Do: Finish}
}

func (s State) promote(o Observation, now time.Time) (State, Action) {
	if o.Promoted == "" {
		return s, Action{Do: Finish}
	}
	s.Version = o.Promoted
	return s.close(now, verdict.Pass, "done", fmt.Sprintf("production serves %s, version %s", s.Digest, s.Version))
}

// breach begins the way back. The verdict is set already, so that no later
// look can change it.
func (s State) breach(now time.Time, v verdict.Verdict, code, format string, args ...any) (State, Action) {
	s.Decided, s.Phase = false, Retreat
	s.Verdict, s.Reason = v, verdict.Reason{Code: code, Text: fmt.Sprintf(format, args...)}
	return s.note(now, "%s: %s; the share goes to 0", code, s.Reason.Text), share(0)
}

// retreat brings the share to 0 before anything else. Where another owner has
// it by now, share and canary are that owner's business.
func (s State) retreat(o Observation, now time.Time) (State, Action) {
	if o.Share.Holder != "" {
		s.Warnings = append(s.Warnings, "the share belongs to "+o.Share.Holder+" by now: left as it is")
		return s.close(now, s.Verdict, s.Reason.Code, s.Reason.Text)
	}
	if !o.Share.Same || o.Share.BP != 0 {
		return s, share(0)
	}
	s.Phase = Restore
	return s.note(now, "share 0").restore(o, now)
}

// restore gives back what production was: to stable where it was touched, then
// to the canary slot. A direct load has nothing to give back: a server that
// refuses a bundle still serves what it served before.
func (s State) restore(o Observation, now time.Time) (State, Action) {
	switch {
	case s.Previous == "" || s.Kind == Direct:
	case o.Refused != "" && s.Restoring:
		s.Warnings = append(s.Warnings, fmt.Sprintf("the way back to %s is not complete: %s", s.Previous, o.Refused))
	case s.Touched && o.Stable.Serving != s.Previous:
		s.Restoring = true
		return s, load(deployment.Stable, s.Previous)
	case o.Canary.Serving != s.Previous:
		s.Restoring = true
		return s, load(deployment.Canary, s.Previous)
	}
	return s.close(now, s.Verdict, s.Reason.Code, s.Reason.Text)
}

func (s State) close(now time.Time, v verdict.Verdict, code, text string) (State, Action) {
	s.Phase, s.Verdict, s.Reason, s.Finished = Closed, v, verdict.Reason{Code: code, Text: text}, now
	return s.note(now, "%s: %s", v, text), Action{Do: Stop}
}

func (s State) note(now time.Time, format string, args ...any) State {
	s.Events = append(s.Events, Event{At: now.UTC(), Text: fmt.Sprintf(format, args...)})
	s.Events = s.Events[max(0, len(s.Events)-eventsKept):]
	return s
}

func (o Observation) trouble() string {
	var parts []string
	if o.Canary.Trouble != "" {
		parts = append(parts, o.Canary.Trouble)
	}
	if !o.Share.CanaryUp {
		parts = append(parts, "the proxy has no healthy canary")
	}
	return strings.Join(parts, "; ")
}

func share(bp int) Action { return Action{Do: SetShare, ShareBP: bp} }

func load(slot, digest string) Action { return Action{Do: Load, Slot: slot, Digest: digest} }

func orNothing(digest string) string {
	if digest == "" {
		return "nothing"
	}
	return digest
}

func heldBy(holder string) string {
	if holder == "" {
		return ""
	}
	return " to " + holder
}
