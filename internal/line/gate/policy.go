package gate

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/penstock-ml/penstock/internal/stat"
)

// Policy is the section `gate` of penstock.yaml: what a model must prove, at
// which confidence, on how much evidence. Nothing has a default: a policy that
// says nothing about a thing decides nothing about it.
type Policy struct {
	Confidence float64    `yaml:"confidence"` // of every one-sided bound, e.g. 0.95
	Replicates int        `yaml:"replicates"` // of the group bootstrap
	Seed       uint64     `yaml:"seed"`
	Evidence   Evidence   `yaml:"evidence"`
	Bootstrap  *Bootstrap `yaml:"bootstrap"` // the first model ever; without it there can be none
	Compare    Compare    `yaml:"compare"`   // every model after the first
	Batch      *Batch     `yaml:"batch"`     // the data alarm; without it there is none

	// VariantTolerance is how far the scores of an optimised variant may be from
	// its parent's goldens, absolute; without it there can be no variant.
	VariantTolerance *float64 `yaml:"variant_tolerance"`
	// VariantPSNR is how many dB a super-resolution variant may lose.
	VariantPSNR *float64 `yaml:"variant_psnr"`
}

// Evidence is the least on which anything is decided. A label below it is not
// evaluable: it is listed and left out of the macro average.
type Evidence struct {
	PositiveGroups int     `yaml:"positive_groups"` // groups with a positive row, for each label
	NegativeGroups int     `yaml:"negative_groups"` // groups with a negative row, for each label
	Labels         int     `yaml:"labels"`          // evaluable labels
	MaxDegenerate  float64 `yaml:"max_degenerate"`  // share of bootstrap replicates that may be without a value
}

// Bootstrap is what the first model must show. Without MacroAUROC its metrics
// only have to be there.
type Bootstrap struct {
	MacroAUROC *AtLeast `yaml:"macro_auroc"`
}

// AtLeast asks for a lower bound that reaches a number.
type AtLeast struct {
	AtLeast float64 `yaml:"at_least"`
}

// Compare is what a model must show against the champion on the champion's
// test rows.
type Compare struct {
	MacroAUROC Margin            `yaml:"macro_auroc"`
	Labels     map[string]Margin `yaml:"labels"` // further labels that must hold, by name
}

// Margin is by how much the candidate may be worse.
type Margin struct {
	Margin float64 `yaml:"margin"`
}

// What becomes of the data alarm where the batch brings too little evidence.
const (
	List        = "list"         // it is listed and decides nothing
	HoldVerdict = "inconclusive" // the verdict is inconclusive
)

// Batch is the data alarm: a champion that collapses on the new batch's test
// rows says that the batch is not what the champion learned from.
type Batch struct {
	MaxDrop         float64 `yaml:"max_drop"`         // of the champion's macro AUROC, there against its own test rows
	Labels          int     `yaml:"labels"`           // labels that must be evaluable there
	WithoutEvidence string  `yaml:"without_evidence"` // list or inconclusive
}

// Validate refuses a policy that does not say what it wants.
func (p Policy) Validate() error {
	switch {
	case !(p.Confidence > 0.5 && p.Confidence < 1):
		return fmt.Errorf("confidence: %v; give the confidence of a one-sided bound, above 0.5 and below 1, e.g. 0.95", p.Confidence)
	case p.Replicates < stat.MinReplicates || p.Replicates > maxReplicates:
		return fmt.Errorf("replicates: %d; the bootstrap takes %d to %d", p.Replicates, stat.MinReplicates, maxReplicates)
	}
	if err := p.Evidence.validate(); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	if p.Bootstrap != nil && p.Bootstrap.MacroAUROC != nil {
		if least := p.Bootstrap.MacroAUROC.AtLeast; !(least > 0 && least < 1) {
			return fmt.Errorf("bootstrap.macro_auroc.at_least: %v is not between 0 and 1", least)
		}
	}
	if err := p.Compare.validate(); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if p.Batch != nil {
		if err := p.Batch.validate(); err != nil {
			return fmt.Errorf("batch: %w", err)
		}
	}
	if most := p.VariantTolerance; most != nil && !(*most > 0 && *most < 0.5) {
		return fmt.Errorf("variant_tolerance: %v; say how far a variant's scores may be from its parent's goldens, above 0 and below 0.5, e.g. 0.05", *most)
	}
	if most := p.VariantPSNR; most != nil && !(*most > 0 && *most < 10) {
		return fmt.Errorf("variant_psnr: %v; say how many dB a super-resolution variant may lose, above 0 and below 10, e.g. 0.1", *most)
	}
	return nil
}

// maxReplicates keeps a slip of the finger from running for hours.
const maxReplicates = 1_000_000

func (e Evidence) validate() error {
	switch {
	case e.PositiveGroups < 1 || e.NegativeGroups < 1:
		return fmt.Errorf("positive_groups: %d, negative_groups: %d; each is at least 1, 30 where the data allow it", e.PositiveGroups, e.NegativeGroups)
	case e.Labels < 1:
		return errors.New("labels: say how many labels must be evaluable, at least 1")
	case !(e.MaxDegenerate >= 0 && e.MaxDegenerate < 1):
		return fmt.Errorf("max_degenerate: %v is not a share from 0 to below 1", e.MaxDegenerate)
	}
	return nil
}

func (c Compare) validate() error {
	if err := c.MacroAUROC.validate(); err != nil {
		return fmt.Errorf("macro_auroc.%w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		if err := c.Labels[name].validate(); err != nil {
			return fmt.Errorf("labels.%s.%w", name, err)
		}
	}
	return nil
}

func (m Margin) validate() error {
	if !(m.Margin > 0 && m.Margin < 0.5) {
		return fmt.Errorf("margin: %v; say by how much the candidate may be worse, above 0 and below 0.5, e.g. 0.02", m.Margin)
	}
	return nil
}

func (b Batch) validate() error {
	switch {
	case !(b.MaxDrop > 0 && b.MaxDrop < 0.5):
		return fmt.Errorf("max_drop: %v; say how far the champion may fall, above 0 and below 0.5, e.g. 0.05", b.MaxDrop)
	case b.Labels < 1:
		return errors.New("labels: say how many labels must be evaluable on the batch, at least 1")
	case b.WithoutEvidence != List && b.WithoutEvidence != HoldVerdict:
		return fmt.Errorf("without_evidence: unknown %q; known are %s and %s", b.WithoutEvidence, List, HoldVerdict)
	}
	return nil
}
