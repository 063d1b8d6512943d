package explain_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/explain"
	"github.com/penstock-ml/penstock/serve/graph"
	"github.com/penstock-ml/penstock/serve/graph/onnxpb"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

const side = 48 // of the pictures of testdata/blobs.py

const (
	blob = iota // the labels
	bar
)

// scene is a picture that was drawn by the rules of testdata/blobs.py, and the
// middles of what lies in it: [x, y].
type scene struct {
	pixels  imaging.Pixels
	middles [2][2]float64
}

// draw puts a blob and a bar into noise, apart from each other.
func draw(random *rand.Rand) scene {
	uniform := func(low, high float64) float64 { return low + (high-low)*random.Float64() }
	level, down, right := uniform(60, 140), uniform(-0.5, 0.5), uniform(-0.5, 0.5)
	s := scene{pixels: imaging.Pixels{Width: side, Height: side, Channels: 1, Pix: make([]uint8, side*side)}}
	for apart := 0.0; apart < 20; apart = math.Hypot(s.middles[0][0]-s.middles[1][0], s.middles[0][1]-s.middles[1][1]) {
		s.middles = [2][2]float64{{uniform(6, 42), uniform(6, 42)}, {uniform(10, 38), uniform(4, 44)}}
	}
	bright, spread, barBright := uniform(60, 110), uniform(2.5, 4), uniform(60, 110)
	for i := range s.pixels.Pix {
		x, y := float64(i%side), float64(i/side)
		v := level + down*(y-24) + right*(x-24) + 12*random.NormFloat64()
		dx, dy := x-s.middles[blob][0], y-s.middles[blob][1]
		v += bright * math.Exp(-(dx*dx+dy*dy)/(2*spread*spread))
		if math.Abs(y-s.middles[bar][1]) < 1.5 && math.Abs(x-s.middles[bar][0]) < 9 {
			v += barBright
		}
		s.pixels.Pix[i] = uint8(min(max(math.Round(v), 0), 255))
	}
	return s
}

func scenes(n int) []scene {
	random := rand.New(rand.NewPCG(11, 12))
	all := make([]scene, n)
	for i := range all {
		all[i] = draw(random)
	}
	return all
}

// network loads blobs.onnx with a class activation map. change alters its graph
// before; then the golden is whatever the changed network says.
func network(t *testing.T, change func(*onnxpb.Model)) *model.Model {
	t.Helper()
	data, err := os.ReadFile("testdata/blobs.onnx")
	must(t, err)
	var golden []float32
	text, err := os.ReadFile("testdata/blobs.json")
	must(t, err)
	must(t, json.Unmarshal(text, &golden))
	tolerance := 1e-4
	if change != nil {
		m := new(onnxpb.Model)
		must(t, proto.Unmarshal(data, m))
		change(m)
		data, err = proto.Marshal(m)
		must(t, err)
		tolerance = 1
	}
	g, err := graph.Parse(data)
	must(t, err)
	cam, err := g.AddCAM("scores", 2)
	must(t, err)
	data, err = cam.Graph.Marshal()
	must(t, err)
	field, err := cam.Graph.ReceptiveField(cam.Output)
	must(t, err)
	outputs := bundle.Outputs{
		Scores: "scores", Heatmap: cam.Output, HeatmapMethod: "cam", Activation: "none",
		HeatmapShift: bundle.Shift{Down: field.Shift()[0], Right: field.Shift()[1]},
	}
	m, err := model.Open(t.Context(), modeltest.Runtime(t), pack(t, data, outputs, golden, tolerance))
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

// pack makes a bundle of a graph.
func pack(t *testing.T, onnx []byte, outputs bundle.Outputs, golden []float32, tolerance float64) *bundle.Bundle {
	t.Helper()
	dir := t.TempDir()
	p := imaging.Pixels{Width: side, Height: side, Channels: 1, Pix: make([]uint8, side*side)}
	for i := range p.Pix {
		p.Pix[i] = uint8(100 + 7*i%23)
	}
	picture, err := p.PNG()
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, bundle.GoldenDir), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, bundle.ModelFile), onnx, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "golden/0.png"), picture, 0o644))
	must(t, bundle.WriteUint8(filepath.Join(dir, "golden/0.input.npy"), []int{side, side, 1}, p.Pix))
	must(t, bundle.WriteFloat32(filepath.Join(dir, "golden/0.output.npy"), []int{2}, golden))
	must(t, bundle.WriteManifest(dir, bundle.Manifest{
		Schema: bundle.Schema, Name: "blobs", Task: bundle.TaskMultilabel,
		Input: bundle.Input{
			Name: "image", Width: side, Height: side, Channels: 1, Decoder: "go", Resize: "stretch", Filter: "bilinear",
			Scale: 1.0 / 255, Mean: []float64{0}, Std: []float64{1}, Layout: "nchw",
		},
		Outputs: outputs,
		Labels: []bundle.Label{
			{Name: "Blob", Threshold: 0.5, Urgency: "routine"},
			{Name: "Bar", Threshold: 0.5, Urgency: "routine"},
		},
		Tolerance: tolerance, Goldens: []string{"golden/0.png"},
	}))
	b, err := bundle.Read(dir)
	must(t, err)
	return b
}

// randomised draws all weights anew, with the spread that they had (Adebayo et
// al., Sanity Checks for Saliency Maps, NeurIPS 2018, all layers at once).
func randomised(seed uint64) func(*onnxpb.Model) {
	random := rand.New(rand.NewPCG(seed, 1))
	return func(m *onnxpb.Model) {
		for _, t := range m.GetGraph().GetInitializer() {
			n, squares := len(t.RawData)/4, 0.0
			for i := range n {
				v := float64(math.Float32frombits(binary.LittleEndian.Uint32(t.RawData[4*i:])))
				squares += v * v
			}
			for i := range n {
				v := float32(random.NormFloat64() * math.Sqrt(squares/float64(n)))
				binary.LittleEndian.PutUint32(t.RawData[4*i:], math.Float32bits(v))
			}
		}
	}
}

// camOf is a label's heat before what speaks against it is cut off.
func camOf(t *testing.T, m *model.Model, p imaging.Pixels, label int) explain.Map {
	t.Helper()
	s, err := m.Score(t.Context(), &model.Picture{Pixels: p})
	must(t, err)
	h, w := int(s.HeatmapShape[1]), int(s.HeatmapShape[2])
	heat := explain.Map{Width: w, Height: h, Evidence: s.Heatmap[label*h*w : (label+1)*h*w]}
	shift := m.Bundle().Manifest.Outputs.HeatmapShift
	heat.Shift = [2]float64{shift.Down, shift.Right}
	return heat
}

type runner struct{ m *model.Model }

func (r runner) Scores(ctx context.Context, p imaging.Pixels) ([]float32, error) {
	scores, _, err := r.m.ScoreBatch(ctx, []imaging.Pixels{p})
	if err != nil {
		return nil, err
	}
	return scores[0], nil
}

func occlusionOf(t *testing.T, m *model.Model, p imaging.Pixels, label int) explain.Map {
	t.Helper()
	heat, err := explain.Occlude(t.Context(), runner{m}, p, label, explain.Options{})
	must(t, err)
	return heat
}

// methods are the two ways to a map.
var methods = map[string]func(*testing.T, *model.Model, imaging.Pixels, int) explain.Map{"cam": camOf, "occlusion": occlusionOf}

func TestMapsPointAtWhatTheLabelMeans(t *testing.T) {
	m := network(t, nil)
	const n = 40
	for name, method := range methods {
		hits, aside := [2]int{}, [2]float64{}
		for _, s := range scenes(n) {
			for label, middle := range s.middles {
				x, y := peak(method(t, m, s.pixels, label))
				// a cell is 4 pixels wide for cam, 6 for occlusion; a blob is 8 wide, a bar 18
				if reach := []float64{6, 11}[label]; math.Abs(x-middle[0]) <= reach && math.Abs(y-middle[1]) <= 6 {
					hits[label]++
					aside[0], aside[1] = aside[0]+x-middle[0], aside[1]+y-middle[1]
				}
			}
		}
		all := float64(hits[blob] + hits[bar])
		t.Logf("%s: the peak lies in the blob in %d of %d pictures, in the bar in %d; on average %.1f pixels right of and %.1f below the middle",
			name, hits[blob], n, hits[bar], aside[0]/all, aside[1]/all)
		if min(hits[blob], hits[bar]) < n*9/10 {
			t.Errorf("%s: %v of %d peaks lie where they should", name, hits, n)
		}
	}
}

// peak is the middle of the cell of most evidence, in pixels.
func peak(m explain.Map) (x, y float64) {
	at := 0
	for i, v := range m.Evidence {
		if v > m.Evidence[at] {
			at = i
		}
	}
	pixel := func(cell, cells int, shift float64) float64 {
		return (float64(cell)+0.5+shift)*side/float64(cells) - 0.5
	}
	return pixel(at%m.Width, m.Width, m.Shift[1]), pixel(at/m.Width, m.Height, m.Shift[0])
}

func TestMapsOfRandomWeightsAreOthers(t *testing.T) {
	trained := network(t, nil)
	pictures := scenes(10)
	for name, method := range methods {
		var sum, size, worst float64
		n := 0
		for seed := range uint64(5) {
			random := network(t, randomised(seed))
			for _, s := range pictures {
				for label := range s.middles {
					r := rankCorrelation(method(t, trained, s.pixels, label).Evidence, method(t, random, s.pixels, label).Evidence)
					sum += r
					size += math.Abs(r)
					worst = max(worst, math.Abs(r))
					n++
				}
			}
		}
		mean, size := sum/float64(n), size/float64(n)
		t.Logf("%s: rank correlation with random weights %.3f on average, %.3f in size, at most %.3f, over %d maps", name, mean, size, worst, n)
		if !(math.Abs(mean) < 0.2 && size < 0.45) {
			t.Errorf("%s: rank correlation %.3f, %.3f in size, with maps of random weights: the map does not depend on what was learnt", name, mean, size)
		}
	}
	// A map agrees with itself.
	m := camOf(t, trained, pictures[0].pixels, blob)
	if r := rankCorrelation(m.Evidence, m.Evidence); math.Abs(r-1) > 1e-9 {
		t.Errorf("rank correlation of a map with itself: %v", r)
	}
}

// rankCorrelation is Spearman's; equal values share their ranks' mean. Maps
// that are the same everywhere have none: 0.
func rankCorrelation(a, b []float32) float64 {
	x, y := ranks(a), ranks(b)
	var xy, xx, yy float64
	middle := float64(len(a)-1) / 2
	for i := range x {
		dx, dy := x[i]-middle, y[i]-middle
		xy, xx, yy = xy+dx*dy, xx+dx*dx, yy+dy*dy
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

func ranks(values []float32) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(values[i], values[j]) })
	ranks := make([]float64, len(values))
	for from := 0; from < len(order); {
		to := from
		for to < len(order) && values[order[to]] == values[order[from]] {
			to++
		}
		for _, i := range order[from:to] {
			ranks[i] = float64(from+to-1) / 2
		}
		from = to
	}
	return ranks
}
