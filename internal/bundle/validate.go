package bundle

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

// Tasks that a manifest may name.
const (
	TaskMultilabel      = "multilabel"
	TaskSuperResolution = "super-resolution"
	TaskTensor          = "tensor"
)

// Colour conventions of super-resolution.
const (
	ColourRGB   = "rgb"
	ColourYCbCr = "ycbcr"
	ColourGrey  = "grey"
)

// The names that a manifest may use.
var (
	tasks          = []string{TaskMultilabel, TaskSuperResolution, TaskTensor}
	laterTasks     = []string{"multiclass", "binary"}
	activations    = []string{"none", "sigmoid", "softmax"}
	heatmapMethods = []string{"cam"}
	colours        = []string{ColourRGB, ColourYCbCr, ColourGrey}
	variantKinds   = []string{"fp32-optimised", "int8", "fp16"}
)

// maxScale bounds how many times wider an answer may be than its picture.
const maxScale = 16

// Validate names the key that is wrong and what it may be.
func (m Manifest) Validate() error {
	if m.Schema != Schema {
		return fmt.Errorf("schema %d: this version reads %d", m.Schema, Schema)
	}
	if !nameIsSafe(m.Name) {
		return fmt.Errorf("name %q: want letters, digits, dot, dash or underscore, as it stands in URLs", m.Name)
	}
	if slices.Contains(laterTasks, m.Task) {
		return fmt.Errorf("task %q is not built yet: this version knows %q", m.Task, tasks)
	}
	if err := m.validateTask(); err != nil {
		return err
	}
	if err := m.validateGoldens(); err != nil {
		return err
	}
	return m.validateVariant()
}

func (m Manifest) validateTask() error {
	switch m.Task {
	case TaskMultilabel:
		return m.validateMultilabel()
	case TaskSuperResolution:
		return m.validateSuperResolution()
	case TaskTensor:
		return m.validateTensor()
	}
	return fmt.Errorf("task %q: want one of %q", m.Task, tasks)
}

func (m Manifest) validateMultilabel() error {
	if m.SuperResolution != (SuperResolution{}) {
		return fmt.Errorf("super_resolution is of another task than %s: remove it", m.Task)
	}
	in := m.Input
	switch {
	case in.Width < 1 || in.Height < 1:
		return fmt.Errorf("input %d x %d: width and height are at least 1 pixel", in.Width, in.Height)
	case in.Filter == "":
		return fmt.Errorf("input.filter must be named: pixels depend on it")
	case in.Resize != "stretch":
		return fmt.Errorf("input.resize %q: want stretch", in.Resize)
	}
	for _, validate := range []func() error{in.validate, m.Outputs.validate, m.validateLabels} {
		if err := validate(); err != nil {
			return err
		}
	}
	return nil
}

func (m Manifest) validateTensor() error {
	if in := m.Input; in.Name != "" || in.Width != 0 || in.Height != 0 || in.Channels != 0 || in.Decoder != "" || in.Scale != 0 || in.Mean != nil || in.Std != nil {
		return fmt.Errorf("input: a model of the task %s is given tensors as they are, remove the section", m.Task)
	}
	if m.Outputs != (Outputs{}) {
		return fmt.Errorf("outputs: a model of the task %s gives all that its graph declares, remove the section", m.Task)
	}
	if m.Labels != nil || m.SuperResolution != (SuperResolution{}) {
		return fmt.Errorf("labels and super_resolution are of other tasks than %s: remove them", m.Task)
	}
	return nil
}

func (m Manifest) validateSuperResolution() error {
	in, out, sr := m.Input, m.Outputs, m.SuperResolution
	switch {
	case m.Labels != nil:
		return fmt.Errorf("labels are of another task than %s: remove them", m.Task)
	case in.Width < 0 || in.Height < 0 || (in.Width == 0) != (in.Height == 0):
		return fmt.Errorf("input %d x %d: want a width and a height, or 0 x 0 for pictures of any size", in.Width, in.Height)
	case in.Filter != "" || in.Resize != "":
		return fmt.Errorf("input.resize and input.filter: %s takes pictures as they are, remove both", m.Task)
	case out.Image == "" || out != (Outputs{Image: out.Image}):
		return fmt.Errorf("outputs: want image alone, the name of the graph's output that holds the picture")
	case sr.Scale < 1 || sr.Scale > maxScale:
		return fmt.Errorf("super_resolution.scale %d: want 1 to %d", sr.Scale, maxScale)
	case !slices.Contains(colours, sr.Colour):
		return fmt.Errorf("super_resolution.colour %q: want one of %q", sr.Colour, colours)
	case (sr.Colour == ColourRGB) != (in.Channels == 3):
		return fmt.Errorf("super_resolution.colour %q with %d input.channels: rgb has 3, ycbcr (its Y) and grey have 1", sr.Colour, in.Channels)
	case sr.Levels != 1 && sr.Levels != 255:
		return fmt.Errorf("super_resolution.levels %v: want 1 or 255, what white is in the graph's output", sr.Levels)
	}
	return in.validate()
}

func nameIsSafe(name string) bool {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
	}
	return name != "" && len(name) <= 100 && name[0] != '.' && strings.IndexFunc(name, func(r rune) bool { return !ok(r) }) < 0
}

// maxSide bounds an input's width and height, in pixels.
const maxSide = 1 << 15

// validate looks at what all tasks with pictures have in common.
func (in Input) validate() error {
	switch {
	case in.Name == "":
		return fmt.Errorf("input.name is missing: the name of the graph's input")
	case in.Width > maxSide || in.Height > maxSide:
		return fmt.Errorf("input %d x %d: width and height are at most %d pixels", in.Width, in.Height, maxSide)
	case in.Channels != 1 && in.Channels != 3:
		return fmt.Errorf("input.channels %d: want 1 or 3", in.Channels)
	case in.Decoder == "":
		return fmt.Errorf("input.decoder must be named: pixels depend on it")
	case in.Layout != "nchw":
		return fmt.Errorf("input.layout %q: want nchw", in.Layout)
	case !finite(in.Scale) || in.Scale == 0:
		return fmt.Errorf("input.scale %v: want a number other than 0, such as 0.00392156862745098", in.Scale)
	case len(in.Mean) != in.Channels || len(in.Std) != in.Channels:
		return fmt.Errorf("input.mean has %d and input.std %d values: want one for each of %d channels", len(in.Mean), len(in.Std), in.Channels)
	}
	for i := range in.Mean {
		if !finite(in.Mean[i]) || !finite(in.Std[i]) || in.Std[i] <= 0 {
			return fmt.Errorf("input.mean %v, input.std %v: want finite numbers, std above 0", in.Mean, in.Std)
		}
	}
	return nil
}

// maxShift bounds what a heat map is shifted by, in cells.
const maxShift = 1024

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func (o Outputs) validate() error {
	switch {
	case o.Scores == "":
		return fmt.Errorf("outputs.scores is missing: the name of the graph's output that holds the scores")
	case o.Image != "":
		return fmt.Errorf("outputs.image is of the task %s: remove it", TaskSuperResolution)
	case !slices.Contains(activations, o.Activation):
		return fmt.Errorf("outputs.activation %q: want one of %q", o.Activation, activations)
	case o.Activation == "softmax":
		return fmt.Errorf("outputs.activation softmax: a multilabel model's labels are independent, want none or sigmoid")
	case o.HeatmapMethod != "" && o.Heatmap == "":
		return fmt.Errorf("outputs.heatmap_method %q without outputs.heatmap: name the output, or remove the method", o.HeatmapMethod)
	case o.HeatmapMethod != "" && !slices.Contains(heatmapMethods, o.HeatmapMethod):
		return fmt.Errorf("outputs.heatmap_method %q: want one of %q", o.HeatmapMethod, heatmapMethods)
	case o.HeatmapDifference != 0 && o.HeatmapMethod == "":
		return fmt.Errorf("outputs.heatmap_difference without outputs.heatmap_method: of which method is it?")
	case !(o.HeatmapDifference >= 0 && finite(o.HeatmapDifference)):
		return fmt.Errorf("outputs.heatmap_difference %v: want 0 or a number above", o.HeatmapDifference)
	case o.HeatmapShift != Shift{} && o.Heatmap == "":
		return fmt.Errorf("outputs.heatmap_shift without outputs.heatmap: remove it")
	case !(math.Abs(o.HeatmapShift.Down) <= maxShift && math.Abs(o.HeatmapShift.Right) <= maxShift): // NaN too
		return fmt.Errorf("outputs.heatmap_shift %v: want numbers of cells up to %d", o.HeatmapShift, maxShift)
	}
	return nil
}

func (m Manifest) validateLabels() error {
	if len(m.Labels) == 0 {
		return fmt.Errorf("labels are missing: one for each score")
	}
	seen := map[string]bool{}
	for i, l := range m.Labels {
		switch {
		case l.Name == "" || seen[l.Name]:
			return fmt.Errorf("labels[%d].name %q: want a name of its own", i, l.Name)
		case !(l.Threshold >= 0 && l.Threshold <= 1):
			return fmt.Errorf("threshold %v of label %s: want a number from 0 to 1", l.Threshold, l.Name)
		case !slices.Contains(Urgencies, l.Urgency):
			return fmt.Errorf("urgency %q of label %s: want one of %q", l.Urgency, l.Name, Urgencies)
		}
		seen[l.Name] = true
	}
	return nil
}

func (m Manifest) validateGoldens() error {
	// What a task's outputs range over bounds a tolerance that means anything.
	most := map[string]float64{TaskMultilabel: 1, TaskSuperResolution: m.SuperResolution.Levels, TaskTensor: math.MaxFloat32}[m.Task]
	if !(m.Tolerance > 0 && m.Tolerance <= most) {
		return fmt.Errorf("tolerance %v: want a number above 0, such as 0.0001, and at most %v", m.Tolerance, most)
	}
	if len(m.Goldens) == 0 {
		return fmt.Errorf("goldens are missing: without inputs whose outputs are known nobody can tell that the model is still the same")
	}
	seen := map[string]bool{}
	for _, golden := range m.Goldens {
		stem, err := m.stem(golden)
		if err != nil {
			return err
		}
		if seen[stem] {
			return fmt.Errorf("golden %q is listed twice", golden)
		}
		seen[stem] = true
	}
	return nil
}

// stem is a golden's path without the extension of its picture.
func (m Manifest) stem(golden string) (string, error) {
	dir, file := path.Split(golden)
	ext := path.Ext(file)
	safe := dir == GoldenDir+"/" && nameIsSafe(file)
	if m.Task == TaskTensor {
		if !safe || ext != "" {
			return "", fmt.Errorf("golden %q: want %s/<name> without a dot, for %s", golden, GoldenDir, TensorInputFile(GoldenDir+"/<name>", 0))
		}
		return golden, nil
	}
	if !safe || (ext != ".png" && ext != ".jpg") {
		return "", fmt.Errorf("golden %q: want %s/<name>.png or .jpg", golden, GoldenDir)
	}
	return strings.TrimSuffix(golden, ext), nil
}

func (m Manifest) validateVariant() error {
	v := m.Variant
	if v == (Variant{}) {
		return nil
	}
	switch {
	case !slices.Contains(variantKinds, v.Kind):
		return fmt.Errorf("variant.kind %q: want one of %q", v.Kind, variantKinds)
	case !(v.ToleranceParent > 0 && finite(v.ToleranceParent)):
		return fmt.Errorf("variant.tolerance_parent %v: want the parent's tolerance, a number above 0", v.ToleranceParent)
	case !ValidDigest(m.Provenance.Parent):
		return fmt.Errorf("provenance.parent %q: a variant names the digest of the bundle that it was derived from", m.Provenance.Parent)
	}
	return nil
}
