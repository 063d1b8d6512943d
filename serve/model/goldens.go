package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
)

// example is a golden as the graph takes and gives it. The outputs are those of
// m.outputs that the golden speaks of, by their places.
type example struct {
	name    string
	inputs  []oip.Tensor
	outputs map[int]oip.Tensor
	part    bool // of a golden with several rows: it never ran alone
}

// checkGoldens wants every golden's outputs within the tolerance, and its
// pixels exactly where it is a picture. It is the warm-up too.
func (m *Model) checkGoldens(ctx context.Context) error {
	var examples []example
	if m.bundle.Manifest.Task != bundle.TaskTensor { // pictures lie in the pool
		defer func() {
			for _, e := range examples {
				release(m.runtime.pool, e.inputs)
			}
		}()
	}
	var seen heatmaps
	for _, golden := range m.bundle.Manifest.Goldens {
		e, err := m.readGolden(golden)
		if err != nil {
			return fmt.Errorf("golden %s: %w", golden, err)
		}
		examples = append(examples, e)
		if err := m.checkExample(ctx, e, &seen); err != nil {
			return err
		}
	}
	if err := m.checkProvider(ctx, examples[0]); err != nil {
		return err
	}
	if err := m.checkTogether(ctx, examples); err != nil {
		return err
	}
	return m.checkHeatmap(seen)
}

// readGolden reads a golden in the way of the bundle's task.
func (m *Model) readGolden(golden string) (example, error) {
	if m.bundle.Manifest.Task == bundle.TaskTensor {
		return m.readTensors(golden)
	}
	data, err := os.ReadFile(m.bundle.Path(golden))
	if err != nil {
		return example{}, err
	}
	pixels, err := m.pixelsOf(data)
	if err != nil {
		return example{}, err
	}
	_, want, err := bundle.ReadUint8(m.bundle.Path(bundle.InputFile(golden)))
	if err != nil {
		return example{}, err
	}
	if !bytes.Equal(pixels.Pix, want) {
		return example{}, fmt.Errorf("its pixels are not those of %s: %s: the model was trained on pictures that were decoded or resized in another way, docs/bundle.md has the conventions", bundle.InputFile(golden), apart(pixels.Pix, want))
	}
	shape, values, err := bundle.ReadFloat32(m.bundle.Path(bundle.OutputFile(golden)))
	if err != nil {
		return example{}, err
	}
	input := m.planes([]imaging.Pixels{pixels})
	output := oip.Tensor{Name: m.outputs[0].Name, Datatype: oip.FP32, Shape: []int64{1}, Data: oip.Bytes(values)}
	for _, n := range shape {
		output.Shape = append(output.Shape, int64(n))
	}
	return example{name: golden, inputs: []oip.Tensor{input}, outputs: map[int]oip.Tensor{0: output}}, nil
}

// apart says how far levels lie from those that they should be: off by one is
// another rounding, off by much another picture.
func apart(got, want []uint8) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d levels, want %d", len(got), len(want))
	}
	differ, most := 0, 0
	for i := range got {
		if d := int(got[i]) - int(want[i]); d != 0 {
			differ, most = differ+1, max(most, d, -d)
		}
	}
	return fmt.Sprintf("%d of %d levels differ, by %d at most", differ, len(got), most)
}

// pixelsOf is what the graph sees of an image file, before normalisation.
func (m *Model) pixelsOf(data []byte) (imaging.Pixels, error) {
	if m.bundle.Manifest.Task == bundle.TaskMultilabel {
		return imaging.Preprocess(data, m.spec, m.limits())
	}
	img, _, err := imaging.Decode(data, m.limits())
	if err != nil {
		return imaging.Pixels{}, err
	}
	if m.bundle.Manifest.SuperResolution.Colour != bundle.ColourYCbCr {
		return imaging.PixelsOf(img, m.spec.Channels)
	}
	pixels, err := imaging.PixelsOf(img, 3)
	if err != nil {
		return imaging.Pixels{}, err
	}
	luma, _, _, err := pixels.YCbCr()
	return luma, err
}

// arrays are numpy's names of the element types. It has none for BF16, whose
// bits travel as unsigned integers.
var arrays = map[oip.Datatype]string{
	oip.BOOL: "|b1", oip.UINT8: "|u1", oip.UINT16: "<u2", oip.UINT32: "<u4", oip.UINT64: "<u8",
	oip.INT8: "|i1", oip.INT16: "<i2", oip.INT32: "<i4", oip.INT64: "<i8",
	oip.FP16: "<f2", oip.BF16: "<u2", oip.FP32: "<f4", oip.FP64: "<f8",
}

// readTensors reads a golden of the task tensor.
func (m *Model) readTensors(stem string) (example, error) {
	e := example{name: stem, outputs: map[int]oip.Tensor{}}
	for i, d := range m.inputs {
		t, err := m.readArray(bundle.TensorInputFile(stem, i), d)
		if err != nil {
			return example{}, err
		}
		if err := d.check(t); err != nil {
			return example{}, fmt.Errorf("%s: %w", bundle.TensorInputFile(stem, i), err)
		}
		e.inputs = append(e.inputs, t)
	}
	for i, d := range m.outputs {
		t, err := m.readArray(bundle.TensorOutputFile(stem, i), d)
		if err != nil {
			return example{}, err
		}
		e.outputs[i] = t
	}
	return e, nil
}

func (m *Model) readArray(file string, d Declared) (oip.Tensor, error) {
	dtype, shape, data, err := bundle.ReadArray(m.bundle.Path(file))
	if err != nil {
		return oip.Tensor{}, err
	}
	if want := arrays[d.Datatype]; dtype != want {
		return oip.Tensor{}, fmt.Errorf("%s holds %q, the graph's %q is %s: want %q", file, dtype, d.Name, d.Datatype, want)
	}
	return oip.Tensor{Name: d.Name, Datatype: d.Datatype, Shape: shape, Data: data}, nil
}

// checkExample runs one golden; seen keeps its heat map, nil: nothing does.
func (m *Model) checkExample(ctx context.Context, e example, seen *heatmaps) error {
	r, err := m.runAlone(ctx, e.inputs)
	if err != nil {
		return fmt.Errorf("golden %s: %w", e.name, err)
	}
	defer r.Release()
	for i, want := range e.outputs {
		if err := m.compare(r.Outputs[i], want, e.name); err != nil {
			return err
		}
	}
	if seen == nil || m.bundle.Manifest.Outputs.Heatmap == "" {
		return nil
	}
	if err := seen.add(m, r); err != nil {
		return fmt.Errorf("golden %s: %w", e.name, err)
	}
	return nil
}

// compare refuses a difference beyond the tolerance and remembers the greatest.
func (m *Model) compare(got, want oip.Tensor, golden string) error {
	d, err := differ(got, want)
	if err != nil {
		return fmt.Errorf("golden %s: the model's output %q %w; the bundle is refused", golden, got.Name, err)
	}
	tolerance := m.bundle.Manifest.Tolerance
	if got.Datatype != oip.FP32 && got.Datatype != oip.FP64 && got.Datatype != oip.FP16 && got.Datatype != oip.BF16 {
		tolerance = 0
	}
	if !(d.size <= tolerance) {
		return fmt.Errorf("golden %s: %s is %v, the training framework gave %v: %.3g apart, the tolerance is %.3g; the bundle is refused",
			golden, m.describe(got, d.at), d.got, d.want, d.size, tolerance)
	}
	m.worst = max(m.worst, d.size)
	return nil
}

// describe names an element of an output.
func (m *Model) describe(t oip.Tensor, at int) string {
	if labels := m.bundle.Manifest.Labels; len(labels) > 0 && t.Name == m.bundle.Manifest.Outputs.Scores {
		return "the score of " + labels[at%len(labels)].Name
	}
	return fmt.Sprintf("element %d of the output %q", at, t.Name)
}

// checkTogether runs rows of the goldens one by one and in one run, where the
// graph takes several: company must not change what a row gives. A multilabel
// bundle is refused if it does; others then keep to one request a run.
func (m *Model) checkTogether(ctx context.Context, examples []example) error {
	multilabel := m.bundle.Manifest.Task == bundle.TaskMultilabel
	if !m.free || !multilabel && !m.runtime.batch.On() {
		m.free = m.free && multilabel
		return nil
	}
	err := m.runTogether(ctx, rowsOf(examples))
	if err != nil && (multilabel || ctx.Err() != nil) {
		return err
	}
	m.free = err == nil
	return nil
}

func (m *Model) runTogether(ctx context.Context, rows []example) error {
	if len(rows) == 0 {
		return errors.New("the goldens have no rows")
	}
	inputs := make([][]oip.Tensor, len(rows))
	for i, e := range rows {
		if e.part {
			if err := m.checkExample(ctx, e, nil); err != nil {
				return err
			}
		}
		inputs[i] = e.inputs
	}
	stacked := stack(m.runtime.pool, inputs)
	defer release(m.runtime.pool, stacked)
	r, err := m.runAlone(ctx, stacked)
	if err != nil {
		return fmt.Errorf("golden all in one run: %w", err)
	}
	defer r.Release()
	parts, err := split(r, len(rows))
	if err != nil {
		return fmt.Errorf("golden all in one run: %w", err)
	}
	for i, e := range rows {
		for k, want := range e.outputs {
			if err := m.compare(parts[i][k], want, e.name+" with others in one run"); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowsOf cuts the goldens into rows of one each, those that have the shapes of
// the first. A single row keeps itself company.
func rowsOf(examples []example) []example {
	const most = 8
	var rows []example
	for _, e := range examples {
		for i := range e.inputs[0].Shape[0] {
			r, ok := e.row(int(i))
			if !ok {
				return nil
			}
			if len(rows) < most && (len(rows) == 0 || shapesKey(r.inputs) == shapesKey(rows[0].inputs)) {
				rows = append(rows, r)
			}
		}
	}
	if len(rows) == 1 {
		rows = append(rows, rows[0])
	}
	return rows
}

// row cuts one row out, if all tensors have the same number of them.
func (e example) row(i int) (example, bool) {
	n := e.inputs[0].Shape[0]
	r := example{e.name, make([]oip.Tensor, len(e.inputs)), map[int]oip.Tensor{}, n > 1}
	for k, t := range e.inputs {
		if t.Shape[0] != n {
			return r, false
		}
		r.inputs[k] = row(t, i)
	}
	for k, t := range e.outputs {
		if len(t.Shape) == 0 || t.Shape[0] != n {
			return r, false
		}
		r.outputs[k] = row(t, i)
	}
	return r, true
}
