package rollout

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

var noon = time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC)

func slowPlan() Plan {
	return Plan{
		Steps: []float64{5, 25, 50}, Step: 10 * time.Second, MinRequests: 1000, Alpha: 0.02,
		Errors: Bound{Margin: 0.02, Ratio: 1}, Slow: Bound{Margin: 0.05, Ratio: 1},
		Interval: time.Second, Lease: 10 * time.Second, Deadline: 5 * time.Minute,
	}
}

// model is a world in memory that does what Advance says.
type model struct {
	o     Observation
	now   time.Time
	done  []Action
	canry deployment.Counts
	stabl deployment.Counts
}

func newModel() *model {
	return &model{now: noon, o: Observation{
		Share:  Share{Same: true, CanaryUp: true},
		Canary: Arm{Serving: oldDigest}, Stable: Arm{Serving: oldDigest},
	}}
}

// act does the action and lets a second of traffic pass.
func (m *model) act(a Action, perSecond, canaryErrors, canarySlow float64) {
	m.o.Refused, m.o.Promoted = "", ""
	switch a.Do {
	case SetShare:
		m.o.Share.BP, m.o.Share.Owned = a.ShareBP, true
	case Load:
		if a.Slot == deployment.Stable {
			m.o.Stable.Serving = a.Digest
		} else {
			m.o.Canary.Serving = a.Digest
		}
	case Finish:
		m.o.Promoted = "3"
	}
	m.done = append(m.done, a)
	m.now = m.now.Add(time.Second)
	part := float64(m.o.Share.BP) / split.Full
	add := func(c *deployment.Counts, n, errors, slow float64) {
		c.Requests += uint64(n)
		c.Errors += uint64(n * errors)
		c.Slow += uint64(n * slow)
	}
	add(&m.canry, perSecond*part, canaryErrors, canarySlow)
	add(&m.stabl, perSecond*(1-part), 0, 0)
	m.o.CanaryCounters = map[string]deployment.Reading{"c": {Started: 1, Digests: map[string]deployment.Counts{newDigest: m.canry}}}
	m.o.StableCounts = map[string]deployment.Reading{"s": {Started: 1, Digests: map[string]deployment.Counts{oldDigest: m.stabl}}}
}

func (m *model) run(s State, p Plan, perSecond, canaryErrors, canarySlow float64) State {
	for range 2000 {
		next, a := Advance(s, m.o, p, m.now)
		s = next
		if a.Do == Stop {
			return s
		}
		m.act(a, perSecond, canaryErrors, canarySlow)
	}
	return s
}

func TestHealthyCanaryClimbsEveryStepAndStaysTheTimeOfEach(t *testing.T) {
	p, m := slowPlan(), newModel()
	s := m.run(Start(Rollout, "xray", newDigest, oldDigest, p, noon), p, 100, 0, 0)
	if s.Verdict != verdict.Pass || len(s.Strata) != 3 {
		t.Fatalf("%s %+v, %d strata", s.Verdict, s.Reason, len(s.Strata))
	}
	if took := m.now.Sub(noon); took < 30*time.Second {
		t.Errorf("three steps of 10s took %s", took)
	}
	if got := s.Total().Canary.Requests; got < 1000 {
		t.Errorf("promoted on %d requests", got)
	}
}

func TestJudgementNamesTheMetricAndTheNumbers(t *testing.T) {
	cases := []struct {
		name         string
		errors, slow float64
		code         string
	}{{"errors", 0.2, 0, CodeErrors}, {"slow", 0, 0.2, CodeLatency}}
	for _, c := range cases {
		p, m := slowPlan(), newModel()
		s := m.run(Start(Rollout, "xray", newDigest, oldDigest, p, noon), p, 200, c.errors, c.slow)
		if s.Verdict != verdict.Reject || s.Reason.Code != c.code || !strings.Contains(s.Reason.Text, "requests against") {
			t.Errorf("%s: %s %+v", c.name, s.Verdict, s.Reason)
		}
	}
}

func TestNoDataMeansNoStepUpAndNoPass(t *testing.T) {
	p, m := slowPlan(), newModel()
	s := m.run(Start(Rollout, "xray", newDigest, oldDigest, p, noon), p, 0, 0, 0)
	if s.Verdict != verdict.Inconclusive || s.Reason.Code != verdict.Undecided {
		t.Fatalf("%s %+v", s.Verdict, s.Reason)
	}
	for _, a := range m.done {
		if a.Do == SetShare && a.ShareBP > 500 || a.Do == Finish {
			t.Errorf("%+v without a single request", a)
		}
	}
}

func TestCountersThatCannotBeReadAreNoData(t *testing.T) {
	p, m := slowPlan(), newModel()
	s := Start(Rollout, "xray", newDigest, oldDigest, p, noon)
	for s.Phase != Closed {
		var a Action
		s, a = Advance(s, m.o, p, m.now)
		m.act(a, 100, 0, 0)
		m.o.CanaryCounters = nil
	}
	if s.Verdict != verdict.Inconclusive || len(s.Strata) != 1 {
		t.Errorf("%s %+v, %d strata", s.Verdict, s.Reason, len(s.Strata))
	}
}

func TestEighteenOfTheFirstTwentyStopTheCanaryAtOnce(t *testing.T) {
	p := slowPlan()
	s := steppedTo(p, 0)
	o := observed(s, p)
	o.CanaryCounters = counted(newDigest, 20, 18, 0)
	o.StableCounts = counted(oldDigest, 0, 0, 0)
	s, a := Advance(s, o, p, noon.Add(time.Second))
	if s.Phase != Retreat || s.Reason.Code != CodeErrors || a != (Action{Do: SetShare}) {
		t.Errorf("%s %+v %+v", s.Phase, s.Reason, a)
	}
}

func TestOneUnreachableLookIsForgivenThreeAreNot(t *testing.T) {
	p := slowPlan()
	s := steppedTo(p, 1)
	gone := observed(s, p)
	gone.Canary = Arm{Trouble: "connection refused"}
	for i := range 3 {
		s, _ = Advance(s, gone, p, noon.Add(time.Duration(i)*time.Second))
		if i < 2 && s.Phase != Steps {
			t.Fatalf("look %d: %s", i, s.Phase)
		}
	}
	if s.Phase != Retreat || s.Reason.Code != CodeNotReady || !strings.Contains(s.Reason.Text, "connection refused") {
		t.Errorf("%s %+v", s.Phase, s.Reason)
	}
}

func TestStepIsNotLeftUpwardsAtALookWithoutAnAnswer(t *testing.T) {
	p := slowPlan()
	s := steppedTo(p, 0)
	s.Strata[0].Canary.Requests, s.Strata[0].Stable.Requests = 500, 5000
	gone := observed(s, p)
	gone.Canary, gone.StableCounts = Arm{Trouble: "connection refused"}, counted(oldDigest, 1, 0, 0)
	s, a := Advance(s, gone, p, noon.Add(time.Minute))
	if s.Step != 0 || a.Do != Wait || s.Unready != 1 {
		t.Errorf("step %d, %+v, %d unready looks", s.Step, a, s.Unready)
	}
	back := observed(s, p)
	back.CanaryCounters, back.StableCounts = counted(newDigest, 1, 0, 0), counted(oldDigest, 1, 0, 0)
	if s, a = Advance(s, back, p, noon.Add(time.Minute)); s.Step != 1 || a.ShareBP != p.share(1) {
		t.Errorf("step %d, %+v", s.Step, a)
	}
}

func TestCanaryThatKeepsRestartingIsStopped(t *testing.T) {
	p := slowPlan()
	s := steppedTo(p, 1)
	for i := range 2 {
		o := observed(s, p)
		o.CanaryCounters, o.StableCounts = counted(newDigest, 5, 0, 0), counted(oldDigest, 20, 0, 0)
		reading := o.CanaryCounters["server"]
		reading.Started = float64(2 + i)
		o.CanaryCounters["server"] = reading
		if s.Phase != Steps {
			t.Fatalf("one restart: %s %+v", s.Phase, s.Reason)
		}
		s, _ = Advance(s, o, p, noon.Add(time.Second))
	}
	if s.Phase != Retreat || s.Reason.Code != CodeNotReady {
		t.Errorf("%s %+v", s.Phase, s.Reason)
	}
}

func TestRestartOfAServerCountsFromZero(t *testing.T) {
	before := Last{Started: 1, Counts: deployment.Counts{Requests: 100, Errors: 5, Slow: 2}}
	cases := []struct {
		name    string
		started float64
		now     deployment.Counts
		want    deployment.Counts
	}{
		{"went on", 1, deployment.Counts{Requests: 130, Errors: 6, Slow: 2}, deployment.Counts{Requests: 30, Errors: 1}},
		{"restarted", 2, deployment.Counts{Requests: 130, Errors: 6}, deployment.Counts{Requests: 130, Errors: 6}},
		{"counters fell", 1, deployment.Counts{Requests: 7}, deployment.Counts{Requests: 7}},
	}
	for _, c := range cases {
		if got := since(before, c.started, c.now); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestResumeKeepsEvidenceOnlyWhileTheShareWasHeld(t *testing.T) {
	p := slowPlan()
	s := steppedTo(p, 1)
	s.Errors = []stat.Look{{Canary: stat.Count{Requests: 50}, Control: stat.Count{Requests: 50}}}
	held := observed(s, p)
	if got := Resume(s, held, p, noon); got.Step != 1 || len(got.Errors) != 1 {
		t.Errorf("held: step %d, %d looks", got.Step, len(got.Errors))
	}
	lost := held
	lost.Share = Share{Same: true, CanaryUp: true}
	got := Resume(s, lost, p, noon)
	if got.Phase != Prepare || len(got.Errors) != 0 || len(got.Strata) != 0 || !got.Deadline.Equal(noon.Add(p.Deadline)) {
		t.Errorf("lost: %+v", got)
	}
	decided := s
	decided.Phase, decided.Decided, decided.Touched = Switch, true, true
	if got := Resume(decided, lost, p, noon); got.Phase != Switch || !got.Decided {
		t.Errorf("decided: %s", got.Phase)
	}
}

func TestQuietLooksAreJoinedWithoutChangingTheJudgement(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var joined, all []stat.Look
	for range 300 {
		l := stat.Look{Canary: stat.Count{Requests: random.Int64N(9)}, Control: stat.Count{Requests: random.Int64N(30)}}
		if l.Canary.Requests > 0 && random.Float64() < 0.05 {
			l.Canary.Events = 1
		}
		joined, all = addLook(joined, l), append(all, l)
	}
	rule := stat.Rule{Alpha: 0.01, Ratio: 1, Margin: 0.01}
	a, err := stat.Judge(joined, rule)
	if err != nil {
		t.Fatal(err)
	}
	b, err := stat.Judge(all, rule)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.Difference, b.Difference); diff != "" || a.Comparison != b.Comparison || a.EValue/b.EValue < 0.999 || a.EValue/b.EValue > 1.001 {
		t.Errorf("joined %+v, all %+v", a, b)
	}
	if len(joined) >= len(all)/2 {
		t.Errorf("%d looks of %d are kept", len(joined), len(all))
	}
}

func TestFewErrorsAtEqualRatesAreNoReasonToAbort(t *testing.T) {
	p := slowPlan()
	p.Alpha = 0.02
	aborted := 0
	const runs = 100
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 7))
		var s State
		s.Strata = []Stratum{{ShareBP: 2500}}
		for i := range 60 {
			c, b := counts2(random, 25, 0.02), counts2(random, 75, 0.02)
			s.Errors = addLook(s.Errors, look(c, b, func(c deployment.Counts) uint64 { return c.Errors }))
			if i%10 != 9 {
				continue
			}
			j, err := s.Judge(p)
			if err != nil {
				t.Fatal(err)
			}
			if code, _ := j.harm(s, p); code != "" {
				aborted++
				break
			}
		}
	}
	if aborted > 6 { // expected is at most 1 of 100 (alpha 0.01 for this metric); 7 are far beyond chance
		t.Errorf("%d of %d healthy canaries were stopped", aborted, runs)
	}
}

func counts2(random *rand.Rand, n int, rate float64) deployment.Counts {
	c := deployment.Counts{Requests: uint64(n)}
	for range n {
		if random.Float64() < rate {
			c.Errors++
		}
	}
	return c
}

// steppedTo is a state in the middle of a step.
func steppedTo(p Plan, step int) State {
	s := Start(Rollout, "xray", newDigest, oldDigest, p, noon)
	s.Phase, s.Step, s.StepSince = Steps, step, noon
	for i := range step + 1 {
		s.Strata = append(s.Strata, Stratum{ShareBP: p.share(i)})
	}
	s.rebase(Observation{CanaryCounters: counted(newDigest, 0, 0, 0), StableCounts: counted(oldDigest, 0, 0, 0)})
	return s
}

func observed(s State, p Plan) Observation {
	return Observation{
		Share:  Share{BP: p.share(s.Step), Same: true, Owned: true, CanaryUp: true},
		Canary: Arm{Serving: s.Digest}, Stable: Arm{Serving: s.Previous},
	}
}

func counted(digest string, requests, errors, slow uint64) map[string]deployment.Reading {
	return map[string]deployment.Reading{"server": {Started: 1, Digests: map[string]deployment.Counts{
		digest: {Requests: requests, Errors: errors, Slow: slow},
	}}}
}

func TestPlanThatCannotDecideIsRefusedByKey(t *testing.T) {
	cases := map[string]func(*Plan){
		"steps":        func(p *Plan) { p.Steps = nil },
		"steps[1]":     func(p *Plan) { p.Steps = []float64{25, 5} },
		"steps[0]":     func(p *Plan) { p.Steps = []float64{100} },
		"step:":        func(p *Plan) { p.Step = 0 },
		"min_requests": func(p *Plan) { p.MinRequests = 0 },
		"alpha":        func(p *Plan) { p.Alpha = 0.5 },
		"errors":       func(p *Plan) { p.Errors = Bound{} },
		"slow":         func(p *Plan) { p.Slow.Ratio = 0.5 },
		"interval":     func(p *Plan) { p.Interval = 0 },
		"lease":        func(p *Plan) { p.Lease = p.Interval },
		"deadline":     func(p *Plan) { p.Deadline = time.Second },
	}
	for key, spoil := range cases {
		p := slowPlan()
		spoil(&p)
		if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := slowPlan().Validate(); err != nil {
		t.Error(err)
	}
}
