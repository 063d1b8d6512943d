//go:build turbojpeg

package resample

import (
	"bytes"
	"fmt"
	"image"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// filters are those that mix pixels: nearest copies them.
var filters = slices.DeleteFunc(slices.Clone(imaging.Filters), func(name string) bool { return name == "nearest" })

// noise is a picture within a larger one, so that its rows have something else
// between them; every other one is of black and white alone, which makes the
// largest sums.
func noise(random *rand.Rand, width, height int) *image.Gray {
	whole := image.NewGray(image.Rect(0, 0, width+random.IntN(3), height+random.IntN(3)))
	extreme := random.IntN(2) == 0
	for i := range whole.Pix {
		whole.Pix[i] = uint8(random.Uint32())
		if extreme {
			whole.Pix[i] = -(whole.Pix[i] & 1)
		}
	}
	max := whole.Rect.Max
	return whole.SubImage(image.Rect(max.X-width, max.Y-height, max.X, max.Y)).(*image.Gray)
}

// same resizes by C and by Go and compares, with the bytes on either side of the
// result.
func same(t *testing.T, img image.Image, width, height int, filter string) {
	t.Helper()
	spec := imaging.Spec{Width: width, Height: height, Channels: 1, Filter: filter, Decoder: "go"}
	want := make([]uint8, spec.Size())
	if err := imaging.ResizeInto(want, img, spec); err != nil {
		t.Fatal(err)
	}
	const guard = 128
	around := bytes.Repeat([]byte{0xa5}, spec.Size()+2*guard)
	got := around[guard : guard+spec.Size()]
	if err := (imaging.Decoder{Passes: passes}).ResizeInto(got, img, spec); err != nil {
		t.Fatalf("%v to %d x %d by %s: %v", img.Bounds().Size(), width, height, filter, err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%v to %d x %d by %s: not what Go makes", img.Bounds().Size(), width, height, filter)
	}
	if n := bytes.Count(around[:guard], []byte{0xa5}) + bytes.Count(around[guard+len(got):], []byte{0xa5}); n != 2*guard {
		t.Errorf("%v to %d x %d by %s: %d bytes beside the result were written", img.Bounds().Size(), width, height, filter, 2*guard-n)
	}
}

func TestPassesGiveWhatGoGives(t *testing.T) {
	sides := []int{1, 2, 3, 15, 16, 17, 63, 64, 65, 96, 130}
	sizes := [][4]int{{1024, 1024, 224, 224}, {700, 5, 3, 300}, {5, 700, 300, 3}, {2048, 31, 7, 33}, {31, 2048, 33, 7}, {512, 300, 511, 301}, {64, 64, 192, 320}}
	for _, a := range sides {
		for _, b := range sides {
			sizes = append(sizes, [4]int{a, b, 64, 64}, [4]int{a, 70, b, 67}, [4]int{70, a, 67, b}, [4]int{1, a, b, 1}, [4]int{a, 1, 1, b}, [4]int{a, b, b, a})
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	for _, size := range sizes {
		img := noise(random, size[0], size[1])
		for _, filter := range filters {
			same(t, img, size[2], size[3], filter)
		}
	}
}

func TestPassesResizeTheLumaOfAColourPictureForAGreyModel(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	img := image.NewYCbCr(image.Rect(0, 0, 90, 70), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = uint8(random.Uint32())
	}
	for _, filter := range filters {
		same(t, img, 41, 33, filter)
	}
}

func TestAGreyPictureForThreeChannelsIsResizedByThePasses(t *testing.T) {
	img := noise(rand.New(rand.NewPCG(9, 10)), 50, 40)
	spec := imaging.Spec{Width: 21, Height: 22, Channels: 3, Filter: "bilinear", Decoder: "go"}
	want, err := imaging.Resize(img, spec)
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	d := imaging.Decoder{Passes: func(dst []uint8, src imaging.Plane, across, down *imaging.Taps) error {
		calls++
		return passes(dst, src, across, down)
	}}
	got := make([]uint8, spec.Size())
	if err := d.ResizeInto(got, img, spec); err != nil {
		t.Fatal(err)
	}
	if calls != 1 || !bytes.Equal(got, want.Pix) {
		t.Errorf("%d calls; the same: %v", calls, bytes.Equal(got, want.Pix))
	}
}

// FuzzPasses resizes pictures of any size to any size.
//
//	go test -tags turbojpeg -run '^$' -fuzz FuzzPasses -fuzztime 10m ./serve/resample
func FuzzPasses(f *testing.F) {
	f.Add(uint16(96), uint16(96), uint16(64), uint16(64), uint8(1), uint64(1))
	f.Add(uint16(1), uint16(300), uint16(77), uint16(1), uint8(3), uint64(2))
	f.Add(uint16(333), uint16(65), uint16(16), uint16(129), uint8(2), uint64(3))
	f.Fuzz(func(t *testing.T, width, height, toWidth, toHeight uint16, filter uint8, seed uint64) {
		within := func(side uint16) int { return int(side)%600 + 1 }
		img := noise(rand.New(rand.NewPCG(seed, 0)), within(width), within(height))
		same(t, img, within(toWidth), within(toHeight), filters[int(filter)%len(filters)])
	})
}

// two are the taps of 2 pixels of 3.
func two() *imaging.Taps {
	return &imaging.Taps{Start: []int32{0, 1}, End: []int32{2, 4}, Weights: []int32{1 << 21, 1 << 21, 1 << 21, 1 << 21}, Most: 2}
}

func TestWhatDoesNotFitIsRefusedBeforeCSeesIt(t *testing.T) {
	type request struct {
		dst          []uint8
		src          imaging.Plane
		across, down *imaging.Taps
	}
	sound := func() request {
		return request{make([]uint8, 4), imaging.Plane{Width: 3, Height: 3, Stride: 5, Pix: []uint8{10, 20, 30, 0, 0, 20, 30, 40, 0, 0, 30, 40, 50}}, two(), two()}
	}
	r := sound()
	if err := passes(r.dst, r.src, r.across, r.down); err != nil || !slices.Equal(r.dst, []uint8{20, 30, 30, 40}) {
		t.Fatalf("%v, %v", r.dst, err)
	}
	for name, c := range map[string]struct {
		spoil func(r *request)
		want  string
	}{
		"short buffer":         {func(r *request) { r.dst = r.dst[:3] }, "the buffer has 3 bytes: want 4"},
		"long buffer":          {func(r *request) { r.dst = make([]uint8, 5) }, "the buffer has 5 bytes: want 4"},
		"short picture":        {func(r *request) { r.src.Pix = r.src.Pix[:12] }, "12 bytes are no plane of 3 x 3"},
		"overlapping rows":     {func(r *request) { r.src.Stride = 2 }, "in rows of 2"},
		"no columns":           {func(r *request) { r.src.Width = 0 }, "no plane of 0 x 3"},
		"no rows":              {func(r *request) { r.src.Height = 0 }, "no plane of 3 x 0"},
		"narrow picture":       {func(r *request) { r.src.Width = 2 }, "resize across: pixel 1 takes 2 from 1 on, of 2"},
		"low picture":          {func(r *request) { r.src.Height = 2 }, "resize down: pixel 1 takes 2 from 1 on, of 2"},
		"start before":         {func(r *request) { r.down.Start[0] = -1 }, "pixel 0 takes 2 from -1"},
		"start after":          {func(r *request) { r.across.Start[1] = 2 }, "pixel 1 takes 2 from 2 on, of 3"},
		"no weights":           {func(r *request) { r.across.End[0] = 0 }, "pixel 0 takes 0"},
		"ends that go back":    {func(r *request) { r.across.End[1] = 1 }, "pixel 1 takes -1"},
		"fewer weights":        {func(r *request) { r.across.Weights = r.across.Weights[:3] }, "there are 3 weights, the pixels take 4"},
		"fewer ends":           {func(r *request) { r.down.End = r.down.End[:1] }, "taps of 2 pixels have 1 ends"},
		"nothing":              {func(r *request) { r.down = &imaging.Taps{} }, "taps of 0 pixels"},
		"more than the most":   {func(r *request) { r.down.Most = 1 }, "none takes more than 1"},
		"pixels that are gone": {func(r *request) { r.down.Start = []int32{1, 0}; r.down.End = []int32{2, 3}; r.down.Most = 2 }, "those before it reach to 3"},
	} {
		r := sound()
		c.spoil(&r)
		if err := passes(r.dst, r.src, r.across, r.down); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestOpenGivesThePasses(t *testing.T) {
	resize, err := Open()
	if err != nil || resize == nil || !Available() {
		t.Errorf("%v, available %v", err, Available())
	}
}

// BenchmarkPasses is C's passes beside Go's, in turns, from a side to another.
func BenchmarkPasses(b *testing.B) {
	for _, sides := range [][2]int{{1024, 224}, {96, 64}} {
		img := noise(rand.New(rand.NewPCG(1, 1)), sides[0], sides[0])
		spec := imaging.Spec{Width: sides[1], Height: sides[1], Channels: 1, Filter: "bilinear", Decoder: "go"}
		dst := make([]uint8, spec.Size())
		for name, d := range map[string]imaging.Decoder{"go": {}, "c": {Passes: passes}} {
			b.Run(fmt.Sprintf("%d-to-%d-%s", sides[0], sides[1], name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := d.ResizeInto(dst, img, spec); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
