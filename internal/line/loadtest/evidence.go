package loadtest

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/stat/distuv"
)

// Needed is the smallest number of requests that can show, without a single
// miss, that at least objective of all requests meet the service level:
// objective^n <= 1 - confidence.
func Needed(objective, confidence float64) int {
	return int(math.Ceil(math.Log(1-confidence)/math.Log(objective) - 1e-9))
}

// passAt is the largest number of misses among n requests with which the share
// of misses is shown to be at most 1 - objective: P(X <= t) <= 1 - confidence
// for X ~ Binomial(n, 1 - objective). It is -1 where no number will do.
func passAt(n int, objective, confidence float64) int {
	misses := distuv.Binomial{N: float64(n), P: 1 - objective}
	return sort.Search(n+1, func(t int) bool { return misses.CDF(float64(t)) > 1-confidence }) - 1
}

// rejectAt is the smallest number of misses among n requests with which the
// share of misses is shown to be more than 1 - objective:
// P(X >= t) <= 1 - confidence. It is n+1 where no number will do.
//
// Misses never become fewer: once rejectAt of the whole plan's number is
// reached, the verdict stands, whatever the rest would bring. That is why the
// test may stop there without a correction for having looked.
func rejectAt(n int, objective, confidence float64) int {
	misses := distuv.Binomial{N: float64(n), P: 1 - objective}
	return sort.Search(n+1, func(t int) bool { return upperTail(misses, t) <= 1-confidence })
}

// upperTail is P(X >= t).
func upperTail(x distuv.Binomial, t int) float64 {
	if t <= 0 {
		return 1
	}
	return x.Survival(float64(t - 1))
}
