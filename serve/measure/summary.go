package measure

import (
	"errors"
	"math"
	"slices"
	"sort"

	"github.com/penstock-ml/penstock/internal/stat"
)

// Summary describes one arm by itself.
type Summary struct {
	Name          string
	Calls, Rounds int
	P50, P95, P99 float64       // ms
	P99Interval   stat.Interval // of the quantile, by order statistics
	PerSecond     float64       // mean of the rounds
	CPU           float64       // ms of this process for each call
}

// Estimate is a number with its interval over rounds.
type Estimate struct{ Value, Low, High float64 }

// Level is the coverage of all intervals here.
const Level = 0.95

// replicates of the bootstrap.
const replicates = stat.MinReplicates

// Summarise describes an arm.
func Summarise(s Series) (Summary, error) {
	all := s.pooled()
	if len(all) == 0 {
		return Summary{}, errors.New("measure: " + s.Name + " answered no call")
	}
	sorted := make([]float64, len(all))
	for i, c := range all {
		sorted[i] = c.ms
	}
	interval, err := stat.QuantileInterval(sorted, 0.99, Level)
	if err != nil {
		return Summary{}, err
	}
	out := Summary{
		Name: s.Name, Calls: len(all), Rounds: len(s.Rounds), P99Interval: interval,
		P50: stat.Quantile(sorted, 0.5), P95: stat.Quantile(sorted, 0.95), P99: stat.Quantile(sorted, 0.99),
	}
	made := 0
	for _, r := range s.Rounds {
		out.PerSecond += r.PerSecond / float64(len(s.Rounds))
		out.CPU += Milliseconds(r.CPU)
		made += r.Made
	}
	out.CPU /= float64(made)
	return out, nil
}

// Comparison says how an arm stands to another one.
type Comparison struct {
	AddedP50, AddedP99 Estimate // ms, arm minus base
	RatioP50, RatioP99 Estimate // arm over base: below 1 is faster
	Throughput         Estimate // arm over base: above 1 is more
}

// Compare measures arm against base, which were rounds of one run.
func Compare(arm, base Series, seed uint64) (Comparison, error) {
	if len(arm.Rounds) != len(base.Rounds) || len(arm.Rounds) < 2 {
		return Comparison{}, errors.New("measure: " + arm.Name + " and " + base.Name + " are not of the same rounds")
	}
	a, b := arm.pooled(), base.pooled()
	statistic := func(weight []int32, out []float64) {
		a50, a99 := quantiles(a, weight)
		b50, b99 := quantiles(b, weight)
		out[0], out[1], out[2], out[3] = a50-b50, a99-b99, a50/b50, a99/b99
		out[4] = rate(arm, weight) / rate(base, weight)
	}
	once := slices.Repeat([]int32{1}, len(arm.Rounds))
	values := make([]float64, 5)
	statistic(once, values)
	samples, err := stat.Resample(len(arm.Rounds), replicates, seed, len(values), statistic)
	if err != nil {
		return Comparison{}, err
	}
	at := func(k int) Estimate {
		i := samples.Of(k).Interval(Level)
		return Estimate{values[k], i.Low, i.High}
	}
	return Comparison{AddedP50: at(0), AddedP99: at(1), RatioP50: at(2), RatioP99: at(3), Throughput: at(4)}, nil
}

// call is one latency and the round it is of.
type call struct {
	ms    float64
	round int
}

// pooled are all calls, the fastest first.
func (s Series) pooled() []call {
	var all []call
	for i, r := range s.Rounds {
		for _, ms := range r.Latencies {
			all = append(all, call{ms, i})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ms < all[j].ms })
	return all
}

// quantiles are p50 and p99 where each call counts as often as its round was
// drawn (the inverse of the empirical distribution); NaN without calls.
func quantiles(ascending []call, weight []int32) (p50, p99 float64) {
	total := 0
	for _, c := range ascending {
		total += int(weight[c.round])
	}
	p50, p99 = math.NaN(), math.NaN()
	seen := 0
	for _, c := range ascending {
		seen += int(weight[c.round])
		if math.IsNaN(p50) && 2*seen >= total {
			p50 = c.ms
		}
		if 100*seen >= 99*total {
			return p50, c.ms
		}
	}
	return p50, p99
}

// rate is the mean rate of the rounds drawn.
func rate(s Series, weight []int32) float64 {
	sum, n := 0.0, 0.0
	for i, r := range s.Rounds {
		sum += r.PerSecond * float64(weight[i])
		n += float64(weight[i])
	}
	return sum / n
}
