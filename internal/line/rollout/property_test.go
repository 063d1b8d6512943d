package rollout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/split"
	"github.com/penstock-ml/penstock/internal/stat"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// TestNothingUnsafeWhateverIsObserved feeds random observations, most of them
// absurd, and watches what Advance asks for.
func TestNothingUnsafeWhateverIsObserved(t *testing.T) {
	p := slowPlan()
	p.MinRequests, p.Step = 50, 2*time.Second
	p.Errors.Margin, p.Slow.Margin = 0.3, 0.3
	ends := map[verdict.Verdict]int{}
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 11))
		kind := []Kind{Rollout, Rollout, Rollout, Direct, Rollback}[random.IntN(5)]
		s := Start(kind, "xray", newDigest, oldDigest, p, noon)
		m := newModel()
		mood := random.Float64() // how often the world is out of order
		for range 300 {
			before := asJSON(t, s)
			next, a := Advance(s, m.o, p, m.now)
			if asJSON(t, s) != before {
				t.Fatalf("seed %d: Advance changed its argument in phase %s", seed, s.Phase)
			}
			if problem := unsafe(s, next, a, m.o, p); problem != "" {
				t.Fatalf("seed %d, phase %s -> %s, action %+v: %s", seed, s.Phase, next.Phase, a, problem)
			}
			s = next
			if a.Do == Stop {
				break
			}
			m.act(a, 100*random.Float64(), 0, 0)
			if random.Float64() < mood/5 {
				m.disturb(random)
			}
		}
		ends[s.Verdict]++
	}
	for _, v := range []verdict.Verdict{verdict.Pass, verdict.Reject, verdict.Inconclusive} {
		if ends[v] < 10 {
			t.Errorf("only %d runs ended with %s: the property was not tried (%v)", ends[v], v, ends)
		}
	}
}

// disturb makes one thing in the world wrong.
func (m *model) disturb(random *rand.Rand) {
	digests := []string{"", oldDigest, newDigest, "foreign"}
	switch random.IntN(9) {
	case 0:
		m.o.Share.Owned = false
	case 1:
		m.o.Share = Share{BP: random.IntN(10001), Same: random.IntN(2) == 0, Holder: "somebody", CanaryUp: true}
	case 2:
		m.o.Share.BP, m.o.Share.Same = random.IntN(10001), random.IntN(2) == 0
	case 3:
		m.o.Canary = Arm{Serving: digests[random.IntN(4)]}
	case 4:
		m.o.Stable = Arm{Serving: digests[random.IntN(4)]}
	case 5:
		m.o.CanaryCounters = nil
	case 6:
		m.o.Refused = "goldens differ"
	case 7:
		m.o.Share.CanaryUp = !m.o.Share.CanaryUp
	case 8:
		m.canry.Errors += uint64(random.IntN(40))
		m.canry.Requests += 40
	}
}

func unsafe(s, next State, a Action, o Observation, p Plan) string {
	broken := s.Verdict == verdict.Reject || s.Verdict == verdict.Inconclusive
	switch {
	case broken && a.Do == SetShare && a.ShareBP > 0:
		return "a share above 0 after the breach"
	case broken && a.Do == Finish:
		return "the alias moves after the breach"
	case broken && (next.Verdict != s.Verdict || next.Reason != s.Reason):
		return "the verdict changed after the breach"
	case broken && a.Do == Load && a.Digest != s.Previous:
		return "a load after the breach that is not the way back"
	case a.Do == SetShare && a.ShareBP > 0 && next.Kind == Direct:
		return "traffic to the canary without a judgement"
	case next.Step > s.Step && o.Canary.Serving != s.Digest:
		return "a step up while the canary does not answer"
	case next.Step > s.Step && (o.CanaryCounters == nil || !o.Share.CanaryUp):
		return "a step up without counters, or without a canary behind the proxy"
	case a.Do == SetShare && a.ShareBP == split.Full && !next.Decided:
		return "everything to the canary before the decision"
	case a.Do == Load && a.Slot == deployment.Stable && !next.Decided && !broken:
		return "stable loads before the decision"
	case a.Do == Load && a.Slot == deployment.Stable && !next.Touched:
		return "stable loads and the record does not know"
	}
	if a.Do != Finish && next.Verdict != verdict.Pass {
		return ""
	}
	if !next.Decided || next.Phase != Promote && next.Phase != Closed {
		return "the alias moves in phase " + string(next.Phase)
	}
	if next.Kind != Rollout {
		return ""
	}
	j, err := next.Judge(p)
	switch {
	case err != nil:
		return err.Error()
	case next.Total().Canary.Requests < uint64(p.MinRequests):
		return fmt.Sprintf("the alias moves after %d requests", next.Total().Canary.Requests)
	case j.Errors.Comparison != stat.NotWorse || j.Slow.Comparison != stat.NotWorse:
		return "the alias moves without proof"
	}
	return ""
}

func asJSON(t *testing.T, s State) string {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
