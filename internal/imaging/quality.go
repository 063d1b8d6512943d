package imaging

import (
	"errors"
	"fmt"
	"math"
)

// Scale names what of a picture is compared. One pair of pictures has other
// numbers in every one of them, by a dB and more.
type Scale string

// The scales in which pictures are compared, all with a peak of 255.
const (
	// YMatlab is the luma of MATLAB's rgb2ycbcr, 16 to 235, not rounded: Y = 16 +
	// (65.481 R + 128.553 G + 24.966 B) / 255. Most papers on super-resolution
	// use it. Pictures of 3 channels.
	YMatlab Scale = "y-matlab"
	// Grey is the levels of pictures of 1 channel as they are, 0 to 255.
	Grey Scale = "grey"
	// RGB is all three channels as they are: one mean squared error over all, and
	// the mean of the channels' SSIM.
	RGB Scale = "rgb"
)

// Convention says how a number was taken.
type Convention struct {
	Scale  Scale `json:"scale"`
	Border int   `json:"border"` // pixels left out at each of the four sides; as a rule the factor of enlargement
}

func (c Convention) String() string { return fmt.Sprintf("%s, border %d", c.Scale, c.Border) }

// Measure is a number of likeness together with how it was taken.
type Measure struct {
	Metric     string     `json:"metric"` // psnr (in dB) or ssim (at most 1)
	Value      float64    `json:"value"`
	Convention Convention `json:"convention"`
}

func (m Measure) String() string {
	return fmt.Sprintf("%s %.4f (%s)", m.Metric, m.Value, m.Convention)
}

// Minus is the difference of two measures. Numbers of unlike conventions are
// not compared.
func (m Measure) Minus(other Measure) (float64, error) {
	if m.Metric != other.Metric || m.Convention != other.Convention {
		return 0, fmt.Errorf("%s and %s are not comparable: measure both in one convention", m, other)
	}
	return m.Value - other.Value, nil
}

// PSNR is the peak signal-to-noise ratio in dB, 10 log10(255^2 / MSE): +Inf for
// pictures that are the same.
func PSNR(got, want Pixels, c Convention) (Measure, error) {
	a, b, err := scales(got, want, c, 1)
	if err != nil {
		return Measure{}, fmt.Errorf("PSNR: %w", err)
	}
	sum, n := 0.0, 0
	for i := range a {
		for j, v := range a[i].v {
			d := v - b[i].v[j]
			sum += d * d
		}
		n += len(a[i].v)
	}
	return Measure{Metric: "psnr", Value: 10 * math.Log10(255*255*float64(n)/sum), Convention: c}, nil
}

// SSIM is the mean structural similarity of Wang et al. (IEEE TIP 13(4), 2004):
// a Gaussian window of 11 x 11 with sigma 1.5, only where it lies wholly within
// the picture, K1 0.01, K2 0.03. scikit-image gives the same with
// gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
// data_range=255.
func SSIM(got, want Pixels, c Convention) (Measure, error) {
	a, b, err := scales(got, want, c, len(window))
	if err != nil {
		return Measure{}, fmt.Errorf("SSIM: %w", err)
	}
	sum := 0.0
	for i := range a {
		sum += similarity(a[i], b[i])
	}
	return Measure{Metric: "ssim", Value: sum / float64(len(a)), Convention: c}, nil
}

// plane is one channel with levels that are not rounded.
type plane struct {
	w, h int
	v    []float64
}

// scales gives what of both pictures is compared. least is the smallest side
// in pixels that may be left without the border.
func scales(got, want Pixels, c Convention, least int) (a, b []plane, err error) {
	if got.Width != want.Width || got.Height != want.Height || got.Channels != want.Channels {
		return nil, nil, fmt.Errorf("a picture of %d x %d x %d is not compared with one of %d x %d x %d",
			got.Width, got.Height, got.Channels, want.Width, want.Height, want.Channels)
	}
	if c.Border < 0 || min(got.Width, got.Height)-2*c.Border < least {
		return nil, nil, fmt.Errorf("a border of %d pixels leaves too little of %d x %d pixels: want %d each way", c.Border, got.Width, got.Height, least)
	}
	if a, err = planesOf(got, c); err != nil {
		return nil, nil, err
	}
	b, err = planesOf(want, c)
	return a, b, err
}

func planesOf(p Pixels, c Convention) ([]plane, error) {
	var weights [][]float64
	channels, offset := 3, 0.0
	switch c.Scale {
	case YMatlab:
		weights, offset = [][]float64{{65.481 / 255, 128.553 / 255, 24.966 / 255}}, 16
	case RGB:
		weights = [][]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	case Grey:
		channels, weights = 1, [][]float64{{1}}
	default:
		return nil, fmt.Errorf("scale %q: want one of %q", c.Scale, []Scale{YMatlab, Grey, RGB})
	}
	if err := p.check(channels); err != nil {
		return nil, fmt.Errorf("scale %s: %w", c.Scale, err)
	}
	w, h := p.Width-2*c.Border, p.Height-2*c.Border
	planes := make([]plane, len(weights))
	for i, weight := range weights {
		planes[i] = plane{w, h, make([]float64, 0, w*h)}
		for y := range h {
			row := p.Pix[((y+c.Border)*p.Width+c.Border)*channels:][:w*channels]
			for x := range w {
				v := offset
				for j, k := range weight {
					v += k * float64(row[x*channels+j])
				}
				planes[i].v = append(planes[i].v, v)
			}
		}
	}
	return planes, nil
}

// window is the Gaussian of 11 taps with sigma 1.5; its sum is 1.
var window = func() (w [11]float64) {
	sum := 0.0
	for i := range w {
		d := float64(i - len(w)/2)
		w[i] = math.Exp(-d * d / (2 * 1.5 * 1.5))
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}()

// band is how many rows of windows are worked on at a time, so that memory does
// not grow with eight copies of the picture.
const band = 128

// similarity is the mean SSIM of two planes of one size.
func similarity(a, b plane) float64 {
	last := a.h - len(window) + 1 // rows of windows
	sum := 0.0
	for y := 0; y < last; y += band {
		end := min(y+band, last) + len(window) - 1
		sum += similarities(a.rows(y, end), b.rows(y, end))
	}
	return sum / float64(last*(a.w-len(window)+1))
}

// rows is the part of p from row first up to end.
func (p plane) rows(first, end int) plane {
	return plane{p.w, end - first, p.v[first*p.w : end*p.w]}
}

// similarities is the sum of SSIM over all windows within two planes.
func similarities(a, b plane) float64 {
	const c1, c2 = (0.01 * 255) * (0.01 * 255), (0.03 * 255) * (0.03 * 255)
	product := func(a, b plane) plane {
		out := plane{a.w, a.h, make([]float64, len(a.v))}
		for i, v := range a.v {
			out.v[i] = v * b.v[i]
		}
		return blur(out)
	}
	meanA, meanB := blur(a), blur(b)
	aa, bb, ab := product(a, a), product(b, b), product(a, b)
	sum := 0.0
	for i, ma := range meanA.v {
		mb := meanB.v[i]
		covariance, variances := ab.v[i]-ma*mb, aa.v[i]-ma*ma+bb.v[i]-mb*mb
		sum += (2*ma*mb + c1) * (2*covariance + c2) / ((ma*ma + mb*mb + c1) * (variances + c2))
	}
	return sum
}

// blur is the window's mean wherever it lies wholly within p.
func blur(p plane) plane {
	n := len(window)
	across := plane{p.w - n + 1, p.h, make([]float64, 0, (p.w-n+1)*p.h)}
	for y := range across.h {
		for x := range across.w {
			v := 0.0
			for i, k := range window {
				v += k * p.v[y*p.w+x+i]
			}
			across.v = append(across.v, v)
		}
	}
	out := plane{across.w, p.h - n + 1, make([]float64, across.w*(p.h-n+1))}
	for y := range out.h {
		row := out.v[y*out.w : (y+1)*out.w]
		for i, k := range window {
			for x, v := range across.v[(y+i)*out.w : (y+i+1)*out.w] {
				row[x] += k * v
			}
		}
	}
	return out
}

// Compare is what is reported of an enlarged picture: both measures.
func Compare(got, want Pixels, c Convention) (psnr, ssim Measure, err error) {
	psnr, errPSNR := PSNR(got, want, c)
	ssim, errSSIM := SSIM(got, want, c)
	return psnr, ssim, errors.Join(errPSNR, errSSIM)
}
