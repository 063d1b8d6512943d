package imaging

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
)

// Products are converted to float64 where something is added to them: it keeps
// the compiler from fusing both on some processors, so that all give the same
// weights.

// kernel is a resize filter: its weight at a distance from the centre, and the
// distance from which on it is zero, both in pixels of the coarser grid.
type kernel struct {
	support float64
	at      func(x float64) float64
}

// kernels are those that Pillow has under the names box, bilinear, bicubic
// (Keys 1981 with a = -0.5, the Catmull-Rom spline) and lanczos.
var kernels = map[string]kernel{
	"box":        {0.5, box},
	"bilinear":   {1, triangle},
	"catmullrom": {2, catmullRom},
	"lanczos":    {3, lanczos},
}

// nearest takes one pixel for each, the one under its centre, without any
// antialiasing.
const nearest = "nearest"

// Filters are the names of the resize filters. All but nearest are antialiased.
var Filters = append(slices.Sorted(maps.Keys(kernels)), nearest)

func box(x float64) float64 {
	if x > -0.5 && x <= 0.5 {
		return 1
	}
	return 0
}

func triangle(x float64) float64 { return max(0, 1-math.Abs(x)) }

func catmullRom(x float64) float64 {
	const a = -0.5
	switch x = math.Abs(x); {
	case x < 1:
		return float64((float64((a+2)*x)-(a+3))*x*x) + 1
	case x < 2:
		return (float64((float64((x-5)*x)+8)*x) - 4) * a
	}
	return 0
}

func lanczos(x float64) float64 {
	if x < -3 || x >= 3 {
		return 0
	}
	return sinc(x) * sinc(x/3)
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// precision is how many bits of a weight are behind the point: 8 bits of a
// pixel and 2 for overshoot are left of 32, as in Pillow.
const precision = 32 - 8 - 2

// Taps says of what an axis of the result is made: pixel i is the sum of its
// weights times the source's pixels from Start[i] on, over 1<<22, rounded to the
// nearest and held to 0 and 255. No pixel takes more of the source's than Most,
// or begins more than Most before the end of one that comes before it. Taps serve
// many pictures: nobody changes them.
type Taps struct {
	Start   []int32
	End     []int32 // of the pixel's weights; they begin where those of the pixel before end
	Weights []int32
	Most    int
}

// of gives where the source's pixels of pixel i begin, and their weights.
func (t *Taps) of(i int) (start int, weights []int32) {
	first := int32(0)
	if i > 0 {
		first = t.End[i-1]
	}
	return int(t.Start[i]), t.Weights[first:t.End[i]]
}

// add appends the next pixel, without zeros at either end of its weights.
func (t *Taps) add(start int, weights []int32) {
	t.Most = max(t.Most, len(weights))
	for len(weights) > 1 && weights[0] == 0 {
		start, weights = start+1, weights[1:]
	}
	for len(weights) > 1 && weights[len(weights)-1] == 0 {
		weights = weights[:len(weights)-1]
	}
	t.Start = append(t.Start, int32(start))
	t.Weights = append(t.Weights, weights...)
	t.End = append(t.End, int32(len(t.Weights)))
}

// identity tells whether the axis stays as it is.
func (t *Taps) identity(from int) bool {
	return len(t.Start) == from && t.Most == 1 && t.Start[from-1] == int32(from-1)
}

// makeTaps computes what Pillow's precompute_coeffs and normalize_coeffs_8bpc
// (libImaging/Resample.c) compute: when shrinking, the kernel is as wide as
// the pixels of the result; at the edge it is cut off and made to sum to 1.
func makeTaps(k kernel, from, to int) *Taps {
	scale := float64(from) / float64(to)
	stretch := max(scale, 1)
	support := k.support * stretch
	t := &Taps{}
	exact := make([]float64, 2*int(math.Ceil(support))+1)
	weights := make([]int32, len(exact))
	for i := range to {
		centre := float64((float64(i) + 0.5) * scale)
		first := max(int(centre-support+0.5), 0)
		n := min(int(centre+support+0.5), from) - first
		sum := 0.0
		for j := range n {
			exact[j] = k.at((float64(j+first) - centre + 0.5) / stretch)
			sum += exact[j]
		}
		for j := range n {
			weights[j] = fixed(exact[j] / sum)
		}
		t.add(first, weights[:n])
	}
	return t
}

// nearestTaps counts its way along as Pillow's ImagingScaleAffine does.
func nearestTaps(from, to int) *Taps {
	scale := float64(from) / float64(to)
	t := &Taps{}
	at := scale * 0.5
	for range to {
		t.add(min(int(at), from-1), []int32{1 << precision})
		at += scale
	}
	return t
}

func fixed(v float64) int32 {
	return int32(float64(v*(1<<precision)) + math.Copysign(0.5, v))
}

// The cache keeps the weights of sizes that come again. Pictures of people who
// send a new size each time are not worth much memory: 64 axes of at most
// 256 KiB of weights.
const (
	cachedAxes    = 64
	cachedWeights = 1 << 16
)

type axis struct {
	filter   string
	from, to int
}

var cache struct {
	sync.Mutex
	taps map[axis]*Taps
}

// tapsFor gives the weights of one axis, made once for sizes that come often.
func tapsFor(filter string, from, to int) (*Taps, error) {
	key := axis{filter, from, to}
	cache.Lock()
	t := cache.taps[key]
	cache.Unlock()
	if t != nil {
		return t, nil
	}
	k, known := kernels[filter]
	switch {
	case from == to, filter == nearest:
		t = nearestTaps(from, to)
	case known:
		t = makeTaps(k, from, to)
	default:
		return nil, fmt.Errorf("filter %q: want one of %q", filter, Filters)
	}
	if len(t.Weights) > cachedWeights {
		return t, nil
	}
	cache.Lock()
	defer cache.Unlock()
	if cache.taps == nil {
		cache.taps = map[axis]*Taps{}
	}
	if len(cache.taps) >= cachedAxes {
		for old := range cache.taps { // in no order: any of them
			delete(cache.taps, old)
			break
		}
	}
	cache.taps[key] = t
	return t, nil
}
