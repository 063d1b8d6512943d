// Package bundle owns the model bundle: the directory in which a model travels
// with all that is needed to run and to judge it. It reads, verifies, digests,
// publishes and fetches bundles; it runs nothing.
//
//	model.onnx            the network
//	bundle.yaml           the manifest: input, outputs, labels, provenance
//	golden/N.png|jpg      original bytes of a few pictures
//	golden/N.input.npy    their 8-bit pixels after resize, uint8 [height, width, channels]
//	golden/N.output.npy   the training framework's own scores, float32 [labels]
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
	"math"
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
	Schema     int        `yaml:"schema"`
	Name       string     `yaml:"name"` // of the project; the server's model name
	Task       string     `yaml:"task"` // multilabel
	Input      Input      `yaml:"input"`
	Outputs    Outputs    `yaml:"outputs"`
	Labels     []Label    `yaml:"labels"`    // in the order of the scores
	Tolerance  float64    `yaml:"tolerance"` // greatest absolute difference from golden/N.output.npy
	Goldens    []string   `yaml:"goldens"`   // golden/0.png, golden/1.jpg, …
	Provenance Provenance `yaml:"provenance"`
}

// Input says what the model's one input is made of: decode, resize to 8 bits,
// then x*scale, minus mean, over std, channel by channel.
type Input struct {
	Name     string    `yaml:"name"` // of the graph's input
	Width    int       `yaml:"width"`
	Height   int       `yaml:"height"`
	Channels int       `yaml:"channels"`
	Decoder  string    `yaml:"decoder"`
	Resize   string    `yaml:"resize"` // stretch
	Filter   string    `yaml:"filter"`
	Scale    float64   `yaml:"scale"`
	Mean     []float64 `yaml:"mean"` // one for each channel
	Std      []float64 `yaml:"std"`
	Layout   string    `yaml:"layout"` // nchw
}

// Outputs names the graph's outputs. Heatmap and Features are optional.
type Outputs struct {
	Scores     string `yaml:"scores"`             // float32 [n, labels]
	Heatmap    string `yaml:"heatmap,omitempty"`  // float32 [n, labels, h, w]
	Features   string `yaml:"features,omitempty"` // float32 [n, features]
	Activation string `yaml:"activation"`         // what the reader still has to apply to the scores: none, sigmoid, softmax
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

// KnownUrgency tells whether u is one of Urgencies.
func KnownUrgency(u string) bool { return slices.Contains(Urgencies, u) }

// The names that a manifest may use.
var (
	activations = []string{"none", "sigmoid", "softmax"}
	laterTasks  = []string{"multiclass", "binary", "super-resolution"}
)

// ParseManifest decodes bundle.yaml strictly: an unknown key is an error that
// names its line.
func ParseManifest(data []byte) (Manifest, error) {
	var m Manifest
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

// Validate names the key that is wrong and what it may be.
func (m Manifest) Validate() error {
	if m.Schema != Schema {
		return fmt.Errorf("schema %d: this version reads %d", m.Schema, Schema)
	}
	if !nameIsSafe(m.Name) {
		return fmt.Errorf("name %q: want letters, digits, dot, dash or underscore, as it stands in URLs", m.Name)
	}
	if slices.Contains(laterTasks, m.Task) {
		return fmt.Errorf("task %q is not built yet: this version knows multilabel", m.Task)
	}
	if m.Task != "multilabel" {
		return fmt.Errorf("task %q: want multilabel", m.Task)
	}
	for _, validate := range []func() error{m.Input.validate, m.Outputs.validate, m.validateLabels, m.validateGoldens} {
		if err := validate(); err != nil {
			return err
		}
	}
	return nil
}

func nameIsSafe(name string) bool {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
	}
	return name != "" && len(name) <= 100 && name[0] != '.' && strings.IndexFunc(name, func(r rune) bool { return !ok(r) }) < 0
}

func (in Input) validate() error {
	switch {
	case in.Name == "":
		return fmt.Errorf("input.name is missing: the name of the graph's input")
	case in.Width < 1 || in.Height < 1:
		return fmt.Errorf("input %d x %d: width and height are at least 1 pixel", in.Width, in.Height)
	case in.Channels != 1 && in.Channels != 3:
		return fmt.Errorf("input.channels %d: want 1 or 3", in.Channels)
	case in.Decoder == "" || in.Filter == "":
		return fmt.Errorf("input.decoder and input.filter must be named: pixels depend on them")
	case in.Resize != "stretch":
		return fmt.Errorf("input.resize %q: want stretch", in.Resize)
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

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func (o Outputs) validate() error {
	if o.Scores == "" {
		return fmt.Errorf("outputs.scores is missing: the name of the graph's output that holds the scores")
	}
	if !slices.Contains(activations, o.Activation) {
		return fmt.Errorf("outputs.activation %q: want one of %q", o.Activation, activations)
	}
	if o.Activation == "softmax" {
		return fmt.Errorf("outputs.activation softmax: a multilabel model's labels are independent, want none or sigmoid")
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
	if !(m.Tolerance > 0 && m.Tolerance <= 1) {
		return fmt.Errorf("tolerance %v: want a number above 0, such as 0.0001", m.Tolerance)
	}
	if len(m.Goldens) == 0 {
		return fmt.Errorf("goldens are missing: without pictures whose scores are known nobody can tell that the model is still the same")
	}
	seen := map[string]bool{}
	for _, golden := range m.Goldens {
		dir, file := path.Split(golden)
		ext := path.Ext(file)
		if dir != GoldenDir+"/" || !nameIsSafe(file) || (ext != ".png" && ext != ".jpg") {
			return fmt.Errorf("golden %q: want %s/<name>.png or .jpg", golden, GoldenDir)
		}
		stem := strings.TrimSuffix(golden, ext)
		if seen[stem] {
			return fmt.Errorf("golden %q is listed twice", golden)
		}
		seen[stem] = true
	}
	return nil
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
