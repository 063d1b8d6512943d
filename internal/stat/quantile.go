package stat

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// Quantile is the q-quantile of ascending values by linear interpolation
// between order statistics (Hyndman & Fan 1996, type 7), NaN where there are
// none.
func Quantile(ascending []float64, q float64) float64 {
	n := len(ascending)
	if n == 0 || !(q >= 0 && q <= 1) {
		return math.NaN()
	}
	at := q * float64(n-1)
	low := int(at)
	if low == n-1 {
		return ascending[low]
	}
	// Rounded before it is added: a fused operation would differ by processor.
	return ascending[low] + float64((at-float64(low))*(ascending[low+1]-ascending[low]))
}

// Ranks are those of the two order statistics, counted from 1, between which a
// quantile lies with at least the level asked for. Rank 0 as Low and n+1 as
// High mean that n values are too few for this end: it is open.
type Ranks struct {
	Low, High int
	Coverage  float64 // exact, for a continuous distribution
}

// QuantileRanks gives the distribution-free interval of the q-quantile of n
// independent values: each end errs with at most (1 - level)/2, exactly by the
// binomial distribution (Hahn & Meeker, Statistical Intervals, 1991, 5.2).
func QuantileRanks(n int, q, level float64) (Ranks, error) {
	if err := checkLevel(level); err != nil {
		return Ranks{}, err
	}
	if n < 1 || !(q > 0 && q < 1) {
		return Ranks{}, fmt.Errorf("stat: no interval for the %v-quantile of %d values", q, n)
	}
	tail := (1 - level) / 2
	// P(X(l) > quantile) = P(at most l-1 values below it): the largest l with
	// at most tail; P(X(u) < quantile) = P(at least u values below it).
	low := search(n+1, func(l int) bool { return binomialCDF(l-1, n, q) > tail }) - 1
	high := search(n+1, func(u int) bool { return 1-binomialCDF(u-1, n, q) <= tail })
	return Ranks{Low: low, High: high, Coverage: binomialCDF(high-1, n, q) - binomialCDF(low-1, n, q)}, nil
}

// QuantileInterval gives the interval of QuantileRanks in the values' own
// unit; an end for which there are too few values is open.
func QuantileInterval(ascending []float64, q, level float64) (Interval, error) {
	n := len(ascending)
	if !slices.IsSorted(ascending) || n > 0 && math.IsNaN(ascending[0]) {
		return Interval{}, fmt.Errorf("stat: the %d values are not in ascending order, or not all numbers", n)
	}
	r, err := QuantileRanks(n, q, level)
	if err != nil {
		return Interval{}, err
	}
	out := open(level, "order statistics")
	if r.Low >= 1 {
		out.Low = ascending[r.Low-1]
	}
	if r.High <= n {
		out.High = ascending[r.High-1]
	}
	return out, nil
}

// search is the smallest i in [1, n] for which ok holds, n where it holds for
// none below; ok must change once, from false to true.
func search(n int, ok func(int) bool) int {
	low, high := 1, n
	for low < high {
		middle := (low + high) / 2
		if ok(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// binomialCDF is P(X <= k) for n trials of probability p.
func binomialCDF(k, n int, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n:
		return 1
	}
	return mathext.RegIncBeta(float64(n-k), float64(k+1), 1-p)
}
