// Package stat owns the statistics that stages decide with: the area under the
// ROC curve, the cluster bootstrap, intervals for proportions and quantiles,
// and an anytime-valid comparison of two arms. It is pure: no clock, no files,
// randomness only from a seed that the caller records.
//
// For whom is what:
//
//   - evaluation: Rank once for each label and model, Resample groups, read
//     intervals and one-sided bounds off the Sample of each statistic.
//   - rollout: keep the Looks (counts since the look before) in the journal and
//     ask Judge after each: Worse aborts, NotWorse promotes, Undecided waits.
//     DetectionRequests says beforehand how long finding a fault would take.
//   - loadtest: QuantileInterval over sorted latencies (or QuantileRanks where
//     there is only a histogram), ClopperPearson for shares.
//
// Sources stand at the functions. Refused: scores that are not finite, groups
// that do not exist, levels outside (0, 1), counts that cannot be. What cannot
// be computed is NaN or an open end and never zero.
package stat

import (
	"fmt"
	"math"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Interval is an interval estimate. An open end is infinite; an interval that
// could not be computed has two open ends.
type Interval struct {
	Low, High float64
	Level     float64 // coverage in (0, 1); of each end by itself where one is open
	Method    string  // short name, e.g. "group bootstrap percentile"
}

// ForCheck gives the interval as a result's check carries it: open ends left
// out. An interval with two open ends gives nil.
func (i Interval) ForCheck() *verdict.Interval {
	low, high := verdict.Number(i.Low), verdict.Number(i.High)
	if low == nil && high == nil {
		return nil
	}
	return &verdict.Interval{Low: low, High: high, Level: i.Level, Method: i.Method}
}

// open is the interval of nothing known.
func open(level float64, method string) Interval {
	return Interval{Low: math.Inf(-1), High: math.Inf(1), Level: level, Method: method}
}

func checkLevel(level float64) error {
	if !(level > 0 && level < 1) {
		return fmt.Errorf("stat: level %v is not between 0 and 1", level)
	}
	return nil
}
