package stat

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// ClopperPearson is the exact two-sided interval of a proportion of k in n: each end
// errs with at most (1 - level)/2 (Clopper & Pearson, Biometrika 1934). A
// one-sided bound of confidence c is the end of the interval of level 2c - 1.
func ClopperPearson(k, n int, level float64) (Interval, error) {
	if err := checkProportion(k, n, level); err != nil {
		return Interval{}, err
	}
	out := Interval{Low: 0, High: 1, Level: level, Method: "Clopper-Pearson"}
	tail := (1 - level) / 2
	if k > 0 {
		out.Low = mathext.InvRegIncBeta(float64(k), float64(n-k+1), tail)
	}
	if k < n {
		out.High = mathext.InvRegIncBeta(float64(k+1), float64(n-k), 1-tail)
	}
	return out, nil
}

// Wilson is the score interval of a proportion of k in n (Wilson, JASA 1927):
// its coverage is right on average, not guaranteed.
func Wilson(k, n int, level float64) (Interval, error) {
	if err := checkProportion(k, n, level); err != nil {
		return Interval{}, err
	}
	z := distuv.UnitNormal.Quantile(1 - (1-level)/2)
	m, p := float64(n), float64(k)/float64(n)
	centre := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	out := Interval{Low: centre - half, High: centre + half, Level: level, Method: "Wilson score"}
	if k == 0 {
		out.Low = 0 // what rounding leaves is not a bound
	}
	if k == n {
		out.High = 1
	}
	return out, nil
}

func checkProportion(k, n int, level float64) error {
	if n < 1 || k < 0 || k > n {
		return fmt.Errorf("stat: %d of %d is no proportion", k, n)
	}
	return checkLevel(level)
}
