package stat

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Ranking is the scores of one label sorted once, ties together, so that the
// area under the ROC curve can be computed for many weightings in one pass
// each. It is read-only and may be shared.
type Ranking struct {
	rows   []ranked
	groups int
}

type ranked struct {
	group    int32
	positive bool
	last     bool // of a run of equal scores
}

// Rank sorts rows by score. group[i] in [0, groups) is the group of row i.
func Rank[F ~float32 | ~float64](scores []F, positive []bool, group []int, groups int) (Ranking, error) {
	if len(scores) != len(positive) || len(scores) != len(group) {
		return Ranking{}, fmt.Errorf("stat: %d scores, %d labels and %d groups are not of one length", len(scores), len(positive), len(group))
	}
	order := make([]int, len(scores))
	for i, s := range scores {
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return Ranking{}, fmt.Errorf("stat: score %d is %v, which has no rank", i, s)
		}
		if group[i] < 0 || group[i] >= groups {
			return Ranking{}, fmt.Errorf("stat: row %d is of group %d of %d", i, group[i], groups)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	r := Ranking{rows: make([]ranked, len(order)), groups: groups}
	for k, i := range order {
		last := k+1 == len(order) || scores[order[k+1]] != scores[i]
		r.rows[k] = ranked{group: int32(group[i]), positive: positive[i], last: last}
	}
	return r, nil
}

// AUROC is the probability that a positive row scores above a negative one,
// ties counting one half (Hanley & McNeil 1982: the Mann-Whitney statistic),
// each row weighted by weight[its group]; a nil weight counts every row once.
// It is NaN where no positive or no negative row has weight.
func (r Ranking) AUROC(weight []int32) float64 {
	var negatives, positives int64 // below the current run of equal scores
	var runNegatives, runPositives int64
	var twice int64 // of the pairs won: integers, so that no order of summing matters
	for _, row := range r.rows {
		w := int64(1)
		if weight != nil {
			w = int64(weight[row.group])
		}
		if row.positive {
			runPositives += w
		} else {
			runNegatives += w
		}
		if row.last {
			twice += runPositives * (2*negatives + runNegatives)
			negatives, positives = negatives+runNegatives, positives+runPositives
			runNegatives, runPositives = 0, 0
		}
	}
	if negatives == 0 || positives == 0 {
		return math.NaN()
	}
	return float64(twice) / (2 * float64(negatives) * float64(positives))
}
