package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// enterWith enters with a cost and a deadline at which the work would end.
func enterWith(t *testing.T, q *Queue, cost float64) *Turn {
	t.Helper()
	turn, err := q.EnterWith(background, time.Now().Add(time.Hour), cost)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// TestWhatCostsMoreIsExpectedToTakeLonger has a service that takes a second for
// each unit: the estimate holds for costs that it never saw.
func TestWhatCostsMoreIsExpectedToTakeLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Options{Name: "xray", Turns: 1, Depth: 4})
		for i := range 40 {
			cost := []float64{0.1, 2, 0.5}[i%3]
			turn := enterWith(t, q, cost)
			time.Sleep(time.Duration(cost * float64(time.Second)))
			turn.Leave(true)
		}
		for _, c := range []struct {
			cost, seconds float64
			ok            bool
		}{{10, 11, true}, {10, 9, false}, {0.05, 0.1, true}, {1, 0.9, false}} {
			turn, err := tryWith(q, time.Duration(c.seconds*float64(time.Second)), c.cost)
			if (err == nil) != c.ok {
				t.Errorf("a cost of %v within %v s: %v", c.cost, c.seconds, err)
			}
			if err == nil {
				turn.Leave(false)
			}
		}
		// behind a large one, a small one must wait
		large := enterWith(t, q, 20)
		if _, err := tryWith(q, 15*time.Second, 0.1); err == nil {
			t.Error("let in behind 20 s of work")
		}
		large.Costs(0.1) // it turned out to be small
		go func() {
			time.Sleep(time.Second / 10)
			large.Leave(true)
		}()
		turn, err := tryWith(q, 15*time.Second, 0.1)
		if err != nil {
			t.Fatal(err)
		}
		turn.Leave(true)
	})
}

func tryWith(q *Queue, within time.Duration, cost float64) (*Turn, error) {
	ctx, cancel := context.WithTimeout(background, within)
	defer cancel()
	return q.EnterWith(ctx, time.Now().Add(within), cost)
}
