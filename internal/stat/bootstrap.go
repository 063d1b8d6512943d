package stat

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// MinReplicates is the least number of bootstrap replicates: below it the ends
// of a 95% interval are noise.
const MinReplicates = 2000

// stream is the second half of the generator's seed: fixed, so that the seed
// recorded in a report is all that is needed to repeat it.
const stream = 0x70656e73746f636b // "penstock"

// Resample draws groups with replacement and computes statistics on each draw:
// the cluster bootstrap (Davison & Hinkley 1997, 3.8; Field & Welsh 2007), for
// rows that are dependent within a group, e.g. the images of a patient.
//
// statistic is called replicates times with how often each group was drawn and
// fills out with width numbers; a statistic without a value on this draw is
// NaN. All statistics see the same draws, so differences between them are
// paired. The draws depend on groups, replicates and seed only.
func Resample(groups, replicates int, seed uint64, width int, statistic func(weight []int32, out []float64)) (Samples, error) {
	if groups < 1 || width < 1 {
		return Samples{}, fmt.Errorf("stat: cannot resample %d groups for %d statistics", groups, width)
	}
	if replicates < MinReplicates {
		return Samples{}, fmt.Errorf("stat: %d bootstrap replicates, at least %d are needed", replicates, MinReplicates)
	}
	rng := rand.New(rand.NewPCG(seed, stream))
	s := Samples{columns: make([][]float64, width)}
	for k := range s.columns {
		s.columns[k] = make([]float64, replicates)
	}
	weight, out := make([]int32, groups), make([]float64, width)
	for b := range replicates {
		clear(weight)
		for range groups {
			weight[rng.IntN(groups)]++
		}
		statistic(weight, out)
		for k, x := range out {
			s.columns[k][b] = x
		}
	}
	return s, nil
}

// Samples are the replicates of several statistics on the same draws.
type Samples struct{ columns [][]float64 }

// Of gives the replicates of statistic k.
func (s Samples) Of(k int) Sample { return newSample(s.columns[k]) }

// Difference gives the replicates of statistic k minus statistic l, draw by
// draw.
func (s Samples) Difference(k, l int) Sample {
	d := make([]float64, len(s.columns[k]))
	for i := range d {
		d[i] = s.columns[k][i] - s.columns[l][i]
	}
	return newSample(d)
}

// Sample is the bootstrap distribution of one statistic.
type Sample struct {
	ascending  []float64
	Replicates int // all of them
	Degenerate int // those without a value: the statistic was NaN on the draw
}

func newSample(values []float64) Sample {
	s := Sample{Replicates: len(values), ascending: make([]float64, 0, len(values))}
	for _, x := range values {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			s.Degenerate++
			continue
		}
		s.ascending = append(s.ascending, x)
	}
	slices.Sort(s.ascending)
	return s
}

// methodPercentile names the interval in reports.
const methodPercentile = "group bootstrap percentile"

// Interval is the two-sided percentile interval (Efron & Tibshirani 1993, 13)
// of the replicates that have a value; two open ends where none has. The
// caller decides how many degenerate replicates are too many.
func (s Sample) Interval(level float64) Interval {
	out := open(level, methodPercentile)
	if len(s.ascending) > 0 && checkLevel(level) == nil {
		out.Low, out.High = Quantile(s.ascending, (1-level)/2), Quantile(s.ascending, (1+level)/2)
	}
	return out
}

// Lower is the one-sided lower bound of this confidence, NaN where no
// replicate has a value.
func (s Sample) Lower(confidence float64) float64 { return Quantile(s.ascending, 1-confidence) }

// Upper is the one-sided upper bound of this confidence, NaN where no
// replicate has a value.
func (s Sample) Upper(confidence float64) float64 { return Quantile(s.ascending, confidence) }

// Groups numbers group names from 0 in order of first appearance.
type Groups struct{ index map[string]int }

// Index gives the number of a group, a new one for a new name.
func (g *Groups) Index(name string) int {
	if g.index == nil {
		g.index = map[string]int{}
	}
	i, known := g.index[name]
	if !known {
		i = len(g.index)
		g.index[name] = i
	}
	return i
}

// Len is how many groups there are.
func (g *Groups) Len() int { return len(g.index) }
