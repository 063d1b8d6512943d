package admission

import "time"

// Gains of the moving mean and of the moving mean deviation, and how many
// deviations the bound lies above the mean: Jacobson and Karels 1988. They have
// one observation a round trip; here each turn gives one, and the gains are
// shared between them.
const (
	meanGain      = 1.0 / 8
	deviationGain = 1.0 / 4
	deviations    = 4
)

// outlier is how many bounds one turn counts at most. A machine that stood still
// for a second made the turns at hand a thousand times as long and says nothing
// of the next ones: whoever waits would be refused. Turns that do get longer
// double the bound each time.
const outlier = 4

// staleTerm is how long an estimate counts that nothing confirms.
const staleTerm = 2 * time.Second

// estimate is what is known of the service time: of a turn's length.
type estimate struct {
	turns           int // that are at work at a time
	known           bool
	mean, deviation time.Duration
	newest          time.Time // of the newest observation
}

// observe takes a turn's length in. The first one, and the first after a pause
// in which everything may have changed, counts alone.
func (e *estimate) observe(took time.Duration, now time.Time) {
	if !e.known || e.stale(now.Add(-took)) {
		e.known, e.mean, e.deviation, e.newest = true, took, took/2, now
		return
	}
	took = min(took, max(outlier*e.bound(), time.Millisecond))
	off := took - e.mean
	turns := float64(e.turns)
	e.mean += time.Duration(meanGain / turns * float64(off))
	e.deviation += time.Duration(deviationGain / turns * float64(off.Abs()-e.deviation))
	e.newest = now
}

func (e *estimate) stale(now time.Time) bool { return now.Sub(e.newest) > staleTerm }

// bound is what a turn seldom exceeds.
func (e *estimate) bound() time.Duration { return e.mean + e.margin(1) }

// margin allows for so many standard deviations of a turn as one.
func (e *estimate) margin(spread float64) time.Duration {
	return time.Duration(deviations * spread * float64(e.deviation))
}
