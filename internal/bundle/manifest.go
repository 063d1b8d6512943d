// Package bundle owns the model bundle: the directory in which a model travels
// with all that is needed to run and to judge it. It reads, verifies, digests,
// publishes and fetches bundles; it runs nothing.
//
//	model.onnx            the network
//	bundle.yaml           the manifest: input, outputs, labels, provenance
//	golden/N.png|jpg      original bytes of a few pictures
//	golden/N.input.npy    their 8-bit pixels after resize, uint8 [height, width, channels]
//	golden/N.output.npy   what the training framework itself gave: multilabel, the scores,
//	                      float32 [labels]; super-resolution, the graph's picture,
//	                      float32 [channels, height*scale, width*scale]
//
// The task tensor, any graph behind the Open Inference Protocol, has neither
// pictures nor labels: its goldens are golden/N.input.I.npy and
// golden/N.output.I.npy, one for each input and output in the graph's order.
//
// The digest of a bundle is the SHA-256 of its sorted lines
// "<sha256>  <path>\n", the format of sha256sum. In the bucket those lines
// stand as models/<digest>/SHA256SUMS, written last: a half upload has none,
// and every reader can verify every file from the digest alone.
//
// Refused: unknown keys, paths and external tensors that leave the directory,
// links, a model without an operator set.
package bundle

import (
	"bytes"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Schema is the version of bundle.yaml. A reader refuses any other.
const Schema = 1

// Names of the files of a bundle.
const (
	ModelFile    = "model.onnx"
	ManifestFile = "bundle.yaml"
	GoldenDir    = "golden"
	SumsFile     = "SHA256SUMS" // in the bucket only; no part of the digest
)

// Manifest is bundle.yaml.
type Manifest struct {
	Schema          int             `yaml:"schema"`
	Name            string          `yaml:"name"`                       // of the project; the server's model name
	Task            string          `yaml:"task"`                       // TaskMultilabel, TaskSuperResolution or TaskTensor
	Input           Input           `yaml:"input,omitempty"`            // absent for tensor
	Outputs         Outputs         `yaml:"outputs,omitempty"`          // absent for tensor
	Labels          []Label         `yaml:"labels,omitempty"`           // multilabel, in the order of the scores
	SuperResolution SuperResolution `yaml:"super_resolution,omitempty"` // that task only
	Tolerance       float64         `yaml:"tolerance"`                  // greatest absolute difference from golden/N.output.npy
	Goldens         []string        `yaml:"goldens"`                    // golden/0.png, golden/1.jpg, …; tensor: the stems golden/0, …
	Variant         Variant         `yaml:"variant,omitempty"`          // of a bundle that was derived from another
	Provenance      Provenance      `yaml:"provenance"`
}

// Input says what the model's one input is made of: decode, resize to 8 bits,
// then x*scale, minus mean, over std, channel by channel. For super-resolution
// nothing is resized: resize and filter are absent, and a width and height of 0
// stand for any.
type Input struct {
	Name     string    `yaml:"name"` // of the graph's input
	Width    int       `yaml:"width"`
	Height   int       `yaml:"height"`
	Channels int       `yaml:"channels"`
	Decoder  string    `yaml:"decoder"`
	Resize   string    `yaml:"resize,omitempty"` // stretch
	Filter   string    `yaml:"filter,omitempty"`
	Scale    float64   `yaml:"scale"`
	Mean     []float64 `yaml:"mean"` // one for each channel
	Std      []float64 `yaml:"std"`
	Layout   string    `yaml:"layout"` // nchw
}

// Outputs names the graph's outputs. Heatmap and Features are optional.
type Outputs struct {
	Scores     string `yaml:"scores,omitempty"`     // float32 [n, labels]
	Heatmap    string `yaml:"heatmap,omitempty"`    // float32 [n, labels, h, w]
	Features   string `yaml:"features,omitempty"`   // float32 [n, features]
	Activation string `yaml:"activation,omitempty"` // what the reader still has to apply to the scores: none, sigmoid, softmax
	// HeatmapMethod says what the heat map is: cam, a class activation map,
	// whose mean over the picture plus the classifier's bias is the label's
	// logit. Where it is empty the server finds out. HeatmapDifference is how far that was seen to fail, as the
	// greatest absolute difference between the scores; it is 0 where nothing
	// was measured or nothing differs.
	HeatmapMethod     string  `yaml:"heatmap_method,omitempty"`
	HeatmapDifference float64 `yaml:"heatmap_difference,omitempty"`
	// HeatmapShift is how far what a cell of the heat map sees lies off the
	// cell's place in the picture: strides with symmetric padding shift it.
	HeatmapShift Shift  `yaml:"heatmap_shift,omitempty,flow"`
	Image        string `yaml:"image,omitempty"` // super-resolution: float32 [n, channels, h*scale, w*scale]
}

// Shift is a distance in cells of a heat map.
type Shift struct {
	Down  float64 `yaml:"down"`
	Right float64 `yaml:"right"`
}

// SuperResolution says what the graph's picture is.
type SuperResolution struct {
	Scale int `yaml:"scale"` // the answer has exactly Scale times the width and the height
	// Colour says which planes the graph sees. rgb: three. ycbcr: Y of
	// full-range BT.601 as in JPEG, one plane; Cb and Cr are enlarged beside
	// it with the filter catmullrom. grey: one, and the answer is grey.
	Colour string  `yaml:"colour"`
	Levels float64 `yaml:"levels"` // what white is in the graph's output: 1 or 255
}

// Variant says how a bundle was derived from provenance.parent, whose goldens
// it keeps. ToleranceParent is the parent's own tolerance.
type Variant struct {
	Kind            string  `yaml:"kind" json:"kind"` // fp32-optimised, int8, fp16
	ToleranceParent float64 `yaml:"tolerance_parent" json:"tolerance_parent"`
}

// Label is one finding: its operating threshold, from 0 to 1, and how urgent
// it is: routine, urgent or critical.
type Label struct {
	Name      string  `yaml:"name" json:"name"`
	Threshold float64 `yaml:"threshold" json:"threshold"`
	Urgency   string  `yaml:"urgency" json:"urgency"`
}

// Provenance says where the model comes from. Parent is the digest of the
// bundle that this one was derived from, if it was.
type Provenance struct {
	Dataset    string            `yaml:"dataset" json:"dataset"`
	RunKey     string            `yaml:"run_key" json:"run_key"`
	MLflowRun  string            `yaml:"mlflow_run" json:"mlflow_run"`
	GitCommit  string            `yaml:"git_commit" json:"git_commit"`
	Trainer    string            `yaml:"trainer" json:"trainer"`
	Frameworks map[string]string `yaml:"frameworks" json:"frameworks"`
	Parent     string            `yaml:"parent,omitempty" json:"parent,omitempty"`
}

// Urgencies are what a label's urgency may be.
var Urgencies = []string{"routine", "urgent", "critical"}

// ValidName tells whether a model may be called so: it stands in URLs and file
// names.
func ValidName(name string) bool { return nameIsSafe(name) }

// KnownUrgency tells whether u is one of Urgencies.
func KnownUrgency(u string) bool { return slices.Contains(Urgencies, u) }

// ParseManifest decodes bundle.yaml strictly: an unknown key is an error that
// names its line. What could cost the reader more than it is worth (size,
// depth, aliases) is refused before.
func ParseManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := checkYAML(data); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	return m, nil
}

// WriteManifest validates m and writes dir/bundle.yaml.
func WriteManifest(dir string, m Manifest) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("%s: %w", ManifestFile, err)
	}
	data, err := yaml.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", ManifestFile, err)
	}
	return verdict.WriteFile(filepath.Join(dir, ManifestFile), data)
}

// InputFile is the file of a golden's 8-bit pixels: golden/0.input.npy for
// golden/0.png.
func InputFile(golden string) string {
	return strings.TrimSuffix(golden, path.Ext(golden)) + ".input.npy"
}

// OutputFile is the file of a golden's scores.
func OutputFile(golden string) string {
	return strings.TrimSuffix(golden, path.Ext(golden)) + ".output.npy"
}

// TensorInputFile is the file of input i of a golden of the task tensor:
// golden/0.input.1.npy for golden/0 and 1.
func TensorInputFile(stem string, i int) string { return fmt.Sprintf("%s.input.%d.npy", stem, i) }

// TensorOutputFile is the file of output i.
func TensorOutputFile(stem string, i int) string { return fmt.Sprintf("%s.output.%d.npy", stem, i) }

// LabelNames are the names in the order of the scores.
func (m Manifest) LabelNames() []string {
	names := make([]string, len(m.Labels))
	for i, l := range m.Labels {
		names[i] = l.Name
	}
	return names
}

// Thresholds are the operating thresholds by label.
func (m Manifest) Thresholds() map[string]float64 {
	thresholds := make(map[string]float64, len(m.Labels))
	for _, l := range m.Labels {
		thresholds[l.Name] = l.Threshold
	}
	return thresholds
}
