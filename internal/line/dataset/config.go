package dataset

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
)

// Config is the section `data` of penstock.yaml.
type Config struct {
	Bucket         string           `yaml:"bucket"`
	Raw            string           `yaml:"raw"`             // prefix where batches land: <raw><batch>/…, ends in a slash
	Settle         time.Duration    `yaml:"settle"`          // a batch without _SUCCESS is complete when nothing changed for so long
	Table          string           `yaml:"table"`           // the table in the batch's folder, CSV with a header
	Columns        Columns          `yaml:"columns"`         // which column holds what
	LabelSeparator string           `yaml:"label_separator"` // between the labels of one cell
	NoFinding      string           `yaml:"no_finding"`      // the label that means none; empty: an empty cell means none
	Slices         map[string]Slice `yaml:"slices"`          // attributes by which results are told apart
	Splits         Splits           `yaml:"splits"`
	Image          imaging.Spec     `yaml:"image"`
	Normalise      Normalise        `yaml:"normalise"`
	Source         string           `yaml:"source"`
	Licence        string           `yaml:"licence"`
}

// Columns names the columns of a batch's table.
type Columns struct {
	File   string `yaml:"file"`   // path of the file below the batch's folder
	Labels string `yaml:"labels"` // labels, joined by Config.LabelSeparator
	Group  string `yaml:"group"`  // what must not be torn apart by a split: the patient
}

// Slice is an attribute of the examples: a column as it stands, or numbers in
// bands. Bands [40, 60] give "<40", "40..60" and ">=60". A field that is
// empty, or no number where bands want one, is the slice "missing".
type Slice struct {
	Column string    `yaml:"column"`
	Bands  []float64 `yaml:"bands"`
}

// Missing is the value of a slice whose field is missing.
const Missing = "missing"

// Splits are the proportions of the images, and the seed that settles ties.
type Splits struct {
	Train     float64 `yaml:"train"`
	Val       float64 `yaml:"val"`
	Test      float64 `yaml:"test"`
	FinalEval float64 `yaml:"final_eval"`
	Seed      uint64  `yaml:"seed"`
}

// Normalise is what turns a pixel (0 to 255) into the model's input: scaled,
// minus mean, over std; mean and std are per channel.
type Normalise struct {
	Scale float64   `yaml:"scale"`
	Mean  []float64 `yaml:"mean"`
	Std   []float64 `yaml:"std"`
}

// Validate names the key below data that is wrong and what it should be.
func (c Config) Validate() error {
	for _, k := range []struct{ key, value string }{
		{"bucket", c.Bucket},
		{"raw", c.Raw},
		{"table", c.Table},
		{"label_separator", c.LabelSeparator},
		{"columns.file", c.Columns.File},
		{"columns.labels", c.Columns.Labels},
		{"columns.group", c.Columns.Group},
	} {
		if k.value == "" {
			return fmt.Errorf("%s is missing", k.key)
		}
	}
	if !strings.HasSuffix(c.Raw, "/") || strings.HasPrefix(c.Raw, "/") {
		return fmt.Errorf("raw is %q: it is a prefix like raw/", c.Raw)
	}
	if strings.Contains(c.Table, "..") || strings.HasPrefix(c.Table, "/") {
		return fmt.Errorf("table is %q: it is a path below the batch's folder", c.Table)
	}
	if c.Settle <= 0 {
		return fmt.Errorf("settle is %s: it is a time above zero, like 30s", c.Settle)
	}
	if err := c.Splits.validate(); err != nil {
		return err
	}
	for name, s := range c.Slices {
		if err := s.validate(name); err != nil {
			return err
		}
	}
	if err := c.Image.Validate(); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return c.Normalise.validate(c.Image.Channels)
}

// checkLabels refuses labels that no cell of a table could carry.
func (c Config) checkLabels(labels []string) error {
	for _, l := range labels {
		if l == c.NoFinding || strings.Contains(l, c.LabelSeparator) || l != strings.TrimSpace(l) {
			return fmt.Errorf("the label %q cannot be told from data.no_finding %q and data.label_separator %q: rename it in penstock.yaml", l, c.NoFinding, c.LabelSeparator)
		}
	}
	return nil
}

func (s Splits) validate() error {
	sum := 0.0
	for _, name := range Splitting {
		p := s.of(name)
		if !(p > 0 && p < 1) {
			return fmt.Errorf("splits.%s is %v: each of train, val, test and final_eval is a proportion above 0 and below 1", name, p)
		}
		sum += p
	}
	if math.Abs(sum-1) > 1e-6 {
		return fmt.Errorf("splits: train, val, test and final_eval add up to %v and must add up to 1", sum)
	}
	return nil
}

func (s Splits) of(name string) float64 {
	switch name {
	case Train:
		return s.Train
	case Val:
		return s.Val
	case Test:
		return s.Test
	}
	return s.FinalEval
}

func (s Slice) validate(name string) error {
	if name == "" || s.Column == "" {
		return fmt.Errorf("slices.%s.column is missing", name)
	}
	if !slices.IsSorted(s.Bands) || len(slices.Compact(slices.Clone(s.Bands))) != len(s.Bands) {
		return fmt.Errorf("slices.%s.bands is %v: the bounds must rise", name, s.Bands)
	}
	return nil
}

func (n Normalise) validate(channels int) error {
	if !(n.Scale > 0) {
		return fmt.Errorf("normalise.scale is %v: it is a number above zero, like 0.00392156862745098 (1/255)", n.Scale)
	}
	if len(n.Mean) != channels || len(n.Std) != channels {
		return fmt.Errorf("normalise: mean has %d and std %d numbers, and image.channels is %d: give one for each channel", len(n.Mean), len(n.Std), channels)
	}
	for _, s := range n.Std {
		if !(s > 0) {
			return fmt.Errorf("normalise.std is %v: it is above zero", n.Std)
		}
	}
	return nil
}
