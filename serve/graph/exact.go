package graph

import "math"

// Exact is how far a class activation map and the scores may be apart, as
// Difference has it, for the map to be called exact. Float32 networks of this
// kind leave a hundredth of it.
const Exact = 1e-5

// Logits are what a map of one picture, [labels, h, w], says the linear layer
// gave.
func (c CAM) Logits(heat []float32) []float64 {
	logits := make([]float64, len(c.Bias))
	cells := len(heat) / len(c.Bias)
	for i := range logits {
		for _, v := range heat[i*cells : (i+1)*cells] {
			logits[i] += float64(v)
		}
		logits[i] = logits[i]/float64(cells) + float64(c.Bias[i])
	}
	return logits
}

// Difference is the greatest absolute difference between the scores of one
// picture, as the graph gives them, and those that the map stands for. Values
// beyond 1 count relatively. It is NaN where a value is.
func (c CAM) Difference(scores, heat []float32) float64 {
	worst := 0.0
	for i, want := range c.Logits(heat) {
		if c.Sigmoid {
			want = 1 / (1 + math.Exp(-want))
		}
		got := float64(scores[i])
		worst = max(worst, math.Abs(got-want)/max(1, math.Abs(got))) // NaN stays
	}
	return worst
}

// telling is how far one label's scores of two pictures must be apart for them
// to tell a map that gives the scores from one that does not.
const telling = 1000 * Exact

// FitCAM asks pictures whether a map, [labels, h, w] each, gives their scores,
// from 0 to 1, whatever network made both: whether there is one bias for each
// label so that mean plus bias is the score, or its logit. difference is the
// greatest one, as Difference has it; told is false where the pictures are too
// much alike to tell anything.
func FitCAM(scores, heats [][]float32) (difference float64, told bool) {
	if !differ(scores) {
		return 0, false
	}
	difference = math.Inf(1)
	for _, sigmoid := range []bool{true, false} {
		c := CAM{Bias: make([]float32, len(scores[0])), Sigmoid: sigmoid}
		c.fit(scores, heats)
		worst := 0.0
		for i := range scores {
			worst = max(worst, c.Difference(scores[i], heats[i]))
		}
		if worst < difference { // never NaN
			difference = worst
		}
	}
	return difference, true
}

// fit finds each label's bias from the picture whose score tells it best: the
// one with the logit nearest to 0.
func (c CAM) fit(scores, heats [][]float32) {
	least := make([]float64, len(c.Bias))
	bias := make([]float32, len(c.Bias))
	for k := range scores {
		for i, mean := range c.Logits(heats[k]) { // the bias is still 0
			logit := float64(scores[k][i])
			if c.Sigmoid {
				logit = math.Log(logit / (1 - logit))
			}
			if k == 0 || math.Abs(logit) < least[i] {
				least[i], bias[i] = math.Abs(logit), float32(logit-mean)
			}
		}
	}
	copy(c.Bias, bias)
}

func differ(scores [][]float32) bool {
	for _, other := range scores {
		for i, v := range other {
			if math.Abs(float64(v-scores[0][i])) > telling {
				return true
			}
		}
	}
	return false
}
