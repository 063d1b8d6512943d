package model_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/model/modeltest"
)

func graphFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tensors opens a tensor bundle around a graph of testdata.
func tensors(t *testing.T, r *model.Runtime, name string, goldens ...bundletest.Golden) (*model.Model, error) {
	t.Helper()
	m, err := model.Open(t.Context(), r, read(t, bundletest.Tensor(t, graphFile(t, name), goldens)))
	if err == nil {
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return m, err
}

// types is the example of types.onnx: one row of every type.
func types() (inputs []oip.Tensor, golden bundletest.Golden) {
	for _, e := range []struct {
		name, array string
		datatype    oip.Datatype
	}{
		{"bool", "|b1", oip.BOOL},
		{"uint8", "|u1", oip.UINT8},
		{"uint16", "<u2", oip.UINT16},
		{"uint32", "<u4", oip.UINT32},
		{"uint64", "<u8", oip.UINT64},
		{"int8", "|i1", oip.INT8},
		{"int16", "<i2", oip.INT16},
		{"int32", "<i4", oip.INT32},
		{"int64", "<i8", oip.INT64},
		{"fp16", "<f2", oip.FP16},
		{"bf16", "<u2", oip.BF16},
		{"fp32", "<f4", oip.FP32},
		{"fp64", "<f8", oip.FP64},
	} {
		size := e.datatype.Size()
		data := make([]byte, 3*size)
		for i := range 3 { // 0, 1 and a pattern that is finite in every type
			data[i*size] = byte(i % 2)
		}
		if e.datatype != oip.BOOL {
			data[2*size+size-1] = 0x3c
		}
		inputs = append(inputs, oip.Tensor{Name: e.name, Datatype: e.datatype, Shape: []int64{1, 3}, Data: data})
		golden.Inputs = append(golden.Inputs, bundletest.Array{Type: e.array, Shape: []int64{1, 3}, Data: data})
		golden.Outputs = append(golden.Outputs, bundletest.Array{Type: e.array, Shape: []int64{1, 3}, Data: data})
	}
	return inputs, golden
}

func TestEveryFixedSizeTypeGoesInAndOut(t *testing.T) {
	inputs, golden := types()
	r := modeltest.Runtime(t)
	m, err := tensors(t, r, "types.onnx", golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int64{1, 2, 1, 5} {
		asked := make([]oip.Tensor, len(inputs))
		for i, in := range inputs {
			in.Shape = []int64{rows, 3}
			// one byte beyond where the type may lie: it must be copied
			unaligned := append(make([]byte, 1, 4096), bytes.Repeat(in.Data, int(rows))...)
			in.Data = unaligned[1:]
			asked[len(asked)-1-i] = in // in any order
		}
		result, err := m.Infer(t.Context(), asked, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, out := range result.Outputs {
			want := bytes.Repeat(inputs[i].Data, int(rows))
			if out.Name != inputs[i].Name+"_out" || out.Datatype != inputs[i].Datatype || !slices.Equal(out.Shape, []int64{rows, 3}) || !bytes.Equal(out.Data, want) {
				t.Errorf("%d rows: got %v, want %s %v", rows, out, inputs[i].Datatype, want)
			}
		}
		result.Release()
		result.Release() // does nothing
	}
	before := r.Buffers().Lent()
	result, err := m.Infer(t.Context(), inputs, []string{"fp32_out", "bool_out"})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Outputs) != 2 || result.Outputs[0].Name != "fp32_out" || result.Outputs[1].Name != "bool_out" {
		t.Errorf("got %v", result.Outputs)
	}
	result.Release()
	if got := r.Buffers().Lent(); got != before {
		t.Errorf("%d buffers are out, %d were before", got, before)
	}
}

func TestTensorsWithoutDimensionsGoInAndOut(t *testing.T) {
	m, err := tensors(t, modeltest.Runtime(t), "scalars.onnx", bundletest.Golden{
		Inputs:  []bundletest.Array{bundletest.Floats([]float32{1.5}), bundletest.Ints([]int64{2})},
		Outputs: []bundletest.Array{bundletest.Floats([]float32{3.5}), {Type: "|b1", Data: []byte{1}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Infer(t.Context(), []oip.Tensor{
		{Name: "a", Datatype: oip.FP32, Shape: []int64{}, Data: oip.Bytes([]float32{-7})},
		{Name: "b", Datatype: oip.INT64, Data: []byte{4, 0, 0, 0, 0, 0, 0, 0}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if sum, flag := r.Outputs[0], r.Outputs[1]; len(sum.Shape) != 0 || oip.Float32s(sum.Data)[0] != -3 || !bytes.Equal(flag.Data, []byte{0}) {
		t.Errorf("got %v", r.Outputs)
	}
}

func TestOutputsWhoseShapeDependsOnTheNumbersAreGivenWhole(t *testing.T) {
	m, err := tensors(t, modeltest.Runtime(t), "moving.onnx", bundletest.Golden{
		Inputs:  []bundletest.Array{bundletest.Floats([]float32{1, -2, 3}, 3)},
		Outputs: []bundletest.Array{bundletest.Floats([]float32{1, 3}, 2), bundletest.Floats([]float32{1, -2, 3}, 3)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range [][]float32{{5, 6, 7}, {-1, -2, -3}, {1, 2}, {-1, 2, -3}, {4, 4, 4}} {
		var want []float32
		for _, v := range x {
			if v > 0 {
				want = append(want, v)
			}
		}
		r, err := m.Infer(t.Context(), []oip.Tensor{{Name: "x", Datatype: oip.FP32, Shape: []int64{int64(len(x))}, Data: oip.Bytes(x)}}, nil)
		if err != nil {
			t.Fatalf("%v: %v", x, err)
		}
		above, same := r.Outputs[0], r.Outputs[1]
		if !slices.Equal(oip.Float32s(above.Data), want) || above.Shape[0] != int64(len(want)) || !slices.Equal(oip.Float32s(same.Data), x) {
			t.Errorf("%v: got %v", x, r.Outputs)
		}
		r.Release()
	}
}

func TestWhatDoesNotFitTheGraphIsTheSendersFault(t *testing.T) {
	inputs, golden := types()
	m, err := tensors(t, modeltest.Runtime(t), "types.onnx", golden)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := func(i int, spoil func(*oip.Tensor)) []oip.Tensor {
		all := slices.Clone(inputs)
		spoil(&all[i])
		return all
	}
	const fp32 = 11
	cases := []struct {
		name    string
		inputs  []oip.Tensor
		outputs []string
		text    string
	}{
		{"name", spoiled(0, func(x *oip.Tensor) { x.Name = "bolo" }), nil, `"bolo"`},
		{"missing", inputs[1:], nil, `"bool" is missing`},
		{"twice", append(slices.Clone(inputs), inputs[0]), nil, "twice"},
		{"none", nil, nil, "missing"},
		{"datatype", spoiled(fp32, func(x *oip.Tensor) { x.Datatype = oip.INT32 }), nil, "want FP32"},
		{"datatype that is none", spoiled(fp32, func(x *oip.Tensor) { x.Datatype = "FP8" }), nil, "want FP32"},
		{"BYTES", spoiled(fp32, func(x *oip.Tensor) { x.Datatype = oip.BYTES }), nil, "want FP32"},
		{"rank", spoiled(fp32, func(x *oip.Tensor) { x.Shape = []int64{1, 3, 1} }), nil, "shape [1 3 1]"},
		{"no dimensions", spoiled(fp32, func(x *oip.Tensor) { x.Shape = nil }), nil, "shape []"},
		{"size", spoiled(fp32, func(x *oip.Tensor) { x.Shape = []int64{1, 4} }), nil, "shape [1 4]"},
		{"nothing", spoiled(fp32, func(x *oip.Tensor) { x.Shape, x.Data = []int64{0, 3}, nil }), nil, "at least 1"},
		{"negative", spoiled(fp32, func(x *oip.Tensor) { x.Shape = []int64{-1, 3} }), nil, "at least 1"},
		{"huge", spoiled(fp32, func(x *oip.Tensor) { x.Shape = []int64{1 << 61, 3} }), nil, "elements"},
		{"bytes missing", spoiled(fp32, func(x *oip.Tensor) { x.Data = x.Data[:11] }), nil, "11 bytes"},
		{"bytes too many", spoiled(fp32, func(x *oip.Tensor) { x.Data = append(slices.Clone(x.Data), 0) }), nil, "13 bytes"},
		{"no bytes", spoiled(fp32, func(x *oip.Tensor) { x.Data = nil }), nil, "0 bytes"},
		{"bool that is none", spoiled(0, func(x *oip.Tensor) { x.Data = []byte{0, 1, 2} }), nil, "0 or 1"},
		{"other rows", spoiled(fp32, func(x *oip.Tensor) { x.Shape, x.Data = []int64{2, 3}, make([]byte, 24) }), nil, ""},
		{"output", inputs, []string{"fp32_out", "y"}, `output "y"`},
		{"output twice", inputs, []string{"fp32_out", "fp32_out"}, "twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, err := m.Infer(t.Context(), c.inputs, c.outputs)
			if c.text == "" { // nothing wrong for the graph: types.onnx does not compare its inputs
				if err != nil {
					t.Fatal(err)
				}
				r.Release()
				return
			}
			var refused *model.InputError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
	r, err := m.Infer(t.Context(), inputs, nil)
	if err != nil {
		t.Fatalf("the next request: %v", err)
	}
	r.Release()
}

func TestAPictureModelBlamesWhoSendsNaN(t *testing.T) {
	m := load(t, bundletest.Mean)
	data := make([]float32, 64)
	data[7] = float32(math.NaN())
	_, err := m.Infer(t.Context(), []oip.Tensor{{Name: "input", Datatype: oip.FP32, Shape: []int64{1, 1, 8, 8}, Data: oip.Bytes(data)}}, nil)
	var refused *model.InputError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("got %v", err)
	}
}

func TestATensorModelTakesNoPictures(t *testing.T) {
	_, golden := types()
	m, err := tensors(t, modeltest.Runtime(t), "types.onnx", golden)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Prepare(t.Context(), bundletest.Picture(t, 9, 9, 9))
	var refused *model.InputError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "tensor") {
		t.Errorf("Prepare: %v", err)
	}
	if _, err := m.Score(t.Context(), &model.Picture{}); !errors.As(err, &refused) {
		t.Errorf("Score: %v", err)
	}
}

func TestGraphsThatNoTensorCanHoldAreRefusedByName(t *testing.T) {
	one := bundletest.Floats([]float32{1}, 1)
	golden := bundletest.Golden{Inputs: []bundletest.Array{one}, Outputs: []bundletest.Array{one}}
	for name, text := range map[string]string{
		"strings.onnx":  `input "x" of the graph is a tensor of string`,
		"sequence.onnx": `output "y" of the graph is a sequence`,
		"half.onnx":     `output "y" is FP16 with the shape [?, ?]`,
		"scalars.onnx":  "shape",
	} {
		_, err := tensors(t, modeltest.Runtime(t), name, golden)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", name, err, text)
		}
	}
}

func TestTensorGoldensHoldTheModelToTheirValues(t *testing.T) {
	for name, change := range map[string]func(g *bundletest.Golden){
		"other number":  func(g *bundletest.Golden) { g.Outputs[0] = bundletest.Floats([]float32{5, -3, 9.001}, 1, 3) },
		"other integer": func(g *bundletest.Golden) { g.Outputs[1] = bundletest.Ints([]int64{8, -10, 13}, 1, 3) },
		"other shape":   func(g *bundletest.Golden) { g.Outputs[0] = bundletest.Floats([]float32{5, -3, 9}, 3) },
		"other type":    func(g *bundletest.Golden) { g.Outputs[0] = bundletest.Ints([]int64{5, -3, 9}, 1, 3) },
		"NaN": func(g *bundletest.Golden) {
			g.Outputs[0] = bundletest.Floats([]float32{5, -3, float32(math.NaN())}, 1, 3)
		},
		"bad input": func(g *bundletest.Golden) { g.Inputs[0] = bundletest.Floats([]float32{1, 2}, 1, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			g := bundletest.Golden{
				Inputs:  []bundletest.Array{bundletest.Floats([]float32{1, 2, 3}, 1, 3), bundletest.Ints([]int64{4, -5, 6}, 1, 3)},
				Outputs: []bundletest.Array{bundletest.Floats([]float32{5, -3, 9}, 1, 3), bundletest.Ints([]int64{8, -10, 12}, 1, 3)},
			}
			change(&g)
			b, err := bundle.Read(bundletest.Tensor(t, bundletest.Graph(t, bundletest.Sums), []bundletest.Golden{g}))
			if err == nil {
				_, err = model.Open(t.Context(), modeltest.Runtime(t), b)
			}
			if err == nil || !strings.Contains(err.Error(), "golden") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSuperResolutionGivesTheClosedFormInAnySize(t *testing.T) {
	for _, colour := range []string{bundle.ColourRGB, bundle.ColourYCbCr, bundle.ColourGrey} {
		m, err := model.Open(t.Context(), modeltest.Runtime(t), read(t, bundletest.NewSuperResolution(t, colour)))
		if err != nil {
			t.Fatal(err)
		}
		channels := m.Inputs()[0].Shape[1]
		for _, size := range [][2]int{{16, 16}, {33, 7}, {16, 16}, {1, 1}} {
			w, h := size[0], size[1]
			pixels := make([]uint8, w*h*int(channels))
			planes := make([]float32, len(pixels))
			for i := range pixels {
				pixels[i] = uint8(i * 37)
				planes[i%int(channels)*w*h+i/int(channels)] = float32(float64(pixels[i]) / 255)
			}
			r, err := m.Infer(t.Context(), []oip.Tensor{{Name: "input", Datatype: oip.FP32, Shape: []int64{1, channels, int64(h), int64(w)}, Data: oip.Bytes(planes)}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := bundletest.Enlarged(pixels, w, h, int(channels))
			got := oip.Float32s(r.Outputs[0].Data)
			if !slices.Equal(r.Outputs[0].Shape, []int64{1, channels, int64(2 * h), int64(2 * w)}) || len(got) != len(want) {
				t.Fatalf("%s %v: the shape %v", colour, size, r.Outputs[0].Shape)
			}
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 1e-6 {
					t.Fatalf("%s %v: element %d is %v, want %v", colour, size, i, got[i], want[i])
				}
			}
			r.Release()
		}
		must(t, m.Close())
	}
}

func TestSuperResolutionThatEnlargesOtherwiseIsRefused(t *testing.T) {
	for text, dir := range map[string]string{
		"shape": bundletest.NewSuperResolution(t, bundle.ColourRGB, func(m *bundle.Manifest) { m.Outputs.Image = "input" }),
		"image": bundletest.NewSuperResolution(t, bundle.ColourRGB, func(m *bundle.Manifest) { m.Outputs.Image = "picture" }),
	} {
		b, err := bundle.Read(dir)
		if err == nil {
			_, err = model.Open(context.Background(), modeltest.Runtime(t), b)
		}
		if err == nil || !strings.Contains(err.Error(), "output") && !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
